"""The Berkeley Function-Calling Leaderboard, as PostTrainBench asks it: one function, one call."""

from __future__ import annotations

import ast
import json
from typing import Any

from agents.evaluator.benchmarks.items import Message, TextItem, half_of
from agents.evaluator.benchmarks.published import Table
from agents.evaluator.benchmarks.registry import Entry
from shared_memory.errors import BadInput

TYPES = {"dict": "object", "float": "number", "tuple": "array"}
"""Names of Python that its schemas use → those of JSON Schema, which chat templates and servers know."""


def bfcl_items(tables: list[Table], entry: Entry) -> tuple[TextItem, ...]:
    """Items of rows with `id`, `question` ([[messages]]), `function` (schemas) and `ground_truth` (calls in Python).

    Raises BadInput for a row of another layout.
    """
    return tuple(_item(row, f"{entry.name}, row {number}") for number, row in enumerate(tables[0], 1))


def _item(row: dict[str, Any], where: str) -> TextItem:
    try:
        [turn], [call] = row["question"], row["ground_truth"]
        name = str(row["id"])
        return TextItem(
            id=name,
            prompt=tuple(Message(role=message["role"], content=message["content"]) for message in turn),
            completion=(Message(role="assistant", content="", tool_calls=(_call(call),)),),
            tools=tuple({"type": "function", "function": _schema(tool)} for tool in row["function"]),
            part=half_of(name),
        )
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise BadInput(f"{where} is not laid out as BFCL v3's exec_simple ({type(error).__name__})") from error


def _call(text: str) -> dict[str, Any]:
    """`f(x=1)` as a chat message holds it; tuples become lists, as in JSON."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with named arguments")
    arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    name = ast.unparse(node.func)
    return {"type": "function", "function": {"name": name, "arguments": json.loads(json.dumps(arguments))}}


def _schema(value: Any) -> Any:
    """A function's schema with the types of JSON Schema."""
    if isinstance(value, list):
        return [_schema(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: TYPES.get(entry, entry) if key == "type" and isinstance(entry, str) else _schema(entry)
        for key, entry in value.items()
    }
