"""The topology, on one screen: postgrad compiles `builder` with its database, LangGraph's server loads `graph`."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from agents.brain import Move
from graph import nodes
from graph.context import Context
from graph.jobs import build_jobs
from graph.state import RunState
from graph.verdict import finish, verdict
from shared_memory.goal import Goal

ROLES = ("researcher", "data_engineer", "trainer", "evaluator")


def who_is_next(state: RunState) -> str:
    role = Move(state["move"]).role
    return f"{role.value}_propose" if role else "finish"


def jobs_or_router(state: RunState) -> str:
    return "jobs" if state.get("pending") else "router"


builder = StateGraph(RunState, input_schema=Goal, context_schema=Context)
builder.add_node("intake", nodes.intake)
builder.add_node("router", nodes.router)
builder.add_node("jobs", build_jobs())
builder.add_node("verdict", verdict)
builder.add_node("finish", finish)
for role in ROLES:
    builder.add_node(f"{role}_propose", getattr(nodes, f"{role}_propose"))
    builder.add_node(f"{role}_carry_out", getattr(nodes, f"{role}_carry_out"))
    builder.add_edge(f"{role}_propose", f"{role}_carry_out")

builder.add_edge(START, "intake")
builder.add_edge("intake", "router")
builder.add_conditional_edges("router", who_is_next, [*(f"{role}_propose" for role in ROLES), "finish"])
builder.add_edge("researcher_carry_out", "router")
for role in ("data_engineer", "trainer"):
    builder.add_conditional_edges(f"{role}_carry_out", jobs_or_router, ["jobs", "router"])
builder.add_edge("evaluator_carry_out", "jobs")
builder.add_edge("jobs", "verdict")
builder.add_edge("verdict", "router")
builder.add_edge("finish", END)

graph = builder.compile(name="postgrad")
