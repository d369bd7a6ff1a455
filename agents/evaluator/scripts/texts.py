"""Prompts on their way to answers, and the order in which they are best read."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prompts import Encoded


@dataclass(eq=False)
class Text:
    """A prompt, and what has been written after it so far."""

    asked: Encoded
    seed: int
    tokens: list[int] = field(default_factory=list)
    group: int = 0
    """Of prompts that are read together."""
    generator: Any = None

    @property
    def ids(self) -> list[int]:
        return [*self.asked.ids, *self.tokens]

    def random(self) -> float:
        """From 0 to 1, the same for this prompt whatever it shares a batch with."""
        import torch

        if self.generator is None:
            self.generator = torch.Generator().manual_seed(self.seed)
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))


def text_of(asked: Encoded, seed: int) -> Text:
    name, epoch = asked.prompt.key
    return Text(asked, int.from_bytes(hashlib.sha256(f"{seed} {epoch} {name}".encode()).digest()[:4], "big"))


def in_order(texts: Sequence[Text]) -> list[Text]:
    """By length, the longest first; but prompts that share half of what is not common to all of them (examples of one
    subject, a passage) stay together, as a group."""
    ordered = sorted(texts, key=lambda text: text.asked.ids)
    common = shared(text.asked.ids for text in ordered)
    groups: list[list[Text]] = []
    for text in ordered:
        alike = bool(groups) and shared((groups[-1][-1].asked.ids, text.asked.ids)) - common
        if alike and 2 * alike >= _length(text) - common:
            groups[-1].append(text)
        else:
            groups.append([text])
    alone = [group[0] for group in groups if len(group) == 1]
    together = [each for each in groups if len(each) > 1] + ([alone] if alone else [])
    together.sort(key=lambda group: -max(map(_length, group)))
    for number, group in enumerate(together):
        group.sort(key=_length, reverse=True)
        for text in group:
            text.group = number
    return [text for group in together for text in group]


def shared(rows: Iterable[Sequence[int]]) -> int:
    """How many tokens all rows begin with: as many as the first and the last in alphabetical order have in common."""
    listed = [list(row) for row in rows]
    first, last = min(listed), max(listed)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _length(text: Text) -> int:
    return len(text.asked.ids)
