"""Benchmarks of one's own: from a file's rows to items in a fixed order, each in its part."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Literal

import polars as pl
from pydantic import ValidationError

from agents.evaluator.benchmarks import rubrics
from agents.evaluator.benchmarks.items import AnyItem, Item, Message, TextItem, as_text, half_of
from agents.evaluator.benchmarks.listed_choices import LISTED, choices_of, keep_their_places
from agents.evaluator.scoring.calls import of_messages
from agents.multiple_choice import LETTERS
from shared_memory.errors import BadInput
from shared_memory.records import Part

Metric = Literal[
    "choice", "exact", "numeric", "regex", "calls", "rubric", "pairwise", "code", "task", "loss", "preference"
]
"""See `BenchmarkGoal.metric`; beside those, `pairwise` has a judge compare the answer with a baseline's, `code` runs
the answer's program, and `task` is scored by the scorer of an inspect task."""
ANSWERS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
GPQA = ("Question", *ANSWERS)
FORMATS: tuple[tuple[tuple[str, ...], tuple[Metric, ...]], ...] = (
    (GPQA, ("choice",)),
    *((columns, ("choice",)) for columns in LISTED),
    (("prompt", "chosen", "rejected"), ("preference",)),
    (("question", "calls"), ("calls",)),
    (("question", rubrics.KEY), ("rubric",)),
    (("prompt", rubrics.KEY), ("rubric",)),
    (("prompt", "completion"), ("loss", "exact", "numeric", "regex", "calls")),
    (("question", "answer"), ("exact", "loss", "numeric", "regex", "calls")),
)
"""Columns → metrics that can score them, the one that `auto` takes first. Texts are strings, or lists of messages, with
`tools` beside them where they call any."""
NUMBER = re.compile(r"\d")
ROLES = ("system", "user", "assistant", "tool")
"""Whose turn a message is, of a chat that is asked."""
TEXT: tuple[tuple[str, ...], tuple[Metric, ...]] = (("text",), ("loss",))
"""Only where the metric is named: a column of this name is often what a label is about."""


@lru_cache(maxsize=16)
def read_benchmark(path: Path, changed: int, wanted: str) -> tuple[Metric, tuple[AnyItem, ...]]:
    """The metric and the items of a file; `changed` is its time of change, so that a new content is read anew.

    Raises BadInput for a file that is not what it claims to be, with the row and the next move.
    """
    rows = _rows(path)
    if not rows:
        raise BadInput(f"{path} holds no questions; check the file")
    columns, metric = _format(tuple(rows[0]), wanted, path)
    items = tuple(
        _choice_item(row, columns, f"{path}, row {number}")
        if metric == "choice"
        else _text_item(row, columns, metric, f"{path}, row {number}")
        for number, row in enumerate(rows, 1)
    )
    ids = [item.id for item in items]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise BadInput(f"{path} has two rows with the Record ID `{twice}`; make them unique")
    return metric, items


def _format(columns: tuple[str, ...], wanted: str, path: Path) -> tuple[tuple[str, ...], Metric]:
    """The columns that hold the items, and the metric that scores them."""
    formats = FORMATS if wanted == "auto" else (*FORMATS, TEXT)
    if wanted not in ("auto", "choice") and any(set(listed) <= set(columns) for listed in LISTED):
        raise BadInput(f"{path} has choices, which metric `{wanted}` does not show; leave `metric` out to score them")
    for needed, metrics in formats:
        if set(needed) <= set(columns) and wanted in ("auto", *metrics):
            return needed, next(metric for metric in metrics if wanted in ("auto", metric))
    understood = " | ".join(", ".join(needed) for needed, metrics in formats if wanted in ("auto", *metrics))
    scored = "" if wanted == "auto" else f"; metric `{wanted}` cannot score them"
    raise BadInput(f"{path} has the columns {', '.join(columns) or '(none)'}{scored}; rename them to: {understood}")


