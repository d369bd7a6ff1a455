"""The plots of a report, as inline SVG that follows the page's light or dark colours.

Matplotlib is imported when a plot is drawn, and only its SVG backend: no display, no global state.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the page's text colour until the SVG is written, then becomes `currentColor`."""

LINES = ("#3f7fbf", "#d1802c", "#3a9a75", "#b05a96", "#8a7a3d", "#6a6fc4")
"""Readable on white and on near-black; lines differ in dashes too, for paper and for colour-blind eyes."""

DASHES = ("solid", "dashed", "dashdot", "dotted")
WIDTH = 5.2
"""Inches: with 10 pt text the plot is still legible when a phone shrinks it to its own width."""

Z95 = 1.959964
"""Half-width of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class Bar:
    """A score with its standard error; `group` is the part it was measured on."""

    label: str
    score: float
    stderr: float
    group: str
    unit: str = "fraction"


@dataclass(frozen=True)
class Effect:
    """A difference of two scores with its 95 % interval."""

    label: str
    delta: float
    low: float
    high: float


def loss_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """SVG of training loss by optimizer step: experiment → (step, loss) points, oldest experiment first."""
    figure, axes = _figure(height=3.3)
    for number, (name, points) in enumerate(curves.items()):
        steps, losses = zip(*points, strict=True)
        colour, dash = LINES[number % len(LINES)], DASHES[number % len(DASHES)]
        marker = "o" if len(points) == 1 else None
        axes.plot(steps, losses, label=name, color=colour, linestyle=dash, linewidth=1.8, marker=marker)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure, "loss")


def score_plot(bars: Sequence[Bar]) -> str:
    """SVG of scores of one unit with 95 % intervals, one row each, from the top."""
    figure, axes = _figure(height=0.9 + 0.36 * len(bars))
    groups = list(dict.fromkeys(bar.group for bar in bars))
    nats = bars[0].unit == "nats"
    scale, most, places = (1, math.inf, 3) if nats else (100, 1.0, 1)
    for row, bar in enumerate(bars):
        half = Z95 * bar.stderr
        low, high = max(0.0, bar.score - half), min(most, bar.score + half)
        colour = LINES[groups.index(bar.group) % len(LINES)]
        axes.plot([scale * low, scale * high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        marker = "os^D"[groups.index(bar.group) % 4]
        axes.plot([scale * bar.score], [row], marker=marker, markersize=7, color=colour, linestyle="none")
        # above its point, where it meets neither the frame nor another interval
        axes.annotate(
            f"{scale * bar.score:.{places}f}",
            (scale * bar.score, row),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=INK,
            fontsize=9,
        )
    axes.set_yticks(range(len(bars)), [f"{bar.label}, {bar.group}" for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.8)
    if nats:
        axes.margins(x=0.12)
        axes.set_xlabel("nats a token, lower is better (bars: 95 % interval)")
    else:
        axes.set_xlim(-2, 102)
        axes.set_xlabel("score, % (bars: 95 % interval)")
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    return _svg(figure, "score")


def effect_plot(effects: Sequence[Effect], unit: str, what: str, name: str = "effects", apart: int = 1) -> str:
    """SVG of differences of one unit with their intervals, one row each, from the top."""
    return _svg(effect_figure(effects, unit, what, apart), name)


def effect_figure(effects: Sequence[Effect], unit: str, what: str, apart: int = 1) -> Figure:
    """The same as a figure; `what` says which difference it is, and the first `apart` rows stand for all."""
    figure, axes = _figure(height=0.9 + 0.36 * len(effects))
    scale = 1 if unit == "nats" else 100
    axes.axvline(0, color=INK, alpha=0.4, linewidth=0.8)
    for row, effect in enumerate(effects):
        colour = LINES[int(row >= apart)]
        ends = [scale * effect.low, scale * effect.high]
        axes.plot(ends, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([scale * effect.delta], [row], marker="o", markersize=7, color=colour, linestyle="none")
    axes.set_yticks(range(len(effects)), [effect.label for effect in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_title(what, fontsize=10, color=INK, loc="left", wrap=True)
    axes.set_xlabel(f"{'nats a token' if unit == 'nats' else 'points'} (bars: 95 % interval)")
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    return figure


def finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for point in points if all(map(math.isfinite, point))]


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=10)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.4)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(10)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element: no prolog, no metadata, no fixed size, ids that no other plot has."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(stream, metadata=unsaid)  # type: ignore[no-untyped-call]
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true" focusable="false"', svg, count=1)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    return svg.replace(INK, "currentColor")
