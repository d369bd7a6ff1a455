"""A scripted researcher, for the papers that `literature` serves."""

from __future__ import annotations

from typing import Any

from tests.servers.literature_pages import GRPO
from tests.servers.openai_chat import Request, Says

QUESTION = "GRPO for small models on GPQA"
ROW = "| SFT | 30.4 | 28.0 | 71.2 |"
EVIL = "<script>alert(1)</script> [click](https://evil.example/) | ![x](https://evil.example/p.png) \u202e"
"""Words from outside that would do something where a page is shown."""


def calls(name: str, **arguments: Any) -> Says:
    """One call of a tool."""
    return Says("", calls=((name, arguments),))


def results(request: Request) -> list[str]:
    """What its calls of tools came to so far."""
    return [str(message["content"]) for message in request.messages if message["role"] == "tool"]


def researcher(request: Request) -> Says:
    """A script for `openai_chat`: reads a table, files a row, and hands in a summary with a recipe that rests on it."""
    done = results(request)
    filed = [text.split("Filed as ")[1].split(".\n")[0].rstrip(".") for text in done if "Filed as" in text]
    if not done:
        return calls("search_papers", query=QUESTION)
    if len(done) == 1:
        return calls("read_paper", paper=GRPO, section="Table 4")
    if not filed:
        return calls(
            "record_finding", claim=f"SFT alone reaches 30.4 on GPQA main {EVIL}", source=GRPO, quotation=ROW,
            number=30.4, benchmark="GPQA", section="Table 4", confidence="high",
        )  # fmt: skip
    recipe = {
        "method": "grpo", "id": "after-sft", "findings": filed, "reason": "SFT first", "cost": "3 GPU hours",
        "risk": "five seeds only",
    }  # fmt: skip
    remembered = {"id": "blog", "claim": "higher ranks do not help", "source": "a blog"}
    return calls("hand_in", summary=f"SFT is the start [{filed[0]}].", findings=[remembered], recipes=[recipe])
