"""Puts files into a folder of this machine: all or nothing, and never over something that is not ours."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from agents.publishing.cards import CARD, mark_of
from agents.publishing.to_hub import Files
from shared_memory.errors import BadInput, Unavailable
from shared_memory.run_paths import write_atomically


def place(build: Callable[[Path], Files], folder: Path, is_ours: Callable[[str], bool]) -> Path:
    """Put the files that `build` makes in a folder it is given into `folder`; what is the same stays untouched.

    Files there that `is_ours` says an earlier publication made go; others stay. Raises BadInput where `folder` holds
    something else, and Unavailable where it cannot be written.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder")
    is_new = not folder.exists() or not any(folder.iterdir())
    if not is_new and not _mark(folder / CARD):
        raise BadInput(f"{folder} holds something else; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            files = build(Path(beside) / "whole")
            if is_new:
                (Path(beside) / "whole").rename(folder)
            else:
                _replace(files, folder, is_ours)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written ({error.strerror or error}); make room, run again") from error
    return folder


def _mark(card: Path) -> str:
    return mark_of(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else ""


def _replace(files: Files, folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Bring a folder of ours up to date. The card goes first: it is what a run after a crash knows the folder by."""
    if _mark(folder / CARD) != _mark(files[CARD]):
        write_atomically(folder / CARD, files[CARD].read_bytes())
    for name, file in files.items():
        there = folder / name
        if name != CARD and not (there.is_file() and _digest(there) == _digest(file)):
            there.parent.mkdir(parents=True, exist_ok=True)
            file.replace(there)
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for left in held - files.keys():
        if is_ours(left):
            (folder / left).unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
