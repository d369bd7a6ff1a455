"""What a person types in at a terminal: a line, or a text in their editor; Ctrl-C is heard at once."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from shared_memory.errors import PostgradError


class EditorError(PostgradError):
    """The editor could not be started, or failed."""


def read_line(stream: TextIO | None) -> str:
    """A line from `stream`, or from the keyboard where it is None; raises EOFError at the end.

    Ctrl-C at the keyboard raises KeyboardInterrupt at once.
    """
    if stream is None:
        with _interrupts(signal.default_int_handler):
            return input()
    line = stream.readline()
    if not line:
        raise EOFError
    return line


@contextmanager
def _interrupts(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Lets `handler` answer Ctrl-C, at once: importing polars puts a handler below Python's that input() waits out."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def edit_text(text: str, suffix: str) -> str | None:
    """`text` as changed in $VISUAL or $EDITOR (else vi); None where nothing was saved.

    Raises EditorError where the editor cannot be started, fails, or leaves no text.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="postgrad-") as folder:
        path = Path(folder) / f"edit{suffix}"
        path.write_text(text, encoding="utf-8")
        try:
            # On stderr, where the prompt is: stdout may be a file that waits for the JSON.
            with _interrupts(lambda signum, frame: None):  # there, Ctrl-C is the editor's
                subprocess.run([*shlex.split(editor), str(path)], check=True, stdout=2)
            written = path.read_text(encoding="utf-8")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            cause = f"exit code {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else error
            how = "set $VISUAL, or else $EDITOR, to the one to use"
            raise EditorError(f"the editor `{editor}` failed ({cause}); {how}") from error
    return None if written == text else written
