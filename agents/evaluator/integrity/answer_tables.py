"""Whether a file holds a benchmark's items: a table of answers in a script, a template or a decoding policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.base_model import TOKENIZER_FILES
from agents.evaluator.benchmarks.benchmark import Benchmark

LEAST_WORDS = 6
"""Words of a question from which it is recognised: shorter ones stand in many a text."""
LEAST_ID, LEAST_IDS = 6, 3
"""Signs of a record id from which it is recognised, and how many of them make a table: one may be in a comment."""
LARGEST = 4 * 2**20
"""Bytes of a file that are read: a template or a script with more in it is looked at that far."""
TEXTS = (".json", ".jinja", ".jinja2", ".py", ".txt", ".toml", ".yaml", ".yml", ".md", ".sh")
OURS = ("README.md",)
"""The card, which is written from the run's own records."""
_UNICODE, _SIGN = re.compile(r"\\+u([0-9a-fA-F]{4})"), re.compile(r"\\+[nrt\"'\\]")
"""As JSON and programs write what is no letter, also where one is written in the other."""


def items_in(text: str, benchmark: Benchmark) -> int:
    """How many items of a benchmark a text holds: by their whole question, or by their record ids."""
    plain = _SIGN.sub(" ", _UNICODE.sub(lambda match: chr(int(match[1], 16)), text))
    words = f" {' '.join(_words(plain))} "
    asked, named = 0, 0
    for item in benchmark.items:
        question = _words(item.question)
        if len(question) >= LEAST_WORDS and f" {' '.join(question)} " in words:
            asked += 1
        elif len(item.id) >= LEAST_ID and item.id in plain:
            named += 1
    return asked + (named if named >= LEAST_IDS else 0)


def texts_in(model: Path, base: Path) -> dict[str, str]:
    """Name → text, of the files of a model folder in which answers could lie; what it has from the base is left out."""
    texts: dict[str, str] = {}
    for file in sorted(path for path in model.rglob("*") if path.is_file() and path.suffix in TEXTS):
        name = str(file.relative_to(model))
        if name in OURS or (name in TOKENIZER_FILES and _same(file, base / name)):
            continue
        with file.open(encoding="utf-8", errors="replace") as stream:
            texts[name] = stream.read(LARGEST)
    return texts


def code_in(model: Path, base: Path) -> list[str]:
    """Programs that a model folder has, and its base does not: a training leaves none."""
    found = sorted(str(path.relative_to(model)) for path in model.rglob("*.py") if path.is_file())
    return [name for name in found if not _same(model / name, base / name)]


def _same(file: Path, other: Path) -> bool:
    return other.is_file() and other.read_bytes() == file.read_bytes()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def told(found: Mapping[str, int]) -> str:
    """`3 items of physics, 1 of gpqa`; never the items themselves."""
    return ", ".join(f"{n} item{'s' if n > 1 else ''} of {name}" for name, n in found.items() if n)


def tables(texts: Mapping[str, str], benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """File → what of the benchmarks it holds, of those that hold something."""
    found: dict[str, Any] = {}
    for name, text in texts.items():
        if items := told({benchmark.name: items_in(text, benchmark) for benchmark in benchmarks}):
            found[name] = items
    return found
