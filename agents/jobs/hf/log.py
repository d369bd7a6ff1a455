"""The log of a job on HF Jobs, kept here: the Hub has no offset, and every read of it starts at the first line.

A stream may say nothing for long, break, or freeze while the job goes on; so threads read it, and whoever wants the log
reads the file. Any number of readers may append to it: each line has its place.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agents.jobs.hf.client import Passing, hub_api, hub_errors
from agents.jobs.hf.notes import Note
from agents.jobs.hf.staging import kept_log
from shared_memory.errors import PostgradError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG, COMPLETE = "log.txt", "log.complete"
"""The log, and a mark beside it: nothing is ever added any more."""


class NothingKept(Passing):
    """A job has ended well, and the repository does not have what it kept: not yet, or not any more."""


_reading: dict[Path, tuple[threading.Thread, float]] = {}
"""Log → the thread of this process that reads it or read it last, and when it began."""


def read_on(note: Note, log: Path, every: float) -> None:
    """Have the log brought up to date, unless that is being done, or was begun less than `every` seconds ago."""
    thread, began = _reading.get(log, (None, 0.0))
    if thread is not None and (thread.is_alive() or time.monotonic() < began + every):
        return

    def read() -> None:
        with suppress(PostgradError, OSError):  # the next read begins at the first line again
            _copy(hub_api(), note, log)

    thread = threading.Thread(target=read, name=f"log of {note.key}", daemon=True)
    _reading[log] = thread, time.monotonic()
    thread.start()


def finish(api: HfApi, note: Note, repo_id: str, log: Path, *, well: bool) -> None:
    """Bring in the rest of the log of a job that has ended, as keep.py wrote it down.

    A job that did not end `well` may have been killed before it could keep all of it: its stream has the rest. Raises
    Passing while what must be there cannot be had, NothingKept where it is not there.
    """
    kept = kept_log(api, repo_id, note.key, log.parent)
    if well and kept is None:
        raise NothingKept(
            f"job {note.backend_id} is said to have ended well, and has kept nothing in {repo_id}; look at it there"
        )
    if not well:
        try:
            _copy(api, note, log)
        except PostgradError as error:  # of a job that never started there is no log at all
            if kept is None and isinstance(error, Passing):
                raise
    _complete(log, kept or b"")


def _copy(api: HfApi, note: Note, log: Path) -> None:
    """Append what the stream has and is not here yet."""
    with hub_errors(f"reading the log of job {note.backend_id}"):
        _append(log, api.fetch_job_logs(job_id=note.job_id, namespace=note.namespace, follow=False))


def _append(log: Path, lines: Iterable[str]) -> None:
    """Append to `log` those of `lines`, which begin with the first one ever, that it does not hold yet."""
    position = 0
    with log.open("ab") as stream:
        for line in lines:
            data = line.encode() + b"\n"
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                if log.with_name(COMPLETE).exists():
                    return
                there = os.fstat(stream.fileno()).st_size
                stream.write(data[max(0, there - position) :])
                stream.flush()
            finally:
                fcntl.flock(stream, fcntl.LOCK_UN)
            position += len(data)


def _complete(log: Path, whole: bytes) -> None:
    """Append the lines of `whole` that `log` lacks at its end, for good."""
    lines = _lines(whole)
    with log.open("ab+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        stream.write(b"".join(line + b"\n" for line in lines[_overlap(_lines(stream.read()), lines) :]))
        stream.flush()
        log.with_name(COMPLETE).touch()


def _overlap(here: list[bytes], whole: list[bytes]) -> int:
    """How many of the first lines of `whole` are here; what the platform itself may have printed stands before them."""
    for begin, line in enumerate(here):
        if whole[:1] == [line]:
            both = min(len(here) - begin, len(whole))
            if here[begin : begin + both] == whole[:both]:
                return both
    return 0


def _lines(text: bytes) -> list[bytes]:
    return text.removesuffix(b"\n").split(b"\n") if text else []
