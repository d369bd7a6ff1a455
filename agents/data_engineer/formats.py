"""Turns every format that is understood into one type of row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.data_engineer.columns import GPQA, Format, Layout, layout_of
from agents.data_engineer.files import Record, read_records
from shared_memory.errors import BadInput

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "tool": "tool",
}  # fmt: skip
"""What data sets call who speaks → what chat templates call it."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One training row. A multiple-choice row gets its messages when it is rendered; until then they are empty."""

    id: str
    """`SOURCE:ROW`, both counted from 1: the same for as long as the sources and their order are."""
    question: str
    """What is asked: the question of a multiple-choice row, else the last message of the user."""
    prompt: tuple[Message, ...] = ()
    completion: tuple[Message, ...] = ()
    """The reply; of a preference row the chosen one."""
    choices: tuple[str, ...] | None = None
    """None where the row is not multiple choice."""
    answer: str | None = None
    """Letter of the right choice."""
    explanation: str = ""
    """Worked solution of a multiple-choice row."""
    rejected: tuple[Message, ...] = ()
    """The worse reply of a preference row, which always has one, if a blank one; empty in other rows."""

    @property
    def text(self) -> str:
        """Everything that a model would read or write in this row, one part a line."""
        messages = [message.content for message in self.prompt + self.completion + self.rejected]
        return "\n".join(messages or [self.question, *(self.choices or ()), self.explanation])


def trains(rows: Sequence[Row]) -> tuple[str, ...]:
    """The methods that the rows can train: preference pairs both, the chosen reply being one to imitate."""
    if not rows:
        return ()
    return ("sft", "dpo") if all(row.rejected for row in rows) else ("sft",)


@dataclass(frozen=True, slots=True)
class Table:
    """A source as it was understood."""

    path: Path
    columns: tuple[str, ...]
    layout: Layout
    rows: list[Row]


def read_sources(sources: Sequence[str]) -> list[Row]:
    """The rows of all sources in order, under ids that no two of them share; see `read_tables`."""
    return [row for table in read_tables(sources) for row in table.rows]


def read_rows(path: Path) -> list[Row]:
    """The rows of one file; see `read_tables`."""
    return read_sources([str(path)])


def read_tables(sources: Sequence[str]) -> list[Table]:
    """The files `sources`, each with its rows.

    Raises BadInput, with the number of the row where there is one, for a file that cannot be read, columns that are
    not understood, and a row that holds something else than its columns promise. Rows count from 1, a header aside.
    """
    return [_read_table(Path(source), number) for number, source in enumerate(sources, start=1)]


def _read_table(path: Path, number: int) -> Table:
    records = read_records(path)
    columns = tuple({column: None for record in records for column in record})
    layout = layout_of(path, columns)
    convert = _CONVERTERS[layout.format]
    rows = []
    for position, record in enumerate(records, start=1):
        try:
            rows.append(replace(convert(_Cells(layout, record)), id=f"{number}:{position}"))
        except _UnusableRowError as error:
            raise BadInput(f"{path}, row {position}: {error}; mend that row") from error
    return Table(path, columns, layout, rows)


class _UnusableRowError(ValueError):
    """A row that has the columns of its format and something else in them."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A record by the parts that its columns stand for."""

    layout: Layout
    record: Record

    def column(self, part: str) -> str:
        """Empty where the file has no such part."""
        return self.layout.columns.get(part, "")

    def value(self, part: str) -> Any:
        """None where the file has no such part; a column without a name is none."""
        column = self.layout.columns.get(part)
        return None if column is None else self.record.get(column)

    def text(self, part: str) -> str:
        return _text(self.value(part), self.column(part))

    def messages(self, part: str, role: str = "") -> tuple[Message, ...]:
        """The chat messages of a part; a text is one message of `role`, if it may be one, an absent value none."""
        value = _decoded(self.value(part))
        if isinstance(value, list):
            return tuple(_message(entry, self.column(part)) for entry in value)
        content = _text(value, self.column(part))
        if content.strip() and not role:
            raise _UnusableRowError(f"`{self.column(part)}` holds text, not a list of messages")
        return (Message(role, content),) if content else ()


def _from_gpqa(cells: _Cells) -> Row:
    """GPQA's columns give the choices no order: the right one stands first until the letters are balanced."""
    question, *choices = (cells.text(part) for part in GPQA)
    return Row(id="", question=question, choices=tuple(choices), answer="A", explanation=cells.text("explanation"))


def _from_pair(cells: _Cells) -> Row:
    """A question and its answer, both as text or as lists of chat messages."""
    return _row(_asked(cells), cells.messages("answer", "assistant"))


