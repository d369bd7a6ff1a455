"""What a language model says, while it says it: the end of it, every now and then, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable

from agents.workbench import Tell
from shared_memory.redaction import redact

EVERY_SECONDS = 0.25
"""Between two `words` events: a terminal is not looked at more often."""
LONGEST_TAIL = 400
"""Characters that are shown: the last ones."""


class Words:
    """Takes a model's words as they come, and tells their end as `words` events: `role`, `model`, `text`.

    A word is shown once it is whole, and what is shown is cut last: a secret is known by all of it.
    """

    def __init__(self, tell: Tell, role: str, model: str) -> None:
        self._tell = tell
        self._shown = {"role": role, "model": model}
        self._said = ""
        self._told_at = 0.0

    def __call__(self, piece: str) -> None:
        self._said = (self._said + piece)[-8 * LONGEST_TAIL :]
        now = time.monotonic()
        if now - self._told_at >= EVERY_SECONDS and (text := tail(redact(self._said))):
            self._told_at = now
            self._tell("words", text=text, **self._shown)

    def afresh(self, heed: Callable[[], None]) -> Callable[[], None]:
        """`heed`, after which other words begin: it is called before every request."""

        def before_a_request() -> None:
            heed()
            self._said = ""

        return before_a_request


def tail(text: str) -> str:
    """The last whole words of a text that is still being written; its last word may be half of one."""
    whole = text[: len(text.rstrip()) - len(text.split()[-1])] if text.strip() and not text[-1].isspace() else text
    if len(whole) <= LONGEST_TAIL:
        return whole.strip()
    return whole[-LONGEST_TAIL:].partition(" ")[2].strip()
