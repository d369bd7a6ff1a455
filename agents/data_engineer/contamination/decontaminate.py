"""Takes out the rows that contain items of a benchmark.

By default the rule of PostTrainBench's judge [AI2's decon]: word 5-grams of the question, 3-grams of the answer and
4-grams of the passage, weighted by IDF, overlap by 0.8 or more; beside it the whole question word for word, however
short, and paraphrases (see paraphrase.py). On request any shared 13-gram [GPT-3, arXiv 2005.14165], or half of the
question's words in shared 8-grams [Tülu 3, arXiv 2411.15124]. Words are compared without case and punctuation. A row
that fills the item's template with other numbers or operators is another question and stays: see `asks_otherwise`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Literal, get_args

from agents.data_engineer.contamination.benchmark_texts import BenchmarkText as BenchmarkText
from agents.data_engineer.contamination.benchmark_texts import (
    Item,
    Operand,
    Place,
    asks_otherwise,
    items_of,
    operands_by_place,
    stands_alone,
)
from agents.data_engineer.contamination.exchanges import batch_of
from agents.data_engineer.contamination.overlap import (
    LEAST_OF_THE_QUESTION,
    OVERLAP,
    QUESTION_GRAM,
    GramIndex,
    Support,
    coverage,
)
from agents.data_engineer.contamination.paraphrase import Paraphrases
from agents.data_engineer.contamination.word_vectors import WordVectors
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.tokens import Tokens
from agents.data_engineer.words import signs, words
from shared_memory.errors import BadInput
from shared_memory.records import (
    BenchmarkContamination,
    ContaminatedRow,
    ContaminationEvidence,
    Step,
    canonical_digest,
)

Rule = Literal["question", "overlap", "paraphrase", "13-gram", "8-gram"]
RULES: tuple[Rule, ...] = ("question", "overlap", "paraphrase")
LONG = 13
COVERING = 8
COVERAGE = 0.5
"""Share of a question's words in shared 8-grams above which Tülu 3 calls it contaminated."""
BATCH = 4096
"""Rows looked at together: what fits the processor's cache (see tokens.py)."""
EXAMPLES = 20
"""Hits that the evidence names for each benchmark."""
SHORT_QUESTION = 400
"""Characters beyond which no row asks a question of fewer than five words."""
DETECTOR = "postgrad decontamination 3"
"""Changes whenever the same rows and items may give another result."""

_GRAMS: dict[Rule, int] = {"question": QUESTION_GRAM, "overlap": QUESTION_GRAM, "13-gram": LONG, "8-gram": COVERING}
"""Words in the runs that a rule compares."""
_LEAST: dict[Rule, float] = {"question": 1.0, "overlap": LEAST_OF_THE_QUESTION, "13-gram": 1e-6, "8-gram": 1e-6}
"""Shared weight of an item's grams from which a row is looked at."""
_ENOUGH: dict[Rule, float] = {"question": 1.0, "overlap": OVERLAP - 1e-9, "13-gram": 1e-6, "8-gram": COVERAGE + 1e-9}
_Found = tuple[int, int, Rule, float]
"""Row, item, rule, score."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item in one row."""

    row: int
    """Index in the batch."""
    item: BenchmarkText
    rule: Rule
    score: float
    """By the rule's own measure, at most 1."""


class Detector:
    """Answers which items of the benchmarks the rows of a batch contain.

    Raises BadInput for a rule that there is not. `vectors` compare words where paraphrases are looked for; by default
    the best that is installed does.
    """

    def __init__(
        self, benchmarks: Sequence[BenchmarkText], *, rules: Sequence[Rule] = RULES, vectors: WordVectors | None = None
    ) -> None:
        unknown = [rule for rule in rules if rule not in get_args(Rule)]
        if unknown or not rules:
            raise BadInput(f"no rule {', '.join(unknown) or 'at all'}; choose from {', '.join(get_args(Rule))}")
        self.benchmarks = tuple(benchmarks)
        self.rules = tuple(rules)
        self._items = items_of(benchmarks)
        self._support = Support(self._items)
        self._short: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, item in enumerate(self._items):
            if item.vague:
                self._short[item.tokens].append(number)
        sizes = [_GRAMS[rule] for rule in rules if rule in _GRAMS]
        self._indexes = {n: GramIndex(self._items, n) for n in dict.fromkeys(sizes)} if self._items else {}
        self._paraphrases = Paraphrases(self._items, vectors) if "paraphrase" in rules and self._items else None

    @property
    def embeddings(self) -> str:
        """What compares words in the paraphrase stage; empty where it is off."""
        return self._paraphrases.vectors.name if self._paraphrases else ""

    def hits(self, rows: Sequence[Row], tokens: Tokens | None = None) -> list[Hit]:
        """The items in each of `rows`, ordered by row, an item once a row; best a few thousand rows at a time.

        `tokens`, the hashed words of the rows' texts, spare some work where paraphrases are not looked for.
        """
        if not rows or not self._items:
            return []
        found: dict[tuple[int, int], tuple[Rule, float]] = {}
        if self._paraphrases or tokens is None:
            batch = batch_of(rows)
            tokens = batch.rows
            turns = [(number, _View(rows[number], only_user=True)) for number in batch.rows_of_turns]
            texts = [([(number, _View(row)) for number, row in enumerate(rows)], tokens), (turns, batch.asked_in_turns)]
        else:
            batch, texts = None, [([(number, _View(row)) for number, row in enumerate(rows)], tokens)]
        for views, grams in texts:
            for row, item, rule, score in self._verbatim(views, grams):
                found.setdefault((row, item), (rule, score))
        if self._paraphrases and batch:
            for row, item, score in self._paraphrases.hits(batch, set(found)):
                found[row, item] = ("paraphrase", score)
        return [Hit(row, self._items[item].source, rule, score) for (row, item), (rule, score) in sorted(found.items())]

    def _verbatim(self, views: Sequence[tuple[int, _View]], tokens: Tokens) -> Iterator[_Found]:
        """What the rules other than paraphrases find in some texts: the row of each with its view, and its words."""
        if "question" in self.rules and self._short:
            for row, view in views:
                for item in self._short.get(tuple(view.question), ()):
                    if not asks_otherwise(self._items[item], view.asked):
                        yield row, item, "question", 1.0
        for rule in self.rules:
            if rule not in _GRAMS:
                continue
            least = _LEAST[rule]
            pairs = self._indexes[_GRAMS[rule]].overlaps(tokens, least)
            for text, item, share in zip(pairs.rows.tolist(), pairs.items.tolist(), pairs.scores.tolist(), strict=True):
                row, view = views[text]
                said = self._items[item]
                score = self._score(rule, said, view, share)
                if score < _ENOUGH[rule] or asks_otherwise(said, view.operands) or not stands_alone(said, view.text):
                    continue
                yield row, item, rule, score

    def _score(self, rule: Rule, item: Item, view: _View, share: float) -> float:
        if rule == "overlap":
            return self._support.score(item, share, view.words)
        if rule == "8-gram":
            return coverage(item.tokens, view.words, COVERING)
        if rule == "13-gram":
            return share if len(item.tokens) >= LONG else 0.0
        return float(share >= 1 - 1e-9 and not item.vague)


