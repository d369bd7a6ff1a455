"""The report of a piece of research: one plain value, and the same as Markdown with numbered citations."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from agents.researcher import playbook
from agents.researcher.findings import Filed
from agents.researcher.papers.records import Paper
from agents.researcher.proposal import UNVERIFIED
from agents.researcher.question import CITED
from agents.researcher.reading_room import address_of
from agents.researcher.shelf import PAPER
from shared_memory.recipes import Recipe, numbers_of, recipe_of, title_of
from shared_memory.records import Finding
from shared_memory.redaction import redact, redact_plain

_MARKUP = re.compile(r"[\\`*\[\]|$]|~~|(?<![^\W_])_|_(?![^\W_])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_BLOCK = re.compile(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=>|[-+=#]+(?:\s|$)))")
"""What opens a list, a quotation or a heading at the beginning of a line."""


def findings_of(filed: Sequence[Filed], others: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data: each with its title, address and date where they are known; every one once."""
    known = {each.finding.id: _plain(each) for each in filed}
    for finding in others:
        paper = None if finding.source.startswith(UNVERIFIED) else PAPER.search(finding.source)
        address = address_of(paper[1]) if paper else ""
        known.setdefault(finding.id, {**finding.plain(), "title": "", "url": address, "fetched": None})
    return list(known.values())