def _rows(path: Path) -> list[dict[str, Any]]:
    """The file's rows as plain data."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".jsonl", ".ndjson"):
            return _json_lines(path)
        if suffix == ".csv":
            return pl.read_csv(path, infer_schema=False).to_dicts()
        if suffix == ".parquet":
            return pl.read_parquet(path).to_dicts()
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a readable {suffix[1:]} file ({cause}); check the file") from error
    raise BadInput(f"{path} is no benchmark file: give .jsonl, .csv or .parquet with one row an item")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    # Not splitlines(): a JSON string may hold signs that it takes for the end of a line (U+0085, U+2028).
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\ud" in line.lower():  # half of a surrogate pair, maybe, which no file can hold
                row = json.loads(as_text(json.dumps(row, ensure_ascii=False)))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number} is not JSON; every line of a .jsonl file is one object") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number} is not a JSON object; every line of a .jsonl file is one")
        rows.append(row)
    return rows


def _choice_item(row: dict[str, Any], columns: tuple[str, ...], where: str) -> Item:
    question = as_text(row.get(columns[0]))
    if not question.strip():
        raise BadInput(f"{where}: `{columns[0]}` is empty; fill it or drop the row")
    if columns == GPQA:
        choices, right = _gpqa_choices(row, where), 0
        record_id = _record_id(row, question)
    else:
        choices, right = choices_of(row, columns, where)
        record_id = _record_id(row, json.dumps([question, *choices]))  # `Which of these is true?` is many questions
    order = list(range(len(choices)))
    if columns == GPQA or not keep_their_places(choices):
        # Seeded by the id alone: the order is part of the benchmark, the same in every run and for every model.
        Random(record_id).shuffle(order)
    return Item(
        id=record_id,
        question=question,
        choices=tuple(choices[position] for position in order),
        answer=LETTERS[order.index(right)],
        passage=as_text(row.get("passage")),
        category=_category(row),
        cluster=_cluster(row),
        part=_part(row, record_id, where),
    )


def _gpqa_choices(row: dict[str, Any], where: str) -> list[str]:
    """The right choice, then the others."""
    choices = [as_text(row.get(column)) for column in ANSWERS]
    empty = next((column for column, text in zip(ANSWERS, choices, strict=True) if not text.strip()), None)
    if empty:
        raise BadInput(f"{where}: `{empty}` is empty; fill it or drop the row")
    if len(set(choices)) < len(choices):
        raise BadInput(f"{where}: two of the four choices are the same; mend or drop the row")
    return choices


def _text_item(row: dict[str, Any], columns: tuple[str, ...], metric: Metric, where: str) -> TextItem:
    if columns == TEXT[0]:
        return _passage(row, where)
    if columns[-1] == rubrics.KEY:
        return _rubric_item(row, columns[0], where)
    if columns[-1] == "calls":
        row = {**row, "calls": [{"role": "assistant", "content": "", "tool_calls": _calls(row.get("calls"), where)}]}
    prompt, completion, *rejected = (
        _messages(row, column, "assistant" if place else "user", where) for place, column in enumerate(columns)
    )
    if metric not in ("loss", "preference"):
        _require_known_roles(prompt, where)
    passage = as_text(row.get("passage"))
    if passage:
        prompt = tuple(_with(passage, message) if message is _asked(prompt) else message for message in prompt)
    if rejected == [completion]:
        raise BadInput(f"{where}: `chosen` and `rejected` are the same; mend or drop the row")
    texts = [
        [message.plain() if message.tool_calls else message.content for message in messages]
        for messages in (prompt, completion, *rejected)
    ]
    record_id = _record_id(row, json.dumps(texts))
    item = TextItem(
        id=record_id,
        prompt=prompt,
        completion=completion,
        rejected=rejected[0] if rejected else (),
        tools=_tools(row, where),
        passage=passage,
        category=_category(row),
        cluster=_cluster(row),
        part=_part(row, record_id, where),
    )
    if metric in ("exact", "numeric", "regex") and not item.can_be_matched:
        raise BadInput(
            f"{where}: `{columns[1]}` is no single text with a letter or digit in it, or tools are called, so it "
            "cannot be matched; mend or drop the row, or set metric = 'loss'"
        )
    if fault := _fault_of_reference(item, metric):
        raise BadInput(f"{where}: `{columns[1]}` {fault}; mend or drop the row")
    return item


def _rubric_item(row: dict[str, Any], asked: str, where: str) -> TextItem:
    prompt = _messages(row, asked, "user", where)
    try:
        criteria = [each.plain() for each in rubrics.criteria_of(row.get(rubrics.KEY))]
    except ValueError as error:
        raise BadInput(f"{where}: `{rubrics.KEY}` cannot be graded by ({error}); mend or drop the row") from error
    _require_known_roles(prompt, where)
    record_id = _record_id(row, json.dumps([[message.content for message in prompt], criteria]))
    return TextItem(
        id=record_id,
        prompt=prompt,
        metadata={rubrics.KEY: criteria},
        category=_category(row),
        cluster=_cluster(row),
        part=_part(row, record_id, where),
    )


def _fault_of_reference(item: TextItem, metric: Metric) -> str:
    """Why an answer cannot be compared with the reference by this metric; empty where it can."""
    reference = item.reference.strip()
    if metric == "numeric" and not NUMBER.search(reference):
        return "holds no number"
    if metric == "regex":
        try:
            re.compile(reference)
        except re.error as error:
            return f"is no regular expression ({error})"
    if metric == "calls":
        try:
            of_messages(call for message in item.completion for call in message.tool_calls)
        except ValueError as error:
            return f"holds what is no function call ({error})"
        if not any(message.tool_calls for message in item.completion):
            return "calls no function"
    return ""


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Function calls as chat messages hold them, from `[{"name", "arguments"}]` or that as JSON text."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
        return [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in of_messages(given if isinstance(given, list) else [given])
        ]
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInput(
            f'{where}: `calls` is no list of {{"name": …, "arguments": {{…}}}}; mend or drop the row'
        ) from error


def _asked(prompt: Sequence[Message]) -> Message:
    """The message of a prompt that asks: the user's last."""
    return next((message for message in reversed(prompt) if message.role == "user"), prompt[-1])


