"""What the graph is fed with when somebody goes on with a run: its goal, an answer, a reopening, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_memory.errors import PostgradError
from shared_memory.runs import RunRow, RunStatus

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import Interrupt

    from graph.context import Context, Desk


def next_input(graph: Any, config: RunnableConfig, row: RunRow, context: Context) -> Any:
    """What to feed the graph with: the goal, an answer, a reopening, or nothing (go on where it stopped).

    Raises PostgradError for a run that another version has written; one that is to be cancelled has its jobs stopped.
    """
    from langgraph.types import Command

    from graph.context import Desk
    from graph.settle import stop_open_jobs

    snapshot = graph.get_state(config)
    if not snapshot.created_at:
        return row.goal
    try:
        _require_this_version(Desk(row.run_id, context))
    except PostgradError:
        if row.cancel_requested:
            stop_open_jobs(row.run_id, context)
        raise
    if snapshot.interrupts:
        interrupt = snapshot.interrupts[0]
        answers_this = row.answer is not None and row.request == interrupt.value
        return answer_to(interrupt, row.answer or {}) if answers_this else None
    # `snapshot.next` leaves out a task that is done but whose step was not: only without any task is a run over.
    if not snapshot.tasks:
        state = snapshot.values
        fresh = {**dict.fromkeys(("halt", "error", "delivered"), ""), "pending": [], "finished": []}
        fresh |= {"given_up": [], "exhausted": []}
        return Command(goto="router", update={**fresh, "reopened": state["reopened"] + 1, **reopened(state)})
    if row.cancel_requested and row.status is RunStatus.FAILED:
        # The node that is next fails every time: go around it, so that the best model is still handed over.
        stop_open_jobs(row.run_id, context)
        halted = {"halt": "cancelled", "error": "a person cancelled the run", "pending": [], "finished": []}
        graph.update_state(config, halted, as_node="verdict")
    return None


def _require_this_version(desk: Desk) -> None:
    """Raise PostgradError for a run that another version has written, as far as this one reads it in another way.

    A job that is on its way under another digest than its spec has here would be done a second time.
    """
    from shared_memory.records import Experiment, JobSpec

    desk.journal.recipes()
    desk.journal.all(Experiment)
    pinned = desk.journal.notes("pinned")
    for action in desk.ledger.open_actions():
        if action.key in pinned and JobSpec.model_validate(pinned[action.key]["spec"]).digest != action.spec_digest:
            raise desk.journal.of_another_version("JobSpec")


def answer_to(interrupt: Interrupt, answer: dict[str, Any]) -> Any:
    """The answer addressed to its interrupt: LangGraph takes a bare empty dict for an answer to nothing."""
    from langgraph.types import Command

    return Command(resume={interrupt.id: answer})


def reopened(state: dict[str, Any]) -> dict[str, Any]:
    """The crashed experiments of an ended run that nothing was made of, planned once more; none after the claim."""
    if state.get("claims"):
        return {}
    again = {"status": "planned", "verdict": None, "error": ""}
    experiments = state.get("experiments", {})
    parents = {plain["parent"] for plain in experiments.values()}
    scored = any(plain["status"] == "evaluated" for plain in experiments.values())
    crashed = {
        key: {**plain, **again}
        for key, plain in experiments.items()
        # What a person refused stays refused, unless there is nothing else to go on with.
        if plain["status"] == "crashed" and key not in parents and (plain["verdict"] == "crash" or not scored)
    }
    return {"experiments": crashed} if crashed else {}
