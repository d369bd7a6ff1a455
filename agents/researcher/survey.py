"""What code alone can say to a question about the literature: recipes that fit, papers, and results as they stand.

No language model reads anything here. A sentence that names the benchmark beside a number, or a table's row under the
benchmark's name, is quoted word for word with its place; whether it answers the question is for the reader to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from agents.researcher import playbook
from agents.researcher.attribution import KNOWN_BENCHMARKS, is_same, naming, rows
from agents.researcher.checks import names, numbers_in
from agents.researcher.findings import LONGEST_CLAIM, Filed, Notebook
from agents.researcher.papers import reading
from agents.researcher.papers.records import Contents, Paper
from agents.researcher.question import MOST_RECIPES, Question
from agents.researcher.reading_room import ReadingRoom, cited_as
from agents.researcher.shelf import Reading
from shared_memory.errors import BadInput, Unavailable
from shared_memory.recipes import Recipe
from shared_memory.records import Finding

PAPERS_READ = 5
PLACES_READ = 4
"""Sections and tables of one paper."""
TABLES_READ = 3
"""Of these, tables whose captions do not name the benchmark: their headings may."""
MOST_OF_A_PAPER = 4
"""Findings."""
_RESULTS = re.compile(r"result|experiment|evaluation|benchmark|performance|ablation", re.IGNORECASE)
_RESULT = re.compile(r"(?<![\w.,-])\d{1,3}(?:\.\d+\s?%?|\s?%)(?![\w.])")
"""A number as results are written: with decimals, or in per cent."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\[])|\n{2,}")
Note = Callable[[str], None]
T = TypeVar("T")


@dataclass
class Surveyed:
    """What was found."""

    papers: list[Paper] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be asked, and why."""
    searched: bool = False
    """Whether any source of papers has answered."""


def survey(question: Question, room: ReadingRoom, notebook: Notebook, note: Note = lambda text: None) -> Surveyed:
    """Search, read the places that hold results, and file what they say of the question's benchmarks."""
    found = Surveyed()
    with_benchmarks = " ".join([question.text, *question.benchmarks])
    note(f"searching papers: {question.text}")
    papers = _tried(lambda: room.found(question.text, 10), found)
    if papers is not None:
        found.papers = list(papers.papers)
        found.missing += [f"{each.source}: {each.reason}" for each in papers.missing]
    passages = _tried(lambda: room.sentences(with_benchmarks, 20), found) or []
    found.searched = papers is not None
    for passage in passages:
        _file_results(question, passage, notebook, note)
    for paper in found.papers[:PAPERS_READ]:
        if question.benchmarks:
            note(f"reading {paper.title}")
            _tried(lambda paper=paper: _read(question, paper, room, notebook, note), found)  # type: ignore[misc]
    return found


def library_for(question: Question) -> tuple[dict[str, Finding], dict[str, Recipe]]:
    """The built-in recipes that fit a question by method and size, and the findings that they rest on.

    Those that were measured on its benchmarks or are meant for them come first, those for others last.
    """
    entries, findings = playbook.library()
    known = {each.id: each for each in findings}
    low, high = question.millions
    fitting = [
        entry
        for entry in entries
        if entry.recipe.method in (question.methods or (entry.recipe.method,))
        and entry.fits.min_m <= high
        and low < entry.fits.max_m
    ]

    def rank(entry: playbook.Entry) -> int:
        own = " ".join(entry.fits.benchmarks)
        if any(names(own, each) for each in question.benchmarks) or is_measured(entry.recipe, known, question):
            return 0
        return 2 if own else 1

    recipes = [entry.recipe for entry in sorted(fitting, key=rank)[:MOST_RECIPES]]
    cited = {name for recipe in recipes for name in recipe.findings}
    return {each.id: each for each in findings if each.id in cited}, {recipe.id: recipe for recipe in recipes}


def is_measured(recipe: Recipe, findings: Mapping[str, Finding], question: Question) -> bool:
    """Whether a recipe rests on a finding with a number for a benchmark of the question."""
    cited = [findings[name] for name in recipe.findings if name in findings]
    numbered = [each.benchmark for each in cited if each.number is not None]
    return any(is_same(each, benchmark) for each in numbered for benchmark in question.benchmarks)


