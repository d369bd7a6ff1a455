"""Lines that are no rows, rows that their format does not allow, and columns that hold several types."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole
from agents.data_engineer.checks.findings import AuditFinding, Kind, Severity

LEFT_OUT = "they are left out"
_FAULTS: dict[Kind, tuple[Severity, str, str]] = {
    "unreadable": ("error", "could not be read; get the file anew, or write it again", ""),
    "truncated": ("error", "the file ends early, what follows is missing; get it anew", ""),
    "malformed": ("error", "the row has more or fewer cells than columns, or a value that cannot be read; mend it",
                  LEFT_OUT),
    "not_json": ("error", "loaders stop at such a line; mend or remove it", LEFT_OUT),
    "not_an_object": ("error", "every line has to be one {column: value} object; mend or remove it", LEFT_OUT),
    "not_utf8": ("error", "loaders stop at such a line; save the text as UTF-8", LEFT_OUT),
    "line_too_long": ("error", "no row of text is so long; remove it, or part it into rows", LEFT_OUT),
    "not_finite": ("warning", "NaN and Infinity are no JSON, and other loaders refuse them; write null",
                   "they become null"),
    "unknown_role": ("error", "chat templates know system, user, assistant and tool; rename the role", LEFT_OUT),
    "no_reply": ("error", "nothing to learn: no message is the assistant's; add the reply", LEFT_OUT),
    "not_text": ("error", "a part that is trained on has to be text; turn the value into text", LEFT_OUT),
    "bad_message": ("error", "a message is {role, content}; rewrite it so", LEFT_OUT),
    "prompt_mismatch": ("error", "chosen and rejected answer different prompts, so they are no pair", LEFT_OUT),
    "answer_not_among_choices": ("error", "the answer is none of the choices: no letter is right", LEFT_OUT),
    "tool_calls": ("error", "the call of a tool cannot be read; give it a name and arguments", LEFT_OUT),
    "no_ranking": ("error", "replies and their ranks do not go together; give one number for each", LEFT_OUT),
    "choices": ("error", "a question needs a list of two to ten choices", LEFT_OUT),
    "other_columns": ("error", "the row has other columns than the rows before it; put it into a file of its own",
                      LEFT_OUT),
}  # fmt: skip
"""Kind → how bad, what it means and what to do, what the cleaned copy does."""


class Reading(Check):
    """What kept lines from being records, and records from being rows."""

    def __init__(self) -> None:
        self._tallies: defaultdict[Kind, Tally] = defaultdict(Tally)
        self._not_finite: list[int] = []

    def see(self, batch: AuditBatch) -> None:
        for fault in batch.faults:
            self._tallies[fault.kind].add_place(batch.source, fault.number, fault.detail)
            if fault.kind == "not_finite":
                place = bisect_left(batch.numbers, fault.number)
                if batch.numbers[place : place + 1] == [fault.number]:
                    self._not_finite.append(batch.first + place)
        for entry in batch.unusable:
            self._tallies[entry.kind].add_record(batch, entry.place, entry.message)

    def give_up(self, source: str, why: str) -> None:
        """A source that could not be read, or not to its end."""
        self._tallies["unreadable"].add_place(source, 0, why)

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        for kind, (severity, advice, fix) in _FAULTS.items():
            if kind in self._tallies:
                yield from self._tallies[kind].finding(kind, severity, whole.rows, advice, fix=fix)

    def dropped(self) -> Iterable[Ordinals]:
        return [tally.ordinals for tally in self._tallies.values()]

    def mended(self) -> Iterable[Ordinals]:
        return [np.asarray(self._not_finite, np.int64)]


class Schema(Check):
    """The types of each column. Whole and decimal numbers are one type, and so is true or false."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, defaultdict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
        self.records = 0

    def see(self, batch: AuditBatch) -> None:
        self.records += len(batch.records)
        shapes: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
        for place, record in enumerate(batch.records):
            shapes[(*record, *map(type, record.values()))].append(place)
        for shape, places in shapes.items():
            columns, types = shape[: len(shape) // 2], shape[len(shape) // 2 :]
            for column, kind in zip(columns, types, strict=True):
                self._add(batch, column, _NAMES.get(kind, kind.__name__), places)

    def _add(self, batch: AuditBatch, column: str, name: str, places: Sequence[int]) -> None:
        tally = self._seen[column][name]
        for place in places[:3] if len(tally.examples) < 3 else ():
            tally.add_place(batch.source, batch.numbers[place], f"`{column}` is {name}: {batch.records[place][column]}")
            tally.count -= 1
        tally.count += len(places)

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """Column → {types: type → rows, nulls: rows without a value}; a row that lacks the column is one of these."""
        described = {}
        for column, types in self._seen.items():
            counts = {name: tally.count for name, tally in types.items() if name != "null"}
            described[column] = {"types": counts, "nulls": self.records - sum(counts.values())}
        return described

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        mixed = Tally()
        columns = []
        for column, types in self._seen.items():
            held = Counter({name: tally.count for name, tally in types.items() if name != "null"})
            if len(held) > 1:
                columns.append(f"`{column}` ({', '.join(f'{name} {count:,}' for name, count in held.most_common())})")
                for name, _ in held.most_common()[1:]:
                    mixed.count += types[name].count
                    mixed.examples += types[name].examples
        del mixed.examples[3:]
        advice = f"{'; '.join(columns)}: loaders guess one type from the first rows and fail later; write one type"
        yield from mixed.finding("mixed_types", "warning", whole.rows, advice)


_NAMES: dict[type, str] = {
    str: "text", int: "number", float: "number", bool: "true/false", type(None): "null", list: "list", dict: "object",
}  # fmt: skip


class Blanks(Check):
    """Rows without a question or an answer: the value is missing, empty, or nothing but blanks."""

    def __init__(self) -> None:
        self._tallies: dict[Kind, Tally] = {"nulls": Tally(), "empty": Tally(), "whitespace": Tally()}

    def see(self, batch: AuditBatch) -> None:
        for row in batch.blank:
            kind = _kind_of_blank(batch, batch.places[row])
            self._tallies[kind].add(batch, [row])

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        means = {"nulls": "a part that is trained on is missing", "empty": "a part that is trained on is empty",
                 "whitespace": "a part that is trained on is nothing but blanks"}  # fmt: skip
        for kind, tally in self._tallies.items():
            advice = f"{means[kind]}; rows without question or answer are left out"
            yield from tally.finding(kind, "warning", whole.rows, advice, fix=LEFT_OUT)

    def dropped(self) -> Iterable[Ordinals]:
        return [tally.ordinals for tally in self._tallies.values()]


def _kind_of_blank(batch: AuditBatch, place: int) -> Kind:
    """The plainest of the reasons; `empty` where the raw values do not tell."""
    if batch.layout is None:
        return "empty"
    record = batch.records[place]
    values = [record.get(column) for part, column in batch.layout.columns.items() if part not in _OPTIONAL]
    if any(value is None for value in values):
        return "nulls"
    texts = [text for value in values for text in _texts(value)]
    if any(text == "" for text in texts) or all(text.strip() for text in texts):
        return "empty"
    return "whitespace"


_OPTIONAL = frozenset({"system", "context", "explanation", "tools", "label"})


def _texts(value: Any) -> list[str]:
    """The texts in a cell: itself, or what its messages say."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        said = (entry.get("content", entry.get("value")) for entry in value if isinstance(entry, dict))
        return [text for text in said if isinstance(text, str)]
    return []
