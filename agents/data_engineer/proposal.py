"""What the data engineer proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from agents.brain import Proposal
from agents.data_engineer.formats.methods import Method
from shared_memory.records import Record

EXACT_ONLY = 1.0
"""The `near_duplicate_threshold` that removes exact duplicates and no others."""
NEAR_DUPLICATES = 0.7
"""Jaccard similarity of word 5-grams; the usual threshold (text-dedup, datatrove)."""


Verification = Literal["computed", "majority", "judge"]
"""How rows that were written for this run are checked. `computed`: every calculation that a row shows must come out.
`majority`: what a model answers most often, asked several times without seeing the answer, must be the row's.
`judge`: a model reads question and answer and says whether they are right."""


class Generate(Record):
    """Rows to be written: by a script that computes them, or by a language model."""

    script: str = ""
    """Path of the generator; empty where a teacher writes."""
    teacher: str = ""
    """LiteLLM name of the model that writes; empty where a script does."""
    program: str = Field(default="", max_length=60_000)
    """Python source of a generator that the data engineer's model wrote, in place of a teacher that writes each row."""
    rows: int = Field(ge=1)
    seed: int = Field(ge=0)
    verify: Verification = "computed"

    @model_validator(mode="after")
    def _has_one_writer(self) -> Self:
        if sum(map(bool, (self.script, self.teacher, self.program))) != 1:
            raise ValueError("rows are written by a `script`, by a `teacher` or by a `program`")
        return self

    @property
    def writer(self) -> str:
        """Who writes, in a few words."""
        return self.teacher or Path(self.script).name or "a program of its own"


class PublishProposal(Proposal):
    """Which data set goes where."""

    dataset: str
    """Its id."""
    to: str
    """A Hub data set, or a folder."""
    private: bool = True

    def summary(self) -> str:
        return f"publish data set {self.dataset} to {self.to}"


class DataProposal(Proposal):
    """Which rows to train on, and what is to be done to them: first they are generated, or they are at hand."""

    generate: Generate | None = None
    sources: tuple[str, ...] = ()
    """Files to make the data set of."""
    method: Method = "sft"
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
            return f"write {self.generate.rows} rows with {self.generate.writer}: {self.why}"
        return f"make the data set from {', '.join(Path(source).name for source in self.sources)}: {self.why}"
