"""The trace of a run: what was chosen, said, called, asked, run and judged, in order, with its time and its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agents.publishing.traces import events_of
from postgrad.report.evidence import Evidence, gather
from shared_memory.database import Database
from shared_memory.redaction import redact_plain
from shared_memory.settings import Settings

NOTHING = {"turns": 0, "kept": 0, "calls": 0, "seconds": 0.0}


def trace_of(settings: Settings, db: Database, run_id: str) -> dict[str, Any]:
    """`{run_id, events, roles {role: {turns, kept, calls, tokens, usd, unpriced, seconds}}}`.

    `events` are lines of events.jsonl. Of a role, `turns` are requests that were sent, `kept` answers that a run which
    was killed found on disk, `calls` those of tools, and `seconds` what both took. `tokens` and `usd` are of the run's
    own books, which have more than turns (jobs, judges, single questions); `usd` is null where no price is known.
    Raises BadInput for an unknown run.
    """
    evidence = gather(settings, db, run_id)
    events = list(events_of(evidence.paths))
    told: dict[str, Any] = redact_plain(
        {"run_id": evidence.row.run_id, "events": events, "roles": sums_by_role(events, evidence)}
    )
    return told


def sums_by_role(events: Iterable[Mapping[str, Any]], evidence: Evidence) -> dict[str, dict[str, Any]]:
    """What each role's model did, and what the role took; see `trace_of`."""
    sums: dict[str, dict[str, Any]] = {
        share.role: {
            **NOTHING,
            "tokens": share.llm_tokens,
            "usd": share.usd,
            "unpriced": list(share.unpriced),
        }
        for share in evidence.by_role()
    }
    for event in events:
        if event["kind"] not in ("turn", "tool"):
            continue
        row = sums.setdefault(str(event.get("role", "")), {**NOTHING, "tokens": 0, "usd": 0.0, "unpriced": []})
        if event["kind"] == "tool":
            row["calls"] += 1
        else:
            row["kept" if event.get("kept") else "turns"] += 1
        row["seconds"] = round(row["seconds"] + float(event.get("seconds") or 0.0), 3)
    return sums
