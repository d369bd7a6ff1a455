"""Publishing a data set as a job like any other: behind the gate, in the ledger, tried again where it failed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.data_engineer.publishing import publish
from agents.jobs.base import JobStatus
from shared_memory.errors import BadInput, PostgradError
from shared_memory.records import DatasetRecord, Estimate, JobSpec, JobState, Purpose, Record
from shared_memory.run_paths import RunPaths, write_atomically

HUB, FOLDER = "hub", "folder"
"""Flavors of a publication: what goes to the Hub leaves this machine."""
CARD = "README.md"
STATUS, LOG, CONFIG = "publication.json", "log", "config.json"
SECONDS_A_GIB = 600
TIMEOUT_SECONDS = 6 * 3600


class Publication(Record):
    """What is published, and where: the config of the job."""

    dataset: str
    """Id of its record."""
    digest: str
    """Of its rows, so that a yes is to these."""
    to: str
    private: bool


def flavor_of(to: str) -> str:
    """`folder` for a path, `hub` for the name of a repository."""
    return FOLDER if to.startswith(("/", "~", "./", "../")) else HUB


def publishing_job(record: DatasetRecord, to: str, *, private: bool, paths: RunPaths) -> JobSpec:
    """The job that publishes a data set; its card is a file of it, for the person at the gate to read.

    Raises BadInput where the rows must not be shared, see `publish.plan`.
    """
    plan = publish.plan(record, to, private)
    if plan["refused"]:
        raise BadInput(plan["refused"])
    flavor = flavor_of(to)
    who = "for this machine" if flavor == FOLDER else "private" if private else "for everybody to read"
    return JobSpec(
        purpose=Purpose.PUBLICATION,
        experiment="data",
        title=f"publish {plan['leaves']}: {to}, {who}" + "".join(f"; {warning}" for warning in plan["warnings"]),
        script=CARD,
        files={CARD: paths.store(publish.card_of(record, to).encode())},
        config=Publication(dataset=record.id, digest=record.digest, to=to, private=private).plain(),
        runner="publisher",
        flavor=flavor,
        timeout_seconds=TIMEOUT_SECONDS,
        estimate=Estimate(
            hours=(5 + SECONDS_A_GIB * plan["bytes"] / 2**30) / 3600,
            usd_micro=0,
            memory_gib=1.0,
            basis=f"{plan['bytes'] / 1e6:.1f} MB as JSONL, licence {plan['licence']}",
        ),
    )


def fault_of_config(spec: JobSpec) -> str:
    """Why a publication, which a person may have edited, cannot be carried out; empty if it can."""
    if spec.runner != PublishingRunner.name:
        return ""
    try:
        publication = Publication.model_validate(spec.config)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        return f"its config is no publication ({where}: {fault['msg']}); resume, and edit it again"
    if flavor_of(publication.to) != spec.flavor:  # what was asked about as staying here must not leave
        return f"`to` was a {spec.flavor} and is one no longer; name it in [output] data_to of a new goal"
    return ""


class PublishingRunner:
    """A JobRunner that publishes at once, in this process; its backend id is the submission key.

    Publishing again what is there already changes nothing, so what was killed half-way is simply submitted again.
    """

    name = "publisher"
    listing_grace = 0.0

    def __init__(self, jobs: Path, datasets: Mapping[str, DatasetRecord]) -> None:
        """jobs: folder of the run's job folders. datasets: the run's, by id."""
        self._jobs = jobs.resolve()
        self._datasets = datasets

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        if self.find(key) is not None:
            return key
        began = time.monotonic()
        status = JobStatus(state=JobState.SUCCEEDED, exit_code=0)
        try:
            self._tell(folder, {"result": self._publish(Publication.model_validate(spec.config))})
        except PostgradError as error:
            self._tell(folder, f"error: {error}")
            status = JobStatus(state=JobState.FAILED, exit_code=1, error=str(error))
        status = status.model_copy(update={"seconds": time.monotonic() - began})
        write_atomically(folder / STATUS, status.model_dump_json().encode())
        return key

    def find(self, key: str) -> str | None:
        return key if (self._jobs / key / STATUS).exists() else None

    def status(self, backend_id: str) -> JobStatus:
        if self.find(backend_id) is None:
            return JobStatus(state=JobState.UNKNOWN, error=f"no job {backend_id} was started here")
        return JobStatus.model_validate_json((self._jobs / backend_id / STATUS).read_text(encoding="utf-8"))

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        log = self._jobs / backend_id / LOG
        data = log.read_bytes()[offset:] if log.exists() else b""
        return data.decode(errors="replace"), offset + len(data)

    def cancel(self, backend_id: str) -> None:
        """Too late: a job here has ended when `submit` returns."""

    def _publish(self, publication: Publication) -> dict[str, Any]:
        record = self._datasets.get(publication.dataset)
        if record is None or record.digest != publication.digest:
            raise BadInput(f"data set {publication.dataset} is not the one that was approved; start the run again")
        if flavor_of(publication.to) == FOLDER:
            folder = publish.to_folder(record, Path(publication.to))
            return {"url": str(folder), "revision": "", "private": True, "changed": True}
        published = publish.to_hub(record, publication.to.removeprefix("hf://datasets/"), private=publication.private)
        return published.plain()

    def _tell(self, folder: Path, line: dict[str, Any] | str) -> None:
        text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
        with (folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
