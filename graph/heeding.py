"""What ends the work of a role's language model between two of its requests: time, a person, or a parked run."""

from __future__ import annotations

from collections.abc import Callable

from langgraph.errors import GraphBubbleUp, GraphDrained

from graph.context import Desk
from graph.state import RunState
from graph.watch import means_are_gone
from shared_memory.errors import TimeOver
from shared_memory.goal import Goal


class Cancelled(GraphBubbleUp):
    """A person has cancelled the run. Of a kind that no tool and no middleware takes for an error of its own."""


def heed_of(desk: Desk, goal: Goal, state: RunState) -> Callable[[], None]:
    """What a LanguageModel calls before every request that it sends.

    It raises TimeOver where the time that is not kept back is used up, Cancelled, and GraphDrained where the run is
    parked: the node has not ended then, and runs again on resume, with what was answered on disk.
    """

    def heed() -> None:
        means = means_are_gone(desk, goal, state)
        if means["halt"] == "cancelled":
            raise Cancelled(means["error"])
        if means["halt"]:
            raise TimeOver(means["error"])
        if desk.draining:
            raise GraphDrained("parked")

    return heed
