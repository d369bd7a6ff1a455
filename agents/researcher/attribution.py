"""Whether a number is said of the benchmark that it is filed under: by its column's heading, or by its sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from agents.researcher.checks import names, numbers_in, says_number, squeezed
from agents.researcher.papers.quotations import normalise

KNOWN_BENCHMARKS = re.compile(
    r"\b(?:gpqa(?:[-_ ](?:main|diamond|extended))?|gsm-?8k|aime(?:\s?'?\d{2,4})?|ifeval|ifbench|humaneval|mbpp|"
    r"mmlu(?:[-_ ]?pro)?|bfcl|hellaswag|truthfulqa|winogrande|bbh|livecodebench|livebench|healthbench|arena[- ]?hard|"
    r"math[- ]?500|swe-?bench|alpaca ?eval|mt-?bench)\b",
    re.IGNORECASE,
)
_HARDER = "pro"
"""Behind the name of a benchmark it makes another one of it: MMLU-Pro."""
_RESULT = re.compile(
    r"(?<![\w.,-])(?:\d+\.\d+(?!\w|\.\d)|\d+(?=\s?%)"  # with decimals, or in per cent
    r"|(?<=→)\d+(?![\w.,]\w)"  # what an arrow leads to
    rf"|\d+(?= (?:points )?on (?:the )?{KNOWN_BENCHMARKS.pattern}))",
    re.IGNORECASE,
)
_BARE_POINT = re.compile(r"(?<![\w.,-])\.(?=\d)")
_CELL = re.compile(r"(?<!\\)\|")
_SAID_ON = re.compile(
    rf"(?<![\w.,])(\d+(?:,\d+)*(?:\.\d+)?)\s?%?\s+(?:points?\s+)?(?:on|for|in)\s+(?:the\s+)?({KNOWN_BENCHMARKS.pattern})",
    re.IGNORECASE,
)


def rows(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """The rows of the Markdown tables in a text: the line, the headings of all columns, and the cells."""
    headings: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in _CELL.split(line.strip().strip("|"))] if "|" in line else []
        if not cells:
            headings = []
        elif not headings:
            headings = cells
        elif len(cells) != len(headings) or not re.search(r"\w", line):
            continue
        elif cells[0] == headings[0]:  # a second line of headings under the first
            headings = [name if name == cell else f"{name} {cell}" for name, cell in zip(headings, cells, strict=True)]
        else:
            yield line, headings, cells


def fault_of_quotation(number: float, benchmark: str, quotation: str, text: str) -> str:
    """What a quotation from `text` says its number was measured on instead; empty where nothing speaks against it."""
    quotation, text = pointed(quotation), pointed(text)
    said = [(match[1], match[2]) for match in _SAID_ON.finditer(quotation) if numbers_in(match[1]) == [number]]
    if said and not any(is_same(name, benchmark) for _, name in said):
        return f"the quotation has {number:g} on {said[0][1]}, not on {benchmark}"
    wanted = normalise(quotation)
    fault = _fault_of_columns(
        number, benchmark, [row for row in rows(text) if (line := normalise(row[0])) in wanted or wanted in line]
    )
    if fault is not None:
        return fault
    known = [match[0] for match in KNOWN_BENCHMARKS.finditer(quotation)]
    if known and not naming(benchmark, [quotation]):
        return f"the quotation speaks of {known[0]}, not of {benchmark}"
    return ""


def fault_of_section(number: float, benchmark: str, text: str) -> str:
    """The same of a text that has the number anywhere: one that is in its tables alone may stand in another column."""
    text = pointed(text)
    if any(says_number(line, number) for line in text.splitlines() if "|" not in line):
        return ""
    return _fault_of_columns(number, benchmark, list(rows(text))) or ""


def _fault_of_columns(number: float, benchmark: str, among: list[tuple[str, list[str], list[str]]]) -> str | None:
    """What the headings over a number say: empty where one names the benchmark, a fault where all name others.

    None where they do not tell: no row has the number, or it is under headings that name no benchmark.
    """
    fault = None
    for _, headings, cells in among:
        own = naming(benchmark, headings)
        having = [place for place, cell in enumerate(cells) if says_number(cell, number)]
        if having and (set(own) & set(having) or naming(benchmark, cells[:1])):
            return ""
        if having and (own or all(map(KNOWN_BENCHMARKS.search, (headings[place] for place in having)))):
            fault = f"{number:g} stands under {headings[having[0]]!r} there, not under {benchmark}"
    return fault


def results_in(words: str) -> list[float]:
    """The numbers of a sentence that are results; not those of names (`Qwen2.5`), releases (`1.16.0`) or settings."""
    arrows = re.sub(r"\s*(?:→|->)\s*", "→", pointed(words))
    return [float(match[0]) for match in _RESULT.finditer(arrows)]


def pointed(text: str) -> str:
    """With `.397` as `0.397`, which is how numbers are read."""
    return _BARE_POINT.sub("0.", text)


def naming(benchmark: str, texts: Sequence[str]) -> list[int]:
    """The places of the texts, such as the headings of columns, that name a benchmark; the nearest names count."""
    wanted = squeezed(benchmark)
    ways: tuple[Callable[[str], bool], ...] = (
        lambda text: squeezed(text) == wanted,
        lambda text: wanted in squeezed(text).replace(f"{wanted}{_HARDER}", ""),
        lambda text: any(is_same(match[0], benchmark) for match in KNOWN_BENCHMARKS.finditer(text)),
        lambda text: names(text, benchmark) and not KNOWN_BENCHMARKS.search(text),
    )
    found = ([place for place, text in enumerate(texts) if way(text)] for way in ways)
    return next((places for places in found if places), [])


def is_same(name: str, benchmark: str) -> bool:
    """Whether two names may be of one benchmark: `AIME 2024` and `AIME24` (not `AIME25`), `GPQA` and `gpqa_main`.

    Not `MMLU` and `MMLU-Pro`.
    """
    one, other = (re.sub(r"[\W\d_]", "", each).casefold() for each in (name, benchmark))
    year, another = ("".join(re.findall(r"\d", each)) for each in (name, benchmark))
    shorter, longer = sorted((one, other), key=len)
    if not shorter or not longer.startswith(shorter) or longer.startswith(shorter + _HARDER):
        return False
    return not year or not another or year.endswith(another) or another.endswith(year)
