"""Measures decontamination: leaks found by kind, clean rows flagged by kind, and microseconds a row on one core.

    python benchmarks/decontamination.py [--rows 100000] [--rules question,overlap,paraphrase] [--json]

The benchmark is 1,000 items: the 200 of benchmarks/contamination, and 800 made of prose. The 200 paraphrases there, and
the questions that are related to an item and are none, were written before the detector. By a hash of the item's id
they fall into a development half, on which weights and threshold were chosen, and a test half. Exits with 1 where a
leak that changes no word is missed, fewer than 80 % of the paraphrases are found, more than 0.1 % of the clean rows
are flagged, or a row takes more than 200 µs. Related questions, and items with their nouns exchanged, are figures of
their own.
"""

from __future__ import annotations

import os

os.environ |= {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import argparse
import hashlib
import json
import random
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agents.data_engineer.contamination.decontaminate import RULES, BenchmarkText, Detector  # noqa: E402
from agents.data_engineer.contamination.word_vectors import CharacterVectors  # noqa: E402
from agents.data_engineer.formats.rows import Message, Row  # noqa: E402
from agents.data_engineer.words import words  # noqa: E402
from benchmarks.data import chat  # noqa: E402
from benchmarks.data.prose import Prose  # noqa: E402

FOLDER = Path(__file__).parent / "contamination"
BATCH = 4_000
PROSE_ITEMS = 800
MICROSECONDS, RECALL, FLAGGED = 200, 0.8, 0.001
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
Item = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures = measure(arguments.rows, arguments.rules.split(","))
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:52} {value}")
    missed = [name for name, value in figures.items() if name.startswith("leak: ") and value < 1]
    too_slow = figures["microseconds a row"] > MICROSECONDS
    few = figures["paraphrases found: all"] < RECALL
    return 1 if missed or too_slow or few or figures["clean rows flagged: all"] > FLAGGED else 0


def measure(count: int, rules: Sequence[Any]) -> dict[str, Any]:
    prose, rng = Prose(), random.Random(0)
    items = read("items")
    made = [item_of(row) for row in chat.benchmark(prose, np.random.default_rng(0))[:PROSE_ITEMS]]
    started = time.perf_counter()
    detector = Detector([text_of(item) for item in items + made], rules=rules)
    figures: dict[str, Any] = {
        "items": len(items + made),
        "embeddings": detector.embeddings or "off",
        "seconds to read the benchmark": round(time.perf_counter() - started, 2),
    }
    for kind, disguise in LEAKS.items():
        rows = [disguise(item, rng, prose) for item in items]
        found = found_in(detector, rows)
        recall = np.mean([item["id"] in ids for item, ids in zip(items, found, strict=True)])
        figures[f"leak: {kind}"] = round(float(recall), 4)
    paraphrases = read("paraphrases")
    found = found_in(detector, [asked(row["question"], row["answer"]) for row in paraphrases])
    hits = [row["item"] in ids for row, ids in zip(paraphrases, found, strict=True)]
    halves = [in_development(row["item"]) for row in paraphrases]
    for half, chosen in {
        "development": halves,
        "test": [not half for half in halves],
        "all": [True] * len(hits),
    }.items():
        picked = [hit for hit, take in zip(hits, chosen, strict=True) if take]
        figures[f"paraphrases found: {half}"] = round(sum(picked) / len(picked), 4)
    related = [asked(row["question"], row["answer"]) for row in read("related")]
    figures["related questions flagged"] = share(detector, related)
    figures["items with other nouns flagged"] = share(detector, other_nouns(items, rng, 1_000))
    clean = {
        "prose": [row_of(row) for row in chat.rows(prose, np.random.default_rng(1), 10_000)],
        "documentation": list(documentation(2_000, rng)),
        "same template, other numbers": other_numbers(items, rng, 2_000),
    }
    flagged = {kind: sum(map(bool, found_in(detector, rows))) for kind, rows in clean.items()}
    for kind, rows in clean.items():
        figures[f"clean rows flagged: {kind}"] = f"{flagged[kind]} of {len(rows)}"
    figures["clean rows flagged: all"] = round(sum(flagged.values()) / sum(map(len, clean.values())), 5)
    if "paraphrase" in rules:
        spelled = [words(item["question"]) for item in items + made]
        letters = Detector([text_of(item) for item in items + made], rules=rules, vectors=CharacterVectors(spelled))
        found = found_in(letters, [asked(row["question"], row["answer"]) for row in paraphrases])
        hits = [row["item"] in ids for row, ids in zip(paraphrases, found, strict=True)]
        figures["paraphrases found: all, without wordllama"] = round(sum(hits) / len(hits), 4)
        flagged_rows = sum(map(bool, (ids for rows in clean.values() for ids in found_in(letters, rows))))
        figures["clean rows flagged: all, without wordllama"] = round(flagged_rows / sum(map(len, clean.values())), 5)
    return figures | speed(detector, prose, count)