def _with(passage: str, message: Message) -> Message:
    return message.model_copy(update={"content": f"{passage}\n\n{message.content}"})


def _passage(row: dict[str, Any], where: str) -> TextItem:
    text = as_text(row.get("text"))
    if not text.strip():
        raise BadInput(f"{where}: `text` is empty; fill it or drop the row")
    record_id = _record_id(row, text)
    return TextItem(id=record_id, text=text, category=_category(row), part=_part(row, record_id, where))


def _messages(row: dict[str, Any], column: str, role: str, where: str) -> tuple[Message, ...]:
    """The chat messages of a column; a text is one message of `role`."""
    value = row.get(column)
    entries: list[Any] = value if isinstance(value, list) else [{"role": role, "content": value}]
    if not all(isinstance(entry, dict) and _is_message(entry) for entry in entries):
        raise BadInput(
            f'{where}: `{column}` is neither a text nor a list of {{"role": …, "content": …}}; mend or drop the row'
        )
    try:
        messages = tuple(
            Message(
                role=entry["role"],
                content=as_text(entry.get("content")),
                **{key: entry[key] for key in Message.SPARSE if entry.get(key)},
            )
            for entry in entries
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise BadInput(f"{where}: `{column}`, {fault['loc'][0]}: {fault['msg']}; mend or drop the row") from error
    if all(message.is_blank for message in messages):
        raise BadInput(f"{where}: `{column}` is empty; fill it or drop the row")
    return messages


def _require_known_roles(prompt: Sequence[Message], where: str) -> None:
    """Raise BadInput for a turn of nobody: the template of a model that only reads may know others."""
    if odd := next((turn.role for turn in prompt if turn.role not in ROLES), ""):
        raise BadInput(f"{where}: a message has the role `{odd[:20]}`; it is {', '.join(ROLES)}")


def _tools(row: dict[str, Any], where: str) -> tuple[dict[str, Any], ...]:
    """The tools that an item may call: a list, or one as JSON text, which is how training data hold it."""
    given = row.get("tools") or []
    try:
        tools = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadInput(f"{where}: `tools` is no list of JSON schemas; mend or drop the row")
    return tuple(tools)


def _is_message(entry: dict[str, Any]) -> bool:
    content = entry.get("content", None if entry.get("tool_calls") else [])
    return isinstance(entry.get("role"), str) and not isinstance(content, list | dict)


def _record_id(row: dict[str, Any], content: str) -> str:
    given = row.get("Record ID", row.get("id"))
    return hashlib.sha256(content.encode()).hexdigest()[:16] if given in (None, "") else as_text(given)


def _category(row: dict[str, Any]) -> str:
    return as_text(row.get("Subdomain") or row.get("category"))


def _cluster(row: dict[str, Any]) -> str:
    """What an item shares with others that are not independent of it: as the row says, or its passage."""
    given, passage = as_text(row.get("cluster")), as_text(row.get("passage"))
    return given or (hashlib.sha256(passage.encode()).hexdigest()[:16] if passage else "")


def _part(row: dict[str, Any], record_id: str, where: str) -> Part:
    """The part that the file gives, else by a hash of the record id: half selects, half reports."""
    given = row.get("Part") or row.get("part")
    if not given:
        return half_of(record_id)
    try:
        return Part(str(given))
    except ValueError as error:
        raise BadInput(f"{where}: Part is `{given}`; it is `selection` or `report`") from error
