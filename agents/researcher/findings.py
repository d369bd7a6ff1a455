"""What the researcher has found: filed one at a time, each with a quotation that code has found in its source."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agents.researcher.attribution import fault_of_quotation, fault_of_section, pointed, results_in
from agents.researcher.checks import fault_of, names, says_number
from agents.researcher.papers.quotations import normalise
from agents.researcher.shelf import PAPER, Reading, Shelf, is_section, key_of
from shared_memory.record import Record, canonical_digest
from shared_memory.records import Finding
from shared_memory.run_paths import write_atomically

LONGEST_CLAIM = 400
"""Characters."""


class Filed(Record):
    """A finding, and where a person finds its source."""

    finding: Finding
    title: str = ""
    url: str = ""
    fetched: float = 0.0
    """Seconds since the epoch."""
    at: float = 0.0
    """When it was filed first."""


class Notebook:
    """The findings of one piece of research, on disk beside what was read: nothing that compacts a loop loses them.

    The threads of a team share it.
    """

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf(folder / "read")
        self._folder = folder / "findings"
        self._filing = threading.Lock()

    def file(self, finding: Finding) -> Filed | str:
        """The finding as it was filed, with an id of its own; or why it is refused, in a sentence."""
        found = self.check(finding)
        if isinstance(found, str):
            return found
        section = finding.section
        if found.section and not is_section(section, found.section):
            section = found.section  # the quotation stands there, whatever the model calls the place
        filed = Filed(
            finding=finding.model_copy(
                update={"id": _id_of(finding), "source": found.source, "section": section, "verified": True}
            ),
            title=found.title,
            url=found.url,
            fetched=found.fetched,
            at=time.time(),
        )
        with self._filing:
            kept = self.get(filed.finding.id)
            if kept is not None:
                filed = filed.model_copy(update={"at": kept.at})
            self._folder.mkdir(parents=True, exist_ok=True)
            place = self._folder / f"{filed.finding.id}.json"
            write_atomically(place, filed.model_dump_json().encode(errors="replace"))
        return filed

    def check(self, finding: Finding) -> Reading | str:
        """The reading that has the finding's quotation, and its number; or what is wrong with it."""
        readings = self.shelf.of(finding.source, finding.section)
        if not readings:
            known = ", ".join(self.shelf.sources()[:12]) or "nothing"
            return f"{finding.source!r} has not been read; read it first. What was read: {known}"
        if len(finding.claim) > LONGEST_CLAIM:
            return f"the claim has {len(finding.claim)} characters; say it in one sentence"
        faults = [fault_of(finding.quotation, reading.text) for reading in readings]
        if "" not in faults:
            return f"{faults[0]} ({finding.source}, as it was read)"
        found = readings[faults.index("")]
        return self._fault_of_numbers(finding, found, readings) or found

    def all(self) -> list[Filed]:
        """Oldest first."""
        filed = [Filed.model_validate_json(file.read_bytes()) for file in self._folder.glob("[!.]*.json")]
        return sorted(filed, key=lambda each: (each.at, each.finding.id))

    def get(self, name: str) -> Filed | None:
        file = self._folder / f"{Path(name).name}.json"
        return Filed.model_validate_json(file.read_bytes()) if name and file.is_file() else None

    def fault_of_expectation(self, expected: str, cited: Sequence[Finding]) -> str:
        """What a recipe promises that none of its findings has; empty where they bear it out."""
        borne = "\n".join(f"{each.claim} {each.number or ''} {each.quotation}" for each in cited)
        wild = _results_without(expected, borne)
        return f"`expected` has {wild[0]:g}, which none of its findings has" if wild else ""

    def _fault_of_numbers(self, finding: Finding, found: Reading, readings: list[Reading]) -> str:
        """What the source does not bear out of the finding's figures; empty where it does."""
        everything = "\n".join(reading.text for reading in readings)
        computed = _results_without(finding.claim, everything)
        if computed:
            return f"the claim has {computed[0]:g}, which is not in the source; claim what it says, and compute nothing"
        if finding.benchmark and not names(everything, finding.benchmark):
            return f"the source, as it was read, does not name {finding.benchmark}"
        if finding.number is None:
            return ""
        if not finding.benchmark:
            return f"say in `benchmark` what {finding.number:g} was measured on"
        if says_number(pointed(finding.quotation), finding.number):
            return fault_of_quotation(finding.number, finding.benchmark, finding.quotation, found.text)
        named = [each for each in readings if each is found or is_section(finding.section, each.section)]
        having = [each.text for each in named if says_number(pointed(each.text), finding.number)]
        faults = [
            fault_of_section(finding.number, finding.benchmark, text)
            for text in having
            if names(text, finding.benchmark)
        ]
        if not faults:
            return (
                f"{finding.number:g} is neither in the quotation nor in that section; quote the sentence or row with it"
            )
        return "" if "" in faults else faults[0]


def _results_without(words: str, text: str) -> list[float]:
    """The results that a sentence tells and a text does not have."""
    return [each for each in results_in(PAPER.sub("", words)) if not says_number(pointed(text), each)]


def _id_of(finding: Finding) -> str:
    """Of the finding, from what it is: `2402.03300-1f3a9c`; the same again has the same."""
    key = key_of(finding.source)
    name = re.sub(r"[^a-z0-9.]+", "-", key.removeprefix("arxiv ").rpartition("/")[2]).strip("-.")[:32]
    said = [key, normalise(finding.quotation), finding.number, finding.benchmark.casefold(), finding.claim]
    return f"{name or 'source'}-{canonical_digest(said)[:6]}"
