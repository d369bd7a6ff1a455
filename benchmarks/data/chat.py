"""Writes a large chat data set with planted faults of every kind, and the key that says where they are.

    python -m benchmarks.data.chat FOLDER [--rows 1000000] [--seed 0] [--clean]

`data/train.jsonl` has the rows, `data/test.jsonl` a hundredth as many, `benchmark.jsonl` 1,000 multiple-choice items,
`key.json` kind → the number of rows that have it (0: some). `--clean` plants nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.data.defects import DEFECTS, Row, written
from benchmarks.data.prose import Prose

BLOCK = 10_000
"""Rows made at once."""
SHARE = 0.001
"""Of the rows that each kind of fault gets."""
LONG = 4_000
"""Words of the answers that are too long."""
ITEMS = 1_000
SAMPLED = ("languages",)
"""Kinds that the audit tells from a sample: the key has 0, which asks for the kind alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clean", action="store_true")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.rows, arguments.seed, clean=arguments.clean)


def write(folder: Path, count: int, seed: int, *, clean: bool = False) -> dict[str, int]:
    """Write the files, and return the key."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    rng, prose = np.random.default_rng(seed), Prose()
    items = benchmark(prose, rng)
    (folder / "benchmark.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    planted = {} if clean else plan(count, seed)
    key: dict[str, int] = {}
    earlier: list[Row] = []
    with (data / "train.jsonl").open("wb") as stream:
        for position, row in enumerate(rows(prose, rng, count)):
            kind = planted.get(position, "")
            if kind:
                key[kind] = key.get(kind, 0) + (kind not in SAMPLED)
            elif position < BLOCK:
                earlier.append(row)
            stream.write(line(row, kind, earlier, items, random.Random(f"{seed} {position}")))
    with (data / "test.jsonl").open("wb") as stream:
        for position, row in enumerate(rows(prose, rng, max(20, count // 100))):
            leaked = not clean and position < len(earlier) and position % 10 == 0
            if leaked:
                row = {**earlier[position], "id": f"t{position}"}
                key["across_splits"] = key.get("across_splits", 0) + 1
            stream.write(written({**row, "id": f"t{position}"}))
    (folder / "key.json").write_text(json.dumps(key, indent=2) + "\n")
    return key


def plan(count: int, seed: int) -> dict[int, str]:
    """Row → the fault that it gets; the first block is left sound, since copies are made of its rows."""
    kinds = [*DEFECTS, "exact_duplicates", "near_duplicates", "contamination", "cut"]
    each = max(3, round(SHARE * count))
    start = min(BLOCK, count // 2)
    chosen = random.Random(seed).sample(range(start, count), each * len(kinds))
    return {position: kinds[place % len(kinds)] for place, position in enumerate(chosen)}


def rows(prose: Prose, rng: np.random.Generator, count: int) -> Iterator[Row]:
    """Sound chat rows of about 900 bytes, one in three with a second exchange."""
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        questions = prose.texts(rng, size, 12, 40)
        answers = prose.texts(rng, size, 60, 150)
        again = prose.texts(rng, size, 8, 16)
        for place in range(size):
            messages = [
                {"role": "user", "content": questions[place][:-1] + "?"},
                {"role": "assistant", "content": answers[place]},
            ]
            if place % 3 == 0:
                messages += [
                    {"role": "user", "content": again[place]},
                    {"role": "assistant", "content": again[-1 - place]},
                ]
            yield {"id": f"r{start + place}", "messages": messages, "score": 0.5}


def line(row: Row, kind: str, earlier: list[Row], items: list[dict[str, str]], rng: random.Random) -> bytes:
    """The row as it is written, with the fault planted."""
    if kind in ("exact_duplicates", "near_duplicates"):
        source = rng.choice(earlier)
        messages = [dict(message) for message in source["messages"]]
        if kind == "near_duplicates":
            messages[1]["content"] = with_other_words(messages[1]["content"], rng)
        return written({"id": row["id"], "messages": messages, "score": 0.5})
    if kind == "contamination":
        row["messages"][0]["content"] = leak(rng.choice(items), rng)
    elif kind == "cut":
        row["messages"][-1]["content"] = " ".join([row["messages"][1]["content"]] * (LONG // 60))
    elif kind:
        return DEFECTS[kind](row)
    return written(row)


def with_other_words(text: str, rng: random.Random) -> str:
    """Up to two words changed: the Jaccard similarity of the row's 5-grams stays above 0.8."""
    words = text.split(" ")
    for place in rng.sample(range(len(words)), rng.choice((1, 2))):
        words[place] = rng.choice(("altogether", "perhaps", "nowadays", "likewise", "therefore"))
    return " ".join(words)


def benchmark(prose: Prose, rng: np.random.Generator) -> list[dict[str, str]]:
    """Multiple-choice items in GPQA's columns, half of them with numbers."""
    questions = prose.texts(rng, ITEMS, 18, 45)
    choices = prose.texts(rng, 4 * ITEMS, 3, 8)
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    items = []
    for place, question in enumerate(questions):
        numbers = f" after {rng.integers(2, 900)} seconds at {rng.integers(2, 90)} kelvin" if place % 2 else ""
        text = f"{question[:-1]}{numbers}?"
        options = dict(zip(names, choices[4 * place : 4 * place + 4], strict=True))
        items.append({"Record ID": f"item{place}", "Question": text, **options})
    return items


def leak(item: dict[str, str], rng: random.Random) -> str:
    """The item's question as it leaks: verbatim, in another case, with other punctuation, or with shuffled choices."""
    question = item["Question"]
    way = rng.randrange(4)
    if way == 1:
        return question.upper()
    if way == 2:
        return question.replace(".", " …").replace("?", " ??").replace(" ", "  ")
    if way == 3:
        choices = [value for name, value in item.items() if "Answer" in name]
        rng.shuffle(choices)
        return "\n".join([question, *(f"{letter}) {text}" for letter, text in zip("ABCD", choices, strict=True))])
    return question


if __name__ == "__main__":
    main()
