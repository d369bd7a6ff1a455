"""The secrets that this process has: in its environment, and where `hf auth login` and `wandb login` keep them."""

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

_SECRET_NAME = re.compile(
    r"(?:TOKEN|(?:^|_|API)KEY|_(?:PAT|PASS|PWD|AUTH|JWT|COOKIE|DSN|WEBHOOK|WEBHOOK_URL)|CREDENTIALS?)(?:_?\d{1,2}|_ID)?$"
    r"|SECRET|PASSWORD|PASSWD|PASSPHRASE",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Shorter values are too likely to be part of ordinary words."""
_SHORTEST_LINE = 24
"""Characters of a line of a longer secret that is known by itself."""
_SHORTEST_BROKEN = 24
"""Characters of a secret that is looked for in pieces, too: a third of it is enough to be looked for."""
_BREAK = r"(?:\x1b?\[[0-9;]{0,12}m|\\+(?:[nr]|x1b|u001b|033)|[\s\0│]){0,99}+"
"""What comes between two signs of a secret where a log or a table is wrapped, or part of a line is coloured."""
_BREAKS = ("\n", "\r", "\\", "[", "\0")
"""A text without any of these has no break in it."""
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_LONGEST_BEFORE = 512
"""Signs in base64 that are removed before a secret: what was encoded with it."""


class InUse:
    """Secret values, and every form in which they may be written; compared by identity."""

    def __init__(self, values: tuple[str, ...]) -> None:
        plain = {form for value in values for form in _written(value)}
        coded = sorted({core for value in values for core in _in_base64(value)})
        self._plain = sorted(plain, key=lambda form: (-len(form), form))
        self._coded = {core: re.compile(rf"{re.escape(core)}[A-Za-z0-9+/_-]*={{0,2}}") for core in coded}
        self._broken = {
            _thirds(whole): _in_pieces(whole) for whole in (*values, *coded) if len(whole) >= _SHORTEST_BROKEN
        }

    @property
    def forms(self) -> tuple[str, ...]:
        """What a text holds that has one of them in it; at least one of these."""
        return (*self._plain, *self._coded, *(third for thirds in self._broken for third in thirds))

    def without(self, text: str) -> str:
        """`text` with REDACTED in the place of every one of them."""
        for form in self._plain:
            if form in text:
                text = text.replace(form, REDACTED)
        for core, coded in self._coded.items():
            if core in text:
                text = _without_coded(text, coded)
        for thirds, broken in self._broken.items() if any(sign in text for sign in _BREAKS) else ():
            if any(third in text for third in thirds):
                text = broken.sub(REDACTED, text)
        return text


def in_use() -> InUse:
    """What is secret now; the same object as long as nothing has changed."""
    named = (os.environ.get(name, "").strip() for name in os.environ if _is_secret(name))
    return _known(tuple(value for value in named if len(value) >= _SHORTEST) + _saved())


@lru_cache(maxsize=8)
def _known(values: tuple[str, ...]) -> InUse:
    return InUse(values)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _saved() -> tuple[str, ...]:
    """Tokens in the files of huggingface_hub, and passwords in .netrc, where Weights & Biases' key is."""
    given = map(os.environ.get, ("HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME", "NETRC", "HOME"))
    return tuple(token for file in _files(*given) for token in _tokens_in(file))


@lru_cache(maxsize=8)
def _files(
    token: str | None, hf_home: str | None, cache: str | None, netrc: str | None, _home: str | None
) -> tuple[Path, ...]:
    """Where their makers place them."""
    folder = hf_home or str(Path(cache or "~/.cache") / "huggingface")
    file = Path(os.path.expandvars(token or str(Path(folder) / "token"))).expanduser()
    return file, file.with_name("stored_tokens"), Path(netrc or "~/.netrc").expanduser()


def _tokens_in(file: Path) -> tuple[str, ...]:
    try:
        stat = file.stat()
    except OSError:
        return ()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int, size: int) -> tuple[str, ...]:
    """Values of `token`, `name = token` or `… password token`; a file that cannot be read has none."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    lines = (line.partition("=")[2].strip() or line.strip() for line in text.splitlines())
    values = re.findall(r"\bpassword\s+(\S+)", text) if re.search(r"^\s*(?:machine|default)\s", text, re.M) else lines
    return tuple(value for value in values if len(value) >= _SHORTEST and " " not in value and value[0] != "[")


def _written(value: str) -> set[str]:
    """The value as text, in JSON (also within JSON), in Python, in a URL, in HTML, in digits, in UTF-16, backwards."""
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    forms = set()
    for part in [value, *(line for line in lines if len(line) >= _SHORTEST_LINE)]:
        escaped = {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        forms |= {part, repr(part)[1:-1], *escaped, *(json.dumps(form)[1:-1] for form in escaped)}
        forms |= {part.replace("/", "\\/"), html.escape(part), part.encode().hex(), part.encode().hex().upper()}
        quoted = {quote(part), quote(part, safe=""), quote_plus(part)}
        forms |= quoted | {re.sub("%..", lambda sign: sign[0].lower(), form) for form in quoted}
        forms |= {part[::-1], *(zero.join(part) for zero in ("\0", "\\0", "\\x00", "\\u0000"))}
    return forms


def _thirds(whole: str) -> tuple[str, str, str]:
    """Where two breaks cut a secret, one of these is whole."""
    third = len(whole) // 3
    return whole[:third], whole[third : 2 * third], whole[2 * third :]


def _in_pieces(whole: str) -> re.Pattern[str]:
    return re.compile(_BREAK.join(re.escape(sign) for sign in whole if not sign.isspace()))


def _without_coded(text: str, coded: re.Pattern[str]) -> str:
    """`text` without what stands in base64 around each of these; in one pass, however long it is."""
    pieces, at = [], 0
    for match in coded.finditer(text):
        before = text[max(at, match.start() - _LONGEST_BEFORE) : match.start()]
        pieces += [text[at : match.start() - len(before)], before.rstrip(_BASE64), REDACTED]
        at = match.end()
    return "".join([*pieces, text[at:]])


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
