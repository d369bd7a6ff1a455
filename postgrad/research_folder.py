"""Where the answer to a question about the literature lies: its folder, its report, and who works in it."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared_memory.errors import BadInput, Conflict
from shared_memory.record import canonical_digest
from shared_memory.redaction import redact
from shared_memory.run_paths import write_atomically
from shared_memory.settings import Settings


def folder_of(question: str, settings: Settings, brain: str | None, api_base: str = "") -> Path:
    """The folder of a question: the same for the same question to the same mind."""
    asked, mind = one_line(question).casefold(), brain or settings.brain
    slug = re.sub(r"[^a-z0-9]+", "-", asked).strip("-")[:48].strip("-")
    return settings.home / "research" / f"{slug or 'question'}-{canonical_digest([asked, mind, api_base])[:8]}"


def one_line(question: str) -> str:
    """A question without secrets, in one line: two that differ in blanks are the same. What is no text becomes `?`."""
    return " ".join(redact(question.encode(errors="replace").decode()).split())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raises Conflict where another process answers this question: two would pay twice, and write over each other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("this question is being answered by another process; ask again when it is done") from error
        yield


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report in a folder; None where there is none that can be read."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and "status" in report else None


def written(report: dict[str, Any], folders: list[Path]) -> dict[str, Any]:
    """The report with its path in the last of the folders, on disk as Markdown and as JSON in all."""
    from agents.researcher.report import markdown

    text = markdown(report)
    for place in map(make, folders):
        write_atomically(place / "report.md", text.encode(errors="replace"))
        report = {**report, "report": str(place / "report.md")}
        kept = json.dumps(report, ensure_ascii=False, indent=2)
        write_atomically(place / "report.json", kept.encode(errors="replace"))
    return report


def make(folder: Path) -> Path:
    """The folder, absolute; made where it is not there."""
    place = folder.expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{place} is no folder that can be written ({error.strerror}); choose another") from error
    return place


def put_aside(folder: Path) -> None:
    """Keep an earlier report under another name."""
    if folder.exists():
        taken = len(list(folder.parent.glob(f"{folder.name}.*")))
        folder.rename(folder.with_name(f"{folder.name}.{taken + 1}"))
