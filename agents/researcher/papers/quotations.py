"""Whether a quotation is in a text, word for word: the one way in which texts and quotations are made comparable."""

from __future__ import annotations

import re
import unicodedata

SHORTEST = 3
"""Letters and digits of a quotation, and of each of its parts where something is left out between them."""

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff"),
    }
)
_TEX = {
    r"\%": "%", r"\pm": "±", r"\times": "×", r"\approx": "≈", r"\sim": "~", r"\leq": "≤", r"\le": "≤", r"\geq": "≥",
    r"\ge": "≥", r"\to": "→", r"\rightarrow": "→", r"\&": "&", r"\_": "_", r"\#": "#", r"\,": " ", r"\;": " ",
    r"\ ": " ", "{,}": ",", r"\text": "", r"\mathbf": "", r"\mathrm": "", r"\textbf": "", r"\bm": "",
}  # fmt: skip
_TEX_WORDS = re.compile(
    "|".join(re.escape(word) + ("(?![a-zA-Z])" if word[-1].isalpha() else "") for word in sorted(_TEX, reverse=True))
)
_RAISED = re.compile(r"(?<=[^\s⁰¹²³⁴-⁹⁺⁻^])(?=[⁰¹²³⁴-⁹⁺⁻])")
_LOWERED = re.compile(r"(?<=\d)(?=[₀-₉₊₋])")
"""Where a raised or lowered number begins, which is no more digits of the number that it stands at: 85.3¹."""
_MARKUP = re.compile(r"[|*$#{}\\]+")
_RULE = re.compile(r"^[ \t|:]*---[ \t|:-]*$", re.MULTILINE)
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\s*(?=[^\W\d_])")
_BEFORE = re.compile(r"\s+(?=[,.;:!?%)\]])")
_AROUND = re.compile(r"\s*([±×≈≤≥=<>])\s*")
_AFTER = re.compile(r"(?<=[(\[^_])\s+")
_GAP = re.compile(r"\s*(?:\[\s*(?:\.{3}|…)\s*\]|\.{3,}|…)\s*")


def normalise(text: str) -> str:
    """A text without what does not count: Markdown and TeX marks, line breaks, hyphens in words, kinds of signs, case.

    Both sides of a comparison have to pass it; nobody is shown it.
    """
    text = _LOWERED.sub("_", _RAISED.sub("^", _RULE.sub(" ", text).translate(_SIGNS)))
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _MARKUP.sub(" ", _TEX_WORDS.sub(lambda match: _TEX[match[0]], text))
    text = _HYPHEN.sub("", " ".join(text.split()))
    return _AROUND.sub(r"\1", _AFTER.sub("", _BEFORE.sub("", text))).casefold()


def quotes(text: str, quotation: str) -> bool:
    """Whether a quotation is in a text, word for word and number for number.

    `…` or `[...]` in it stands for something left out; the parts have to come in this order. A quotation of next to
    nothing is in no text. text: as fetched or normalised.
    """
    parts = [normalise(part) for part in _GAP.split(quotation.strip().strip("\"'“”‘’"))]
    parts = [part for part in parts if part]
    if not parts or any(sum(map(str.isalnum, part)) < SHORTEST for part in parts):
        return False
    within, position = normalise(text), 0
    for part in parts:
        match = _whole(part).search(within, position)
        if match is None:
            return False
        position = match.end()
    return True


def _whole(part: str) -> re.Pattern[str]:
    """Neither end may cut a word or a number: 5.3 is not in 85.3, nor 85 in 85.3, nor 3.1 in −3.1."""
    signed = r"(?<!^-)(?<![^\w)]-)" if part[0].isdigit() else ""
    return re.compile(rf"(?<!\w)(?<!\d[.,]){signed}{re.escape(part)}(?!\w)(?![.,]\d)")
