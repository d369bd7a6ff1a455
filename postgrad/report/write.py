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

from postgrad.answer import ENDED_EARLY, answer, claim_of, improved, interval_of
from postgrad.report import accounts, families, provenance, sections
from postgrad.report.certificate import certificate
from postgrad.report.evidence import Evidence, gather
from postgrad.report.failures import failures
from postgrad.report.tree import experiments
from postgrad.summary import summary_of
from postgrad.units import difference, dollars, duration, one_line, printable, scored
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.records import MICRO_USD, Record
from shared_memory.redaction import redact, redact_plain
from shared_memory.run_paths import write_atomically
from shared_memory.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"

TITLE_LENGTH = 160
"""Characters of the goal's text that fit a heading; the section on the question has all of it."""

NATS = " nats a token"

_LINK = re.compile(r"(?P<url>https?://[^\s<>\"']*[^\s<>\"'.,;:)\]])|\barXiv[ :](?P<paper>\d{4}\.\d{4,5})")


def write_report(settings: Settings, db: Database, run_id: str) -> Path:
    """Write report.html, report.md and report.json into the run's folder, and return the HTML's path.

    The goal goes there too, as a file that `postgrad run` takes.

    It works for a run that failed or has only begun: the report then says what is missing.

    Raises BadInput for an unknown run, OSError where the folder cannot be written.
    """
    evidence = gather(settings, db, run_id)
    summary = {**summary_of(evidence), "report": str(evidence.paths.report_html)}
    page = redact_plain(_page(evidence, summary))
    data = redact_plain(_data(evidence, summary))
    evidence.paths.root.mkdir(parents=True, exist_ok=True)
    write_atomically(evidence.paths.goal, redact(as_toml(evidence.asked)).encode())
    write_atomically(evidence.paths.report_md, _markdown().get_template("report.md.j2").render(page=page).encode())
    write_atomically(evidence.paths.report_json, json.dumps(data, indent=2, ensure_ascii=False).encode())
    write_atomically(evidence.paths.report_html, _html().get_template("report.html.j2").render(page=page).encode())
    return evidence.paths.report_html


def _page(evidence: Evidence, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show, as plain data."""
    row = evidence.row
    status = row.status.value
    text = one_line(evidence.goal.text)
    ended = f", ended {accounts.moment(row.ended)}" if row.ended else ""
    all_sections = (
        provenance.reproduction(evidence),
        sections.question(evidence),
        sections.scores(evidence),
        families.families(evidence),
        experiments(evidence),
        provenance.recipe(evidence),
        provenance.data(evidence),
        accounts.approvals(evidence),
        failures(evidence),
        accounts.cost(evidence),
        certificate(evidence),
        provenance.reproduce(evidence),
    )
    page = {
        "title": text if len(text) <= TITLE_LENGTH else f"{text[:TITLE_LENGTH].rsplit(' ', 1)[0]} …",
        "run_id": row.run_id,
        "when": f"started {accounts.moment(row.started)}{ended}, {duration(row.active_seconds)} of work, "
        f"{dollars(evidence.spend.usd_micro / MICRO_USD)} spent",
        "answer": answer(summary),
        "improved": improved(summary),
        "claim": _claim(summary),
        "ending": f"{ENDED_EARLY[status]}{f': {row.error}' if row.error else ''}." if status in ENDED_EARLY else "",
        "again": provenance.again(evidence),
        "consent": accounts.consent(evidence),
        "missing": list(sections.missing(evidence)),
        "sections": [asdict(section) for section in all_sections if section is not None],
    }
    printed: dict[str, Any] = _printable(page)
    return printed


def as_toml(goal: Goal) -> str:
    """A goal as a goal file; what is not set is left out."""
    plain = goal.plain()
    tables = [(f"[{key}]", value) for key, value in plain.items() if isinstance(value, dict) and value]
    tables += [("[[benchmark]]", entry) for entry in plain.pop("benchmark")]
    top = {key: value for key, value in plain.items() if not isinstance(value, dict)}
    return "\n\n".join("\n".join([head, *_assignments(table)]).strip() for head, table in [("", top), *tables]) + "\n"


def _assignments(table: Mapping[str, Any]) -> list[str]:
    """`key = value`, one a line: TOML writes texts, numbers, booleans and lists as JSON does."""
    written = ((key, json.dumps(value, ensure_ascii=False)) for key, value in table.items() if value is not None)
    return [f"{key} = {value}".replace("\x7f", "\\u007f") for key, value in written]


def _claim(summary: Mapping[str, Any]) -> dict[str, str]:
    """The figures at the head of the report; empty where no comparison was made."""
    name, claim = claim_of(summary)
    champion = summary["champion"]
    if claim is None or name not in champion["score"] or name not in summary["baseline"]:
        return {}
    return {
        "benchmark": name,
        "experiment": champion["experiment"],
        "before": scored(summary["baseline"][name]["score"], claim["unit"]).removesuffix(NATS),
        "after": scored(champion["score"][name]["score"], claim["unit"]).removesuffix(NATS),
        "unit": NATS.strip() if claim["unit"] == "nats" else "",
        "delta": difference(claim["delta"], claim["unit"]),
        "interval": interval_of(claim),
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
        "consent": accounts.consent(evidence),
        "base_model": evidence.base_model,
        "pinned": evidence.pinned,
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
