"""The secrets that this process has: in its environment, and where `hf auth login` keeps them."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus

from shared_memory.secret_shapes import REDACTED

_SECRET_NAME = re.compile(r"TOKEN$|_KEY$|_PAT$|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?$", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values are too likely to be part of ordinary words."""
_SHORTEST_LINE = 24
"""Characters of a line of a longer secret that is known by itself."""


class InUse:
    """Secret values, and every form in which they may be written; compared by identity."""

    def __init__(self, values: tuple[str, ...]) -> None:
        plain = {form for value in values for form in _written(value)}
        self._plain = sorted(plain, key=lambda form: (-len(form), form))
        self._coded = sorted({core for value in values for core in _in_base64(value)})

    @property
    def forms(self) -> tuple[str, ...]:
        """All that is looked for."""
        return (*self._plain, *self._coded)

    def without(self, text: str) -> str:
        """`text` with REDACTED in the place of every one of them."""
        for form in self._plain:
            if form in text:
                text = text.replace(form, REDACTED)
        for core in self._coded:
            if core in text:
                text = re.sub(rf"[A-Za-z0-9+/_-]{{0,512}}{re.escape(core)}[A-Za-z0-9+/_-]*={{0,2}}", REDACTED, text)
        return text


def in_use() -> InUse:
    """What is secret now; the same object as long as nothing has changed."""
    named = (os.environ.get(name, "") for name in os.environ if _is_secret(name))
    return _known(tuple(value for value in named if len(value) >= _SHORTEST) + _saved())


@lru_cache(maxsize=8)
def _known(values: tuple[str, ...]) -> InUse:
    return InUse(values)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _saved() -> tuple[str, ...]:
    """Tokens in the files of huggingface_hub."""
    given = map(os.environ.get, ("HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME", "HOME"))
    return tuple(token for file in _files(*given) for token in _tokens_in(file))


@lru_cache(maxsize=8)
def _files(token: str | None, hf_home: str | None, cache: str | None, _home: str | None) -> tuple[Path, Path]:
    """Where its constants place them."""
    folder = hf_home or str(Path(cache or "~/.cache") / "huggingface")
    file = Path(os.path.expandvars(token or str(Path(folder) / "token"))).expanduser()
    return file, file.with_name("stored_tokens")


def _tokens_in(file: Path) -> tuple[str, ...]:
    try:
        stat = file.stat()
    except OSError:
        return ()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int, size: int) -> tuple[str, ...]:
    """Values of the lines `token` or `name = token`; a file that cannot be read has none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    values = (line.partition("=")[2].strip() or line.strip() for line in lines)
    return tuple(value for value in values if len(value) >= _SHORTEST and " " not in value and value[0] != "[")


def _written(value: str) -> set[str]:
    """The value as text, in JSON (also within JSON), in Python, in a URL, in HTML and in hexadecimal digits."""
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    forms = set()
    for part in [value, *(line for line in lines if len(line) >= _SHORTEST_LINE)]:
        escaped = {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        forms |= {part, repr(part)[1:-1], *escaped, *(json.dumps(form)[1:-1] for form in escaped)}
        forms |= {quote(part), quote(part, safe=""), quote_plus(part), html.escape(part), part.encode().hex()}
    return forms


def _in_base64(value: str) -> set[str]:
    """What the value is in base64, wherever it stands in what was encoded: `user:value` is how HTTP sends a password.

    Without the signs at both ends, which depend on what stands beside it.
    """
    cores = set()
    for before in range(3):
        data = bytes(before) + value.encode()
        coded = base64.b64encode(data[: len(data) // 3 * 3])[4 if before else 0 :]
        if len(coded) >= _SHORTEST:
            cores |= {coded.decode(), coded.translate(bytes.maketrans(b"+/", b"-_")).decode()}
    return cores
