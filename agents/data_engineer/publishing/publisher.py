"""The job that publishes a data set, what a person may change of it, and how it is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from agents.data_engineer.publishing import publish
from agents.publishing.cards import CARD
from agents.publishing.runner import (
    FOLDER,
    PUBLISHER,
    TIMEOUT_SECONDS,
    Destination,
    flavor_of,
    readers_of,
    seconds_of,
)
from agents.publishing.to_hub import Heed, heedless
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord, Estimate, JobSpec, Purpose
from shared_memory.run_paths import RunPaths


class Publication(Destination):
    """Which data set is published, and where: the config of the job. Its digest is that of the rows."""

    kind: Literal["dataset"] = "dataset"
    dataset: str
    """Id of its record."""


def publishing_job(record: DatasetRecord, to: str, *, private: bool, paths: RunPaths) -> JobSpec:
    """The job that publishes a data set; its card is a file of it, for the person at the gate to read.

    Raises BadInput where the rows must not be shared, see `publish.plan`.
    """
    plan = publish.plan(record, to, private)
    if plan["refused"]:
        raise BadInput(plan["refused"])
    return JobSpec(
        purpose=Purpose.PUBLICATION,
        experiment="data",
        title=f"publish {plan['leaves']}: {to}, {readers_of(to, private)}"
        + "".join(f"; {warning}" for warning in plan["warnings"]),
        script=CARD,
        files={CARD: paths.store(publish.card_of(record, to).encode())},
        config=Publication(dataset=record.id, digest=record.digest, to=to, private=private).plain(),
        runner=PUBLISHER,
        flavor=flavor_of(to),
        timeout_seconds=TIMEOUT_SECONDS,
        estimate=Estimate(
            hours=seconds_of(plan["bytes"]) / 3600,
            usd_micro=0,
            memory_gib=1.0,
            basis=f"{plan['bytes'] / 1e6:.1f} MB as JSONL, licence {plan['licence']}",
        ),
    )


def told_anew(spec: JobSpec, datasets: Mapping[str, DatasetRecord], paths: RunPaths) -> JobSpec:
    """A publication whose config was edited, with title, card and estimate of what it is now.

    One that cannot be carried out stays as it is: `runner.fault_of_config` or the job itself refuses it.
    """
    try:
        publication = Publication.model_validate(spec.config)
        record = datasets[publication.dataset]
        told = publishing_job(record, publication.to, private=publication.private, paths=paths)
    except (ValidationError, KeyError, BadInput):
        return spec
    return told if told.flavor == spec.flavor and told.config == spec.config else spec


def carry_out(
    config: Mapping[str, Any], datasets: Mapping[str, DatasetRecord], heed: Heed = heedless
) -> dict[str, Any]:
    """Publish the data set that the config of an approved job names. Raises BadInput where it is another by now."""
    publication = Publication.model_validate(config)
    record = datasets.get(publication.dataset)
    if record is None or record.digest != publication.digest:
        raise BadInput(f"data set {publication.dataset} is not the one that was approved; start the run again")
    if flavor_of(publication.to) == FOLDER:
        heed(True)
        folder = publish.to_folder(record, Path(publication.to))
        return {"url": str(folder), "revision": "", "private": True, "changed": True}
    name = publication.to.removeprefix("hf://datasets/")
    return publish.to_hub(record, name, private=publication.private, heed=heed).plain()
