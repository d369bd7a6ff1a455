"""Secrets out of everything that is written down or shown: by their shape, and by their value where it is in use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from shared_memory.secret_shapes import REDACTED as REDACTED
from shared_memory.secret_shapes import SHAPES, SUSPECT
from shared_memory.tokens_in_use import InUse, in_use

SHORT, LONGEST_KEPT = 256, 2**16
"""Characters of texts whose redacted form is kept in memory: a conversation is sent again at every turn of it."""


def redact(text: str) -> str:
    """`text` without secrets."""
    return _without(text, in_use())


def redact_plain(value: Any) -> Any:
    """Plain data (dicts, lists, scalars) with every text in it redacted, keys included."""
    return _walk(value, in_use())


def suspect() -> str:
    """An expression, in the words of Rust's engine too, that every text meets that `redact` would change."""
    return "|".join([SUSPECT, *map(re.escape, in_use().forms)])


def _walk(value: Any, known: InUse) -> Any:
    if isinstance(value, str):
        return _without(value, known)
    if isinstance(value, dict):
        return {_walk(key, known): _walk(entry, known) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(entry, known) for entry in value]
    return value


def _without(text: str, known: InUse) -> str:
    if len(text) <= SHORT:
        return _remembered_short(text, known)
    return _remembered(text, known) if len(text) <= LONGEST_KEPT else _cleaned(text, known)


def _cleaned(text: str, known: InUse) -> str:
    text = known.without(text)
    for shape in SHAPES:
        text = shape.without(text)
    return text


_remembered_short = lru_cache(maxsize=4096)(_cleaned)
_remembered = lru_cache(maxsize=512)(_cleaned)
