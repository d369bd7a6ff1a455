"""Where a text is cut: the part of a secret that is left would not be known as one."""

from __future__ import annotations

from typing import Any

import pytest

from agents.tools import offer
from agents.words import LONGEST_TAIL, Words
from shared_memory.redaction import REDACTED

TOKEN = "Zq7" + "k3Xw9" * 6


@pytest.fixture(autouse=True)
def _in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)


def test_the_end_of_what_a_model_says_has_no_secret_whose_name_was_cut_off() -> None:
    told: list[dict[str, Any]] = []
    words = Words(lambda kind, **fields: told.append(fields), "trainer", "openai/x")
    secret = "= aB3dE5gH7jK9mN1pQ2 "
    words(f"MY_TOKEN {secret}" + "x" * (LONGEST_TAIL - len(secret) - 2) + " \n")
    assert told[0]["text"].endswith("xxx")
    assert "aB3dE5gH" not in told[0]["text"]


def test_the_answer_of_a_tool_ends_in_no_secret() -> None:
    text = offer.text_of("x" * (offer.LONGEST_ANSWER - 24) + " " + TOKEN)
    assert TOKEN[:8] not in text
    assert text.endswith(REDACTED)
