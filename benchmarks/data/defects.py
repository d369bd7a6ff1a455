"""Faults to plant into chat rows: for each kind, what it makes of a sound row.

Each takes a row, `{"id", "messages": [user, assistant, …]}`, and a text to fill in with, and returns the line to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]

TOKEN = "hf_" + "AbCdEfGhIj0123456789KlMnOpQrStUvWx"  # no secret: it has the shape of one
MOJIBAKE = " It was the cafÃ© where we met, itâ€™s closed, the naÃ¯ve dÃ©jÃ  vu."
REFUSAL = "I'm sorry, but as an AI language model I can't help with that request."
FRENCH = (
    "Le chat de la voisine dort toute la journée devant la fenêtre, et quand le soleil se couche il se lève pour "
    "chercher quelque chose à manger dans la cuisine où les enfants ont laissé leur goûter sur la table."
)


def written(row: Row) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _answer(row: Row, text: str) -> bytes:
    row["messages"][-1]["content"] = text
    return written(row)


def _question(row: Row, text: str) -> bytes:
    row["messages"][0]["content"] = text
    return written(row)


def _said(row: Row) -> str:
    return str(row["messages"][-1]["content"])


def _system_in_the_middle(row: Row) -> bytes:
    row["messages"].insert(1, {"role": "system", "content": "Answer in one sentence."})
    return written(row)


def _tool_without_call(row: Row) -> bytes:
    row["messages"].insert(1, {"role": "tool", "content": "42", "tool_call_id": "call_1"})
    return written(row)


def _another_user_turn(row: Row) -> bytes:
    row["messages"].insert(1, {"role": "user", "content": "And please be brief about it."})
    return written(row)


def _empty_turn(row: Row) -> bytes:
    row["messages"] = [*row["messages"][:2], {"role": "user", "content": ""}, {"role": "assistant", "content": "Yes."}]
    return written(row)


def _unknown_role(row: Row) -> bytes:
    row["messages"][0]["role"] = "narrator"
    return written(row)


DEFECTS: dict[str, Callable[[Row], bytes]] = {
    "not_json": lambda row: written(row)[:-20] + b"\n",
    "not_an_object": lambda row: b'["a list", "of words"]\n',
    "not_utf8": lambda row: written(row).replace(b"messages", b"messages", 1).replace(b". ", b".\xff\xfe ", 1),
    "not_finite": lambda row: written({**row, "score": float("nan")}),
    "mixed_types": lambda row: written({**row, "score": "high"}),
    "empty": lambda row: _answer(row, ""),
    "whitespace": lambda row: _answer(row, " \n\t "),
    "unknown_role": _unknown_role,
    "no_reply": lambda row: written({**row, "messages": row["messages"][:1]}),
    "not_alternating": _another_user_turn,
    "empty_turn": _empty_turn,
    "system_position": _system_in_the_middle,
    "tool_calls": _tool_without_call,
    "mojibake": lambda row: _answer(
        row, _said(row) + " It was the cafÃ© where we met, itâ€™s closed, the naÃ¯ve dÃ©jÃ  vu."
    ),
    "control_characters": lambda row: _answer(row, _said(row) + " \x07\x08 \x1b[31m"),
    "refusals": lambda row: _answer(row, REFUSAL + " " + _said(row)[:200]),
    "urls": lambda row: _answer(row, _said(row) + " See https://example.org/path?q=1 for more."),
    "emails": lambda row: _answer(row, _said(row) + " Write to jane.doe@example.org about it."),
    "secrets": lambda row: _answer(row, _said(row) + f" export HF_TOKEN={TOKEN}"),
    "languages": lambda row: _answer(row, f"{FRENCH} {row['id']}"),
}
"""Kind of finding → what it makes of a row. Copies, leaks and long rows are planted by `chat`, which needs others."""
