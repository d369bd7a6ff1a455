"""What is wrong with training data before anything is done to them, and with their letters afterwards.

`audit_sources` is `postgrad audit`: it streams all rows of all sources past the checks. `audit` looks at rows that are
in memory already.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from agents.data_engineer.checks.card import Card
from agents.data_engineer.checks.chat import Chat
from agents.data_engineer.checks.check import AuditBatch, Check, Whole, shown, union
from agents.data_engineer.checks.choices import Choices, crowded
from agents.data_engineer.checks.cleaned import OneLayout, require_new, write_cleaned
from agents.data_engineer.checks.duplicates import Contradictions, Duplicates
from agents.data_engineer.checks.findings import SEVERITIES, AuditFinding, Example, Verdict
from agents.data_engineer.checks.languages import Languages
from agents.data_engineer.checks.lengths import TokenLengths, Words, histogram
from agents.data_engineer.checks.model_text import ModelText
from agents.data_engineer.checks.preferences import Labels, Preferences
from agents.data_engineer.checks.privacy import Privacy
from agents.data_engineer.checks.reading import Blanks, Reading, Schema
from agents.data_engineer.checks.replies import Boilerplate, Hollow, Refusals
from agents.data_engineer.checks.stream import OnProgress, Progress, Stream, to_train_on
from agents.data_engineer.checks.text import Characters
from agents.data_engineer.checks.verdict import MINIMUM_ROWS, that_matter, too_few, verdict_of
from agents.data_engineer.contamination.benchmark_texts import BenchmarkText
from agents.data_engineer.formats.methods import METHODS, Method, Trainable
from agents.data_engineer.formats.rows import Row
from agents.reading.files import BATCH
from agents.reading.sources import Source, resolve
from shared_memory.errors import BadInput
from shared_memory.records import Record

if TYPE_CHECKING:
    from agents.data_engineer.checks.contamination import Contamination

__all__ = ["MINIMUM_ROWS", "Audit", "AuditFinding", "Progress", "audit", "audit_letters", "audit_sources"]


class Tokens(Record):
    """How long the rows are."""

    tokenizer: str = "words"
    """Words and numbers, as `words.words` counts them."""
    p50: int
    p95: int
    max: int
    total: int


class Audit(Record):
    """What the rows are like."""

    rows: int
    tokens: Tokens
    findings: tuple[AuditFinding, ...]
    verdict: Verdict
    """See `checks.verdict`."""


def audit(rows: Sequence[Row]) -> Audit:
    """Looks at all rows: blank parts, doubled choices, identical pairs, exact duplicates, contradictions, length."""
    checks: tuple[Check, ...] = (Blanks(), Choices(), Preferences(), Duplicates(near=False), Contradictions())
    size, lengths = len(rows), Words(None)
    for first in range(0, size, BATCH):
        part = rows[first : first + BATCH]
        batch = AuditBatch("rows", False, first, range(first + 1, size + 1), (), part, range(len(part)))
        for check in (*checks, lengths):
            check.see(batch)
    whole = Whole(size, lambda ordinals: tuple(Example(source="rows", row=at + 1, text=shown(rows[at].text))
                                               for at in ordinals))  # fmt: skip
    kinds = ("empty", "ambiguous", "identical_pairs", "exact_duplicates", "contradictions")
    found = [finding for check in checks for finding in check.findings(whole) if finding.kind in kinds]
    left = size - len(union(part for check in checks for part in check.dropped()))
    found += too_few(left, size)
    return Audit(
        rows=size,
        tokens=Tokens.model_validate(lengths.summary()),
        findings=tuple(found),
        verdict=verdict_of(found, size, left)[0],
    )


def audit_letters(rows: Sequence[Row]) -> list[AuditFinding]:
    """A letter that holds far more right answers than its share. For rows in the order in which they are trained on."""
    letters = Counter((len(row.choices), row.answer) for row in rows if row.choices and row.answer)
    return [finding for finding in crowded(letters, len(rows)) if finding.severity == "warning"]


def audit_sources(
    sources: Sequence[str],
    *,
    model: str = "",
    revision: str = "",
    max_length: int | None = None,
    method: str = "",
    benchmarks: Sequence[BenchmarkText] = (),
    exact: bool = False,
    split: str = "",
    clean: Path | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """What `postgrad audit` says of files, folders or Hub data sets, as JSON; scripts rely on its keys.

    `model` (a folder or Hub id, at `revision`) counts tokens and renders its chat template, else words are counted;
    `max_length` says what would be cut; `method` asks for one way of training; `benchmarks` are looked for in the rows;
    `exact` tokenises all rows however many; `split` picks one; `clean` is a new file for what is left when the faults
    that can be mended are. Raises BadInput where a source cannot be read, or an option cannot be used.
    """
    started = time.perf_counter()
    stream = Stream(_chosen(sources, split), on_progress)
    method = method.strip().lower()
    if method and method not in METHODS:
        raise BadInput(f"`{method}` is no method; give one of {', '.join(METHODS)}")
    if max_length is not None and max_length < 1:
        raise BadInput(f"a max_length of {max_length} holds nothing; give a number of tokens")
    if clean is not None:
        require_new(clean)
    lengths: Words | TokenLengths = (
        TokenLengths(ModelText(model, revision), max_length, exact=exact, seed=seed) if model else Words(max_length)
    )
    checks = _Checks(lengths, Languages(seed), Card(stream.sources), _contamination(benchmarks))
    one = OneLayout(all(source.is_measured_on for source in stream.sources))
    for batch in stream.batches():
        one.see(batch)
        if clean is not None and one.conflict:
            raise BadInput(one.conflict)
        checks.see(batch)
    return checks.report(stream, method, clean) | {
        "not_cleanable": one.conflict,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _contamination(benchmarks: Sequence[BenchmarkText]) -> Contamination | None:
    """Imported where there is something to look for: what compares paraphrases is large."""
    if not benchmarks:
        return None
    from agents.data_engineer.checks.contamination import Contamination

    return Contamination(benchmarks)


def _chosen(names: Sequence[str], split: str) -> list[Source]:
    """The sources, of one split where it is given. Raises BadInput where there is none."""
    if not names:
        raise BadInput("there is nothing to audit; name a data file, a folder or a Hub data set")
    sources = resolve(names)
    chosen = [source for source in sources if not split or source.split == split]
    if not chosen:
        there = ", ".join(sorted({source.split or "one without a name" for source in sources}))
        raise BadInput(f"there is no split `{split}`; there is {there}")
    return chosen


@dataclass
class _Checks:
    """All checks of an audit, and what they say together."""

    lengths: Words | TokenLengths
    languages: Languages
    card: Card
    contamination: Contamination | None
    reading: Reading = field(default_factory=Reading)
    schema: Schema = field(default_factory=Schema)
    blanks: Blanks = field(default_factory=Blanks)
    chat: Chat = field(default_factory=Chat)
    preferences: Preferences = field(default_factory=Preferences)
    labels: Labels = field(default_factory=Labels)
    choices: Choices = field(default_factory=Choices)
    contradictions: Contradictions = field(default_factory=Contradictions)
    duplicates: Duplicates = field(default_factory=Duplicates)
    trainable: Trainable = field(default_factory=Trainable)

    def __post_init__(self) -> None:
        some = (
            self.reading, self.schema, self.blanks, self.chat, self.preferences, self.labels, self.choices,
            self.contradictions, self.duplicates, Characters(), Privacy(), Refusals(), Hollow(),
            Boilerplate(), self.lengths, self.languages, self.card, self.contamination,
        )  # fmt: skip
        self._all: list[Check] = [check for check in some if check is not None]

    def see(self, batch: AuditBatch) -> None:
        for check in self._all:
            check.see(batch)
        self.trainable.see(batch.rows)

    def report(self, stream: Stream, method: str, clean: Path | None) -> dict[str, Any]:
        """The audit without the seconds that it took."""
        for source, error in stream.failed:
            self.reading.give_up(source.name, str(error))
        stream.announce("comparing rows")
        whole = Whole(stream.rows, stream.lookup)
        found = [finding for check in self._all for finding in check.findings(whole)]
        dropped = union(part for check in self._all for part in check.dropped())
        trained = to_train_on(stream.spans)
        rows, records = sum(span.rows for span in trained), sum(span.records for span in trained)
        left_out = sum(int(np.diff(np.searchsorted(dropped, [span.first, span.end]))[0]) for span in trained)
        left = records - left_out
        found += [*too_few(left, rows), *self._method(method)]
        found = sorted(that_matter(found, method), key=lambda entry: (SEVERITIES.index(entry.severity), -entry.count))
        verdict, reason = verdict_of(found, rows, left)
        report = {
            "rows": stream.rows,
            "columns": list(self.schema.columns),
            "format": ", ".join(stream.formats),
            "methods": list(self.trainable.methods),
            "not_trainable": {name: why for name in METHODS if (why := self.trainable.why_not(name))},
            "splits": dict(stream.splits),
            "schema": self.schema.columns,
            "licence": ", ".join(sorted({source.licence for source in stream.sources if source.licence})),
            "tokens": self.lengths.summary(),
            "duplicates": self.duplicates.counts,
            "contamination": self.contamination.benchmarks if self.contamination else [],
            "histograms": self._histograms(),
            "sampled": self._sampled(),
            "findings": [finding.plain() for finding in found],
            "fixes": [{"kind": f.kind, "rows": f.count, "fix": f.fix} for f in found if f.fix],
            "left": {"rows": left, "unreadable": rows - records, "left_out": left_out},
            "verdict": verdict,
            "reason": reason,
        }
        if clean is not None:
            stream.announce(f"writing {clean.name}")
            mended = union(part for check in self._all for part in check.mended())
            report["cleaned"] = write_cleaned(clean, stream.spans, dropped, mended)
        return report

    def _histograms(self) -> dict[str, Any]:
        letters: Counter[str] = Counter()
        for (_, letter), count in self.choices.letters.items():
            letters[letter] += count
        return {
            "lengths": histogram(self.lengths.lengths),
            "turns": {str(turns): count for turns, count in sorted(self.chat.turns.items())[:20]},
            "letters": dict(sorted(letters.items())),
            "labels": self.labels.histogram,
            "languages": self.languages.shares,
        }

    def _sampled(self) -> dict[str, Any]:
        languages = {"n": len(self.languages.told), "of": self.languages.long_enough, "seed": self.languages.seed}
        return {"languages": languages, "tokens": self.lengths.summary().get("sample")}

    def _method(self, method: str) -> Iterator[AuditFinding]:
        """That the method that was asked for cannot be trained."""
        if method not in get_args(Method):
            return
        wanted: Method = next(name for name in METHODS if name == method)
        if why := self.trainable.why_not(wanted):
            able = ", ".join(self.trainable.methods) or "none"
            yield AuditFinding(
                kind="cannot_train", severity="error", count=0, advice=f"{method}: {why}; they can train: {able}"
            )
