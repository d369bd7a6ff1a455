"""A comparison in a terminal: the sentence, the scores of each model, and the difference with its interval, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from postgrad.report.families import FEW
from postgrad.report.plots import Effect, effect_figure
from postgrad.tables import show_rows
from postgrad.units import NONE, difference, p_value, percent, plus_minus, scored, signed
from shared_memory.errors import BadInput

WIDTH = 25
"""Columns of the drawing; odd, so that no difference has its own in the middle."""
ALL = "all items"


def show_comparison(compared: Mapping[str, Any]) -> None:
    """One sentence for each model that was compared with the first, one table of all, and the differences drawn."""
    pairs = [compared, *compared["others"]]
    for pair in pairs:
        typer.echo(pair["sentence"])
    typer.echo("")
    models = [compared["models"][0], *(pair["models"][1] for pair in pairs)]
    head = ("model", "score", "completed", "truncated", "no answer", "n", "K")
    show_rows(head, [_model_cells(model, compared["unit"]) for model in models])
    for pair in pairs:
        typer.echo("")
        _show_difference(pair)


def _model_cells(model: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    rates = [NONE if model[key] is None else percent(model[key]) for key in ("truncated", "unparsed")]
    completed = NONE if model["completed"] is None else scored(model["completed"], unit)
    score = plus_minus(model["score"], model["stderr"], unit)
    return (model["model"], score, completed, *rates, str(model["n"]), str(model["epochs"]))


def _show_difference(pair: Mapping[str, Any]) -> None:
    unit = pair["unit"]
    effects = effects_of(pair)
    scale = _Scale.of(effects)
    head = ("" if len(effects) == 1 else "category", "n", "a", "b", "difference", "95 % interval", scale.head(unit))
    scores = [pair, *pair["categories"]]
    rows = [
        (
            effect.label,
            f"{row['n']}{' few' if row['n'] < FEW else ''}",
            *(scored(row[side], unit) for side in ("score_a", "score_b")),
            signed(effect.delta, unit),
            f"{signed(effect.low, unit)} to {signed(effect.high, unit)}",
            scale.drawn(effect),
        )
        for effect, row in zip(effects, scores, strict=True)
    ]
    typer.echo(f"b − a, a = {pair['a']}, b = {pair['b']}")
    show_rows(head, rows)
    typer.echo(" · ".join(_notes(pair)))


def _notes(pair: Mapping[str, Any]) -> list[str]:
    unit = pair["unit"]
    corrected = pair["looked_at"] > 1
    notes = [f"{p_value(pair['p_value'])} ({pair['test']})"]
    if corrected:
        notes.append(f"{p_value(pair['p_corrected'])} after Holm's correction for {pair['looked_at']} candidates")
    if pair["mde"] is not None and not (unit == "fraction" and pair["mde"] >= 1):
        notes.append(f"a true difference of {difference(pair['mde'], unit)[1:]} shows in 80 % of cases")
    notes.append(f"{pair['discordant']} of {pair['n']} items differ")
    if pair["clusters"]:
        notes.append(f"errors by {pair['clusters']} clusters of items")
    within = [model["within"] for model in pair["models"] if model["within"] is not None]
    if within:
        notes.append(f"{percent(max(within))} of the variance is chance within items, which a larger K makes less")
    if pair["categories"]:
        notes.append("categories are hints, no claims")
    return notes


def effects_of(pair: Mapping[str, Any]) -> list[Effect]:
    """The difference on all items, then by category."""
    return [_effect(ALL, pair), *(_effect(row["category"] or NONE, row) for row in pair["categories"])]


def _effect(label: str, row: Mapping[str, Any]) -> Effect:
    return Effect(label, row["delta"], row["ci_low"], row["ci_high"])


def save_plot(compared: Mapping[str, Any], path: Path) -> None:
    """The same as a picture. Raises BadInput for a kind of file that no plot is saved as, and for no place to write."""
    kinds = (".svg", ".png", ".pdf")
    if path.suffix.lower() not in kinds:
        raise BadInput(f"a plot is saved as {', '.join(kinds)}, not as {path.name}")
    pairs = [compared, *compared["others"]]
    effects = effects_of(compared) if len(pairs) == 1 else [_effect(pair["b"], pair) for pair in pairs]
    what = f"{compared['b']} − {compared['a']}" if len(pairs) == 1 else f"difference from {compared['a']}"
    figure = effect_figure(effects, compared["unit"], what)
    try:
        figure.savefig(path, facecolor="white")
    except OSError as error:
        raise BadInput(f"the plot cannot be written: {error}") from error


@dataclass(frozen=True)
class _Scale:
    """Columns for differences from −`reach` to +`reach`."""

    reach: float

    @classmethod
    def of(cls, effects: Sequence[Effect]) -> _Scale:
        return cls(max([abs(end) for effect in effects for end in (effect.low, effect.high, effect.delta)]) or 1.0)

    def column(self, value: float) -> int:
        return round((value / self.reach + 1) / 2 * (WIDTH - 1))

    def head(self, unit: str) -> str:
        low, high = signed(-self.reach, unit), signed(self.reach, unit)
        return f"{low:·<{WIDTH // 2}}0{high:·>{WIDTH // 2}}"

    def drawn(self, effect: Effect) -> str:
        """`··├──┼─●────┤··`, with the line of no difference."""
        low, point, high = map(self.column, (effect.low, effect.delta, effect.high))
        cells = ["─" if low <= place <= high else "·" for place in range(WIDTH)]
        cells[low], cells[high] = "├", "┤"
        middle = WIDTH // 2
        cells[middle] = {"·": "│", "─": "┼"}.get(cells[middle], cells[middle])
        cells[point] = "●"
        return "".join(cells)
