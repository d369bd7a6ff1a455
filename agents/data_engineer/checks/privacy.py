"""Web addresses, mail addresses, and secrets by their shape."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents.data_engineer.checks.check import ADDRESS, MUCH, AuditBatch, Check, Ordinals, Tally, Whole, shown_at, truths
from agents.data_engineer.checks.findings import AuditFinding, Severity
from shared_memory.redaction import REDACTED, redact, suspect


class Privacy(Check):
    """What may identify or expose someone."""

    def __init__(self) -> None:
        self._urls, self._emails, self._secrets = Tally(), Tally(), Tally()

    def see(self, batch: AuditBatch) -> None:
        texts = batch.texts
        urls = truths(texts.str.contains_any(["http://", "https://"]))
        self._urls.add(batch, urls, lambda row: shown_at(texts[row], texts[row].find("http")))
        at = truths(texts.str.contains("@", literal=True))
        if at:
            emails = [at[place] for place in truths(texts.gather(at).str.contains(ADDRESS))]
            self._emails.add(batch, emails, lambda row: shown_at(texts[row], _found_at(ADDRESS, texts[row])))
        secrets = [row for row in truths(texts.str.contains(suspect())) if has_secret(texts[row])]
        self._secrets.add(batch, secrets, lambda row: shown_at(redact(texts[row]), redact(texts[row]).find(REDACTED)))

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = "keys or passwords by their shape: the model may repeat them; revoke those that were real"
        yield from self._secrets.finding("secrets", "warning", whole.rows, advice, fix="replaced by [redacted]")
        advice = "mail addresses: the model may repeat them; see whether they are private persons'"
        severity: Severity = "warning" if self._emails.count >= MUCH * max(1, whole.rows) else "info"
        yield from self._emails.finding("emails", severity, whole.rows, advice)
        advice = "web addresses: a model cannot look at them, and learns to make up others"
        yield from self._urls.finding("urls", "info", whole.rows, advice)

    def mended(self) -> Iterable[Ordinals]:
        return [self._secrets.ordinals]


def has_secret(text: str) -> bool:
    return redact(text) != text


def _found_at(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return found.start() if found else 0
