"""`postgrad recipes`: the built-in recipes, what each was published for, and what it takes."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, print_json
from shared_memory.errors import BadInput

if TYPE_CHECKING:
    from agents.researcher.playbook import Entry
    from shared_memory.records import Finding

MILLIONS = {"m": 1.0, "b": 1000.0}
"""What a size's letter stands for."""


def recipes(
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="A recipe's id, or words of it.")] = None,
    method: Annotated[str | None, typer.Option(help="sft | dpo | kto | reward | grpo | rloo | distill.")] = None,
    size: Annotated[str | None, typer.Option(help="Of the base model: 135M, 1.7B.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="What it was published for: gsm8k.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The built-in recipes with their sources; one in full by its id."""
    from agents.researcher.playbook import library

    entries, findings = library()
    whole = next((entry for entry in entries if entry.recipe.id == query), None)
    if whole is not None:
        print_json(_facts(whole, findings)) if as_json else _show(whole, findings)
        return
    found = _fitting(entries, query, method, size, benchmark)
    print_json([_facts(entry, findings) for entry in found]) if as_json else _list(found)


def _fitting(
    entries: tuple[Entry, ...], query: str | None, method: str | None, size: str | None, benchmark: str | None
) -> list[Entry]:
    """The recipes that meet every condition given, as the library orders them.

    Raises BadInput for a method, size or benchmark that no recipe has, with the nearest, and where none meets them all.
    """
    _require("method", method, {entry.recipe.method for entry in entries})
    _require("benchmark", benchmark, {name for entry in entries for name in entry.fits.benchmarks})
    millions = _millions(size) if size else None
    words = (query or "").lower().split()
    found = [
        entry
        for entry in entries
        if method in (None, entry.recipe.method)
        and (millions is None or entry.fits.min_m <= millions < entry.fits.max_m)
        and (benchmark is None or benchmark in entry.fits.benchmarks)
        and all(word in _said(entry) for word in words)
    ]
    if not found:
        raise BadInput(f"no recipe meets all of that{_nearest(query, entries)}; `postgrad recipes` lists all")
    return found


def _said(entry: Entry) -> str:
    recipe, names = entry.recipe, " ".join(entry.fits.benchmarks)
    words = (recipe.id, recipe.method, names, recipe.reason, recipe.source, recipe.expected, recipe.cost, recipe.risk)
    return " ".join(words).lower()


def _require(what: str, name: str | None, known: set[str]) -> None:
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(sorted(known))}"
        raise BadInput(f"no recipe has the {what} `{name}`; {hint}")


def _nearest(query: str | None, entries: tuple[Entry, ...]) -> str:
    near = difflib.get_close_matches(query or "", [entry.recipe.id for entry in entries], n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _millions(size: str) -> float:
    """Millions of parameters. Raises BadInput for what is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mb])", size.strip().lower())
    if match is None:
        raise BadInput(f"`{size}` is no size of a model; write 135M or 1.7B")
    return float(match[1]) * MILLIONS[match[2]]


def _list(found: list[Entry]) -> None:
    from postgrad.tables import show_rows

    rows = [
        (
            entry.recipe.id,
            entry.recipe.method,
            entry.fits.sizes,
            ", ".join(entry.fits.benchmarks) or "any",
            _short(entry.recipe.expected),
            entry.recipe.source.partition(";")[0],
        )
        for entry in found
    ]
    show_rows(("id", "method", "model", "benchmark", "expected", "source"), rows)
    typer.echo("\npostgrad recipes ID shows one in full, with what it costs and what may go wrong.")


def _short(text: str, most: int = 90) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rsplit(' ', 1)[0]} …"


def _show(entry: Entry, findings: tuple[Finding, ...]) -> None:
    from postgrad.tables import show_facts
    from shared_memory.recipes import numbers_of, title_of

    recipe = entry.recipe
    numbers = {key: value for key, value in numbers_of(recipe).items() if key not in ("method", "lora")}
    lora = recipe.lora.plain() if recipe.lora else None
    show_facts(
        {
            "id": recipe.id,
            "method": title_of(recipe.method),
            "model": entry.fits.sizes,
            "benchmark": ", ".join(entry.fits.benchmarks) or "any",
            "expected": recipe.expected,
            "cost": recipe.cost,
            "risk": recipe.risk,
            "why": recipe.reason,
            "source": recipe.source,
            "weights": f"LoRA r{lora['r']} α{lora['alpha']}, base {lora['base']}" if lora else "all",
            **{key.replace("_", " "): value for key, value in numbers.items()},
        }
    )
    for finding in findings:
        if finding.id in recipe.findings:
            typer.echo(f"\n{finding.claim}\n    {finding.source} (confidence: {finding.confidence})")


def _facts(entry: Entry, findings: tuple[Finding, ...]) -> dict[str, Any]:
    cited = [finding.plain() for finding in findings if finding.id in entry.recipe.findings]
    return {**entry.recipe.plain(), "fits": entry.fits.plain(), "findings": cited}
