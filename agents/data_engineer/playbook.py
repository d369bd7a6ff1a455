"""The data engineer without a language model: rules for where the training rows come from."""

from __future__ import annotations

import math

from agents.brain import Brief
from agents.data_engineer.proposal import EXACT_ONLY, NEAR_DUPLICATES, DataProposal, Generate
from shared_memory.errors import BadInput
from shared_memory.records import Recipe

HEAD_ROOM = 1.2
"""Rows generated for each row wanted: de-duplication and decontamination take some away."""
SMALL_MODEL = 1e9
"""Parameters below which a model computes the right value and names the wrong letter (docs/measurements.md)."""


def propose(brief: Brief) -> DataProposal:
    """Generate rows, or name the files to train on.

    Raises BadInput where the goal has neither training files nor a generator, or forbids the one that is needed.
    """
    data = brief.goal.data
    place = brief.parameters < SMALL_MODEL
    best = next(iter(brief.recipes.values()), Recipe.model_validate({"id": "default", "method": brief.method}))
    if data.train and data.synthesise != "always":
        return DataProposal(
            sources=data.train,
            method=best.method,
            near_duplicate_threshold=NEAR_DUPLICATES,
            place_choice=place,
            why="the goal brings its training data",
        )
    if brief.generated:
        return DataProposal(
            sources=data.train + brief.generated,
            method=best.method,
            # Rows of one template share most of their words, and two of them are still two questions.
            near_duplicate_threshold=NEAR_DUPLICATES if data.train else EXACT_ONLY,
            rows=None if data.train else best.train_rows,
            place_choice=place,
            why="the goal's files and the generated rows" if data.train else "the generated rows",
        )
    if data.synthesise == "never":
        raise BadInput(
            "there is nothing to train on: `data.train` is empty and `data.synthesise` is never; name a file"
        )
    if not data.generator:
        need = "`data.synthesise` is always" if data.train else "`data.train` is empty"
        raise BadInput(f"{need} and there is no `data.generator`; name a file to train on or a script that writes rows")
    return DataProposal(
        generate=Generate(script=data.generator, rows=math.ceil(best.train_rows * HEAD_ROOM), seed=brief.goal.run.seed),
        near_duplicate_threshold=EXACT_ONLY,
        method=best.method,
        rows=best.train_rows,
        why=f"{best.train_rows} rows for the recipe, and {HEAD_ROOM - 1:.0%} more for what cleaning removes",
    )
