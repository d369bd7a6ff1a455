"""Why a job failed, read from its last words; what tells one failure from another is in failures.toml.

A log is untrusted: rows, completions and warnings are printed in it. So a failure is believed where Python or the
system states it, at the start of an exception or of a line of its own, after the last sign of progress.
"""

from __future__ import annotations

import re
import signal
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from agents.jobs.base import LAST_WORDS_LENGTH, read_events
from shared_memory.jobs import Diagnosis, Failure, JobState
from shared_memory.redaction import redact

LIBRARY = Path(__file__).parent / "failures.toml"
TAIL = 2**18
"""Characters from the end of a log that are read."""
MESSAGE_LINES = 12
"""Lines of an exception's message that are looked at."""
MESSAGE_LENGTH = 2000
"""Characters of a line that are looked at for evidence; fewer are shown."""
EVIDENCE_LINES = 3
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a process that the system, or whoever runs the machine, put an end to."""

_HEADER = re.compile(r"[╭─ ]*Traceback \(most recent call last\)")
_FRAME = re.compile(r'  File "(?P<path>[^"\n]{1,300})", line \d+')
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::|$)")
_MODULE = re.compile(r"^(?:[A-Za-z_]\w{0,80}\.)+(?=_?[A-Z]\w*(?::|$))")
_LINK = re.compile(
    r"During handling of the above exception|The above exception was the direct cause of the following exception"
)
_ASIDE = re.compile(r"Exception ignored in|Exception in thread |--- Logging error ---")
"""What comes before a traceback that ended nothing."""
_ERROR_LINE = re.compile(r"^error: (?:\S+ cannot be loaded: )?")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\0")
_RANK = re.compile(r"\[rank(\d+)\]: ?")


@dataclass(frozen=True)
class Sign:
    """An entry of failures.toml, which describes its fields."""

    kind: Failure
    words: re.Pattern[str]
    source: str
    frame: re.Pattern[str] | None = None
    alone: bool = False
    backend: bool = False
    root: bool = False
    aftermath: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class Statement:
    """Something that a log says, and may be the cause."""

    at: int
    """Number of its line."""
    text: str
    """An exception as `Type: message`, or a line."""
    frame: str = ""
    """Of an exception: path and code of the innermost frame, each on a line."""
    chained: Statement | None = None
    """The exception that came before it, as its cause or while it was handled."""
    aside: bool = False
    """Whether it ended nothing: an exception of a thread, or one that Python ignored."""
    raised: bool = True
    """False for a line by itself."""
    rank: str = ""
    """Of the process that said it, where several train together."""

    def chain(self) -> Iterator[Statement]:
        """The exceptions that led here, the latest first."""
        statement: Statement | None = self
        while statement is not None:
            yield statement
            statement = statement.chained


@dataclass(frozen=True)
class Reading:
    """What a statement means; `sign` is None for an exception or an error that no sign knows."""

    statement: Statement
    sign: Sign | None
    match: re.Match[str] | None = None


def diagnose(log: str, *, error: str = "", exit_code: int | None = None, state: JobState | None = None) -> Diagnosis:
    """The kind of failure, the lines that tell it (redacted), and what to do about it.

    log: what the job printed, or the end of it. error, exit_code, state: as the runner tells them; a negative exit code
    is the signal that ended the job's process.
    """
    if state is JobState.CANCELLED:
        return Diagnosis(kind="stopped", evidence=_evidence(error), remedy=_remedies()["stopped"])
    told = _read_line(error, [sign for sign in _signs() if sign.backend])
    lines, ranks = _lines(log[-TAIL:])
    statements = _statements(lines, ranks)
    if exit_code in (*KILLED, *TERMINATED):
        # A signal ended it, and nothing that was raised before: only what the system itself says counts.
        reading = told or _decisive([_read(each) for each in statements if not each.raised])
        return _diagnosis(reading) if reading else _by_signal(error, exit_code)
    said = [sign for sign in _signs() if not sign.backend]
    reading = told or _decisive([_read(each) for each in statements])
    reading = reading or _read_line(_last(lines), said) or _read_line(error, said)
    if reading is not None:
        return _diagnosis(reading)
    words = [line for line in lines if line.strip() and not read_events(line)[0]]
    evidence = _evidence("\n".join(words[-EVIDENCE_LINES:]) or error)
    return Diagnosis(kind="unknown", evidence=evidence, remedy=_remedies()["unknown"])


def _by_signal(error: str, exit_code: int | None) -> Diagnosis:
    kind: Failure = "out_of_host_memory" if exit_code in KILLED else "network"
    return Diagnosis(kind=kind, evidence=_evidence(error or f"exit code {exit_code}"), remedy=_remedies()[kind])


def _diagnosis(reading: Reading) -> Diagnosis:
    statement, sign = reading.statement, reading.sign
    evidence = _evidence(statement.text, statement.frame)
    if sign is None:
        advice = "" if statement.raised else _line(redact(statement.text.partition("; ")[2]))
        return Diagnosis(kind="bug_in_script", evidence=evidence, remedy=advice or _remedies()["bug_in_script"])
    found = reading.match.groupdict("") if reading.match else {}
    remedy = (sign.remedy or _remedies()[sign.kind]).format_map({name: redact(text) for name, text in found.items()})
    return Diagnosis(kind=sign.kind, evidence=evidence, remedy=remedy)


def _read(statement: Statement) -> Reading:
    """What an exception means, with those that led to it; or a line."""
    if not statement.raised:
        return _read_line(statement.text, _signs(), statement) or Reading(statement, None)
    readings = [reading for each in statement.chain() if (reading := _read_line(each.text, _signs(), each))]
    for wanted in (_is_root, _is_cause):
        if found := next((each for each in readings if wanted(each)), None):
            return found
    return readings[0] if readings else Reading(statement, None)


def _is_root(reading: Reading) -> bool:
    return reading.sign is not None and reading.sign.root


def _is_cause(reading: Reading) -> bool:
    return reading.sign is not None and not reading.sign.aftermath


def _read_line(text: str, signs: Iterable[Sign], statement: Statement | None = None) -> Reading | None:
    """The first sign that the start of a text matches, and its frame, where the sign asks for one."""
    text = _MODULE.sub("", text.strip(), count=1)
    statement = statement or Statement(0, text, raised=False)
    for sign in signs:
        if sign.frame is not None and not sign.frame.search(statement.frame):
            continue
        if match := sign.words.match(text):
            return Reading(statement, sign, match)
    return None


def _decisive(readings: Sequence[Reading]) -> Reading | None:
    """The last that is neither beside the point nor the consequence of another; else the last consequence.

    Of several processes that train together, one that ran out of memory goes before those that it left behind.
    """
    ended = [reading for reading in readings if not reading.statement.aside]
    causes = [reading for reading in ended if reading.sign is None or not reading.sign.aftermath]
    roots = [reading for reading in causes if reading.statement.rank and _is_root(reading)]
    told = [reading for reading in ended if reading.sign is not None and reading.sign.kind != "unknown"]
    return next(reversed(roots or causes or told or ended), None)


def _statements(lines: list[str], ranks: list[str]) -> list[Statement]:
    """All that may be a cause, in order, after the last sign of progress.

    What a rank says of itself counts from anywhere: others may go on for a moment after it has failed.
    """
    of_rank: dict[str, list[tuple[int, str]]] = {}
    for at, line in enumerate(lines):
        if not ranks[at] and read_events(line)[0]:
            of_rank[""] = []
        else:
            of_rank.setdefault(ranks[at], []).append((at, line))
    found = [statement for rank, own in of_rank.items() for statement in _Parser(own, rank).statements()]
    return sorted(found, key=lambda statement: statement.at)


class _Parser:
    """Reads the statements of one process from its lines, which have their numbers with them."""

    def __init__(self, lines: list[tuple[int, str]], rank: str) -> None:
        self.lines, self.rank = lines, rank
        self.alone = [sign for sign in _signs() if sign.alone]
        self.next = 0

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        linked = aside = False
        while self.next < len(self.lines):
            at, line = self.lines[self.next]
            if _HEADER.match(line) or _FRAME.match(line):
                raised = self._exception(aside)
                if raised is None:
                    continue
                if linked and found and found[-1].raised:
                    raised = replace(raised, chained=found.pop())
                found.append(raised)
                linked = aside = False
                continue
            self.next += 1
            if not line.strip():
                continue
            linked, aside = bool(_LINK.match(line)), bool(_ASIDE.match(line))
            if self._stands_alone(line):
                found.append(Statement(at, _ERROR_LINE.sub("", line, count=1), raised=False, rank=self.rank))
        return found

    def _exception(self, aside: bool) -> Statement | None:
        """The traceback that starts here; None where it breaks off before its exception."""
        frame = ""
        while self.next < len(self.lines):
            at, line = self.lines[self.next]
            if match := _FRAME.match(line):
                code = self.lines[self.next + 1][1].strip() if self.next + 1 < len(self.lines) else ""
                frame = f"{match['path']}\n{code}"
            elif line.strip() and not line.startswith((" ", "│", "╰", "╭")) and not _HEADER.match(line):
                if not _EXCEPTION.match(line):
                    return None
                return Statement(at, self._message(), frame, aside=aside, rank=self.rank)
            self.next += 1
        return None

    def _message(self) -> str:
        """The exception line that is next, and those of its message after it."""
        taken = [self.lines[self.next][1]]
        self.next += 1
        while self.next < len(self.lines) and len(taken) < MESSAGE_LINES:
            line = self.lines[self.next][1]
            if any(pattern.match(line) for pattern in (_HEADER, _LINK, _ASIDE)) or self._stands_alone(line):
                break
            taken.append(line)
            self.next += 1
        return "\n".join(taken).strip()

    def _stands_alone(self, line: str) -> bool:
        return bool(_ERROR_LINE.match(line)) or any(sign.words.match(line) for sign in self.alone)


def _lines(log: str) -> tuple[list[str], list[str]]:
    """The lines as a terminal shows them in the end, and for each the rank that printed it (empty without one)."""
    lines, ranks = [], []
    for raw in log.split("\n"):
        line = _CONTROL.sub("", raw.rstrip("\r").rpartition("\r")[2])
        rank = _RANK.match(line)
        lines.append(line[rank.end() :] if rank else line)
        ranks.append(rank[1] if rank else "")
    return lines, ranks


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


def _line(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LAST_WORDS_LENGTH else text[: LAST_WORDS_LENGTH - 1] + "…"


def _evidence(text: str, frame: str = "") -> tuple[str, ...]:
    """The first lines of what was said, and the code that said it; without secrets."""
    lines = [line.strip()[:MESSAGE_LENGTH] for line in text.split("\n") if line.strip()]
    said = redact("\n".join(lines[:EVIDENCE_LINES])).split("\n")
    path, _, code = redact(frame[:MESSAGE_LENGTH]).partition("\n")
    where = [f"{path}: {code}" if code else path] if path else []
    return tuple(_line(line) for line in [*said, *where] if line)


@lru_cache(maxsize=1)
def _library() -> dict[str, Any]:
    return tomllib.loads(LIBRARY.read_text(encoding="utf-8"))


def _remedies() -> dict[str, str]:
    return dict(_library()["remedies"])


@lru_cache(maxsize=1)
def _signs() -> tuple[Sign, ...]:
    return tuple(_sign(**entry) for entry in _library()["sign"])


def _sign(*, words: str, frame: str = "", **rest: Any) -> Sign:
    return Sign(words=re.compile(words), frame=re.compile(frame) if frame else None, **rest)
