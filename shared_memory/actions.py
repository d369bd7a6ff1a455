"""Actions with side effects that the roles asked for: what was asked, and what came of it."""

from __future__ import annotations

import threading
from typing import Any, Literal

from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.record import Record

ASKED, CAME = "action", "action_outcome"
"""Kinds of the journal's notes on them: id → ActionRequest, id → ActionOutcome."""
UNKNOWN = "unknown: "
"""How the `error` of a job begins of which nobody can say whether it was done."""
MOST_OPEN = 8
"""Requests that may wait for an answer together: a person has to read them."""

_asking = threading.Lock()


class ActionRequest(Record):
    """One call of a tool that changes something outside."""

    id: str
    """`a1`, `a2`, … in a run."""
    role: str
    """Whose model asks for it."""
    tool: str
    """As the model calls it."""
    source: str
    """Where the tool comes from, in words for a person."""
    arguments: dict[str, Any]
    seconds: float = 60.0
    """That the call may take."""
    unattended: bool = False
    """Whether it may be made where nobody is asked."""


class ActionOutcome(Record):
    """What came of a request that is over."""

    state: Literal["done", "failed", "unknown", "refused"]
    """`unknown`: it was begun, and nobody can say whether it was done."""
    text: str
    """What was called, and what the tool answered: words from outside."""


class Actions:
    """The actions of one run, in its journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def ask(self, **asked: Any) -> ActionRequest:
        """File a request, as what ActionRequest has but its id; the same one again, while it is open, is that one.

        So a role's loop that runs again after a crash asks for nothing twice. Raises BadInput where MOST_OPEN are open.
        """
        with _asking:
            waiting = self.open()
            for request in waiting:
                if ActionRequest(id=request.id, **asked) == request:
                    return request
            if len(waiting) >= MOST_OPEN:
                raise BadInput(f"{MOST_OPEN} actions wait for a person already; hand in your proposal first")
            request = ActionRequest(id=f"a{len(self._journal.notes(ASKED)) + 1}", **asked)
            self._journal.note(ASKED, request.id, request.plain())
        return request

    def open(self) -> list[ActionRequest]:
        """Those of which nothing has come yet, oldest first."""
        over = self._journal.notes(CAME)
        notes = self._journal.notes(ASKED)
        return [ActionRequest.model_validate(plain) for id, plain in notes.items() if id not in over]

    def get(self, id: str) -> ActionRequest:
        return ActionRequest.model_validate(self._journal.notes(ASKED)[id])

    def settle(self, id: str, outcome: ActionOutcome) -> None:
        """File what came of a request; the first account stays."""
        if id not in self._journal.notes(CAME):
            self._journal.note(CAME, id, outcome.plain())

    def outcomes(self) -> dict[str, ActionOutcome]:
        """By id, oldest first."""
        return {id: ActionOutcome.model_validate(plain) for id, plain in self._journal.notes(CAME).items()}
