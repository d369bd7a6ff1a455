"""What a data set can be made without, to learn what it is worth: its sources, and steps of its making.

Never the search for benchmark items, nor that for secrets, nor what takes out rows that cannot be trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from agents.data_engineer.formats.tables import Row, Table
from agents.data_engineer.proposal import DataProposal
from shared_memory.ablations import Variant
from shared_memory.records import DatasetRecord, Step

HALF = "half_of_the_rows"
PLACE = "place_choice"
LETTERS = "balance_letters"
STEPS = {
    LETTERS: "letter balancing",
    "drop_near_duplicates": "the removal of near-duplicates",
    "drop_exact_duplicates": "the removal of exact duplicates",
    "drop_ambiguous": "the removal of ambiguous rows",
    "drop_identical_pairs": "the removal of identical pairs",
    "repair_text": "the repair of texts",
    "mix": "the mixture by weight",
    PLACE: "the place of the right choice in explanations",
    HALF: "half of the rows",
}
"""Part → what a person calls it, in the order in which they are looked at."""
FEWEST = 100
"""Rows from which half of them still train anything."""


def variants_of(record: DatasetRecord) -> Iterator[Variant]:
    """The data set without each part that had a hand in it; nothing of a record that does not tell how it was made."""
    if not record.making:
        return
    proposal = DataProposal.model_validate(record.making["proposal"])
    parts = [(source, PurePath(source).name) for source in proposal.sources if len(proposal.sources) > 1]
    parts += [(part, words) for part, words in STEPS.items() if _had_a_hand(part, record, proposal)]
    for part, words in parts:
        if part not in record.without:
            yield Variant(part=part, kind="data", change=f"without {words}", without=(*record.without, part))


def _had_a_hand(part: str, record: DatasetRecord, proposal: DataProposal) -> bool:
    """Whether a part has taken rows out, or changed some: what did nothing is worth nothing."""
    steps = {step.name: step for step in record.steps}
    choices = LETTERS in steps and any(letter in steps[LETTERS].note for letter in ("A ", "B "))
    match part:
        case "place_choice":
            return proposal.place_choice and choices
        case "balance_letters":
            return choices
        case "half_of_the_rows":
            return record.rows >= FEWEST
        case "repair_text":
            return part in steps and bool(steps[part].note)
        case "mix":
            return part in steps
    return part in steps and steps[part].rows_out < steps[part].rows_in


def without_source(rows: Sequence[Row], tables: Sequence[Table], source: str) -> tuple[list[Row], Step]:
    """The rows that are not from one of the proposal's sources."""
    kept = [row for row in rows if source_of(row, tables) != source]
    return kept, Step(name="leave_out", rows_in=len(rows), rows_out=len(kept), note=source)


def source_of(row: Row, tables: Sequence[Table]) -> str:
    """The source that a row is from, as the proposal names it: ids begin with the place of the file."""
    return tables[int(row.id.partition(":")[0]) - 1].source.given
