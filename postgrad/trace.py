"""The trace of a run: what was chosen, said, called, asked, run and judged, in order, with its time and its price."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

from agents.publishing.traces import events_of
from postgrad.events import ToolEvent, TurnEvent, parse_event
from postgrad.report.evidence import Evidence, gather
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.redaction import redact_plain
from shared_memory.settings import Settings
from shared_memory.steering import CHAT

NOTHING = {"turns": 0, "kept": 0, "calls": 0, "seconds": 0.0}


def trace_of(settings: Settings, db: Database, run_id: str) -> dict[str, Any]:
    """`{run_id, events, roles {role: {turns, kept, calls, tokens, usd, unpriced, seconds}}}`.

    `events` are lines of events.jsonl, and the turns of the model that answered in chats. Of a role, `turns` are
    requests that were sent, `kept` answers that a run which was killed found on disk, `calls` those of tools, and
    `seconds` what both took. `tokens` and `usd` are of the run's own books, which have more than turns (jobs, judges);
    `usd` is null where no price is known.
    Raises BadInput for an unknown run.
    """
    evidence = gather(settings, db, run_id)
    events = _with_chats(events_of(evidence.paths), Journal(db, evidence.row.run_id))
    told: dict[str, Any] = redact_plain(
        {"run_id": evidence.row.run_id, "events": events, "roles": sums_by_role(events, evidence)}
    )
    return told


def _with_chats(events: Iterable[dict[str, Any]], journal: Journal) -> list[dict[str, Any]]:
    """The events, and each turn of a chat before the first of them that is later: a chat has a process of its own."""
    turns = [turn for note in journal.notes(CHAT).values() for turn in note.get("turns", ())]
    return list(heapq.merge(events, turns, key=lambda event: parse_event(event).at))


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
    for event in map(parse_event, events):
        if not isinstance(event, TurnEvent | ToolEvent):
            continue
        row = sums.setdefault(event.role, {**NOTHING, "tokens": 0, "usd": 0.0, "unpriced": []})
        if isinstance(event, ToolEvent):
            row["calls"] += 1
        else:
            row["kept" if event.kept else "turns"] += 1
        row["seconds"] = round(row["seconds"] + event.seconds, 3)
    return sums
