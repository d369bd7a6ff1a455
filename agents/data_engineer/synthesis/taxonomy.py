"""What written rows are to be about: topics, who asks, and the cases that plain data leaves out."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field

from agents.data_engineer.formats.rows import Row
from agents.data_engineer.words import words
from shared_memory.records import Record

LIBRARY = Path(__file__).with_name("taxonomies.toml")
GENERAL = "general"
PLAIN = ""
"""The edge case of a row that has none; every second row is such a row."""
_COMMON_WORDS = """
    a an and as at by few first for from given has have how in into is it its means of on one or own several some
    somebody text than that the their them these they this those to two very what when which who with without
"""
COMMON_WORDS = frozenset(_COMMON_WORDS.split())
"""Words that tell nothing of what a text is about."""


class Topic(Record):
    """A thing that rows are about."""

    name: str = Field(min_length=1, max_length=120)
    words: tuple[str, ...] = Field(default=(), max_length=20)
    """Words by which a text of this topic is known, beside those of the name."""


class Taxonomy(Record):
    """Topics × personas × edge cases."""

    topics: tuple[Topic, ...] = Field(min_length=1, max_length=40)
    personas: tuple[str, ...] = Field(min_length=1, max_length=20)
    """Who asks."""
    edge_cases: tuple[str, ...] = Field(min_length=1, max_length=30)
    """What makes a row hard or rare, and what the reply does about it."""


class Cell(Record):
    """What one row is to be about."""

    topic: str
    persona: str
    edge_case: str = PLAIN


def built_in(text: str, topics: Sequence[str] = ()) -> Taxonomy:
    """The library's taxonomy for the field that the goal's text names most often; `topics` are the person's own."""
    field = _field_of(text)
    return Taxonomy(
        topics=tuple(Topic(name=name) for name in topics or field["topics"]),
        personas=field["personas"],
        edge_cases=field["edge_cases"],
    )


def completed(proposed: Taxonomy, text: str, topics: Sequence[str] = ()) -> Taxonomy:
    """A model's taxonomy with what is not its to leave out: the field's personas and edge cases, the person's topics.

    Topics of the same name become one; of a person's topics, the words that the model knows them by are kept.
    """
    rules = built_in(text, topics)
    by_name = {topic.name.casefold(): topic for topic in reversed(proposed.topics)}
    named = [by_name.get(name.casefold(), Topic(name=name)).model_copy(update={"name": name}) for name in topics]
    return Taxonomy(
        topics=tuple(named or reversed(by_name.values())),
        personas=tuple(dict.fromkeys((*rules.personas, *proposed.personas))),
        edge_cases=tuple(dict.fromkeys((*rules.edge_cases, *proposed.edge_cases))),
    )


def coverage(rows: Iterable[Row], topics: Sequence[Topic]) -> dict[str, int]:
    """Topic → rows about it. A row belongs to the topic most of whose words it has, the earlier one of two."""
    known = {topic.name: _words_of(topic) for topic in topics}
    counts = Counter({topic.name: 0 for topic in topics})
    for row in rows:
        said = set(words(row.text))
        best = max(known, key=lambda name: len(known[name] & said), default=None)
        if best is not None and known[best] & said:
            counts[best] += 1
    return dict(counts)


def cells(taxonomy: Taxonomy, rows: int, have: Mapping[str, int], seed: int) -> list[Cell]:
    """What `rows` rows are to be about, in order; the same seed gives the same cells.

    Rare topics get the most: rows go where there are fewest, `have` (topic → rows that exist) counted in, until all
    topics are level. Every second row is plain; the others go through the edge cases, which all come before one comes
    again, and then with another persona.
    """
    random = Random(seed)
    personas, edge_cases = (random.sample(each, len(each)) for each in (taxonomy.personas, taxonomy.edge_cases))
    topics = list(quotas([topic.name for topic in taxonomy.topics], rows, have).items())
    order = [name for name, count in topics for _ in range(count)]
    random.shuffle(order)
    planned: list[Cell] = []
    for number, name in enumerate(order):
        turn, hard = divmod(number, 2)
        lap, place = divmod(turn, len(edge_cases))
        persona = personas[(turn + lap) % len(personas)]
        planned.append(Cell(topic=name, persona=persona, edge_case=edge_cases[place] if hard else PLAIN))
    return planned


def quotas(topics: Sequence[str], rows: int, have: Mapping[str, int]) -> dict[str, int]:
    """Topic → rows to write, so that the topics end up as level as `rows` rows can make them."""
    level, given = {name: have.get(name, 0) for name in topics}, dict.fromkeys(topics, 0)
    for _ in range(rows):
        lowest = min(topics, key=lambda name: level[name])
        level[lowest] += 1
        given[lowest] += 1
    return given


def _words_of(topic: Topic) -> frozenset[str]:
    return frozenset(word for text in (topic.name, *topic.words) for word in words(text)) - COMMON_WORDS


def _field_of(text: str) -> dict[str, Any]:
    said = f" {' '.join(words(text))} "
    fields = _library()
    counts = {name: sum(f" {word} " in said for word in field["words"]) for name, field in fields.items()}
    best = max(counts, key=lambda name: counts[name])
    return fields[best if counts[best] else GENERAL]


@lru_cache(maxsize=1)
def _library() -> dict[str, dict[str, Any]]:
    table = tomllib.loads(LIBRARY.read_text(encoding="utf-8"))
    return {field["name"]: field for field in table["field"]}
