"""Toy rows for the data engineer's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Gpqa = dict[str, str]

FORCE = (
    "A crate with a mass of {m} kg is pulled along a smooth horizontal floor and speeds up by {a} m/s each second. "
    "What is the net force on the crate?"
)


def force_row(m: int, a: int, explanation: bool = True) -> Gpqa:
    """One template of GPQA-style rows; other numbers make another question."""
    return {
        "Question": FORCE.format(m=m, a=a),
        "Correct Answer": f"{m * a} N",
        "Incorrect Answer 1": f"{m + a} kN",
        "Incorrect Answer 2": f"{m}/{a} N",
        "Incorrect Answer 3": f"{10 * m * a} N",
        "Record ID": f"force-{m}-{a}",
        "Subdomain": "force",
        "Explanation": f"Force is mass times acceleration: {m} * {a} = {m * a} N." if explanation else "",
    }


def force_rows(count: int, start: int = 2) -> list[Gpqa]:
    """`count` rows of the template, no two with the same numbers."""
    return [force_row(start + n // 20, 2 + n % 20) for n in range(count)]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read_jsonl(path: str | Path) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
