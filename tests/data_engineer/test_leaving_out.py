"""Data sets without a part of their making: what can be left out, what it changes, and what never is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.data_engineer.contamination.decontaminate import BenchmarkText
from agents.data_engineer.leaving_out import variants_of
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import DataProposal
from agents.data_engineer.remake import make_again
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord
from tests.data_engineer.rows import force_row, force_rows, read_jsonl, write_jsonl

LEAKED = force_row(50, 3)
BENCHMARK = [BenchmarkText("quick", "i1", LEAKED["Question"], (LEAKED["Correct Answer"],))]


@pytest.fixture
def whole(tmp_path: Path) -> DatasetRecord:
    """Two sources, of which the second repeats rows of the first and holds a benchmark item."""
    one = write_jsonl(tmp_path / "one.jsonl", force_rows(120))
    two = write_jsonl(tmp_path / "two.jsonl", [*force_rows(60, start=6), LEAKED])
    proposal = DataProposal(sources=(one, two), near_duplicate_threshold=1.0)
    return prepare(proposal, benchmarks=BENCHMARK, folder=tmp_path / "data", seed=0)


def again(record: DatasetRecord, *parts: str, **changes: Any) -> DatasetRecord:
    folder = Path(record.path).parent
    given: dict[str, Any] = {"benchmarks": BENCHMARK, "held_out": None, "on_contamination": "drop"} | changes
    return make_again(record, parts, folder=folder, seed=0, dataset_id="d2", **given)


def letters(record: DatasetRecord) -> Counter[str]:
    return Counter(row["completion"][0]["content"][-1] for row in read_jsonl(record.path))


def test_what_had_a_hand_in_a_data_set_can_be_left_out_and_the_search_for_items_cannot(whole: DatasetRecord) -> None:
    assert [variant.change for variant in variants_of(whole)] == [
        "without one.jsonl", "without two.jsonl", "without letter balancing", "without the removal of exact duplicates",
        "without half of the rows",
    ]  # fmt: skip
    assert list(variants_of(whole.model_copy(update={"making": {}}))) == [], "nothing tells how it was made"
    less = again(whole, "balance_letters")
    assert "balance_letters" not in [variant.part for variant in variants_of(less)]


def test_made_again_without_anything_left_out_it_is_the_same(whole: DatasetRecord) -> None:
    assert again(whole).digest == whole.digest


@pytest.mark.parametrize("part", ["balance_letters", "drop_exact_duplicates", "half_of_the_rows", "two.jsonl"])
def test_all_else_stays_and_every_variant_is_searched_for_benchmark_items(whole: DatasetRecord, part: str) -> None:
    part = next(source for source in whole.source.split(", ") if source.endswith(part)) if "." in part else part
    less = again(whole, part)
    assert (less.id, less.without) == ("d2", (part,))
    assert less.evidence is not None
    assert less.evidence.items_digest == whole.evidence.items_digest  # type: ignore[union-attr]
    asked = [row["prompt"][0]["content"] for row in read_jsonl(less.path)]
    assert not any(LEAKED["Question"] in text for text in asked)
    spread = letters(less)
    if part == "balance_letters":
        assert set(spread) == {"A"}, "rows in GPQA's columns have the right choice first"
        assert less.rows == whole.rows
    else:
        assert max(spread.values()) - min(spread.values()) <= 1
    if part == "drop_exact_duplicates":
        assert less.rows > whole.rows
    elif part == "half_of_the_rows":
        assert less.rows == whole.rows // 2
    elif part != "balance_letters":
        assert less.rows == 120, "the first file alone"


def test_a_mixture_without_a_source_is_mixed_from_the_others(tmp_path: Path) -> None:
    sources = tuple(
        write_jsonl(tmp_path / f"{name}.jsonl", force_rows(40, start=start))
        for name, start in (("a", 3), ("b", 60), ("c", 120))
    )
    weights = dict(zip(sources, (2.0, 1.0, 1.0), strict=True))
    proposal = DataProposal(sources=sources, near_duplicate_threshold=1.0)
    mixed = prepare(proposal, benchmarks=[], folder=tmp_path, seed=0, weights=weights)
    without_b = again(mixed, sources[1], benchmarks=[])
    assert "b.jsonl" not in next(step.note for step in without_b.steps if step.name == "mix")
    flat = again(mixed, "mix", benchmarks=[])
    assert flat.rows == 120
    assert "mix" not in [step.name for step in flat.steps]


def test_a_changed_file_is_named(whole: DatasetRecord) -> None:
    source = Path(next(iter(whole.making["files"])))
    source.write_bytes(source.read_bytes() + b"\n")
    with pytest.raises(BadInput, match=r"one\.jsonl has changed since data set d1 was made of it"):
        again(whole, "balance_letters")
