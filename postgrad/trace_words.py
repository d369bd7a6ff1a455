"""The turns and tools of the roles' language models, each in one line for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postgrad.units import dollars, duration, one_line

WORDS_OF_A_LINE = 160
"""Characters of what a model says that a line shows: the last ones."""


def turn_words(event: Mapping[str, Any]) -> str:
    """`researcher · openai/x · 1,234 tokens · $0.002 · calls search_papers`."""
    usd = event.get("usd")
    price = "price unknown" if usd is None else cents(usd)
    calls = ", ".join(map(one_line, event.get("calls", ())))
    text = one_line(event.get("text", ""))
    is_record = text.startswith("{") and text.endswith("}")  # what it comes to has a line of its own
    said = "proposes" if is_record else "says: " + end_of(text, WORDS_OF_A_LINE)
    what = f"calls {calls}" if calls else said
    model = one_line(event.get("model", ""))
    return " · ".join([role_words(event), model, f"{event.get('tokens', 0):,} tokens", price, what])


def tool_words(event: Mapping[str, Any]) -> str:
    """`researcher · read_paper · 12,345 characters · 2 s`, or what went wrong."""
    error = one_line(event.get("error", ""))
    came = f"failed: {error}" if error else f"{event.get('characters', 0):,} characters"
    return " · ".join([role_words(event), one_line(event["name"]), came, duration(event.get("seconds", 0.0))])


def end_of(words: str, most: int = WORDS_OF_A_LINE) -> str:
    """The last of them."""
    return words if len(words) <= most else f"… {words[-most:].partition(' ')[2]}"


def cents(usd: float) -> str:
    """The dollars of one request, which are often a fraction of a cent: `$0.0021`."""
    if usd >= 0.01 or usd == 0:
        return dollars(usd)
    return "< $0.0001" if usd < 0.0001 else f"${usd:.4f}".rstrip("0")


def role_words(event: Mapping[str, Any]) -> str:
    return one_line(event.get("role", "")).replace("_", " ")
