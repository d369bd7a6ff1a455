"""Which languages the replies are in, told from a sample."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

from agents.data_engineer.checks.check import AuditBatch, Check, Tally, Whole, shown
from agents.data_engineer.checks.findings import EXAMPLES, AuditFinding, Example

SAMPLE = 5_000
"""Replies whose language is told: a share of 1 % of them has a standard error of 0.14 %."""
SHORTEST, LONGEST = 60, 200
"""Letters below which a language is guesswork, and characters from which more of them tell nothing new."""
SURE = 0.9
"""Probability from which a guess counts."""


@cache
def _identifier() -> Any:
    """Reading its model takes half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class Languages(Check):
    """A random sample of all replies that are long enough (reservoir sampling, seeded), told apart at the end."""

    def __init__(self, seed: int, size: int = SAMPLE) -> None:
        self._rng = random.Random(seed)
        self.seed, self._size = seed, size
        self._sample: list[tuple[int, Example]] = []
        self.long_enough = 0
        """Replies that were sampled from."""

    def see(self, batch: AuditBatch) -> None:
        texts = batch.replies.str.slice(0, LONGEST)
        lengths = texts.str.len_chars().to_numpy()
        for place in (lengths >= SHORTEST).nonzero()[0].tolist():
            self.long_enough += 1
            at = len(self._sample) if len(self._sample) < self._size else self._rng.randrange(self.long_enough)
            if at < self._size:
                number = batch.numbers[batch.places[place]]
                reply = Example(source=batch.source, row=number, text=texts[place])
                self._sample[at : at + 1] = [(int(batch.ordinals[place]), reply)]

    @cached_property
    def told(self) -> list[tuple[str, Example]]:
        """Language (ISO 639), `?` where none is sure, of each reply of the sample, in the order of the rows."""
        found = []
        for _, reply in sorted(self._sample, key=lambda entry: entry[0]):
            language, probability = _identifier().classify(reply.text)
            found.append((language if probability >= SURE and language != "zxx" else "?", reply))
        return found

    @property
    def shares(self) -> dict[str, float]:
        """Language → share of the sample, the most frequent first."""
        counts = Counter(language for language, _ in self.told)
        return {language: round(count / len(self.told), 4) for language, count in counts.most_common()}

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        shares = {language: share for language, share in self.shares.items() if language != "?"}
        if len(shares) < 2:
            return
        main = next(iter(shares))
        others = [reply for language, reply in self.told if language not in (main, "?")]
        share = len(others) / len(self.told)
        tally = Tally()
        tally.count = round(share * self.long_enough)
        tally.examples = [reply.model_copy(update={"text": shown(reply.text)}) for reply in others[:EXAMPLES]]
        listed = ", ".join(f"{language} {share:.1%}" for language, share in list(shares.items())[:5])
        sampled = f" of {len(self.told):,} random replies (seed {self.seed})" if self.long_enough > self._size else ""
        advice = f"replies in several languages, {listed}{sampled}: see whether all of them are wanted"
        yield from tally.finding("languages", "info", whole.rows, advice)
