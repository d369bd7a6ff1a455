"""Measures the search for near-duplicates: what it finds of what is planted, its speed against `datasketch`, its curve.

    python benchmarks/near_duplicates.py [--rows 10000 100000] [--baseline-rows 10000] [--json]

The rows are chats of about 170 words (benchmarks/data/prose.py). One in twenty is a copy of an earlier row of which so
many words were changed that the two share 80 to 100 % of their 5-grams, one in twenty a copy that shares 30 to 60 % and
is no duplicate; one in ten is written into one of a few templates, copies and their sources among them. The reference
is the Jaccard similarity of the 5-grams as sets of strings.

`datasketch` gets the first rows, the same 5-grams, the same threshold and 128 permutations, and decides by its index,
as its documentation does. Both are timed from the rows on, and without the splitting into words. Fails where less is
reached than `REACHED`. Needs the extra `dev`; `--rows 1000000` takes about five minutes, most of them to make the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agents.data_engineer.duplicates.dedup import SHINGLE, identity_digests, shingles, told  # noqa: E402
from agents.data_engineer.duplicates.near_duplicates import PERMUTATIONS, NearDuplicates  # noqa: E402
from agents.data_engineer.formats.tables import Message, Row  # noqa: E402
from agents.data_engineer.words import grams, words  # noqa: E402
from benchmarks.data.prose import Prose  # noqa: E402

THRESHOLD = 0.7
REACHED = {"recall": 0.95, "precision": 0.95, "times datasketch": 5.0}
BATCH = 4096
PERIOD = 20
"""Rows of which one is a duplicate, one a copy that is none, and two are of a template."""
TEMPLATES = 5
SOURCES = 10_000
"""Rows that copies are made of."""
ADDED = np.array(["altogether", "perhaps", "nowadays", "likewise", "therefore", "indeed", "however"])

Copies = dict[int, tuple[int, float]]
"""Row → the earlier row that it is a copy of, and the similarity of the two."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--baseline-rows", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(search(arguments.worker)))
        return 0
    # A process for each size, so that its peak of memory is its own.
    command = [sys.executable, __file__, "--worker"]
    curve = [
        json.loads(subprocess.run([*command, str(rows)], check=True, stdout=subprocess.PIPE).stdout)
        for rows in arguments.rows
    ]
    compared = compare(arguments.baseline_rows)
    reached = {
        "recall": min(point["recall"] for point in curve),
        "precision": min(point["precision"] for point in curve),
        "times datasketch": min(compared["times, from rows"], compared["times, from shingles"]),
    }
    if arguments.json:
        print(json.dumps({"curve": curve, "datasketch": compared, "reached": reached}, indent=2))
    else:
        for figures in (*curve, compared, reached):
            print("\n".join(f"{name:40} {value}" for name, value in figures.items()), end="\n\n")
    return 0 if all(reached[name] >= least for name, least in REACHED.items()) else 1


def search(count: int) -> dict[str, Any]:
    """Figures of one search through so many rows."""
    near, copies, splitting, searching = NearDuplicates(THRESHOLD), Copies(), np.zeros(2), np.zeros(2)
    for rows, made in planted(count):
        copies |= made
        began = clock()
        sets, identities = shingles(rows), identity_digests(rows)
        split = clock()
        near.add(sets, identities)
        splitting += split - began
        searching += clock() - split
    began = clock()
    found = near.duplicates()
    searching += clock() - began
    reported = set(zip(found.originals.tolist(), found.rows.tolist(), strict=True))
    return {
        "rows": count,
        **graded(reported, copies),
        "rows a second": round(count / (splitting + searching)[0]),
        "rows a processor second": round(count / (splitting + searching)[1]),
        "processor µs a row, words and digests": micro(splitting, count),
        "processor µs a row, search": micro(searching, count),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def compare(count: int) -> dict[str, Any]:
    """Both searches through the same rows."""
    batches = list(planted(count))
    rows, copies = list(chain.from_iterable(rows for rows, _ in batches)), Copies()
    for _, made in batches:
        copies |= made
    began = clock()
    sets = [[gram.encode() for gram in grams_of(row)] for row in rows]
    split = clock()
    reported = baseline(sets)
    theirs, their_search = clock() - began, clock() - split

    near, our_search = NearDuplicates(THRESHOLD), np.zeros(2)
    began = clock()
    for start in range(0, count, BATCH):
        hashed = shingles(rows[start : start + BATCH])
        split = clock()
        near.add(hashed)
        our_search += clock() - split
    split = clock()
    near.duplicates()
    ours = clock() - began
    our_search += clock() - split
    return {
        "rows, both": count,
        "datasketch, rows a second": round(count / theirs[0]),
        "postgrad, rows a second": round(count / ours[0]),
        "datasketch, processor µs a row": micro(theirs, count),
        "datasketch, of them the search": micro(their_search, count),
        "postgrad, processor µs a row": micro(ours, count),
        "postgrad, of them the search": micro(our_search, count),
        "times, from rows": round((theirs / ours)[0], 1),
        "times, from shingles": round((their_search / our_search)[0], 1),
        "times, processor, from rows": round((theirs / ours)[1], 1),
        **{f"datasketch, {name}": value for name, value in graded(reported, copies).items()},
    }


def baseline(sets: Sequence[Sequence[bytes]]) -> set[tuple[int, int]]:
    """Pairs of a row with the earliest that `datasketch` finds to be like it."""
    from datasketch import MinHash, MinHashLSH

    index, reported = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS), set()
    for number, entry in enumerate(sets):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch(entry)
        alike = index.query(signature)
        reported |= {(min(alike), number)} if alike else set()
        index.insert(number, signature)
    return reported


