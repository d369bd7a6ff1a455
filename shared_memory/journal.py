"""What a run found, planned, made and measured: append-only, failures included.

A record is filed by (run, kind, id). Putting it again with other content adds a version; the latest one counts, the
earlier ones stay readable. Putting an identical record adds nothing, so a step that runs again after a crash changes
nothing.
"""

from __future__ import annotations

import json
import time
from typing import Any, TypeVar

from pydantic import ValidationError

from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.recipes import RECIPES, Recipe, recipe_of
from shared_memory.records import (
    ComparisonResult,
    DatasetRecord,
    EvalResult,
    Experiment,
    Finding,
    Job,
    Record,
)

_FILED_BY: dict[type[Record], tuple[str, str]] = {
    Finding: ("finding", "id"),
    **dict.fromkeys(RECIPES.values(), ("recipe", "id")),
    DatasetRecord: ("dataset", "id"),
    Experiment: ("experiment", "id"),
    EvalResult: ("result", "id"),
    ComparisonResult: ("comparison", "benchmark"),
    Job: ("job", "key"),
}
"""Class → kind, and the attribute that is its id."""

R = TypeVar("R", bound=Record)


class Journal:
    """The journal of one run."""

    def __init__(self, db: Database, run_id: str) -> None:
        self._db = db
        self._run_id = run_id

    def put(self, record: Record, *, id: str | None = None) -> str:
        """File a record under its own id (or `id`), and return that id."""
        kind, attribute = _FILED_BY[type(record)]
        name = str(getattr(record, attribute)) if id is None else id
        self._append(kind, name, record.plain())
        return name

    def all(self, record_class: type[R]) -> dict[str, R]:
        """Id → latest version, in order of first appearance."""
        kind = _FILED_BY[record_class][0]
        return {id: self._parsed(record_class, body) for id, body in self._latest(kind)}

    def get(self, record_class: type[R], id: str) -> R | None:
        """The latest version, or None."""
        versions = self._versions(_FILED_BY[record_class][0], id)
        return self._parsed(record_class, versions[-1]) if versions else None

    def recipes(self) -> dict[str, Recipe]:
        """The same for recipes, which have a class for every method."""
        return {id: self._recipe(body) for id, body in self._latest("recipe")}

    def history(self, record_class: type[R], id: str) -> tuple[R, ...]:
        """Every version, oldest first."""
        versions = self._versions(_FILED_BY[record_class][0], id)
        return tuple(self._parsed(record_class, body) for body in versions)

    def note(self, kind: str, id: str, content: str | dict[str, Any]) -> None:
        """File plain text or plain data that has no class of its own; versions are kept as for records."""
        self._append(f"note:{kind}", id, content)

    def notes(self, kind: str) -> dict[str, Any]:
        """Id → latest content of the notes of a kind, in order of first appearance."""
        return {id: json.loads(body) for id, body in self._latest(f"note:{kind}")}

    def _append(self, kind: str, id: str, content: str | dict[str, Any]) -> None:
        body = json.dumps(content, sort_keys=True, ensure_ascii=False)
        values = {"run": self._run_id, "kind": kind, "id": id, "body": body, "at": time.time()}
        self._db.execute(
            "INSERT INTO journal (run_id, kind, id, body, at) SELECT :run, :kind, :id, :body, :at WHERE :body IS NOT"
            " (SELECT body FROM journal WHERE run_id = :run AND kind = :kind AND id = :id ORDER BY seq DESC LIMIT 1)",
            values,
        )

    def _latest(self, kind: str) -> list[tuple[str, str]]:
        rows = self._db.execute(
            "SELECT id, body FROM journal JOIN (SELECT min(seq) AS first, max(seq) AS last FROM journal"
            " WHERE run_id = ? AND kind = ? GROUP BY id) ON seq = last ORDER BY first",
            (self._run_id, kind),
        )
        return [(row["id"], row["body"]) for row in rows]

    def _versions(self, kind: str, id: str) -> list[str]:
        rows = self._db.execute(
            "SELECT body FROM journal WHERE run_id = ? AND kind = ? AND id = ? ORDER BY seq",
            (self._run_id, kind, id),
        )
        return [row["body"] for row in rows]

    def _parsed(self, record_class: type[R], body: str) -> R:
        try:
            return record_class.model_validate_json(body)
        except ValidationError as error:
            raise self.of_another_version(record_class.__name__) from error

    def _recipe(self, body: str) -> Recipe:
        try:
            return recipe_of(json.loads(body))
        except ValidationError as error:
            raise self.of_another_version("Recipe") from error

    def of_another_version(self, what: str) -> PostgradError:
        """What to raise where this version would read `what` of the run in another way than it was written."""
        return PostgradError(
            f"run `{self._run_id}` was written by another version of postgrad ({what} differs);"
            " open it with that version"
        )
