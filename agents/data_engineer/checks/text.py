"""Text that was decoded wrongly, and characters that no one wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from agents.data_engineer.checks.check import AuditBatch, Check, Ordinals, Tally, Whole, shown_at, truths
from agents.data_engineer.checks.findings import AuditFinding

BEYOND_ASCII = r"[^\x00-\x7F]"
CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
"""All but tab, newline and carriage return."""
CONTROL_BEYOND_ASCII = r"[\u0080-\u009F\uFEFF\uFFFE\uFFFF]"
"""C1 control characters, byte order marks within a text, and what is no character."""
LOST = "\N{REPLACEMENT CHARACTER}"


class Characters(Check):
    """Mojibake that ftfy mends, characters that are lost for good, and control characters."""

    def __init__(self) -> None:
        self._mojibake, self._lost, self._control = Tally(), Tally(), Tally()

    def see(self, batch: AuditBatch) -> None:
        """Most rows are ASCII, and a class of that alone is ten times as fast."""
        control = set(truths(batch.texts.str.contains(CONTROL)))
        foreign = truths(batch.texts.str.contains(BEYOND_ASCII))
        if foreign:
            texts = batch.texts.gather(foreign)
            control.update(foreign[place] for place in truths(texts.str.contains(CONTROL_BEYOND_ASCII)))
            lost = [foreign[place] for place in truths(texts.str.contains(LOST, literal=True))]
            self._lost.add(batch, lost, lambda row: shown_at(batch.texts[row], batch.texts[row].find(LOST)))
            suspects = truths(texts.str.contains(_badness()))
            found = [foreign[place] for place in suspects if is_mojibake(texts[place])]
            self._mojibake.add(batch, found, lambda row: shown_at(batch.texts[row], _bad_at(batch.texts[row])))
        self._control.add(batch, sorted(control), lambda row: shown_at(batch.texts[row], _control_at(batch.texts[row])))

    def findings(self, whole: Whole) -> Iterable[AuditFinding]:
        advice = "UTF-8 that was read as another encoding (`cafÃ©` for `café`): the model learns to write it so"
        yield from self._mojibake.finding("mojibake", "warning", whole.rows, advice, fix="decoded again by ftfy")
        advice = "characters were lost (�), and nothing here can bring them back: get the text anew, or leave it out"
        yield from self._lost.finding("lost_characters", "warning", whole.rows, advice)
        advice = "invisible characters, such as colours of a terminal, are tokens that the model learns to write"
        yield from self._control.finding("control_characters", "warning", whole.rows, advice, fix="they are taken out")

    def mended(self) -> Iterable[Ordinals]:
        return [self._mojibake.ordinals, self._control.ordinals]


def is_mojibake(text: str) -> bool:
    """Whether ftfy knows a better decoding: its heuristic alone also meets rare signs."""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return is_bad(text) and fix_encoding(text) != text


def _bad_at(text: str) -> int:
    from ftfy.badness import BADNESS_RE

    found = BADNESS_RE.search(text)
    return found.start() if found else 0


def _control_at(text: str) -> int:
    found = re.search(f"{CONTROL}|{CONTROL_BEYOND_ASCII}", text)
    return found.start() if found else 0


@cache
def _badness() -> str:
    """ftfy's expression for suspicious text as Rust writes it, where it is 100 times as fast.

    Python keeps the blanks in the classes of a verbose expression and Rust does not; Rust nests classes.
    """
    from ftfy.badness import BADNESS_RE

    written, in_class, in_comment, escaped = "", False, False, False
    for sign in BADNESS_RE.pattern:
        if in_comment or escaped:
            written += sign if escaped else ""
            in_comment, escaped = in_comment and sign != "\n", False
        elif sign == "\\":
            written, escaped = written + sign, True
        elif in_class:
            written += f"\\{sign}" if sign in "[&~" else sign
            in_class = sign != "]"
        elif sign == "#":
            in_comment = True
        elif not sign.isspace():
            written += sign
            in_class = sign == "["
    return written
