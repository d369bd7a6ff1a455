"""An audit as one self-contained HTML page: the verdict, what was found with examples, and histograms.

Everything on it is other people's text: Jinja escapes it, the page runs no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from postgrad.audit_table import counted, facts_of, place_of
from postgrad.report.write import TEMPLATES as REPORT
from postgrad.units import percent, printable
from shared_memory.errors import BadInput, Unavailable
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
MOST_BARS = 26
MARK = "· postgrad audit</title>"
"""By which a page is known to be one of these."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    label: str
    count: int
    height: float
    """Of 100; what is more than nothing is seen."""


@dataclass(frozen=True)
class Histogram:
    title: str
    caption: str
    bars: tuple[Bar, ...]

    @property
    def alt(self) -> str:
        """The same in words."""
        return f"{self.title}: " + ", ".join(f"{bar.label} {bar.count:,}" for bar in self.bars)


def require_place(path: Path, data: Sequence[str], clean: Path | None = None) -> None:
    """Raise BadInput where a page would overwrite anything but an earlier page, lie among the data, or has no folder.

    `data` are the names of the sources, `clean` the file of the cleaned copy.
    """
    place = path.resolve()
    for source in (Path(name).expanduser().resolve() for name in data if name.strip()):
        if place == source or (source.is_dir() and place.is_relative_to(source)):
            raise BadInput(f"{path} is data that are audited, or lies among them; give another place for the page")
    if clean is not None and place == clean.resolve():
        raise BadInput(f"{path} is the cleaned copy; give another name for the page")
    if not place.parent.is_dir():
        raise BadInput(f"{place.parent} is no folder; make it first, or give another place")
    if path.exists() and not _is_page(path):
        raise BadInput(f"{path} is there already and is no page of an audit; give a name for a new file")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return MARK.encode() in stream.read(2**16)


def write_page(found: Mapping[str, Any], path: Path) -> None:
    """Write the page of an audit, `postgrad.audit`'s JSON. Raises Unavailable where it cannot be written."""
    content = render_page(found).encode()
    try:
        write_atomically(path, content)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror or error}); give another place") from error


def render_page(found: Mapping[str, Any]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, REPORT]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"printable": printable, "place": place_of, "counted": counted}
    clean: dict[str, Any] = redact_plain(dict(found))
    return environment.get_template("audit.html.j2").render(
        found=clean,
        facts=list(facts_of(clean)),
        columns=[_column(name, described) for name, described in clean["schema"].items()],
        histograms=histograms_of(clean),
    )


def _column(name: str, described: Mapping[str, Any]) -> tuple[str, str, str]:
    types = ", ".join(f"{kind} {count:,}" for kind, count in described["types"].items()) or "nothing"
    return name, types, f"{described['nulls']:,}"


def histograms_of(found: Mapping[str, Any]) -> list[Histogram]:
    """Lengths, and whatever else there is of turns, letters, labels and languages."""
    data, tokens = found["histograms"], found["tokens"]
    unit = "words" if tokens["tokenizer"] == "words" else "tokens"
    sample = tokens.get("sample")
    caption = f"{unit} of a row" + (f", {sample['n']:,} rows of {sample['of']:,}" if sample else "")
    edges, counts = data["lengths"]["edges"], data["lengths"]["counts"]
    spans = [f"{low:,} to {high - 1:,}" for low, high in pairwise(edges)]
    made = [_histogram("Length", caption, dict(zip(spans, counts, strict=True)))]
    made.append(_histogram("Turns", "messages of user and assistant in a row", data["turns"]))
    made.append(_histogram("Letters", "rows by the letter that is right", data["letters"]))
    for column, labels in data["labels"].items():
        made.append(_histogram(f"Labels in {column}", "rows by label", labels))
    sampled = found["sampled"]["languages"]
    languages = {name: round(share * sampled["n"]) for name, share in data["languages"].items()}
    told = ", ".join(f"{name} {percent(share)}" for name, share in list(data["languages"].items())[:5])
    made.append(_histogram("Languages", f"of {sampled['n']:,} replies ({told}); ? is what none is sure of", languages))
    return [histogram for histogram in made if sum(bar.count for bar in histogram.bars) and len(histogram.bars) > 1]


def _histogram(title: str, caption: str, counts: Mapping[Any, int]) -> Histogram:
    shown = list(counts.items())[:MOST_BARS]
    most = max((count for _, count in shown), default=0)
    bars = (Bar(str(label), count, max(1.0, 100 * count / most) if count else 0.0) for label, count in shown)
    return Histogram(title, caption, tuple(bars))
