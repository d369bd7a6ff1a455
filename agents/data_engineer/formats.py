"""Reads data files, and turns every format that is understood into one type of row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shared_memory.errors import BadInput

Record = Mapping[str, Any]
"""A row as it stands in the file: column → value."""

GPQA_CHOICES = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One training row. A multiple-choice row gets its messages when it is rendered; until then they are empty."""

    id: str
    question: str
    """What is asked: the question of a multiple-choice row, else the last message of the user."""
    prompt: tuple[Message, ...] = ()
    completion: tuple[Message, ...] = ()
    choices: tuple[str, ...] | None = None
    """None where the row is not multiple choice."""
    answer: str | None = None
    """Letter of the right choice."""
    explanation: str = ""
    """Worked solution of a multiple-choice row."""

    @property
    def text(self) -> str:
        """Everything that a model would read or write in this row, one part a line."""
        messages = [message.content for message in self.prompt + self.completion]
        return "\n".join(messages or [self.question, *(self.choices or ()), self.explanation])


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL, JSON, CSV or Parquet file.

    Raises BadInput where the file is missing, empty, unreadable, not what its ending says (with the line, where there
    are lines), or has columns that are not understood.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path} is not a data file that can be read; give a {', '.join(_READERS)} file")
    if not path.is_file():
        raise BadInput(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    try:
        records = reader(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error
    if not records:
        raise BadInput(f"{path} has no rows; give a file with data")
    columns = {column: None for record in records for column in record}
    convert = _converter(path, tuple(columns))
    try:
        return [convert(record, f"{path.stem}:{n}") for n, record in enumerate(records, start=1)]
    except _UnusableRowError as error:
        raise BadInput(f"{path}: {error}; mend that row") from error


class _UnusableRowError(ValueError):
    """A row that has the columns of its format and something else in them."""


def _read_jsonl(path: Path) -> list[Record]:
    """Line by line: polars would turn columns of mixed types into strings, and names no line that is wrong."""
    with path.open("rb") as stream:
        return [_json_object(path, line, number) for number, line in enumerate(stream, start=1) if line.strip()]


def _json_object(path: Path, line: bytes, number: int) -> Record:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}, line {number} is not JSON ({_first_line(error)}); mend or remove that line") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}, line {number} is not a JSON object; put one {{column: value}} object on each line")
    return value


def _read_json(path: Path) -> list[Record]:
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        hint = "mend it, or call it .jsonl if every line is an object"
        raise BadInput(f"{path} is not JSON ({_first_line(error)}); {hint}") from error
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BadInput(f"{path} is not a list of JSON objects; write it as [{{column: value}}, …]")
    return value


def _read_csv(path: Path) -> list[Record]:
    """All columns as text, so that `007` and `1e3` stay what they are."""
    return _by_polars(path, "CSV", lambda: pl.scan_csv(path, infer_schema=False, glob=False).collect())


def _read_parquet(path: Path) -> list[Record]:
    return _by_polars(path, "Parquet", lambda: pl.read_parquet(path, glob=False))


def _by_polars(path: Path, kind: str, read: Callable[[], pl.DataFrame]) -> list[Record]:
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; give a file with data")
    try:
        return list(read().iter_rows(named=True))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a scrambled file makes polars panic
        raise BadInput(f"{path} is not valid {kind} ({_first_line(error)}); write it anew or convert it") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _converter(path: Path, columns: Sequence[str]) -> Callable[[Record, str], Row]:
    """The first format whose columns are all there."""
    for needed, convert in _FORMATS:
        if set(needed) <= set(columns):
            return convert
    understood = " | ".join(", ".join(needed) for needed, _ in _FORMATS)
    raise BadInput(f"{path} has the columns {', '.join(columns) or '(none)'}; rename them to one of: {understood}")


def _from_gpqa(record: Record, fallback_id: str) -> Row:
    """GPQA's columns give the choices no order: the right one stands first until the letters are balanced."""
    question = _text(record, "Question", fallback_id)
    return Row(
        id=_text(record, "Record ID", fallback_id) or fallback_id,
        question=question,
        choices=tuple(_text(record, column, fallback_id) for column in GPQA_CHOICES),
        answer="A",
        explanation=_text(record, "Explanation", fallback_id),
    )


def _from_prompt_and_completion(record: Record, fallback_id: str) -> Row:
    """Both as strings, or as lists of chat messages."""
    prompt = tuple(_messages(record, "prompt", fallback_id, role="user"))
    completion = tuple(_messages(record, "completion", fallback_id, role="assistant"))
    return Row(id=fallback_id, question=_last_question(prompt), prompt=prompt, completion=completion)


def _from_messages(record: Record, fallback_id: str) -> Row:
    """The last reply is the completion, everything before it the prompt."""
    messages = tuple(_messages(record, "messages", fallback_id, role="user"))
    if messages and messages[-1].role != "assistant":
        raise _UnusableRowError(f"row {fallback_id}: the last of its messages is not the assistant's")
    prompt, completion = messages[:-1], messages[-1:]
    return Row(id=fallback_id, question=_last_question(prompt), prompt=prompt, completion=completion)


def _last_question(prompt: Sequence[Message]) -> str:
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _messages(record: Record, column: str, row: str, role: str) -> Iterator[Message]:
    """The chat messages of a column; a string is one message of `role`, an absent value none."""
    value = record.get(column)
    if not isinstance(value, list):
        content = _text(record, column, row)
        if content:
            yield Message(role, content)
        return
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
            raise _UnusableRowError(f'row {row}: `{column}` has an entry that is not {{"role": …, "content": …}}')
        yield Message(entry["role"], _text(entry, "content", row))


def _text(record: Record, column: str, row: str) -> str:
    """A value as text: absent ones are empty, and surrogates that no file can hold are replaced."""
    value = record.get(column)
    if value is None:
        return ""
    if isinstance(value, list | dict):
        raise _UnusableRowError(f"row {row}: `{column}` holds a {type(value).__name__}, not text")
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_FORMATS: tuple[tuple[tuple[str, ...], Callable[[Record, str], Row]], ...] = (
    (("Question", *GPQA_CHOICES), _from_gpqa),
    (("prompt", "completion"), _from_prompt_and_completion),
    (("messages",), _from_messages),
)
"""Columns that are needed → how a row is made of them."""
