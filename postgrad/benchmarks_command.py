"""`postgrad benchmarks`: the published benchmarks that goals can name, and what each takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from postgrad.options import JsonOption, print_json


def benchmarks(as_json: JsonOption = False) -> None:
    """The benchmarks that can be named: items, metric, source, licence, what they need, and whether they run here."""
    from agents.evaluator.benchmarks.registry import entries

    listed = [_facts(entry) for entry in entries().values()]
    print_json(listed) if as_json else _show(listed)


def _facts(entry: Any) -> dict[str, Any]:
    from agents.evaluator.benchmarks.registry import why_unavailable

    reason = why_unavailable(entry)
    return {**entry.plain(), "needs": entry.needs, "available": not reason, "why_not": reason}


def _show(listed: list[dict[str, Any]]) -> None:
    from postgrad.tables import show_rows

    show_rows(("name", "items", "share of", "source", "licence", "needs", ""), [_row(facts) for facts in listed])
    typer.echo('\nName one as [[benchmark]] name = "…", or --benchmark NAME; --json tells prompts and citations, too.')
    for facts in listed:
        if not facts["available"]:
            typer.echo(f"not available: {facts['name']}: {facts['why_not']}")


def _row(facts: Mapping[str, Any]) -> list[str]:
    licence = facts["licence"].partition(";")[0]
    source = f"{facts['source']}@{facts['revision'][:7]}"
    mark = "" if facts["available"] else "not available"
    return [facts["name"], f"{facts['items']:,}", facts["measure"], source, licence, ", ".join(facts["needs"]), mark]
