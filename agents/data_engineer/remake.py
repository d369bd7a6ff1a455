"""Makes the data set of a record once more, without some parts of its making."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from agents.data_engineer.contamination.benchmark_texts import BenchmarkText
from agents.data_engineer.held_out import HeldOut
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import DataProposal
from agents.reading.files import digest_of
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord


def make_again(
    record: DatasetRecord,
    without: Collection[str],
    *,
    benchmarks: Sequence[BenchmarkText],
    folder: Path,
    seed: int,
    dataset_id: str,
    held_out: HeldOut | None,
    on_contamination: Literal["drop", "stop"],
) -> DatasetRecord:
    """The data set of a record made once more, without some parts of its making: searched for benchmark items anew.

    Raises BadInput as `prepare` does, and where the record does not tell how it was made, or a file has changed.
    """
    if not record.making:
        raise BadInput(f"data set {record.id} was made by a version that did not note how; start a new run")
    for file, digest in record.making["files"].items():
        if not Path(file).is_file() or digest_of(Path(file)) != digest:
            raise BadInput(f"{file} has changed since data set {record.id} was made of it; bring the same file back")
    return prepare(
        DataProposal.model_validate(record.making["proposal"]),
        benchmarks=benchmarks,
        folder=folder,
        seed=seed,
        dataset_id=dataset_id,
        held_out=held_out,
        on_contamination=on_contamination,
        weights=record.making["weights"],
        without=without,
    )
