"""The dearest token that each model has been paid for, so that the next request holds enough."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.models.answer import Answer
from shared_memory.run_paths import write_atomically

_WRITING = threading.Lock()


class Rates:
    """Of one folder of answers, in a file beside them: an answer may be dearer than the price list says.

    It may be priced by the name that the server gave back, which the list may know better than the goal's.
    """

    def __init__(self, answers: Path) -> None:
        self._answers = answers
        self._file = answers / "dearest"
        self._known: dict[str, float] | None = None
        self._written = False
        """Whether there is the file, be it that nothing in it has a price: it spares reading all answers."""

    def dearest(self, model: str) -> float:
        """Micro-dollars of the dearest token of `model`; 0 where none was paid for."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(model, 0.0)

    def note(self, answer: Answer) -> None:
        """Keep what an answer cost, before the answer itself: it is never known for less."""
        rate = _rate(answer)
        if rate <= self.dearest(answer.model) and self._written:
            return
        with _WRITING:
            known = self._read()
            self._known = {**known, answer.model: max(rate, known.get(answer.model, 0.0))}
            self._answers.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(self._known).encode())
            self._written = True

    def _read(self) -> dict[str, float]:
        try:
            known: Any = json.loads(self._file.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return self._in_answers()
        self._written = True
        return {str(model): float(rate) for model, rate in known.items()}

    def _in_answers(self) -> dict[str, float]:
        """What a folder from before there was such a file has in it."""
        found: dict[str, float] = {}
        for file in self._answers.glob("*.json"):
            try:
                answer = Answer.model_validate_json(file.read_bytes())
            except ValidationError:
                continue
            found[answer.model] = max(found.get(answer.model, 0.0), _rate(answer))
        return found


def _rate(answer: Answer) -> float:
    """Micro-dollars a token of an answer; 0 where its price or its tokens are unknown."""
    return (answer.usd_micro or 0) / answer.tokens if answer.tokens else 0.0
