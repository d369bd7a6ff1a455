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
_TOKENS = (
    r"(?:hf|api_org)_(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}|[a-z]{30,})",  # Hugging Face
    r"sk-(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{20,}",  # OpenAI; Anthropic's sk-ant-; OpenRouter's sk-or-
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS
    r"[sr]k_live_[A-Za-z0-9]{16,}",  # Stripe
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
    r"npm_(?=[A-Za-z]*\d)[A-Za-z0-9]{36}(?![A-Za-z0-9])",
    r"pypi-AgEI[A-Za-z0-9_-]{16,}",
    r"[0-9]{8,10}:(?=[a-z0-9_-]{0,34}[A-Z])[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",  # Telegram
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}",  # a signed JSON Web Token
    r"gh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"glpat-[A-Za-z0-9_.-]{20,}",  # GitLab
    r"xox[a-z]-[A-Za-z0-9-]{10,}",  # Slack
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"wandb_v\d_[A-Za-z0-9_]{20,}",
)
"""Keys that say by their first letters whose they are."""
_SHAPES = re.compile(
    "|".join(
        (
            _START + f"(?:{'|'.join(_TOKENS)})",
            r"(?P<account>AccountKey=)[A-Za-z0-9+/]{40,}={0,2}",  # Azure storage
            r"(?P<bearer>[Bb]earer )(?=[A-Za-z_.~+/-]{0,60}\d)[A-Za-z0-9_.~+/-]{20,}=*",
            # Weights & Biases' older keys look like a git commit: only after a name that says what they are
            r"(?P<name>(?i:api[_-]?key|wandb\w{0,20}key|\bkey|\bpassword|wandb login)[\"']?[\s:=]{1,4}[\"']?)"
            r"[0-9a-f]{40}(?![0-9A-Za-z])",
            r"(?P<label>(?:[Ss](?i:ecret_access_key)|[Aa](?i:ws_secret\w{0,12}))[\"']?\s?[:=]\s?[\"']?)"
            r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
            # a password of eight signs or more, a digit among them: in quotes, or right behind `=`; not an argument of
            # a call, which a comma or bracket follows
            r"(?P<quoted>[Pp](?i:assw(?:or)?d)[\"']?\s?[:=]\s?(?P<quote>[\"']))(?=[^\s\"']{0,60}\d)"
            r"[^\s\"'{}<>$%()\[\]]{8,}(?=(?P=quote))",
            r"(?P<set>[Pp](?i:assw(?:or)?d)=)(?=[^\s\"']{0,60}\d)[^\s\"'{}<>$%()\[\],;&.]{8,}(?![^\s;&])",
            # a key block, or what a cut text still has of one; line ends may be escaped
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[A-Za-z0-9+/=:,.\s]|-(?!-)|\\[nr]){32,}(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?",
            r"(?<=://)[^\s/:@\"'<>]*:[^\s/\"'<>]*(?=@)",  # user:password@ in a URL
        )
    )
)
_KEPT = ("bearer", "account", "name", "label", "quoted", "set")
"""Groups of _SHAPES that hold what comes before a secret."""
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
    return _SHAPES.sub(_redacted, text)


def _redacted(match: re.Match[str]) -> str:
    """What stands for a secret: the name before it, where that was what told of it, stays."""
    return next((match[group] for group in _KEPT if match[group]), "") + REDACTED


def _values_in_use() -> tuple[str, ...]:
    """Values of the environment's secret-looking variables, longest first."""
    values = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_VALUE and _SECRET_NAME.search(name)
    }
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


@lru_cache(maxsize=8)
def _any_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, secrets)))
