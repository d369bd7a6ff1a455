"""Reading a job's log from a file that the job may still be writing."""

from __future__ import annotations

from pathlib import Path

LOG_PIECE = 2**20
"""Bytes of log that one call returns, unless a single line is longer."""
LOG_TAIL = 2**16
"""Bytes from the end of a log that are searched for the cause of a failure."""


def piece_of(log: Path, offset: int, ended: bool) -> tuple[str, int]:
    """The log from byte `offset` on, and the offset to go on from; whole lines only until the job has ended.

    ended: as it was before this call; what a job printed before it was seen to have ended is all there is.
    """
    if not log.exists():
        return "", offset
    with log.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(LOG_PIECE)
        if b"\n" not in data:
            data += stream.readline()
        at_end = not stream.read(1)
    if not (ended and at_end):
        data = data[: data.rfind(b"\n") + 1]
    return data.decode(errors="replace"), offset + len(data)


def tail_of(log: Path) -> str:
    """The end of a log; empty where there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LOG_TAIL))
        return stream.read().decode(errors="replace")
