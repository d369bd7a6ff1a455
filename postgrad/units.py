"""How figures are written for a person: time, money, scores. Pure functions of plain values."""

from __future__ import annotations

import re
from collections.abc import Collection

NONE = "–"
"""Stands in a cell that has no figure."""
RUN_IN = {
    "auto": "in a sandbox: no network, no home, one folder to write to (bubblewrap)",
    "none": "NOT isolated, by sandbox = 'none': it can read and change what you can",
}
"""How code is run that is not postgrad's own, by the `sandbox` of its JobSpec."""

_UNPRINTABLE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Escape sequences, control characters (tab and newline apart) and marks that reorder text."""


def printable(text: object) -> str:
    """`text` without what could steer a terminal: titles, errors and scripts are other people's words."""
    return _UNPRINTABLE.sub("", str(text))


def one_line(text: object) -> str:
    """`text` on one line, printable."""
    return " ".join(printable(text).split())


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `4 min 12 s` or `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def dollars(usd: float) -> str:
    """Dollars and cents; what is more than nothing is never written as nothing."""
    return "< $0.01" if 0 < usd < 0.01 else f"${usd:,.2f}"


def dollars_known(usd: float | None, unpriced: Collection[str]) -> str:
    """What is known of a spend; with models whose price is not, what they took is never written as nothing."""
    if usd is None or (unpriced and usd == 0):
        return "unknown cost"
    return f"{dollars(usd)} and an unknown cost" if unpriced else dollars(usd)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def scored(score: float, unit: str = "fraction") -> str:
    """A score with its unit: `85.3 %`, or `1.234 nats a token`."""
    return f"{score:.3f} nats a token" if unit == "nats" else percent(score)


def signed(delta: float, unit: str = "fraction") -> str:
    """A difference of two scores with its sign, in points or in nats: `+70.0`, `−3.1`, `−0.412`."""
    return (f"{delta:+.3f}" if unit == "nats" else f"{100 * delta:+.1f}").replace("-", "−")


def difference(delta: float, unit: str = "fraction") -> str:
    """The same with its unit: `+70.0 points`, `−0.412 nats a token`."""
    return f"{signed(delta, unit)} {'nats a token' if unit == 'nats' else 'points'}"


def plus_minus(score: float, stderr: float, unit: str = "fraction") -> str:
    """A score with its standard error, in per cent or in nats a token."""
    return f"{score:.3f} ± {stderr:.3f} nats" if unit == "nats" else f"{100 * score:.1f} ± {100 * stderr:.1f} %"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
