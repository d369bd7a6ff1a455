"""Docstrings of the libraries, taken apart: what a thing is for, and what is said of each of its parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PARAMETERS = ("args", "arguments", "parameters", "params", "keyword args", "keyword arguments", "attributes", "fields")
_OTHERS = (
    "returns", "return", "raises", "yields", "example", "examples", "usage", "note", "notes", "references", "warning",
    "see also", "todo", "warns", "tip",
)  # fmt: skip
_HEAD = re.compile(rf"(?i)(?:\*\*)?({'|'.join((*PARAMETERS, *_OTHERS))})(?:\*\*)?\s*:{{1,2}}(?:\*\*)?\s*(.*)")
_ENTRY = re.compile(
    r"[-*]?\s*`{0,2}(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)`{0,2}\s*((?:\(|\[).*?)?\s*:(?!:)\s*(.*)", re.DOTALL
)
_LONGEST_HEAD = 6
"""Lines over which the type of a parameter may run."""


@dataclass(frozen=True)
class Docstring:
    """Its parts."""

    intro: str
    """What stands before the first section."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Name → text, without the type."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Name → what stands in parentheses after it, such as `int`, *optional*."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """`returns`, `raises` and the like → text."""
    rest: str = ""
    """What stands after a section, at the margin."""


def parse(text: str | None) -> Docstring:
    """A docstring in the style of Google, or of Hugging Face; of any other style all is intro."""
    lines = inspect.cleandoc(text or "").splitlines()
    heads = [index for index, line in enumerate(lines) if _is_head(lines, index)]
    intro = "\n".join(lines[: heads[0]] if heads else lines).strip()
    parameters: dict[str, str] = {}
    types: dict[str, str] = {}
    sections: dict[str, str] = {}
    rest: list[str] = []
    for start, end in zip(heads, [*heads[1:], len(lines)][: len(heads)], strict=True):
        name, _, beside = lines[start].strip(" *").partition(":")
        name, beside = name.strip(" *").lower(), beside.strip(" :*")
        stop = _end_of(lines, start, end)
        rest += [*lines[stop:end], ""]
        body = _dedent([*([beside] if beside else []), *lines[start + 1 : stop]])
        if name in PARAMETERS:
            for entry, (kind, said) in _entries(body).items():
                parameters.setdefault(entry, said)
                types.setdefault(entry, kind)
        else:
            sections.setdefault(name, "\n".join(body).strip())
    return Docstring(intro, parameters, types, sections, "\n".join(rest).strip())


def _end_of(lines: Sequence[str], start: int, end: int) -> int:
    """Where what is set in under a head is over; a section whose text stands at the margin goes on to the next head."""
    inside = [index for index in range(start + 1, end) if lines[index].strip()]
    if not inside or not lines[inside[0]].startswith((" ", "\t")):
        return end
    return next((index for index in inside if not lines[index].startswith((" ", "\t"))), end)


def _is_head(lines: Sequence[str], index: int) -> bool:
    """A section's head stands at the margin, alone on its line or before what is set in further."""
    head = _HEAD.fullmatch(lines[index])
    if head is None:
        return False
    following = next((line for line in lines[index + 1 :] if line.strip()), "")
    return following.startswith((" ", "\t")) or (head[1].lower() in _OTHERS and not head[2])


def _dedent(lines: Sequence[str]) -> list[str]:
    return inspect.cleandoc("\n".join(["", *lines])).splitlines()


def _entries(lines: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name → type and text of the entries of a section, each of which begins at its margin."""
    entries: dict[str, tuple[str, list[str]]] = {}
    current: list[str] = []
    skipped = 0
    for index, line in enumerate(lines):
        if skipped:
            skipped -= 1
        elif line[:1] in {" ", ""}:
            current.append(line)
        elif (found := _entry(lines, index)) is not None:
            names, kind, rest, skipped = found
            current = [rest] if rest else []
            entries |= dict.fromkeys(names, (kind, current))
        elif not line.startswith((">", "#")):
            current.append(line)
        else:
            current = []  # a heading between entries
    return {name: (kind, "\n".join(_dedent(body)).strip()) for name, (kind, body) in entries.items()}


def _entry(lines: Sequence[str], index: int) -> tuple[list[str], str, str, int] | None:
    """Names, their type, the text after the colon, and how many more lines the head takes; None where none begins."""
    head = lines[index]
    for more in range(_LONGEST_HEAD):
        found = _ENTRY.fullmatch(head)
        if found and (found[2] or "").count("(") == (found[2] or "").count(")"):
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
            return names, _bare(found[2] or ""), found[3].strip(), more
        if index + more + 1 >= len(lines):
            return None
        if re.fullmatch(r"\w+ \(`.*\)", head) and lines[index + more + 1].startswith("  "):  # its colon is missing
            return [head.partition(" ")[0]], _bare(head.partition(" ")[2]), "", more
        if head.count("(") <= head.count(")"):
            return None
        head += f" {lines[index + more + 1].strip()}"
    return None


def _bare(kind: str) -> str:
    """What stands in parentheses, without the marks of its markup."""
    return re.sub(r"[`*]|\[`?~?|\](?:\([^)]*\))?", "", kind).strip().removeprefix("(").removesuffix(")")


def brief(text: str, most: int = 200) -> str:
    """Its first sentences, as many as `most` characters hold, in one line."""
    plain = re.sub(r"(?ms)^```.*?^```\s*|</?[A-Z]\w*[^>]*>", " ", text)
    paragraphs = plain.strip().split("\n\n")
    line = " ".join(paragraphs[: 2 if paragraphs[0].rstrip().endswith(":") else 1])
    line = re.sub(r"\[`~?([^`\]]+)`\](?:\([^)]*\))?", r"`\1`", " ".join(line.split()))
    if len(line) <= most:
        return line
    cut = max((found.end() for found in re.finditer(r"[.!?](?=\s)", line[: most + 1])), default=0)
    return line[:cut] if cut >= most // 3 else f"{line[: most - 1].rsplit(' ', 1)[0]} …"