def speed(detector: Detector, prose: Prose, count: int) -> dict[str, Any]:
    """Microseconds a row by the number of rows, rows of about 900 bytes that the detector has not met."""
    curve: dict[str, float] = {}
    size = 0
    for number in sorted({1_000, 10_000, count}):
        rows = [row_of(row) for row in chat.rows(prose, np.random.default_rng(number), number)]
        size = round(float(np.mean([len(row.text) for row in rows])))
        started = time.perf_counter()
        found_in(detector, rows)
        curve[f"{number:,}"] = round((time.perf_counter() - started) / number * 1e6, 1)
    return {"bytes a row": size, "microseconds a row": curve[f"{count:,}"], "the same, by number of rows": curve}


def found_in(detector: Detector, rows: Sequence[Row]) -> list[set[str]]:
    """The ids of the items found in each row."""
    found: list[set[str]] = [set() for _ in rows]
    for start in range(0, len(rows), BATCH):
        for hit in detector.hits(rows[start : start + BATCH]):
            found[start + hit.row].add(hit.item.id)
    return found


def share(detector: Detector, rows: Sequence[Row]) -> float:
    return round(sum(map(bool, found_in(detector, rows))) / len(rows), 4)


def read(name: str) -> list[Item]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def in_development(item: str) -> bool:
    return hashlib.sha256(item.encode()).digest()[0] % 2 == 0


def item_of(row: dict[str, str]) -> Item:
    choices = [value for name, value in row.items() if "Answer" in name]
    return {"id": row["Record ID"], "question": row["Question"], "choices": choices, "answer": row["Correct Answer"]}


def text_of(item: Item) -> BenchmarkText:
    return BenchmarkText("benchmark", item["id"], item["question"], tuple(item["choices"]), item["answer"])


def row_of(row: dict[str, Any]) -> Row:
    messages = tuple(Message(message["role"], message["content"]) for message in row["messages"])
    return Row(id=row["id"], question=messages[-2].content, prompt=messages[:-1], completion=messages[-1:])


def asked(question: str, answer: str) -> Row:
    return Row(
        id="r", question=question, prompt=(Message("user", question),), completion=(Message("assistant", answer),)
    )


def multiple_choice(question: str, choices: Sequence[str], answer: str) -> Row:
    letter = "ABCDEFGHIJ"[list(choices).index(answer)] if answer in choices else "A"
    return Row(id="r", question=question, choices=tuple(choices), answer=letter)


def shuffled(item: Item, rng: random.Random, _: Prose) -> Row:
    choices = rng.sample(item["choices"], len(item["choices"]))
    return multiple_choice(item["question"], choices, item["answer"])


def repunctuated(item: Item, _: random.Random, __: Prose) -> Row:
    text = re.sub(r"(?<!\d)[.,;:?](?=\s|$)", " — ", item["question"]).replace(" ", "  ")
    return asked(f"*{text}*", "I do not know.")


def other_unicode(item: Item, _: random.Random, __: Prose) -> Row:
    """Accents apart from their letters, and blanks that do not break."""
    return asked(unicodedata.normalize("NFD", item["question"]).replace(" ", "\u00a0"), "…")


def full_width(item: Item, _: random.Random, __: Prose) -> Row:
    wide = "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in item["question"])
    return asked(wide, "…")


