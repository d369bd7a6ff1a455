"""The report of a run: one self-contained HTML page, the same in Markdown, and the data behind both as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from postgrad.answer import ENDED_EARLY, answer, claim_of, improved
from postgrad.report import families, provenance, sections
from postgrad.report.evidence import Evidence, gather
from postgrad.summary import summary_of
from postgrad.units import dollars, duration, one_line, p_value, percent, printable, signed
from shared_memory.database import Database
from shared_memory.records import MICRO_USD, Record
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import write_atomically
from shared_memory.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"

TITLE_LENGTH = 160
"""Characters of the goal's text that fit a heading; the section on the question has all of it."""

_LINK = re.compile(r"(?P<url>https?://[^\s<>\"']*[^\s<>\"'.,;:)\]])|\barXiv[ :](?P<paper>\d{4}\.\d{4,5})")


def write_report(settings: Settings, db: Database, run_id: str) -> Path:
    """Write report.html, report.md and report.json into the run's folder, and return the HTML's path.

    It works for a run that failed or has only begun: the report then says what is missing.

    Raises BadInput for an unknown run, OSError where the folder cannot be written.
    """
    evidence = gather(settings, db, run_id)
    summary = {**summary_of(evidence), "report": str(evidence.paths.report_html)}
    page = redact_plain(_page(evidence, summary))
    data = redact_plain(_data(evidence, summary))
    evidence.paths.root.mkdir(parents=True, exist_ok=True)
    write_atomically(evidence.paths.report_md, _markdown().get_template("report.md.j2").render(page=page).encode())
    write_atomically(evidence.paths.report_json, json.dumps(data, indent=2, ensure_ascii=False).encode())
    write_atomically(evidence.paths.report_html, _html().get_template("report.html.j2").render(page=page).encode())
    return evidence.paths.report_html


def _page(evidence: Evidence, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show, as plain data."""
    row = evidence.row
    status = row.status.value
    text = one_line(evidence.goal.text)
    ended = f", ended {provenance.moment(row.ended)}" if row.ended else ""
    all_sections = (
        sections.question(evidence),
        sections.scores(evidence),
        families.families(evidence),
        sections.experiments(evidence),
        provenance.recipe(evidence),
        provenance.data(evidence),
        provenance.approvals(evidence),
        sections.failures(evidence),
        provenance.cost(evidence),
        provenance.integrity(evidence),
        provenance.reproduce(evidence),
    )
    page = {
        "title": text if len(text) <= TITLE_LENGTH else f"{text[:TITLE_LENGTH].rsplit(' ', 1)[0]} …",
        "run_id": row.run_id,
        "when": f"started {provenance.moment(row.started)}{ended}, {duration(row.active_seconds)} of work, "
        f"{dollars(evidence.spend.usd_micro / MICRO_USD)} spent",
        "answer": answer(summary),
        "improved": improved(summary),
        "claim": _claim(summary),
        "ending": f"{ENDED_EARLY[status]}{f': {row.error}' if row.error else ''}." if status in ENDED_EARLY else "",
        "consent": provenance.consent(evidence),
        "missing": list(sections.missing(evidence)),
        "sections": [asdict(section) for section in all_sections if section is not None],
    }
    printed: dict[str, Any] = _printable(page)
    return printed


def _claim(summary: Mapping[str, Any]) -> dict[str, str]:
    """The figures at the head of the report; empty where no comparison was made."""
    name, claim = claim_of(summary)
    champion = summary["champion"]
    if claim is None or name not in champion["score"] or name not in summary["baseline"]:
        return {}
    return {
        "benchmark": name,
        "experiment": champion["experiment"],
        "before": percent(summary["baseline"][name]["score"]),
        "after": percent(champion["score"][name]["score"]),
        "delta": f"{signed(claim['delta'])} points",
        "interval": f"95 % interval {signed(claim['ci_low'])} to {signed(claim['ci_high'])}",
        "p": p_value(claim["p_value"]),
        "n": f"{claim['n']} report items",
    }


def _data(evidence: Evidence, summary: Mapping[str, Any]) -> dict[str, Any]:
    """report.json: the summary, the report's sentences, and every record they stand on."""
    kinds: dict[str, Mapping[str, Record]] = {
        "findings": evidence.findings,
        "recipes": evidence.recipes,
        "datasets": evidence.datasets,
        "experiments": evidence.experiments,
        "results": evidence.results,
        "comparisons": evidence.comparisons,
        "jobs": evidence.jobs,
    }
    return {
        **summary,
        "answer": answer(summary),
        "missing": list(sections.missing(evidence)),
        "consent": provenance.consent(evidence),
        "base_model": evidence.base_model,
        "versions": provenance.versions(),
        "records": {
            **{kind: [record.plain() for record in records.values()] for kind, records in kinds.items()},
            "decisions": [decision.plain() for decision in evidence.decisions],
        },
    }


def _printable(value: Any) -> Any:
    """Plain data without control characters in its texts."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _printable(entry) for key, entry in value.items()}
    return [_printable(entry) for entry in value] if isinstance(value, list | tuple) else value


def _html() -> Environment:
    environment = _environment()
    environment.filters["linked"] = linked
    return environment


def _markdown() -> Environment:
    """Markdown escapes by itself: HTML's escapes would be read as text in code, and do nothing about `|` and `[`."""
    environment = _environment()
    environment.finalize = escape_markdown
    environment.filters["verbatim"] = Markup
    return environment


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def linked(text: str) -> Markup:
    """`text` escaped, with its URLs and arXiv numbers as links that a reader may follow."""
    pieces, end = [], 0
    for match in _LINK.finditer(text):
        target = match["url"] or f"https://arxiv.org/abs/{match['paper']}"
        pieces += [
            escape(text[end : match.start()]),
            Markup('<a href="{}" rel="noreferrer">{}</a>').format(target, match[0]),
        ]
        end = match.end()
    return Markup("").join([*pieces, escape(text[end:])])


def escape_markdown(value: Any) -> Any:
    """Text as one line of Markdown that shows it as it is: no HTML, cells, links, images or emphasis of its own."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    shown = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(value.split()))
    return Markup(re.sub(r"<(?=[A-Za-z/!?])", "&lt;", shown))  # noqa: S704 – escaped for Markdown, just above
