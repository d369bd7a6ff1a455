"""Chat rows with nothing wrong with them, no two alike: what faults are planted into."""

from __future__ import annotations

import random
import re
from typing import Any

WORDS = tuple(
    re.findall(
        r"\w+",
        "the river runs slowly past an old mill where three women sell bread fruit and warm soup every morning "
        "before children walk to school along a narrow road that follows green hills into small valleys while "
        "farmers carry hay from their fields toward wooden barns under grey clouds which bring rain snow or "
        "sometimes bright clear weather for many quiet days until autumn winds blow leaves across empty gardens "
        "near our house beside tall trees ",
    )
)
Chat = dict[str, Any]


def sentence(rng: random.Random, length: int) -> str:
    """English-looking, and never the same again."""
    return " ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "."


def chat(question: str, *turns: str, **columns: Any) -> Chat:
    """A row of OpenAI's format, user and assistant in turn."""
    said = (question, *turns)
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)], **columns}


def sound_rows(count: int, seed: int = 0) -> list[Chat]:
    """`count` rows of one exchange each."""
    rng = random.Random(seed)
    return [chat(sentence(rng, 12)[:-1] + "?", f"{sentence(rng, 14)} {sentence(rng, 17)}") for _ in range(count)]