def split_up(item: Item, _: random.Random, __: Prose) -> Row:
    words = item["question"].split(" ")
    middle = len(words) // 2
    turns = (
        Message("user", " ".join(words[:middle])),
        Message("assistant", "Go on, please."),
        Message("user", " ".join(words[middle:])),
    )
    return Row(id="r", question=turns[2].content, prompt=turns, completion=(Message("assistant", "I do not know."),))


def within_prose(item: Item, rng: random.Random, prose: Prose) -> Row:
    before, after = prose.texts(np.random.default_rng(rng.randrange(2**31)), 2, 200, 300)
    return asked("Go on with this text.", f"{before} {item['question']} {after}")


LEAKS: dict[str, Callable[[Item, random.Random, Prose], Row]] = {
    "verbatim": lambda item, _, __: asked(item["question"], "I do not know."),
    "in another case": lambda item, _, __: asked(item["question"].upper(), "I do not know."),
    "other punctuation and spacing": repunctuated,
    "other Unicode forms": other_unicode,
    "full-width letters": full_width,
    "choices shuffled": shuffled,
    "with its answer": lambda item, _, __: asked(f"{item['question']} {item['answer']}", item["answer"]),
    "split over messages": split_up,
    "within a longer reply": within_prose,
}


def other_numbers(items: Sequence[Item], rng: random.Random, count: int) -> list[Row]:
    """Hard negatives: items with each number of their question changed, and the answer to match."""

    def another(match: re.Match[str]) -> str:
        old = match.group().replace(",", "")
        places = len(old.partition(".")[2])
        while (new := f"{float(old) * rng.uniform(0.3, 4) + rng.choice((0, 1)):.{places}f}") == old:
            pass
        return new

    numeric = [item for item in items if NUMBER.search(item["question"])]
    return [
        with_another_answer(item, NUMBER.sub(another, item["question"]), rng, lambda text: NUMBER.sub(another, text))
        for item in rng.choices(numeric, k=count)
    ]


def other_nouns(items: Sequence[Item], rng: random.Random, count: int) -> list[Row]:
    """Hard negatives: items with the eight longest words of their question taken from others, and a wrong answer."""
    pool = sorted({word for item in items for word in re.findall(r"[A-Za-z]{6,}", item["question"])})
    rows = []
    for item in rng.choices(items, k=count):
        question = item["question"]
        for word in sorted(set(re.findall(r"[A-Za-z]{4,}", question)), key=lambda word: (-len(word), word))[:8]:
            question = re.sub(rf"\b{word}\b", rng.choice(pool), question)
        rows.append(with_another_answer(item, question, rng, str))
    return rows


def with_another_answer(item: Item, question: str, rng: random.Random, changed: Callable[[str], str]) -> Row:
    wrong = [changed(choice) for choice in item["choices"] if choice != item["answer"]]
    rng.shuffle(wrong)
    return asked(question, wrong[0]) if rng.random() < 0.5 else multiple_choice(question, wrong, wrong[0])


def documentation(count: int, rng: random.Random) -> list[Row]:
    """Rows of about 900 bytes cut from the docstrings of Python's own library: prose with numbers and terms."""
    import collections.abc
    import datetime
    import email
    import importlib
    import statistics

    names = sorted(
        {"array", "bisect", "codecs", "csv", "decimal", "fractions", "heapq", "ipaddress", "itertools", "json"}
    )
    modules = [collections.abc, datetime, email, statistics, *(importlib.import_module(name) for name in names)]
    texts = [
        value.__doc__
        for module in modules
        for _, kind in sorted(vars(module).items())
        for value in (kind, *(vars(kind).values() if isinstance(kind, type) else ()))
        if isinstance(getattr(value, "__doc__", None), str)
    ]
    prose = " ".join(text for text in dict.fromkeys(texts) if len(text) > 100).split()
    rows = []
    for _ in range(count):
        start, asks, says = rng.randrange(len(prose) - 200), rng.randint(8, 40), rng.choice((10, 40, 110))
        question, reply = prose[start : start + asks], prose[start + asks : start + asks + says]
        rows.append(asked(" ".join(question), " ".join(reply)))
    return rows


if __name__ == "__main__":
    sys.exit(main())