def clock() -> NDArray[np.float64]:
    """Seconds: of the wall, and of the processor in all threads, which other programs on the machine do not change."""
    return np.array([time.perf_counter(), time.process_time()])


def micro(seconds: NDArray[np.float64], count: int) -> float:
    return round(float(seconds[1]) / count * 1e6, 1)


def graded(reported: set[tuple[int, int]], copies: Copies) -> dict[str, Any]:
    """How much of what is planted at 0.8 or more was reported, and how much of what was reported is planted so."""
    duplicates = {(source, row) for row, (source, similarity) in copies.items() if similarity >= 0.8}
    others = {(source, row) for row, (source, similarity) in copies.items() if 0.3 <= similarity <= 0.6}
    between = {(source, row) for row, (source, similarity) in copies.items()} - duplicates - others
    right = reported & duplicates
    return {
        "planted at 0.8 to 1": len(duplicates),
        "planted at 0.3 to 0.6": len(others),
        "recall": round(len(right) / len(duplicates), 4),
        "precision": round(len(right) / max(1, len(reported - between)), 4),
    }


def planted(count: int, seed: int = 0) -> Iterator[tuple[list[Row], Copies]]:
    """Rows in batches, each with the copies that it holds."""
    rng, prose = np.random.default_rng(seed), Prose()
    templates = [text.split() for text in prose.texts(rng, TEMPLATES, 110, 110)]
    sources: list[tuple[int, list[str]]] = []
    for start in range(0, count, BATCH):
        texts = [text.split() for text in prose.texts(rng, min(BATCH, count - start), 150, 190)]
        copies: Copies = {}
        for place, text in enumerate(texts):
            kind = place % PERIOD
            if kind in (1, 2) and sources:
                source, original = sources[int(rng.integers(len(sources)))]
                texts[place] = changed(original, rng, much=kind == 2)
                copies[start + place] = (source, similarity(row_of(0, original), row_of(0, texts[place])))
                continue
            if kind in (3, 4):
                texts[place] = templates[int(rng.integers(TEMPLATES))] + text[:60]
            if len(sources) < SOURCES:
                sources.append((start + place, texts[place]))
        yield [row_of(start + place, text) for place, text in enumerate(texts)], copies


def changed(text: list[str], rng: np.random.Generator, *, much: bool) -> list[str]:
    """Words replaced here and there, each in five 5-grams, or in one run, which is in four more than it has words."""
    if rng.random() < 0.5:
        places = rng.choice(len(text), int(rng.integers(9, 17) if much else rng.integers(1, 4)), replace=False)
    else:
        length = int(rng.integers(45, 75) if much else rng.integers(1, 13))
        places = np.arange(length) + rng.integers(len(text) - length + 1)
    copy = list(text)
    for place in places.tolist():
        copy[place] = str(rng.choice(ADDED)) + str(rng.choice(ADDED))
    return copy


def row_of(number: int, text: list[str]) -> Row:
    """A chat: the first words ask, the others answer."""
    question, answer = " ".join(text[:40]), " ".join(text[40:])
    return Row(f"1:{number + 1}", question, (Message("user", question),), (Message("assistant", answer),))


def similarity(first: Row, second: Row) -> float:
    one, other = grams_of(first), grams_of(second)
    return len(one & other) / len(one | other)


def grams_of(row: Row) -> set[str]:
    """The row's 5-grams as strings; there are no numbers in these rows."""
    return set(grams(words(told(row)), SHINGLE))


if __name__ == "__main__":
    sys.exit(main())