def _tried(look: Callable[[], T], found: Surveyed) -> T | None:
    """What was found; what cannot be had is noted, and the others go on."""
    try:
        return look()
    except (BadInput, Unavailable) as error:
        if str(error) not in found.missing:
            found.missing.append(str(error))
        return None


def _read(question: Question, paper: Paper, room: ReadingRoom, notebook: Notebook, note: Note) -> None:
    """File what the abstract, and the sections and tables that hold results, say of the benchmarks."""
    contents = reading.contents(room.library, paper.id)
    for place in _places(question, contents):
        room.section(paper.id, place)
    of_the_paper = notebook.shelf.of(cited_as(paper.id))
    for kept in sorted(of_the_paper, key=lambda kept: not kept.section.startswith("Table")):
        _file_results(question, kept, notebook, note)


def _places(question: Question, contents: Contents) -> list[str]:
    """Where results are to be expected: what names the benchmark, the first tables, and what is called results."""
    entries = [entry for entry in contents.entries if not re.match(r"references|bibliography", entry.name, re.I)]
    naming = [
        entry.name
        for entry in entries
        if any(names(f"{entry.name} {entry.caption}", benchmark) for benchmark in question.benchmarks)
    ]
    tables = [entry.name for entry in entries if entry.caption]
    likely = [entry.name for entry in entries if _RESULTS.search(entry.name)]
    return list(dict.fromkeys([*naming, *tables[:TABLES_READ], *likely]))[:PLACES_READ]


def _file_results(question: Question, kept: Reading, notebook: Notebook, note: Note) -> None:
    for finding in results_in(question, kept):
        of_the_paper = [each for each in notebook.all() if each.finding.source == kept.source]
        if len(of_the_paper) >= MOST_OF_A_PAPER:
            return
        if any(each.finding.quotation == finding.quotation for each in of_the_paper):
            continue
        filed = notebook.file(finding)
        if isinstance(filed, Filed):
            note(f"found: {filed.finding.claim} ({filed.finding.source})")


def results_in(question: Question, kept: Reading) -> Iterator[Finding]:
    """The sentences and rows of a text that have a number for one of the benchmarks; those on the method come first."""
    found = [
        finding
        for benchmark in question.benchmarks
        for finding in (*_rows(kept, benchmark), *_sentences(kept, benchmark))
    ]
    wanted = question.methods
    yield from sorted(found, key=lambda each: not set(Question(each.quotation).methods) & set(wanted))


def _sentences(kept: Reading, benchmark: str) -> Iterator[Finding]:
    for sentence in _SENTENCE.split(kept.text):
        said = " ".join(sentence.split())
        numbers = list(_RESULT.finditer(said))
        if "|" in said or len(said) > LONGEST_CLAIM or not numbers or not names(said, benchmark):
            continue
        known = [match.start() for match in KNOWN_BENCHMARKS.finditer(said) if is_same(match[0], benchmark)]
        at = known[0] if known else max(said.casefold().find(benchmark.casefold()), 0)
        nearest = min(numbers, key=lambda match: abs(match.start() - at))
        yield _quoted(kept, benchmark, nearest[0], said, said)


def _rows(kept: Reading, benchmark: str) -> Iterator[Finding]:
    """Rows of a Markdown table with a result in the columns whose headings name the benchmark."""
    for line, headings, cells in rows(kept.text):
        columns = [place for place in naming(benchmark, headings) if place]
        results = [(headings[place], match[0]) for place in columns if (match := _RESULT.search(cells[place]))]
        for heading, number in results[:1]:
            claim = f"{cells[0]}: {number} on {heading}"[:LONGEST_CLAIM]
            yield _quoted(kept, benchmark, number, *(each.replace("\\|", "|") for each in (line.strip(), claim)))


def _quoted(kept: Reading, benchmark: str, number: str, quotation: str, claim: str) -> Finding:
    return Finding(
        id="", claim=claim, source=kept.source, confidence="low", number=numbers_in(number)[0], benchmark=benchmark,
        section=kept.section, quotation=quotation,
    )  # fmt: skip
