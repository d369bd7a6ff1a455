"""A run that is driven in this process, with the callables of whoever drives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from postgrad.decide import Decide, Request, answers
from postgrad.events import Event, parse_event
from postgrad.worker import Driver
from shared_memory.database import Database
from shared_memory.settings import Settings

T = TypeVar("T")

Summary = dict[str, Any]
"""The JSON of `postgrad run --json`."""


def summary(settings: Settings, run_id: str) -> Summary:
    """What a run has come to so far."""
    from postgrad.summary import summarise

    return summarise(settings, Database.open(settings.database), run_id)


class Session:
    """Drives a run once. What the callables raise is the caller's own: the run parks, and has not failed."""

    def __init__(
        self,
        settings: Settings,
        run_id: str,
        decide: Decide | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self._settings, self._run_id = settings, run_id
        self._decide, self._on_event = decide, on_event
        self._driver = Driver(settings, run_id, self._tell)
        self._raised: Exception | None = None

    def drive(self) -> Summary:
        """Go on until the run ends, waits or parks. Raises what a callable has raised, and Conflict."""
        self._driver.drive(self._ask)
        if self._raised is not None:
            raise self._raised
        return summary(self._settings, self._run_id)

    def park(self) -> None:
        """Stop after the step that is going on; from any thread."""
        self._driver.park()

    def _ask(self, requests: list[Request]) -> dict[str, Any] | None:
        return self._of_the_caller(lambda: answers(self._decide(requests), requests) if self._decide else None)

    def _tell(self, plain: dict[str, Any]) -> None:
        if self._on_event is not None:
            on_event = self._on_event
            self._of_the_caller(lambda: on_event(parse_event(plain, self._run_id)))

    def _of_the_caller(self, call: Callable[[], T]) -> T | None:
        """What `call` returns; None where it raises, or one before it has."""
        if self._raised is None:
            try:
                return call()
            except Exception as error:  # noqa: BLE001 - whatever it is, `drive` raises it
                self._raised = error
                self.park()
        return None
