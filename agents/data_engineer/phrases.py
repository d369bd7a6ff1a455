"""Phrases by which a reply declines, or tells that a language model wrote it."""

from __future__ import annotations

import polars as pl

OPENING = 200
"""Characters of a reply in which it declines if it does."""
DECLINING = (
    "i'm sorry, but i can't", "i'm sorry, but i cannot", "i'm sorry, but i'm not able", "i'm sorry, but i'm unable",
    "i am sorry, but i can't", "i am sorry, but i cannot", "i am sorry, but i am unable", "sorry, but i can't",
    "sorry, i can't", "sorry, i cannot", "i apologize, but i can't", "i apologize, but i cannot",
    "i apologize, but i'm unable", "i can't help with that", "i cannot help with that", "i can't assist with",
    "i cannot assist with", "i'm unable to assist", "i am unable to assist", "i'm not able to assist",
    "i can't fulfill", "i cannot fulfill", "i cannot provide assistance", "i can't comply", "i cannot comply",
    "i won't be able to help", "i must decline", "i can't provide information on", "i cannot provide information on",
    "i can't continue with", "i'm not comfortable",
)  # fmt: skip
"""Said of what was asked, in the opening of a reply [cf. the refusal filters of Tülu 3 and LMSYS-Chat]."""
SPEAKING_AS_AN_AI = (
    "as an ai language model", "as a large language model", "as an ai assistant", "as an ai, i",
    "as a language model, i",
    "i'm just an ai", "i am just an ai", "i'm an ai language model", "i am an ai language model",
    "my knowledge cutoff", "my last knowledge update", "as of my last update", "trained by openai",
    "developed by openai", "created by openai", "developed by anthropic", "created by anthropic",
    "openai's content policy",
)  # fmt: skip
"""Said anywhere in a reply."""


def refuses(replies: pl.Series) -> pl.Series:
    """For each reply whether it declines or speaks of being an AI; case and the shape of apostrophes do not count."""
    openings = replies.str.slice(0, OPENING).str.replace_all("’", "'", literal=True)
    return openings.str.contains_any(list(DECLINING), ascii_case_insensitive=True) | replies.str.contains_any(
        list(SPEAKING_AS_AN_AI), ascii_case_insensitive=True
    )