def _from_chat(cells: _Cells) -> Row:
    """The last reply is the completion, everything before it the prompt; what the user says after it is left out."""
    messages = cells.messages("messages")
    replies = [at for at, message in enumerate(messages) if message.role == "assistant"]
    if messages and not replies:
        column = cells.column("messages")
        raise _UnusableRowError(f"`{column}` has no reply: the last of its messages is not the assistant's")
    last = replies[-1] if replies else 0
    return _row(_with_system(messages[:last], cells), messages[last : last + 1])


def _from_preference(cells: _Cells) -> Row:
    """Two replies to one prompt, which is a part of its own, or how both conversations begin."""
    prompt = _asked(cells)
    chosen, rejected = cells.messages("chosen", "assistant"), cells.messages("rejected", "assistant")
    if chosen and rejected and chosen[0].role != "assistant":
        shared = _shared_beginning(chosen, rejected)
        if not shared:
            raise _UnusableRowError("`chosen` and `rejected` are conversations that do not begin alike")
        if prompt and _last_question(prompt).strip() not in {message.content.strip() for message in shared}:
            raise _UnusableRowError(f"`{cells.column('question')}` is not in what `chosen` and `rejected` share")
        chosen, rejected = chosen[len(shared) :], rejected[len(shared) :]
        prompt = _with_system(shared, cells)
    elif chosen and chosen[0].role == "assistant" and not cells.column("question"):
        raise _UnusableRowError("`chosen` is a reply and no column asks; add a column `prompt`")
    return replace(_row(prompt, chosen), rejected=rejected or (Message("assistant", ""),))


def _shared_beginning(first: Sequence[Message], second: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with which both begin, up to the last that is not the assistant's; a reply is left to each."""
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    while shared and first[shared - 1].role == "assistant":
        shared -= 1
    return tuple(first[:shared])


def _asked(cells: _Cells) -> tuple[Message, ...]:
    """The question as messages, with what it is about behind it, and the system message before it."""
    prompt = cells.messages("question", "user")
    context = cells.text("context")
    if prompt and context.strip():
        prompt = (*prompt[:-1], replace(prompt[-1], content=f"{prompt[-1].content}\n\n{context}"))
    return _with_system(prompt, cells)


def _with_system(prompt: tuple[Message, ...], cells: _Cells) -> tuple[Message, ...]:
    """A prompt with the row's system message, unless it brings one."""
    system = cells.text("system")
    if not system.strip() or not prompt or prompt[0].role == "system":
        return prompt
    return (Message("system", system), *prompt)


def _row(prompt: tuple[Message, ...], completion: tuple[Message, ...]) -> Row:
    return Row(id="", question=_last_question(prompt), prompt=prompt, completion=completion)


def _last_question(prompt: Sequence[Message]) -> str:
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _message(entry: Any, column: str) -> Message:
    """`{"role": …, "content": …}`, or ShareGPT's `{"from": …, "value": …}`."""
    if not isinstance(entry, dict):
        entry = {}
    role, content = ("role", "content") if entry.get("role") is not None else ("from", "value")
    if not isinstance(entry.get(role), str) or content not in entry:
        raise _UnusableRowError(f'`{column}` has an entry that is not {{"role": …, "content": …}}')
    if entry.get("tool_calls") or entry.get("function_call"):
        raise _UnusableRowError(f"`{column}` calls a tool, which this version does not train")
    speaker = ROLES.get(entry[role].strip().lower())
    if speaker is None:
        raise _UnusableRowError(f"`{column}` has the {role} `{entry[role][:40]}`; it is one of {', '.join(ROLES)}")
    return Message(speaker, _text(entry[content], content))


def _decoded(value: Any) -> Any:
    """A cell of text that holds a JSON list of messages, as CSV and Parquet files have them, as that list."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        entries = json.loads(value)
    except (ValueError, RecursionError):
        return value
    pairs = ({"role", "content"}, {"from", "value"})
    chat = entries and all(isinstance(entry, dict) and any(pair <= set(entry) for pair in pairs) for entry in entries)
    return entries if chat else value


def _text(value: Any, column: str) -> str:
    """A value as text: absent ones and NaN are empty, and surrogates that no file can hold are replaced."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict | bytes):
        raise _UnusableRowError(f"`{column}` holds a {type(value).__name__}, not text")
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_CONVERTERS: dict[Format, Callable[[_Cells], Row]] = {
    "gpqa": _from_gpqa,
    "preference": _from_preference,
    "messages": _from_chat,
    "sharegpt": _from_chat,
    "prompt_completion": _from_pair,
    "alpaca": _from_pair,
    "question_answer": _from_pair,
}
