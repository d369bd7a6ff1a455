"""Publishing a data set as a job like any other: behind the gate, in the ledger, tried again where it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from agents.data_engineer.publishing import publish
from agents.jobs.in_process import CANCEL, CONFIG, InProcessRunner, KeptStatus
from shared_memory.errors import BadInput, PostgradError
from shared_memory.records import DatasetRecord, Estimate, JobSpec, JobState, Purpose, Record
from shared_memory.run_paths import RunPaths

HUB, FOLDER = "hub", "folder"
"""Flavors of a publication: what goes to the Hub leaves this machine."""
CARD = "README.md"
SECONDS_A_GIB = 600
"""A guess for the gate: what a line of 15 Mbit/s takes."""
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


def told_anew(spec: JobSpec, datasets: Mapping[str, DatasetRecord], paths: RunPaths) -> JobSpec:
    """A publication whose config was edited, with title, card and estimate of what it is now.

    One that cannot be carried out stays as it is: `fault_of_config` or the job itself refuses it.
    """
    try:
        publication = Publication.model_validate(spec.config)
        record = datasets[publication.dataset]
        told = publishing_job(record, publication.to, private=publication.private, paths=paths)
    except (ValidationError, KeyError, BadInput):
        return spec
    return told if told.flavor == spec.flavor and told.config == spec.config else spec


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


class _Stopped(Exception):
    """The publication was stopped before its commit."""


class _Work:
    """One publication in a thread of its own; it can be stopped until its last step has begun."""

    def __init__(self, publish_it: Callable[[Callable[[bool], None]], dict[str, Any]]) -> None:
        self.result: dict[str, Any] = {}
        self.error: Exception | None = None
        self.began = time.monotonic()
        self._publish_it = publish_it
        self._stopped = self._at_the_last = False
        self._lock = threading.Lock()
        # Of the kind that keeps no process from ending: what was not committed is simply begun again.
        self._thread = threading.Thread(target=self._run, name="publication", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> bool:
        """Keep it from its last step; False where it has begun that one."""
        with self._lock:
            self._stopped = not self._at_the_last
        return self._stopped

    def _heed(self, last: bool) -> None:
        with self._lock:
            if self._stopped:
                raise _Stopped
            self._at_the_last = last

    def _run(self) -> None:
        try:
            self.result = self._publish_it(self._heed)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever looks at the job next gets it
            self.error = error


class PublishingRunner(InProcessRunner[KeptStatus]):
    """A JobRunner that publishes in a thread of this process.

    Publishing again what is there already changes nothing, so what a process has left half done is begun again by the
    next one that looks at it. A request to cancel is heard until the commit is on its way.
    """

    name = "publisher"
    _at_work: ClassVar[dict[Path, _Work]] = {}
    """Job folder → what this process has in hand."""

    def __init__(self, jobs: Path, datasets: Mapping[str, DatasetRecord]) -> None:
        """jobs: folder of the run's job folders. datasets: the run's, by id."""
        super().__init__(jobs)
        self._datasets = datasets

    def first_status(self, spec: JobSpec) -> KeptStatus:
        return KeptStatus(state=JobState.RUNNING, timeout=spec.timeout_seconds)

    def put_down(self, folder: Path) -> None:
        self._at_work.pop(folder, None)

    def go_on(self, folder: Path, status: KeptStatus) -> KeptStatus:
        work = self._at_work.get(folder)
        cancelled = (folder / CANCEL).exists()
        if work is None and not cancelled:
            publication = Publication.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
            work = self._at_work[folder] = _Work(partial(self._publish, publication))
        seconds = time.monotonic() - work.began if work else 0.0
        if work is not None and work.has_ended:
            return self._ended(folder, status.model_copy(update={"seconds": seconds}), work)
        if cancelled and (work is None or work.stop()):
            return status.model_copy(update={"state": JobState.CANCELLED, "error": "it was cancelled"})
        if work is not None and seconds > status.timeout and work.stop():
            error = f"timed out after {status.timeout:g} s"
            return status.model_copy(update={"state": JobState.FAILED, "error": error})
        return status.model_copy(update={"seconds": seconds})

    def _ended(self, folder: Path, status: KeptStatus, work: _Work) -> KeptStatus:
        """How it went; raises what no error of ours explains."""
        if isinstance(work.error, PostgradError):
            self.tell(folder, f"error: {work.error}")
            failed = {"state": JobState.FAILED, "error": str(work.error)}
            return status.model_copy(update=failed)
        if work.error is not None:
            self._at_work.pop(folder)
            raise work.error
        self.tell(folder, {"result": work.result})
        return status.model_copy(update={"state": JobState.SUCCEEDED})

    def _publish(self, publication: Publication, heed: Callable[[bool], None]) -> dict[str, Any]:
        record = self._datasets.get(publication.dataset)
        if record is None or record.digest != publication.digest:
            raise BadInput(f"data set {publication.dataset} is not the one that was approved; start the run again")
        if flavor_of(publication.to) == FOLDER:
            heed(True)
            folder = publish.to_folder(record, Path(publication.to))
            return {"url": str(folder), "revision": "", "private": True, "changed": True}
        name = publication.to.removeprefix("hf://datasets/")
        return publish.to_hub(record, name, private=publication.private, heed=heed).plain()
