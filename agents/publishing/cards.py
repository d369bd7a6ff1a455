"""What the cards of all publications share: how they are rendered, how ours are known, and what a licence allows."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_memory.redaction import redact

if TYPE_CHECKING:
    from jinja2 import Template

CARD = "README.md"
UNKNOWN = frozenset({"", "unknown", "other"})
"""Licences that say nothing."""
_FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/,;:|]+/)+")
"""The folders of an absolute path: they tell of a machine, not of what is published."""
_MARK = re.compile(r"^<!-- made by postgrad; the rest of this file was (?P<digest>[0-9a-f]{64}) -->$", re.MULTILINE)
_FORBIDS = re.compile(r"\bnd\b|no.?deriv|all.rights.reserved|proprietary|no.?redistribution", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""A licence as the Hub's metadata name it."""


def rendered(template: Path, **values: Any) -> str:
    """A card without secrets. The same values give the same text, and its last line marks it as ours (`mark_of`)."""
    text = redact(_template(template).render(**values))
    return f"{text}\n<!-- made by postgrad; the rest of this file was {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def mark_of(card: str) -> str:
    """The digest by which a card of ours says what it was rendered as, edited since or not; empty for another's."""
    match = _MARK.search(card)
    return match["digest"] if match else ""


def licences(licence: str) -> list[str]:
    """The licences of a record, without those that say nothing."""
    names = (name.strip() for name in re.split(r"[,;]| and ", licence))
    return [name for name in names if name.lower() not in UNKNOWN]


def forbidding(licence: str) -> list[str]:
    """The licences among them that do not let changed copies be shared."""
    return [name for name in licences(licence) if _FORBIDS.search(name)]


def licence_metadata(licence: str) -> dict[str, Any]:
    """The licence in a card's front matter [huggingface.co/docs/hub/repositories-licenses]."""
    names = licences(licence)
    known = [name.lower() for name in names if _NAME.fullmatch(name.lower())]
    if len(known) < len(names) or not names:
        return {"license": "other", "license_name": ", ".join(names)} if names else {"license": "unknown"}
    return {"license": known[0] if len(known) == 1 else known}


def without_folders(text: str) -> str:
    """`text` with the names of files alone, where it has absolute paths."""
    return _FOLDERS.sub("", text)


def one_line(value: str) -> str:
    """Words that others wrote, as text of one line that is no markup, no table cell's end and no path of ours."""
    line = without_folders(" ".join(redact(value).split()))  # a secret with a backslash in it is no longer known
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line).replace("\\<", "&lt;")


@cache
def _template(path: Path) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - Markdown
    environment.filters |= {"yaml": json.dumps, "text": one_line}
    return environment.from_string(path.read_text(encoding="utf-8"))
