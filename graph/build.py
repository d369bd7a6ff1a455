"""The topology, on one screen: postgrad compiles `builder` with its database, LangGraph's server loads `graph`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from langgraph.graph import END, START, StateGraph

from agents.brain import Move, Role
from graph import carry_out, nodes
from graph.actions import with_actions
from graph.context import Context
from graph.jobs import build_jobs
from graph.routing import Step
from graph.state import RunState
from graph.verdict import finish, verdict
from shared_memory.goal import Goal


def who_is_next(state: RunState) -> str:
    role = Move(state["move"]).role
    return f"{role.value}_propose" if role else "finish"


def whether_proposed(state: RunState) -> str:
    return "proposed" if state["proposal"] else "no means left"


def whether_jobs(state: RunState) -> str:
    return "jobs to run" if state.get("pending") else "nothing to run"


def whether_judged(state: RunState) -> str:
    return "parked" if state["pending"] else "judged"


def build(
    roles: Sequence[Role] = tuple(Role), next_step: Step | None = None
) -> StateGraph[RunState, Context, Goal, RunState]:
    """The graph of a team of `roles`; who is next is the search's choice, or another strategy's."""
    builder = StateGraph(RunState, input_schema=Goal, context_schema=Context)
    builder.add_node("intake", partial(nodes.intake, roles=roles), input_schema=Goal)
    builder.add_node("router", partial(nodes.router, next_step=next_step))
    builder.add_node("finish", finish)
    builder.add_edge(START, "intake")
    builder.add_edge("intake", "router")
    builder.add_conditional_edges("router", who_is_next, [*(f"{role}_propose" for role in roles), "finish"])
    builder.add_edge("finish", END)
    for role in roles:
        builder.add_node(f"{role}_propose", getattr(nodes, f"{role}_propose"))
        builder.add_node(f"{role}_carry_out", with_actions(getattr(carry_out, f"{role}_carry_out")))
        builder.add_conditional_edges(
            f"{role}_propose",
            whether_proposed,
            {"proposed": f"{role}_carry_out", "no means left": "router"},
        )

    working = list(roles) if set(roles) != {Role.RESEARCHER} else []
    if not working:
        builder.add_edge("researcher_carry_out", "router")
    else:
        builder.add_node("jobs", build_jobs())
        builder.add_node("verdict", verdict)
        builder.add_edge("jobs", "verdict")
        builder.add_conditional_edges("verdict", whether_judged, {"judged": "router", "parked": "verdict"})
    for role in working:
        builder.add_conditional_edges(
            f"{role}_carry_out", whether_jobs, {"jobs to run": "jobs", "nothing to run": "router"}
        )
    return builder


builder = build()
graph = builder.compile(name="postgrad")
