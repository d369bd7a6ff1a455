"""Multiple choice: which letters are right, choices that are there twice, answers that are not among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole, truths
from agents.data_engineer.checks.findings import AuditFinding, Severity

FINAL_LETTER = r"(?i)(?:^|\banswer\s*(?:is\s*)?:?\s*)[*\s]*\(?([A-J])[).*\s]*$"
"""`ANSWER: C`, `The answer is (C).` at the end of a reply, or a letter that is all of it."""
_CHOICE = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t]+(.+?)[ \t]*$", re.MULTILINE)
MOSTLY = 0.5
"""Share of the rows that end in a letter from which they are taken for multiple choice."""
AT_LEAST = 8
"""Rows below which nothing is said of letters."""
SURE = 1e-4
"""p of an even spread below which letters are uneven. With a million rows hardly any spread is even, hence UNEVEN."""
UNEVEN = 1.15
"""How many times its even share the most frequent letter holds when it is worth knowing; CROWDED is a warning."""
CROWDED = 1.5
"""A letter that holds this many times its even share teaches the letter instead of the answer."""


class Choices(Check):
    """Questions whose choices stand in columns, or in the prompt as `A) …`, and whose reply ends in a letter."""

    def __init__(self) -> None:
        self._ambiguous, self._absent = Tally(), Tally()
        self.letters: Counter[tuple[int, str]] = Counter()
        """(number of choices, right letter) → rows; 0 choices where the question does not list them."""
        self._rows = 0

    def see(self, batch: AuditBatch) -> None:
        self._ambiguous.add(batch, batch.ambiguous)
        self._rows += len(batch.rows)
        if batch.layout is not None and batch.layout.format in ("gpqa", "distractors"):
            return  # a column names the right choice, so the letters are yet to be given
        in_columns = [(place, row) for place, row in enumerate(batch.rows) if row.choices and row.answer]
        for _, row in in_columns:
            self.letters[len(row.choices or ()), str(row.answer)] += 1
        if not in_columns:
            self._see_replies(batch)

    def _see_replies(self, batch: AuditBatch) -> None:
        letters = batch.replies.str.slice(-60).str.extract(FINAL_LETTER).str.to_uppercase()
        absent, doubled = [], []
        for place in truths(letters.is_not_null()):
            row, letter = batch.rows[place], letters[place]
            offered = dict(_CHOICE.findall(row.question))
            if len(offered) < 2:
                self.letters[0, letter] += 1
                continue
            self.letters[len(offered), letter] += 1
            if letter not in offered:
                absent.append(place)
            elif len({text.strip() for text in offered.values()}) < len(offered):
                doubled.append(place)
        self._absent.add(batch, absent)
        self._ambiguous.add(batch, doubled)

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = "rows that offer a choice twice: no letter is the right one"
        yield from self._ambiguous.finding("ambiguous", "warning", whole.rows, advice, fix="they are left out")
        advice = "the reply ends in a letter that is not among the choices of its question"
        yield from self._absent.finding(
            "answer_not_among_choices", "error", whole.rows, advice, fix="they are left out"
        )
        if sum(self.letters.values()) >= max(AT_LEAST, MOSTLY * self._rows):
            yield from crowded(self.letters, whole.rows)

    def dropped(self) -> Iterable[Ordinals]:
        return [self._ambiguous.ordinals, self._absent.ordinals]


def crowded(letters: Mapping[tuple[int, str], int], total: int) -> Iterable[AuditFinding]:
    """The letter that is right too often, by a chi-square test over the rows that have the same number of choices."""
    from scipy.stats import chisquare

    for choices in sorted({choices for choices, _ in letters}):
        counts = {letter: n for (number, letter), n in sorted(letters.items()) if number == choices}
        rows, places = sum(counts.values()), max(choices, len(counts), 2)
        letter, most = max(counts.items(), key=lambda entry: entry[1])
        if rows < AT_LEAST or most < UNEVEN * rows / places:
            continue
        p = float(chisquare([*counts.values(), *[0] * (places - len(counts))]).pvalue)
        if p < SURE:
            severity: Severity = "warning" if most > CROWDED * rows / places else "info"
            spread = ", ".join(f"{name} {n:,}" for name, n in counts.items())
            yield AuditFinding(
                kind="letters",
                severity=severity,
                count=most,
                share=round(most / max(1, total), 6),
                advice=f"{letter} is right in {most:,} of {rows:,} rows, {rows / places:,.0f} would be even ({spread}; "
                "chi-square p < 0.0001): the model learns the letter; shuffle choices that no reasoning names",
            )