def sources_of(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the findings rest on, numbered in their order; what is from a model's memory is no source."""
    named: dict[str, dict[str, Any]] = {}
    for each in findings:
        if not each["source"].startswith(UNVERIFIED):
            named.setdefault(each["source"], {key: each[key] for key in ("source", "title", "url", "fetched")})
    return [{"n": number, **source} for number, source in enumerate(named.values(), 1)]


def papers_of(papers: Sequence[Paper]) -> list[dict[str, Any]]:
    """What a search found, as plain data."""
    return [
        {
            "id": paper.id, "title": paper.title, "published": paper.published, "citations": paper.citations,
            "url": address_of(paper.id) or paper.pdf,
        }
        for paper in papers
    ]  # fmt: skip


def recipes_of(recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """Recipes as plain data; those of the built-in library with `fits`, the models and benchmarks that they are for."""
    fits = {entry.recipe.id: entry.fits for entry in playbook.library()[0]}
    return [recipe.plain() | ({"fits": fits[recipe.id].plain()} if recipe.id in fits else {}) for recipe in recipes]


def markdown(report: Mapping[str, Any]) -> str:
    """The report for a reader; everything from outside is shown as it is, and does nothing."""
    report = redact_plain(dict(report))
    numbers = {source["source"]: source["n"] for source in report["sources"]}
    of_finding = {each["id"]: numbers.get(each["source"]) for each in report["findings"]}
    parts = [
        f"# {shown(report['question'])}",
        _head(report),
        _summary(report["summary"], of_finding),
        *_recipes(report["recipes"], of_finding),
        *_findings("What was found", [each for each in report["findings"] if each["verified"]], numbers),
        *_findings("From the built-in library", [each for each in report["findings"] if _is_built_in(each)], numbers),
        *_findings("Not verified", [each for each in report["findings"] if _is_remembered(each)], numbers),
        *_papers(report.get("papers", ())),
        *_sources(report["sources"]),
        *_missing(report.get("missing", ())),
    ]
    return redact("\n\n".join(filter(None, parts))) + "\n"


def shown(text: object) -> str:
    """Words from outside as one line of Markdown that looks as they do: no HTML, link, image, table or emphasis."""
    line = " ".join("".join(sign for sign in str(text) if _is_seen(sign)).split())
    line = _HTML.sub(lambda match: "&lt;" if match[0] == "<" else "&amp;", line)
    line = _MARKUP.sub(lambda match: "".join(f"\\{sign}" for sign in match[0]), line)
    line = _BLOCK.sub(lambda match: f"{match[1] or ''}\\", line)
    return line.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def linked(text: str, url: str) -> str:
    """A link, where the address is one of the web; else the words alone."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return shown(text)
    return f"[{shown(text)}]({quote(url, safe=':/?&=%#+,;~-._')})"


def _head(report: Mapping[str, Any]) -> str:
    spent = report["spent"]
    usd = "at an unknown price" if spent["usd"] is None else f"for ${spent['usd']:.2f}"
    took = f"{spent['llm_tokens']:,} LLM tokens {usd}, {report['seconds']:.0f} s" if report["by_model"] else ""
    who = f"Read by {shown(report['by'])}" if report["by_model"] else "No language model read this: found by search"
    day = _day(report["at"])
    end = f"**Not complete:** {shown(report['why'])}" if report["why"] else ""
    return "\n\n".join(filter(None, [f"{who}, {day}." + (f" It took {took}." if took else ""), end]))


def _summary(summary: str, of_finding: Mapping[str, int | None]) -> str:
    """With numbers where it has ids of findings."""
    pieces, end = [], 0
    for match in CITED.finditer(summary):
        cited = [of_finding[name.strip()] for name in match[1].split(",") if name.strip() in of_finding]
        if cited:
            marks = "".join(f"[{number}]" if number else "[unverified]" for number in dict.fromkeys(cited))
            pieces += [shown_part(summary[end : match.start()]), marks]
            end = match.end()
    return "".join([*pieces, shown_part(summary[end:])]).strip()


def shown_part(text: str) -> str:
    """A stretch of a line, with the blanks at its ends."""
    return f"{' ' if text[:1].isspace() else ''}{shown(text)}{' ' if text[-1:].isspace() else ''}"


def _recipes(recipes: Sequence[Mapping[str, Any]], of_finding: Mapping[str, int | None]) -> list[str]:
    if not recipes:
        return []
    rows = ["| | recipe | method | expected | cost | risk | rests on |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for place, each in enumerate(recipes, 1):
        numbers = dict.fromkeys(number for name in each["findings"] if (number := of_finding.get(name)))
        rests = "".join(f"[{number}]" for number in numbers) or "nothing verified"
        cells = [shown(each["id"]), shown(title_of(each["method"]))]
        cells += [shown(each[name]) or "–" for name in ("expected", "cost", "risk")]
        rows.append(f"| {place} | {' | '.join(cells)} | {rests} |")
    details = [_details(each) for each in recipes]
    return ["## Recipes", "\n".join(rows), *details]


def _details(recipe: Mapping[str, Any]) -> str:
    numbers = numbers_of(recipe_of({key: value for key, value in recipe.items() if key != "fits"}))
    sized = f", for models of {playbook.Fits.model_validate(recipe['fits']).sizes}" if "fits" in recipe else ""
    written = ", ".join(f"{name} {_value(value)}" for name, value in numbers.items() if value not in ("", None))
    head = f"**{shown(recipe['id'])}**{sized}: {shown(recipe['reason'])}"
    return f"{head}\n\n{shown(written)}. Source: {shown(recipe['source'])}."


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {entry}" for name, entry in value.items()) + ")"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " + ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _findings(heading: str, findings: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]) -> list[str]:
    return [f"## {heading}", *(_finding(each, numbers) for each in findings)] if findings else []


def _finding(each: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    number = f" [{numbers[each['source']]}]" if each["source"] in numbers else ""
    measured = f" on {shown(each['benchmark'])}" if each["benchmark"] else ""
    result = f"{each['number']:g}{measured}; " if each["number"] is not None else ""
    place = f"{shown(each['section'])}; " if each["section"] else ""
    unchecked = "from the built-in library" if number else shown(each["source"])
    checked = "quotation checked" if each["verified"] else unchecked
    lines = [f"- **{shown(each['claim'])}**{number}  ", f"  {result}{place}confidence {each['confidence']}; {checked}"]
    if each["quotation"]:
        lines += ["", f"  > {shown(each['quotation'])}"]
    return "\n".join(lines)


def _papers(papers: Sequence[Mapping[str, Any]]) -> list[str]:
    if not papers:
        return []
    lines = []
    for each in papers:
        known = ", ".join(filter(None, (shown(each["id"]), shown(each["published"]))))
        lines.append(f"- {linked(each['title'], each['url'])} ({known})")
    return ["## Papers that a search found", "\n".join(lines)]


def _sources(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    if not sources:
        return []
    lines = []
    for each in sources:
        title = f": {shown(each['title'])}" if each["title"] else ""
        fetched = f" (fetched {each['fetched'][:10]})" if each["fetched"] else ""
        lines.append(f"{each['n']}. {linked(each['source'], each['url'])}{title}{fetched}")
    return ["## Sources", "\n".join(lines)]


def _missing(missing: Sequence[str]) -> list[str]:
    return ["## What could not be asked", "\n".join(f"- {shown(each)}" for each in missing)] if missing else []


def _plain(filed: Filed) -> dict[str, Any]:
    fetched = datetime.fromtimestamp(filed.fetched, UTC).isoformat(timespec="seconds") if filed.fetched else None
    return {**filed.finding.plain(), "title": filed.title, "url": filed.url, "fetched": fetched}


def _is_remembered(finding: Mapping[str, Any]) -> bool:
    """Whether nobody has checked it: neither code its quotation, nor people the library's entry."""
    return not finding["verified"] and bool(finding["source"].startswith(UNVERIFIED))


def _is_built_in(finding: Mapping[str, Any]) -> bool:
    return not finding["verified"] and not _is_remembered(finding)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _is_seen(sign: str) -> bool:
    """Whether a person sees a sign: no control characters, no marks that reorder or hide text."""
    return sign.isspace() or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn")
