"""What the data engineer proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from agents.brain import Proposal
from shared_memory.records import Record

EXACT_ONLY = 1.0
"""The `near_duplicate_threshold` that removes exact duplicates and no others."""
NEAR_DUPLICATES = 0.7
"""Jaccard similarity of word 5-grams; the usual threshold (text-dedup, datatrove)."""


class Generate(Record):
    """Rows to be written by a generator."""

    script: str
    """Path of the generator."""
    rows: int = Field(ge=1)
    seed: int = Field(ge=0)


class DataProposal(Proposal):
    """Which rows to train on, and what is to be done to them: first they are generated, or they are at hand."""

    generate: Generate | None = None
    sources: tuple[str, ...] = ()
    """Files to make the data set of."""
    method: Literal["sft", "dpo"] = "sft"
    """What the data set is to train: `dpo` takes preference pairs, `sft` of such pairs the chosen replies."""
    balance_letters: bool = True
    """Whether the right choices are spread evenly over the letters."""
    near_duplicate_threshold: float = Field(default=NEAR_DUPLICATES, gt=0, le=1)
    """Jaccard similarity of word 5-grams from which a row is a duplicate; 1 stands for exact duplicates only."""
    place_choice: bool = False
    """Whether an explanation that ends in the right choice says what follows it in the list, before the letter."""
    rows: int | None = Field(default=None, ge=1)
    """Rows to keep at most; None keeps them all."""
    why: str = ""

    @model_validator(mode="after")
    def _either_generates_or_reads(self) -> Self:
        if (self.generate is None) != bool(self.sources):
            raise ValueError("a data proposal has either `generate` or `sources`")
        return self

    @model_validator(mode="after")
    def _names_each_file_once(self) -> Self:
        """Rows are known by the place of their file: those of a second copy would go by other ids."""
        twice = [source for source in self.sources if self.sources.count(source) > 1]
        if twice:
            raise ValueError(f"`sources` names {twice[0]!r} twice; name it once")
        return self

    def summary(self) -> str:
        if self.generate is not None:
            return f"write {self.generate.rows} rows with {Path(self.generate.script).name}: {self.why}"
        return f"make the data set from {', '.join(Path(source).name for source in self.sources)}: {self.why}"
