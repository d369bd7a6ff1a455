"""Whether data are fit to be trained on, from what was found in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agents.data_engineer.checks.findings import AuditFinding, Kind, Verdict

MINIMUM_ROWS = 8
"""Rows without which nothing is trained: fewer are a mistake, not a data set."""
MOST_LEFT_OUT = 0.5
"""Share of the rows that may be left out; a set of which less stays is not fixed but another one."""
MOST_NAMED = 3
"""Kinds of faults that a reason names."""
_IMITATING = frozenset({"sft", "dpo", "kto", "reward"})
_MATTERS_TO: dict[Kind, frozenset[str]] = {
    "identical_pairs": frozenset({"dpo", "reward"}), "length_bias": frozenset({"dpo", "reward"}),
    "refusals": _IMITATING, "boilerplate": _IMITATING, "answer_cut": _IMITATING,
}  # fmt: skip
"""Kinds that only some methods suffer from."""


def verdict_of(findings: Iterable[AuditFinding], rows: int, left: int) -> tuple[Verdict, str]:
    """The verdict and its reason. `left` rows stay when the cleaned copy leaves out what it leaves out.

    unfit: an error that the copy does not mend, or less than half of the rows stay · fixable: an error or warning that
    it mends · fit: neither.
    """
    found = list(findings)
    fatal = [finding.kind for finding in found if finding.severity == "error" and not finding.fix]
    mended = [finding.kind for finding in found if finding.severity != "info" and finding.fix]
    if fatal:
        return "unfit", f"{_listed(fatal)} cannot be mended here"
    if rows - left > MOST_LEFT_OUT * rows:
        return "unfit", f"only {left:,} of {rows:,} rows can be used"
    if mended:
        return "fixable", f"{_listed(mended)} can be mended, and {left:,} of {rows:,} rows stay"
    advised = sum(finding.severity == "warning" for finding in found)
    if advised:
        judged = "1 warning is" if advised == 1 else f"{advised} warnings are"
        return "fit", f"nothing keeps {rows:,} rows from being trained on; {judged} for you to judge"
    return "fit", f"nothing is wrong with {rows:,} rows"


def that_matter(findings: Iterable[AuditFinding], method: str) -> Iterator[AuditFinding]:
    """What the method that was asked for does not suffer from is only worth knowing."""
    for finding in findings:
        matters = not method or method in _MATTERS_TO.get(finding.kind, (method,))
        yield finding if matters else finding.model_copy(update={"severity": "info"})


def too_few(left: int, rows: int) -> Iterator[AuditFinding]:
    """That of so many rows not enough are left to train on."""
    if left < MINIMUM_ROWS:
        yield AuditFinding(
            kind="too_few",
            severity="error",
            count=left,
            share=round(left / max(1, rows), 6),
            advice=f"at least {MINIMUM_ROWS} different rows are needed",
        )


def _listed(kinds: Sequence[str]) -> str:
    """`not json, empty and 3 more kinds`."""
    names = [kind.replace("_", " ") for kind in dict.fromkeys(kinds)]
    if len(names) > MOST_NAMED + 1:
        names = [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED} more kinds of faults"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
