"""What the cards of data sets say about using them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agents.data_engineer.checks.check import Check, Whole
from agents.data_engineer.checks.findings import AuditFinding, Example, Kind, Severity
from agents.reading.sources import Source

UNKNOWN = frozenset({"", "unknown", "other"})
_NON_COMMERCIAL = re.compile(r"(?:^|[-\s])nc(?:$|[-\s])|non-?commercial|research-only", re.IGNORECASE)
_NO_DERIVATIVES = re.compile(r"(?:^|[-\s])nd(?:$|[-\s])|no-?deriv", re.IGNORECASE)


class Card(Check):
    """Licences that forbid what one trains a model for, or that nobody knows, and gates."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sets = {source.origin: source for source in sources if source.origin}

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        for name, source in self._sets.items():
            licence = source.licence
            if _NON_COMMERCIAL.search(licence):
                advice = (
                    f"{licence} forbids commercial use of what is made of {name}; leave it out, or keep the model so"
                )
                yield _about(name, "licence", "warning", advice)
            if _NO_DERIVATIVES.search(licence):
                advice = f"{licence} forbids to share altered copies of {name}; do not publish the cleaned rows"
                yield _about(name, "licence", "warning", advice)
            if licence.strip().lower() in UNKNOWN:
                advice = f"the card of {name} names no licence; ask its authors before you publish what you make of it"
                yield _about(name, "licence", "info", advice)
            if source.gated:
                advice = (
                    f"{name} is gated: every machine that trains needs a token, and its terms bind what you publish"
                )
                yield _about(name, "gated", "info", advice)


def _about(name: str, kind: Kind, severity: Severity, advice: str) -> AuditFinding:
    example = Example(source=name, row=0)
    return AuditFinding(kind=kind, severity=severity, count=0, advice=advice, examples=(example,))
