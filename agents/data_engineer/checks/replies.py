"""Replies that teach nothing: refusals, placeholders, the question again, and what too many of them say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.data_engineer.checks.check import MUCH, AuditBatch, Check, Ordinals, Tally, Whole, shown, truths
from agents.data_engineer.checks.findings import EXAMPLES, AuditFinding, Severity
from agents.data_engineer.phrases import refuses

SEED = 42
SENTENCES = {
    "begin": r"^\s*([^.!?\n。！？]{12,200}[.!?\n。！？])\s*\S",
    "end": r"\S[.!?\n。！？]\s*([^.!?\n。！？]{12,200}[.!?。！？]?)\s*$",
}
"""A first, and a last, sentence of 12 characters or more, in a reply that has others."""
LOOKED_AT = 400
"""Characters at either end of a reply."""
OFTEN = 0.05
"""Share of the replies from which a sentence is boilerplate: one that is written for the question is hardly ever the
same twice."""
TOO_OFTEN = 0.2
PLACEHOLDER = r"(?i)^\W*(?:todo|tbd|fixme|n/a|null|nan|undefined|placeholder|lorem ipsum\b.*)\W*$"
"""All of a reply. `None` is not among them: it may be the answer."""
AT_LEAST = 20
"""Replies with a sentence, so that a handful of rows makes no boilerplate."""


class Refusals(Check):
    """Replies that decline, or speak of being an AI."""

    def __init__(self) -> None:
        self._tally = Tally()

    def see(self, batch: AuditBatch) -> None:
        replies = batch.replies
        self._tally.add(batch, truths(refuses(replies)), lambda row: shown(replies[row]))

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        severity: Severity = "warning" if self._tally.count >= MUCH * max(1, whole.rows) else "info"
        advice = "the reply declines or speaks of being an AI, and the model learns to; keep only those that are meant"
        yield from self._tally.finding("refusals", severity, whole.rows, advice)


class Hollow(Check):
    """Replies that were never written: a placeholder, or the question once more."""

    def __init__(self) -> None:
        self._placeholders, self._echoes = Tally(), Tally()

    def see(self, batch: AuditBatch) -> None:
        self._placeholders.add(batch, truths(batch.replies.str.contains(PLACEHOLDER)))
        questions = pl.Series([row.question if row.prompt else "" for row in batch.rows], dtype=pl.String)
        asked = questions.str.strip_chars()
        self._echoes.add(batch, truths((asked != "") & (asked == batch.replies.str.strip_chars())))

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = "the reply is a placeholder (TODO, N/A, null) that nobody filled in; write it, or leave the row out"
        yield from self._placeholders.finding("placeholders", "warning", whole.rows, advice)
        advice = "the reply is the question once more; write an answer, or leave the row out"
        yield from self._echoes.finding("echoes", "warning", whole.rows, advice)


class Boilerplate(Check):
    """Sentences that begin or end many replies.

    Each is kept as 64 bits until all replies were seen. Its words are kept where it is frequent in one batch, as it has
    to be in some batch if it is frequent in all of them.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, list[NDArray[np.uint64]]] = {end: [] for end in SENTENCES}
        self._ordinals: dict[str, list[Ordinals]] = {end: [] for end in SENTENCES}
        self._words: dict[int, str] = {}
        self._replies = 0

    def see(self, batch: AuditBatch) -> None:
        self._replies += len(batch.rows)
        for end, sentences in sentences_of(batch.replies).items():
            there = truths(sentences.is_not_null())
            if not there:
                continue
            hashes = sentences.gather(there).hash(SEED).to_numpy()
            values, first, counts = np.unique(hashes, return_index=True, return_counts=True)
            for place in np.flatnonzero(counts >= OFTEN * len(batch.rows)).tolist():
                self._words.setdefault(int(values[place]), sentences[there[int(first[place])]])
            self._hashes[end].append(hashes)
            self._ordinals[end].append(batch.ordinals[there])

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        for end, parts in self._hashes.items():
            hashes = np.concatenate(parts) if parts else np.empty(0, np.uint64)
            values, counts = np.unique(hashes, return_counts=True)
            if not len(counts) or counts.max() < max(AT_LEAST, OFTEN * self._replies):
                continue
            most = values[counts.argmax()]
            rows = np.concatenate(self._ordinals[end])[hashes == most]
            tally = Tally()
            tally.count = len(rows)
            tally.examples = list(whole.lookup(rows[:EXAMPLES].tolist()))
            said = shown(self._words[int(most)])
            advice = f"these replies {end} alike, “{said}”: cut it, unless the model is to say it always"
            severity: Severity = "warning" if tally.count >= TOO_OFTEN * self._replies else "info"
            yield from tally.finding("boilerplate", severity, whole.rows, advice)


def sentences_of(replies: pl.Series) -> dict[str, pl.Series]:
    """The first and the last sentence of each reply; null where it has but one, or a short one."""
    return {
        "begin": replies.str.slice(0, LOOKED_AT).str.extract(SENTENCES["begin"]),
        "end": replies.str.slice(-LOOKED_AT).str.extract(SENTENCES["end"]),
    }
