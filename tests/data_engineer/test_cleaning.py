"""What the text of rows is cleaned of, and what is left as it is."""

from __future__ import annotations

import pytest

from agents.data_engineer.cleaning import (
    drop_emails,
    drop_refusals,
    drop_secrets,
    drop_urls,
    repair_text,
)
from agents.data_engineer.formats.rows import Message, Row


def row(reply: str, prompt: str = "What?") -> Row:
    return Row(
        id=reply[:9], question=prompt, prompt=(Message("user", prompt),), completion=(Message("assistant", reply),)
    )


FINE = [row("It costs 5 €, “naïve” or not.\n\tNext line."), row("日本語"), row("café"), row("x² ≤ 4"), row("🎉")]


def replies(rows: list[Row]) -> list[str]:
    return [row.completion[0].content for row in rows]


def test_wrong_decoding_is_mended_control_characters_go_and_right_text_stays_to_the_byte() -> None:
    broken = [row("cafÃ©"), row("a\x00b\x1b[31mred\x1b[0m\u200b\ufeff"), row("fine", prompt="Itâ€™s?")]
    kept, step = repair_text([*FINE, *broken])
    assert kept[: len(FINE)] == FINE
    assert replies(kept[len(FINE) :]) == ["café", "abred\u200b", "fine"]
    assert (kept[-1].prompt[0].content, kept[-1].question) == ("It’s?", "It’s?")
    assert (step.rows_in, step.rows_out) == (8, 8)
    assert step.note.startswith("3 rows changed")
    call = Message("assistant", "", tool_calls='[{"function": {"name": "say", "arguments": {"a": "cafÃ©"}}}]')
    (mended,), step = repair_text([Row(id="t", question="Say.", completion=(call,))])
    assert mended.completion[0].tool_calls == call.tool_calls.replace("cafÃ©", "café")
    assert step.note.startswith("1 rows changed")
    choice = Row(id="c", question="Q", choices=("Ã©", "b"), answer="A", explanation="\x07bell")
    assert repair_text([choice])[0] == [Row(id="c", question="Q", choices=("é", "b"), answer="A", explanation="bell")]


def test_rows_with_secrets_go_and_code_about_tokens_stays() -> None:
    leak = row("Use hf_" + "aB3" * 11 + " to log in.")
    kept, step = drop_secrets([leak, row("tokenizer.pad_token = tokenizer.eos_token"), row("a" * 64)])
    assert (len(kept), leak in kept, step.name) == (2, False, "drop_secrets")


@pytest.mark.parametrize(
    "leak",
    [
        "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "SG." + "aB3-" * 5 + "." + "aB3_" * 10,
        "npm_" + "a1B2" * 9,
        "pypi-" + "AgEIcHlwaS5vcmc" + "aB3_" * 20,
        "1234567890:" + "AAE" + "aB3_" * 8,
        "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + "aB3-" * 10,
        "AccountKey=" + "aB3+" * 21,
        "Authorization: bearer " + "aB3." * 10,
        "Aws_Secret_Access_Key: '" + "aB3+" * 10 + "'",
        'my_Password : "hunter2hunter"',
        "passwd=hunter2hunter",
    ],
)
def test_every_kind_of_secret_is_met_before_it_is_looked_at_closely(leak: str) -> None:
    assert drop_secrets([row(f"Log in by {leak} now.")])[0] == []


def test_refusals_and_addresses_go_where_that_is_asked_for() -> None:
    rows = [row("I'm sorry, but I can't help with that."), row("As an AI language model, I …"), row("I can't swim."),
            row("See https://example.org"), row("Write to ann@example.org")]  # fmt: skip
    assert replies(drop_refusals(rows)[0]) == replies(rows[2:])
    assert replies(drop_urls(rows)[0]) == replies([*rows[:3], rows[4]])
    assert replies(drop_emails(rows)[0]) == replies(rows[:4])
