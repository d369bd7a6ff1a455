"""What the runs of a home have learned: what was tried, under which conditions, and what came of it.

A lesson is made of numbers, names and words of ours alone: no row of a data set, no item of a benchmark, no log and no
sentence of a language model is in one. It is evidence for whoever plans the next run, and never an instruction.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from shared_memory.database import Database
from shared_memory.record import Record
from shared_memory.redaction import redact_plain

CLAIM = "claim"
"""What the lesson of a run's one comparison on the report items is filed under."""
SIZES = ((500_000_000, "up to 0.5B"), (2_000_000_000, "0.5B to 2B"), (5_000_000_000, "2B to 5B"),
         (15_000_000_000, "5B to 15B"))  # fmt: skip
"""Weights that a class of models has at most, and what it is called."""
_SIZE_IN_A_NAME = re.compile(r"(?i)^\d+(?:\.\d+)?[bmk]$|^(?:base|instruct|chat|it|pt|sft|hf|v\d[\d.]*)$")


class Conditions(Record):
    """What a result depends on, so that it can be told whether it may hold elsewhere."""

    benchmark: str = ""
    """The one that the search went by."""
    method: str = ""
    family: str = ""
    """Of the base model, as its name has it: `qwen3`, `smollm2`."""
    parameters: int = 0
    """Weights of the base model."""
    data: str = ""
    """Where the rows were from, in our words and Hub ids."""
    rows: int = 0

    @property
    def size(self) -> str:
        """Its class among models."""
        if not self.parameters:
            return ""
        return next((name for most, name in SIZES if self.parameters <= most), "over 15B")


class Measured(Record):
    """A paired difference with its 95 % interval."""

    against: str
    """What it was compared with: an experiment, `baseline`, or the same training without a part."""
    delta: float
    """In the benchmark's unit; positive is better only where higher is."""
    ci_low: float
    ci_high: float
    n: int
    unit: Literal["fraction", "nats"] = "fraction"
    higher_is_better: bool = True
    part: Literal["selection", "report"] = "selection"
    """Of the items: those that steered the search, and so flatter what won it, or those that only report."""

    def __str__(self) -> str:
        delta, low, high = (
            f"{100 * value:+.1f}" if self.unit == "fraction" else f"{value:+.3f}"
            for value in (self.delta, self.ci_low, self.ci_high)
        )
        unit = "points" if self.unit == "fraction" else "nats a token"
        better = "" if self.higher_is_better else ", lower is better"
        items = f"n {self.n}, {self.part} items{better}"
        return f"{delta} {unit} against {self.against} (95 % interval {low} to {high}, {items})"


class Lesson(Record):
    """One thing that a run has learned."""

    run: str
    experiment: str
    """Id of an experiment, `claim`, or `part:…` for what a part of the champion is worth."""
    tried: str
    """What was tried, in one line."""
    conditions: Conditions = Field(default_factory=Conditions)
    outcome: str = ""
    """What became of it: keep, discard, `crash: out_of_memory`, win."""
    effect: Measured | None = None
    """None where nothing was measured."""

    @property
    def line(self) -> str:
        """The lesson in one line."""
        its = self.conditions
        data = ", ".join(filter(None, (its.data, f"{its.rows} rows" if its.rows else "")))
        model = " ".join(filter(None, (its.family, f"of {its.parameters / 1e6:.0f}M" if its.parameters else "")))
        where = "; ".join(filter(None, (its.benchmark and f"on {its.benchmark}", its.method, model, data)))
        effect = f": {self.effect}" if self.effect else ""
        return f"{self.run} {self.experiment}: {self.tried} [{where}] → {self.outcome or 'measured'}{effect}"


class Lessons:
    """The lessons of a home."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, run_id: str, lesson: Lesson) -> None:
        """File a lesson under its run and experiment; again replaces it."""
        clean = Lesson.model_validate(redact_plain({**lesson.plain(), "run": run_id}))
        its = clean.conditions
        values = {
            "run": run_id, "experiment": clean.experiment, "body": clean.model_dump_json(), "benchmark": its.benchmark,
            "method": its.method, "family": its.family, "size": its.size, "words": f"{clean.line} {its.size}",
        }  # fmt: skip
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO lessons (run_id, experiment, body, benchmark, method, family, size)"
                " VALUES (:run, :experiment, :body, :benchmark, :method, :family, :size)"
                " ON CONFLICT (run_id, experiment) DO UPDATE SET body = :body, benchmark = :benchmark,"
                " method = :method, family = :family, size = :size",
                {key: value for key, value in values.items() if key != "words"},
            )
            [row] = self._db.execute(
                "SELECT seq FROM lessons WHERE run_id = ? AND experiment = ?", (run_id, clean.experiment)
            )
            self._db.execute("DELETE FROM lesson_words WHERE rowid = ?", (row["seq"],))
            self._db.execute("INSERT INTO lesson_words (rowid, words) VALUES (?, ?)", (row["seq"], values["words"]))

    def find(
        self, query: str = "", like: Conditions | None = None, *, but: str = "", limit: int = 10
    ) -> tuple[Lesson, ...]:
        """The lessons that bear on something, best first, without those of the run `but`.

        query: words, of which a lesson has at least one; signs alone find nothing. like: conditions; a lesson has the
        same benchmark, or the same method for a model of that family or size. First what was learned under the same
        conditions, then what has the rarest of the words (BM25; without a query, of the conditions'), then the newest.
        One that another version wrote in a way that this one cannot read is left out: evidence is missing then, and
        that is no reason to stop.
        """
        its = like or Conditions()
        words = _words(query if query.strip() else f"{its.benchmark} {its.method} {its.family}")
        rows = self._db.execute(
            "SELECT body FROM lessons LEFT JOIN (SELECT rowid, bm25(lesson_words) AS rank FROM lesson_words"
            " WHERE lesson_words MATCH :words) AS found ON found.rowid = seq"
            " WHERE run_id != :but AND (:query = 0 OR found.rowid IS NOT NULL) AND (:like = 0"
            "  OR (:benchmark != '' AND benchmark = :benchmark)"
            "  OR (method = :method AND (family = :family OR size = :size)))"
            " ORDER BY 4 * (:benchmark != '' AND benchmark = :benchmark) + 2 * (method = :method)"
            "  + (family = :family AND family != '') + (size = :size AND size != '') DESC,"
            "  coalesce(found.rank, 0), seq DESC LIMIT :limit",
            {
                "words": words or '""',
                "but": but,
                "query": int(bool(query.strip())),
                "like": int(like is not None),
                "benchmark": its.benchmark,
                "method": its.method,
                "family": its.family,
                "size": its.size,
                "limit": limit,
            },
        )
        return tuple(lesson for row in rows if (lesson := _read(row["body"])) is not None)


def _read(body: str) -> Lesson | None:
    try:
        return Lesson.model_validate_json(body)
    except ValidationError:
        return None


def _words(text: str) -> str:
    """The words of a text as an FTS5 query: any of them, none of them an operator [https://sqlite.org/fts5.html]."""
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", text.lower())))


def family_of(name: str) -> str:
    """What a model's name says of its family: `Qwen/Qwen3-1.7B-Base` is of `qwen3`."""
    parts = re.split(r"[-_]", name.rstrip("/").rpartition("/")[2])
    kept: list[Any] = []
    for part in parts:
        if _SIZE_IN_A_NAME.fullmatch(part):
            break
        kept.append(part.lower())
    return "-".join(kept)
