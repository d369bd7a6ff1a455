"""How long rows are, in the model's tokens or in words, and what a limit would cut off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.data_engineer.checks.chat_template import Refused
from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole, shown
from agents.data_engineer.checks.findings import AuditFinding
from agents.data_engineer.checks.model_text import ModelText
from agents.data_engineer.formats.rows import Row

ALL = 100_000
"""Rows up to which each is tokenised."""
SAMPLE = 20_000
"""Rows of the random sample beyond that: the 95th percentile is then between those of 94.7 and 95.3 % of the rows."""
Z = 1.96
"""Standard errors in half a 95 % interval."""
BINS = 24

Lengths = NDArray[np.int64]


class Words(Check):
    """Words and numbers of every row, as `words.words` counts them."""

    tokenizer = "words"
    sampled = False

    def __init__(self, max_length: int | None) -> None:
        self._limit = max_length
        self._lengths: list[Lengths] = []
        self._cut = Tally()

    def see(self, batch: AuditBatch) -> None:
        lengths = batch.tokens.lengths
        self._lengths.append(lengths)
        if self._limit is not None:
            self._cut.add(
                batch, np.flatnonzero(lengths > self._limit).tolist(), lambda row: _long(batch, row, lengths[row])
            )

    @cached_property
    def lengths(self) -> Lengths:
        return np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)

    def summary(self) -> dict[str, Any]:
        return described(self.lengths, "words")

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = (
            f"longer than {self._limit or 0:,} words, hence than as many tokens: the end of the answer is cut off; "
            "raise --max-length, or leave them out; --model counts tokens"
        )
        yield from self._cut.finding("cut", "warning", whole.rows, advice)


class TokenLengths(Check):
    """Tokens of each row as the model reads it, chat template included; of a preference row the longer of its two.

    Up to ALL rows each is counted. Beyond that a random SAMPLE stands for all (reservoir sampling, seeded), unless
    `exact`. A row that the template refuses has no length.
    """

    def __init__(self, model: ModelText, max_length: int | None, *, exact: bool, seed: int) -> None:
        self._model, self._limit, self._exact, self.seed = model, max_length, exact, seed
        self._rng = np.random.default_rng(seed)
        self._parts: list[Lengths] = []
        self._reservoir: Lengths | None = None
        self._seen = 0
        self._rendered = 0
        self._orders: set[tuple[str, ...]] = set()
        self._refused, self._cut, self._lost, self._unseen = Tally(), Tally(), Tally(), Tally()
        self._left_out: set[str] = set()
        """What the template leaves out: `tools`, `tool calls`."""
        self._looked_at = 0

    @property
    def tokenizer(self) -> str:
        return self._model.name

    @property
    def sampled(self) -> bool:
        return self._reservoir is not None

    def see(self, batch: AuditBatch) -> None:
        size = len(batch.rows)
        if not self._exact and self._reservoir is None and self._seen + size > ALL:
            everything = np.concatenate([*self._parts, np.zeros(0, np.int64)])
            keep = self._rng.choice(len(everything), min(SAMPLE, len(everything)), replace=False)
            self._reservoir = everything[np.sort(keep)]
        if self._reservoir is None:
            self._parts.append(self._counted(batch, range(size)))
        else:
            slots = self._rng.integers(0, np.arange(self._seen, self._seen + size) + 1)
            chosen = np.flatnonzero(slots < len(self._reservoir))
            self._reservoir[slots[chosen]] = self._counted(batch, chosen.tolist())
            self._refuse_new_orders(batch)
        self._seen += size

    def _counted(self, batch: AuditBatch, places: Sequence[int]) -> Lengths:
        """Tokens of some rows, 0 for those that the template refuses."""
        texts: list[str] = []
        owners: list[int] = []
        for at, place in enumerate(places):
            row = batch.rows[place]
            self._orders.add(_order(row))
            try:
                replies = (row.completion, row.rejected) if row.rejected else (row.completion,)
                texts += [self._model.rendered(row, reply) for reply in replies]
                owners += [at] * len(replies)
                if left_out := self._model.left_out(row):
                    self._left_out.update(left_out)
                    self._unseen.add(batch, [place])
            except Refused as error:
                self._refused.add(batch, [place], _reason(error))
        lengths = np.zeros(len(places), np.int64)
        np.maximum.at(lengths, owners, self._model.counts(texts))
        self._looked_at += len(places)
        if self._limit is not None:
            self._cut_off(batch, [places[at] for at in np.flatnonzero(lengths > self._limit).tolist()], self._limit)
        return lengths

    def _refuse_new_orders(self, batch: AuditBatch) -> None:
        """Beyond the sample, a row is still rendered where its roles come in an order that was not met before."""
        for place, row in enumerate(batch.rows):
            if (order := _order(row)) not in self._orders:
                self._orders.add(order)
                try:
                    self._model.rendered(row, row.completion)
                except Refused as error:
                    self._refused.add(batch, [place], _reason(error))

    def _cut_off(self, batch: AuditBatch, places: Sequence[int], limit: int) -> None:
        self._cut.add(batch, places)
        asked = [place for place in places if batch.rows[place].prompt]
        counts = self._model.counts([self._model.prompt(batch.rows[place]) for place in asked]) if asked else []
        self._lost.add(batch, [place for place, count in zip(asked, counts, strict=True) if count >= limit])

    @cached_property
    def lengths(self) -> Lengths:
        """Of all rows, or of the sample."""
        found = (
            self._reservoir if self._reservoir is not None else np.concatenate([*self._parts, np.zeros(0, np.int64)])
        )
        return found[found > 0]

    def summary(self) -> dict[str, Any]:
        """`sample` says how sure the figures are, where they are of a sample: 95 % intervals."""
        if not self.sampled or len(self.lengths) < 2:
            return described(self.lengths, self.tokenizer)
        return described(self.lengths, self.tokenizer) | estimated(self.lengths, self._seen, self.seed)

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        part = ""
        if self.sampled:
            part = f" among the {self._looked_at:,} of {self._seen:,} rows that were tokenised; --exact looks at all"
        advice = f"the chat template of {self.tokenizer} refuses them, and training stops there{part}"
        yield from self._refused.finding("template_fails", "error", whole.rows, advice, fix="they are left out")
        advice = f"the chat template of {self.tokenizer} leaves out their {' and '.join(sorted(self._left_out))}, so " \
            f"the model never sees them{part}; take a model whose template knows tools"  # fmt: skip
        yield from self._unseen.finding("template_leaves_out", "warning", whole.rows, advice)
        if self._limit is None:
            return
        advice = f"longer than {self._limit:,} tokens: the end of the answer is cut off{part}; raise --max-length, " \
            "or leave them out"  # fmt: skip
        yield from self._cut.finding("cut", "warning", whole.rows, advice)
        advice = f"the prompt alone fills {self._limit:,} tokens, so nothing of the answer is left to learn{part}; " \
            "raise --max-length, or leave them out"  # fmt: skip
        yield from self._lost.finding("answer_cut", "error", whole.rows, advice, fix="they are left out")

    def dropped(self) -> Iterable[Ordinals]:
        return [self._refused.ordinals, self._lost.ordinals]


def _reason(error: Refused) -> Callable[[int], str]:
    why = shown(str(error))
    return lambda _: why


def _long(batch: AuditBatch, row: int, length: int) -> str:
    return f"{length:,} words: {shown(batch.rows[row].text)}"


def _order(row: Row) -> tuple[str, ...]:
    return tuple([message.role for message in row.prompt + row.completion])


def described(lengths: Lengths, tokenizer: str) -> dict[str, Any]:
    """Percentiles by nearest rank."""
    ordered = np.sort(lengths) if len(lengths) else np.zeros(1, np.int64)
    p50, p95 = (int(ordered[math.ceil(share * len(ordered)) - 1]) for share in (0.5, 0.95))
    return {"tokenizer": tokenizer, "p50": p50, "p95": p95, "max": int(ordered[-1]), "total": int(ordered.sum())}


def estimated(lengths: Lengths, rows: int, seed: int) -> dict[str, Any]:
    """What a sample says of all rows: the total is an estimate, and `max` the longest that was seen.

    Intervals of percentiles are those between order statistics, their ranks binomial; that of the total is the mean's.
    """
    ordered, n = np.sort(lengths), len(lengths)

    def interval(share: float) -> list[int]:
        half = Z * math.sqrt(n * share * (1 - share))
        low, high = math.floor(n * share - half) - 1, math.ceil(n * share + half)
        return [int(ordered[max(0, low)]), int(ordered[min(n - 1, high)])]

    mean = float(ordered.mean())
    half = Z * float(ordered.std(ddof=1)) / math.sqrt(n)
    return {
        "total": round(mean * rows),
        "sample": {
            "n": n, "of": rows, "seed": seed, "confidence": 0.95, "p50": interval(0.5), "p95": interval(0.95),
            "total": [round((mean - half) * rows), round((mean + half) * rows)],
        },
    }  # fmt: skip


def histogram(lengths: Lengths) -> dict[str, list[int]]:
    """Equal bins up to the 99th percentile, and one for all beyond it: {edges, counts}, one edge more than counts."""
    if not len(lengths):
        return {"edges": [], "counts": []}
    most = int(lengths.max())
    top = max(1, int(np.percentile(lengths, 99)))
    width = max(1, math.ceil(top / BINS))
    edges = np.arange(0, width * (math.ceil((top + 1) / width) + 1), width)
    counts = np.histogram(np.minimum(lengths, edges[-1]), bins=[*edges, max(most + 1, int(edges[-1]) + 1)])[0]
    return {"edges": [*map(int, edges), max(most + 1, int(edges[-1]) + 1)], "counts": [int(n) for n in counts]}
