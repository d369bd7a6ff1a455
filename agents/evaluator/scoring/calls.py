"""Function calls in what a model says, compared by structure: names and arguments count, spelling and order do not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
"""Hermes' form, which Qwen, SmolLM and others were taught."""
FENCED = re.compile(r"```(?:json|python|tool_call)?\s*\n(.*?)```", re.DOTALL)
NAMED = ("arguments", "parameters")
"""What models call the arguments of a call that they write as JSON."""
UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""What parsers raise for what a model may well write: half a call, a set, ten thousand brackets."""


class Call(NamedTuple):
    name: str
    arguments: dict[str, Any]


def calls_in(reply: str) -> list[Call] | None:
    """The calls that a reply makes, in its order; None where it makes none that can be read.

    Calls are JSON (`{"name", "arguments"}`, one or a list), between `<tool_call>` tags, in a code block, or as all of
    the reply; or Python, `f(x=1)` or `[f(x=1), g()]`, as Llama and BFCL write them.
    """
    tagged = TAGGED.findall(reply)
    if tagged:
        found = [_read(text) for text in tagged]
        return None if None in found else [call for calls in found for call in calls or ()]
    for text in (*FENCED.findall(reply), reply):
        if calls := _read(text.strip()):
            return calls
    return None


def of_messages(messages: Iterable[Mapping[str, Any]]) -> list[Call]:
    """The calls of chat messages: each `{"function": {"name", "arguments"}}`, arguments as an object or as its JSON.

    Raises ValueError for what is no call.
    """
    return [_call(entry.get("function", entry)) for entry in messages]


def same(calls: Sequence[Call], reference: Sequence[Call]) -> bool:
    """Whether both make the same calls, in any order."""
    left = list(reference)
    for call in calls:
        match = next((other for other in left if other.name == call.name and _equal(other[1], call[1])), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _equal(a: Any, b: Any) -> bool:
    """JSON equality, where 1 is 1.0 but not true, and blanks around a text do not count."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) and isinstance(b, str):
        return a.strip() == b.strip()
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _read(text: str) -> list[Call] | None:
    """The calls that a text is, as JSON or as Python; None where it is something else."""
    try:
        value = json.loads(text)
        return [_call(entry) for entry in (value if isinstance(value, list) else [value])]
    except UNREADABLE:
        pass
    try:
        tree = ast.parse(text, mode="eval").body
        return [_python(node) for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
    except UNREADABLE:
        return None


def _call(entry: Any) -> Call:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(f"no function call: {entry!r:.60}")
    arguments: Any = next((entry[key] for key in NAMED if key in entry), {})
    if isinstance(arguments, str):
        arguments = json.loads(arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments are no object: {arguments!r:.60}")
    return Call(entry["name"], arguments)


def _python(node: ast.expr) -> Call:
    """A call in Python whose arguments are literals with names."""
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with named arguments")
    values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    return Call(ast.unparse(node.func), json.loads(json.dumps(values)))