class _View:
    """One row's words as text, made when they are looked at."""

    def __init__(self, row: Row, *, only_user: bool = False) -> None:
        self._row = row
        self._only_user = only_user

    @cached_property
    def text(self) -> str:
        if self._only_user:
            said = (message.says for message in self._row.prompt + self._row.completion if message.role == "user")
            return "\n".join(said)
        return self._row.text

    @cached_property
    def words(self) -> list[str]:
        return words(self.text)

    @cached_property
    def question(self) -> list[str]:
        return words(self._row.question) if len(self._row.question) <= SHORT_QUESTION else []

    @cached_property
    def operands(self) -> dict[Place, set[Operand]]:
        return operands_by_place(self.words, signs(self.text))

    @cached_property
    def asked(self) -> dict[Place, set[Operand]]:
        return operands_by_place(self.question, signs(self._row.question))


def screen(
    rows: Sequence[Row], benchmarks: Sequence[BenchmarkText], *, rules: Sequence[Rule] = RULES
) -> tuple[list[Row], ContaminationEvidence]:
    """The rows without benchmark items, and what was found in the others: never in the items' own words."""
    detector = Detector(benchmarks, rules=rules)
    hits = [
        (rows[start + hit.row], hit)
        for start in range(0, len(rows), BATCH)
        for hit in detector.hits(rows[start : start + BATCH])
    ]
    flagged = {id(row) for row, _ in hits}
    kept = [row for row in rows if id(row) not in flagged]
    return kept, evidence_of(detector, hits, rows_checked=len(rows), rows_flagged=len(rows) - len(kept))


def evidence_of(
    detector: Detector, hits: Sequence[tuple[Row, Hit]], *, rows_checked: int, rows_flagged: int
) -> ContaminationEvidence:
    """What `detector` found, as a record for the journal."""
    sizes = Counter(name for name, _ in {(item.benchmark, item.id) for item in detector.benchmarks})
    by_benchmark: dict[str, list[tuple[Row, Hit]]] = {name: [] for name in sizes}
    for row, hit in hits:
        by_benchmark[hit.item.benchmark].append((row, hit))
    return ContaminationEvidence(
        detector=DETECTOR,
        rules=detector.rules,
        embeddings=detector.embeddings,
        items_digest=items_digest(detector.benchmarks),
        rows_checked=rows_checked,
        rows_flagged=rows_flagged,
        benchmarks={
            name: BenchmarkContamination(
                items=sizes[name],
                items_found=len({hit.item.id for _, hit in found}),
                rows_flagged=len({row.id for row, _ in found}),
                rules=dict(sorted(Counter(rule for _, rule in {(row.id, hit.rule) for row, hit in found}).items())),
                examples=tuple(
                    ContaminatedRow(row=row.id, item=hit.item.id, rule=hit.rule, score=round(hit.score, 3))
                    for row, hit in found[:EXAMPLES]
                ),
            )
            for name, found in by_benchmark.items()
        },
    )


def items_digest(benchmarks: Sequence[BenchmarkText]) -> str:
    """sha256 over everything that the items say, in whatever order they come."""
    return canonical_digest(sorted(list(astuple(item)) for item in benchmarks))


def step_of(evidence: ContaminationEvidence) -> Step:
    """The step of a data set's making that took the flagged rows out."""
    found = "; ".join(
        f"{name}: {entry.items_found} of {entry.items} items found" for name, entry in evidence.benchmarks.items()
    )
    how = f"{', '.join(evidence.rules)}" + (f" ({evidence.embeddings})" if evidence.embeddings else "")
    return Step(
        name="decontaminate",
        rows_in=evidence.rows_checked,
        rows_out=evidence.rows_checked - evidence.rows_flagged,
        note=f"{found}; by {how}" if found else "no benchmark to check against",
    )
