"""What was read, word for word, by its source: the only thing that a quotation is checked against."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path

from agents.researcher.checks import squeezed
from agents.researcher.papers.ids import arxiv_id, paper_id
from shared_memory.errors import BadInput, Unavailable
from shared_memory.record import Record, canonical_digest
from shared_memory.redaction import redact
from shared_memory.run_paths import write_atomically

PAPER = re.compile(r"(?<!\d)(\d{4}\.\d{4,5})(?:v\d+)?(?!\d)")
"""An arXiv identifier of these years."""
_ADDRESS = re.compile(r"(?i)[a-z]+://|doi\s*:|\S+/")
_OF_ARXIV = re.compile(
    r"(?i)(https?://)?((www\.|export\.)?arxiv\.org|ar5iv\.(labs\.arxiv\.)?org)/"  # its pages
    r"|(https?://(dx\.)?doi\.org/|doi\s*:\s*)?10\.48550/|[a-z.-]+/\d{7}(v\d+)?$"  # its DOIs, and ids of old papers
)


_CITED = re.compile(r"(?i)arxiv[\s:]+(?=[a-z][a-z.-]*/\d{7}(?:v\d+)?$)")
"""Before the id of an old paper."""


class Reading(Record):
    """One text of a source, as a tool gave it back."""

    source: str
    """How it is cited: `arXiv 2402.03300`, an address, `trl.GRPOConfig 1.16.0`."""
    text: str
    section: str = ""
    title: str = ""
    url: str = ""
    """Where a person finds it; empty for an installed library."""
    fetched: float
    """When it came from there, in seconds since the epoch."""


class Shelf:
    """The readings of one piece of research, on disk: several threads and a loop that runs again share them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._putting = threading.Lock()

    def put(self, reading: Reading) -> None:
        """Keep it, without secrets, as a model is shown it; the same text of the same source again changes nothing.

        Raises Unavailable where it cannot be written: what is not kept could not be quoted.
        """
        reading = reading.model_copy(update={"text": redact(reading.text)})
        place = self._folder / _folder_name(reading.source)
        file = place / f"{canonical_digest([reading.section, reading.text])[:24]}.json"
        with self._putting:
            if file.exists():
                return
            try:
                place.mkdir(parents=True, exist_ok=True)
                write_atomically(file, reading.model_dump_json().encode(errors="replace"))
            except OSError as error:
                raise Unavailable(f"what was read was not kept ({error.strerror}); make room in {place}") from error

    def of(self, source: str, section: str = "") -> list[Reading]:
        """What was read of a source, that section first; empty where nothing was."""
        files = sorted((self._folder / _folder_name(source)).glob("[!.]*.json"))
        readings = [Reading.model_validate_json(file.read_bytes()) for file in files]
        return sorted(readings, key=lambda reading: not is_section(section, reading.section))

    def sources(self) -> list[str]:
        """What has been read, as it is cited."""
        firsts = (next(iter(sorted(place.glob("[!.]*.json"))), None) for place in sorted(self._folder.glob("*")))
        return [Reading.model_validate_json(first.read_bytes()).source for first in firsts if first]


def key_of(source: str) -> str:
    """What the ways to write a source have in common: an arXiv number, or the address or name without its trimmings.

    Of addresses only arXiv's own are a paper's: anybody may write `arxiv` into a path, or under a paper elsewhere.
    """
    source = _CITED.sub("", source.strip())
    if not _ADDRESS.match(source) or _OF_ARXIV.match(source):
        with suppress(BadInput):
            if name := arxiv_id(paper_id(source)):
                return f"arxiv {name}".casefold()
    paper = PAPER.search(source)
    if paper and "arxiv" in source.casefold() and not _ADDRESS.match(source):
        return f"arxiv {paper[1]}"
    bare = re.sub(r" \([^()]*\)$", "", source)  # of an installed library: its release
    plain = re.sub(r"^https?://(www\.)?", "", bare).partition("#")[0]
    return plain.rstrip("/").casefold()


def is_section(wanted: str, section: str) -> bool:
    """Whether a section is the one that is meant: `Table 4` of `4.2 Main results, Table 4`; never of an empty name."""
    return bool(wanted and section) and squeezed(wanted) in squeezed(section)


def _folder_name(source: str) -> str:
    return canonical_digest(key_of(source))[:24]
