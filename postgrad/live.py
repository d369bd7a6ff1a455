"""What a model is saying right now, from the process that drives a run to the terminals that watch it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_live(path: Path, event: Mapping[str, Any]) -> None:
    """Put an event in the place of the one before it; one that cannot be written is not missed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        part.write_text(json.dumps(event, ensure_ascii=False), encoding="utf-8")
        part.replace(path)


class Live:
    """Reads these events, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0

    def newest(self) -> dict[str, Any] | None:
        """The event that was written since the last look; None where there is none."""
        try:
            written = self._path.stat().st_mtime_ns
            if written == self._seen:
                return None
            event = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        self._seen = written
        return event if isinstance(event, dict) else None
