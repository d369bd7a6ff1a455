"""What a report says of the worth of the champion's parts: a table of effects, a forest plot, and the noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from agents.evaluator.ablations import words_of
from agents.evaluator.effects import joined, table
from postgrad.answer import BASELINE
from postgrad.report import plots
from postgrad.report.blocks import Block, Bullets, Grid, Paragraph, Plot
from postgrad.report.evidence import Evidence, item_scores
from postgrad.units import one_line, p_value, scored, signed
from shared_memory.ablations import Effect, EffectTable, Noise

HEAD = ("part of the champion", "instead", "worth ± error", "95 % interval", "p, Holm", "items", "measured by")


def table_of(evidence: Evidence) -> EffectTable:
    """What the run's own experiments say, and what ablations of it have said since."""
    others = [EffectTable.model_validate(note["table"]) for note in evidence.ablated.values()]
    return joined([own_table(evidence), *others])


def own_table(evidence: Evidence) -> EffectTable:
    """The effects that the run's own experiments hold: of the champion's parts, or of the best one's where none won."""
    results = {
        name: result
        for name in (BASELINE, *evidence.experiments)
        if (result := evidence.selection_result(name)) is not None
    }
    base = results.pop(BASELINE, None)
    scores = {
        name: items
        for name, result in results.items()
        if base and result.settings_digest == base.settings_digest and (items := item_scores(result))
    }
    champion = evidence.ablation.get("reference", evidence.champion)
    if champion not in scores:
        ranked = sorted(scores, key=lambda name: results[name].score * (1 if results[name].higher_is_better else -1))
        champion = ranked[-1] if ranked else ""
    if not champion:
        return EffectTable(champion="")
    best = results[champion]
    return table(
        champion,
        evidence.experiments,
        evidence.datasets,
        scores,
        unit=best.unit,
        higher_is_better=best.higher_is_better,
        seed=evidence.goal.run.seed,
    )


def plain(evidence: Evidence) -> list[dict[str, Any]]:
    """Every effect as plain data, in the order of the table."""
    return [effect.plain() for effect in ordered(table_of(evidence))]


def blocks(evidence: Evidence) -> list[Block]:
    """The table, the plot, how much chance moves, and what was tried without coming to a score."""
    found = table_of(evidence)
    effects = ordered(found)
    made: list[Block] = []
    if effects:
        lower = "" if effects[0].higher_is_better else " Lower is better, so a part that helps has a minus."
        caption = (
            f"What each part of {found.champion} is worth on the selection items: two trainings that differ in it "
            "alone, the champion's value first. These items chose the champion and so flatter it: evidence for the "
            f"search, no claim; null and negative results stay.{lower}"
        )
        made.append(Grid(caption, HEAD, tuple(rows_of(found)), (2, 3, 4, 5)))
        bars = [plots.Effect(_label(effect), effect.delta, effect.ci_low, effect.ci_high) for effect in effects]
        words = "; ".join(
            f"{_label(effect)} ({effect.given} against {effect.other}) {signed(effect.delta, effect.unit)}"
            for effect in effects
        )
        svg = plots.effect_plot(bars, effects[0].unit, "worth on selection items", "ablations", apart=0)
        made.append(Plot("ablations", "The same as a forest plot.", f"Worth of each part: {words}", svg))
    if found.noise:
        made.append(Paragraph(noise_words(found.noise)))
    if untold := tuple(_without_a_score(evidence)):
        made.append(Bullets(untold))
    return made


def ordered(found: EffectTable) -> list[Effect]:
    """The largest effect first; how parts work together at the end."""
    return [*sorted(found.effects, key=lambda effect: -abs(effect.delta)), *found.interactions]


def rows_of(found: EffectTable) -> list[tuple[str, ...]]:
    """The rows under HEAD."""
    return [
        (
            _part(effect),
            effect.change,
            f"{signed(effect.delta, effect.unit)} ± {signed(effect.stderr, effect.unit)[1:]}",
            f"{signed(effect.ci_low, effect.unit)} to {signed(effect.ci_high, effect.unit)}",
            p_value(effect.p_holm).removeprefix("p ").removeprefix("= "),
            str(effect.n),
            f"{effect.given} against {effect.other}" + (f" of {effect.run}" if effect.run else ""),
        )
        for effect in ordered(found)
    ]


def noise_words(noise: Noise) -> str:
    """How much training seeds alone move, in one sentence."""
    scores = ", ".join(scored(score, noise.unit) for score in noise.scores)
    one, two = (signed(deviation, noise.unit)[1:] for deviation in (noise.deviation, 2**0.5 * noise.deviation))
    unit = "nats a token" if noise.unit == "nats" else "points"
    return (
        f"The same recipe by {len(noise.scores)} seeds scores {scores} on {noise.n} items: a standard deviation of "
        f"{one} {unit} a training, so chance alone sets two trainings about {two} {unit} apart. The errors in the "
        "table are those over items, without it."
    )


def _part(effect: Effect) -> str:
    """A source by the name of its file."""
    return PurePath(effect.part).name if "/" in effect.part else words_of(effect.part)


def _label(effect: Effect) -> str:
    return one_line(_part(effect) if effect.kind == "several" else f"{_part(effect)}: {effect.change}")


def _without_a_score(evidence: Evidence) -> Iterator[str]:
    """Variants that were tried, or were to be, and tell nothing."""
    for run, note in evidence.ablated.items():
        for each in note["outcomes"]:
            if each["status"] != "evaluated":
                why = f": {each['error']}" if each["error"] else ""
                yield f"{note['reference']} {each['change']} ({run}): {each['status']}{why}"
