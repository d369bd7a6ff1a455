"""Secrets out of everything that is written down or shown: by their shape, and by their value where it is in use.

A name alone never redacts (`tokenizer.pad_token = tokenizer.eos_token` is code, not a secret), and neither does a bare
hex string (it is a digest).
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"

_START = r"(?<![A-Za-z0-9])"
_SHAPES = re.compile(
    "|".join(
        (
            _START + r"(?:hf|api_org)_(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}|[a-z]{30,})",  # Hugging Face
            _START + r"sk-(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{20,}",  # OpenAI; Anthropic's sk-ant-; OpenRouter's sk-or-
            _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS
            _START + r"gh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
            _START + r"github_pat_[A-Za-z0-9_]{20,}",
            _START + r"glpat-[A-Za-z0-9_.-]{20,}",  # GitLab
            _START + r"xox[a-z]-[A-Za-z0-9-]{10,}",  # Slack
            _START + r"AIza[A-Za-z0-9_-]{35}",  # Google
            _START + r"wandb_v\d_[A-Za-z0-9_]{20,}",  # Weights & Biases
            # its older keys look like a git commit: only after a name that says what they are
            r"(?P<name>(?i:api[_-]?key|wandb\w{0,20}key|\bkey|\bpassword|wandb login)[\"']?[\s:=]{1,4}[\"']?)"
            r"[0-9a-f]{40}(?![0-9A-Za-z])",
            # a key block, or what a cut text still has of one; line ends may be escaped
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[A-Za-z0-9+/=:,.\s]|-(?!-)|\\[nr]){32,}(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?",
            r"(?<=://)[^\s/:@\"'<>]*:[^\s/\"'<>]*(?=@)",  # user:password@ in a URL
        )
    )
)
_SECRET_NAME = re.compile(r"TOKEN$|_KEY$|SECRET|PASSWORD", re.IGNORECASE)
_SHORTEST_VALUE = 8
"""Shorter values are too likely to be part of ordinary words."""


def redact(text: str) -> str:
    """`text` without secrets."""
    return _without(text, _values_in_use())


def redact_plain(value: Any) -> Any:
    """Plain data (dicts, lists, scalars) with every text in it redacted, keys included."""
    return _walk(value, _values_in_use())


def _walk(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _without(value, secrets)
    if isinstance(value, dict):
        return {_walk(key, secrets): _walk(entry, secrets) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(entry, secrets) for entry in value]
    return value


def _without(text: str, secrets: tuple[str, ...]) -> str:
    if secrets:
        text = _any_of(secrets).sub(REDACTED, text)
    return _SHAPES.sub(lambda match: (match["name"] or "") + REDACTED, text)


def _values_in_use() -> tuple[str, ...]:
    """Values of the environment's secret-looking variables, longest first."""
    values = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_VALUE and _SECRET_NAME.search(name)
    }
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


@lru_cache(maxsize=8)
def _any_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, secrets)))
