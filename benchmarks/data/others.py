"""Data sets with the faults that chat rows cannot have: preference pairs, multiple choice and labelled replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.prose import Prose

COUNT = 20_000
"""Rows of each set."""
PLANTED = 100
"""Rows that each kind of fault gets."""


def write_others(folder: Path, seed: int) -> dict[str, dict[str, int]]:
    """Write the files; returns file → kind → rows that have it, 0 where the kind is a property of the whole set."""
    rng, prose = np.random.default_rng(seed), Prose()
    makers: dict[str, Callable[[Prose, np.random.Generator], tuple[list[Any], dict[str, int]]]] = {
        "preferences.jsonl": preferences,
        "choices.jsonl": choices,
        "labels.jsonl": labels,
    }
    key = {}
    for name, make in makers.items():
        rows, planted = make(prose, rng)
        _write(folder / name, rows)
        key[name] = planted
    return key


def preferences(prose: Prose, rng: np.random.Generator) -> tuple[list[Any], dict[str, int]]:
    """Chosen replies that are longer nearly always; some pairs identical, some about different conversations."""
    questions = prose.texts(rng, COUNT, 12, 30)
    longer, shorter = prose.texts(rng, COUNT, 60, 90), prose.texts(rng, COUNT, 30, 60)
    rows = []
    for place, question in enumerate(questions):
        rejected = longer[place] if place < PLANTED else shorter[place]
        other = questions[place - 1] if PLANTED <= place < 2 * PLANTED else question
        rows.append({"chosen": _chat(question, longer[place]), "rejected": _chat(other, rejected)})
    return rows, {"identical_pairs": PLANTED, "prompt_mismatch": PLANTED, "length_bias": 0}


def choices(prose: Prose, rng: np.random.Generator) -> tuple[list[Any], dict[str, int]]:
    """Letters crowded on B; some answers not among the choices, some choices twice."""
    questions, offered = prose.texts(rng, COUNT, 12, 30), prose.texts(rng, 4 * COUNT, 4, 8)
    rows = []
    for place, question in enumerate(questions):
        options = offered[4 * place : 4 * place + 4]
        answer: Any = options[1 if place % 2 else int(rng.integers(0, 4))]
        if place < PLANTED:
            answer = "none that is offered"
        elif place < 2 * PLANTED:
            options[2] = options[3] = options[0]
            answer = options[0]
        rows.append({"question": question, "choices": options, "answer": answer})
    return rows, {"answer_not_among_choices": PLANTED, "ambiguous": PLANTED, "letters": 0}


def labels(prose: Prose, rng: np.random.Generator) -> tuple[list[Any], dict[str, int]]:
    """Nineteen desirable replies to one that is not."""
    questions, replies = prose.texts(rng, COUNT, 12, 30), prose.texts(rng, COUNT, 40, 80)
    return [
        {"prompt": question, "completion": reply, "label": place % 20 != 0}
        for place, (question, reply) in enumerate(zip(questions, replies, strict=True))
    ], {"label_imbalance": 0}


def _chat(question: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def _write(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
