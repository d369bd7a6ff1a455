"""The section of a report with the certificate: its verdict, why, and what was looked at by code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from postgrad.answer import certified
from postgrad.report.blocks import Block, Bullets, Facts, Grid, Paragraph, Section
from postgrad.report.evidence import Evidence
from postgrad.report.provenance import where_published

MEANS = {
    "clean": "What can be checked by code was checked, and nothing speaks against the result.",
    "suspect": "Nothing was found that is not what it is said to be, but not everything could be shown.",
    "violated": "Something is not what it is said to be: nothing is claimed, and no model is delivered.",
}
"""Verdict → what it means for a reader."""


def certificate(evidence: Evidence) -> Section:
    """The certificate as the graph wrote it, and where the model is that it speaks of."""
    told = evidence.integrity
    blocks: list[Block] = []
    if not told:
        blocks.append(Paragraph("No certificate was written: the run did not come to its end."))
    if "verdict" in told:
        blocks.append(Paragraph(f"{certified(told)}. {MEANS[told['verdict']]}"))
        if told["reasons"]:
            blocks.append(Bullets(tuple(told["reasons"])))
        rows = tuple((check["name"], check["verdict"], check["found"]) for check in told["checks"])
        blocks.append(Grid("What was looked at", ("check", "verdict", "what was found"), rows))
    facts = (*_digests(told), *(("Model published", where_published(entry)) for entry in evidence.pushed.values()))
    if facts:
        blocks.append(Facts(facts))
    return Section("integrity", "Certificate", tuple(blocks))


def _digests(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By what anyone can see that they look at the same things."""
    for name, digest in told.get("benchmarks", {}).items():
        yield f"Benchmark {name}", digest
    for digest in told.get("settings", ()):
        yield "Settings of the evaluation", digest
    for name, digest in told.get("evaluator", {}).items():
        yield "Code that scores" if name == "scoring" else f"Of the evaluation jobs, {name}", digest
    for name, searched in told.get("training_data", {}).items():
        yield f"Training data {name}", searched["sha256"]
        if "searched_by" in searched:
            yield f"{name} was searched by", searched["searched_by"]
    if "approvals" in told:
        yield "Approvals", told["approvals"]
