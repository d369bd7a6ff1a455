"""Publishing as a job like any other: behind the gate, in the ledger, tried again where it failed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import ValidationError

from agents.hub_client import Kind
from agents.jobs.in_process import CANCEL, CONFIG, InProcessRunner, KeptStatus
from agents.publishing.to_hub import Heed
from shared_memory.errors import PostgradError
from shared_memory.records import JobSpec, JobState, Record

HUB, FOLDER = "hub", "folder"
"""Flavors of a publication: what goes to the Hub leaves this machine."""
SECONDS_A_GIB = 600
"""A guess for the gate: what a line of 15 Mbit/s takes."""
TIMEOUT_SECONDS = 6 * 3600
PUBLISHER: Final = "publisher"

Publish = Callable[[dict[str, Any], Path, Heed], dict[str, Any]]
"""(config, job folder, heed) → what was published: `url`, `revision`, `private`, `changed`."""


class Destination(Record):
    """What every publication's config has; its `kind` says which one it is."""

    to: str
    """Name of a repository on the Hub, or a folder."""
    private: bool
    digest: str
    """Of what is published, so that a yes is to exactly that."""


def flavor_of(to: str) -> str:
    """`folder` for a path, `hub` for the name of a repository."""
    return FOLDER if to.startswith(("/", "~", "./", "../")) else HUB


def seconds_of(size: int) -> float:
    """How long so many bytes may take: a guess for the gate."""
    return 5 + SECONDS_A_GIB * size / 2**30


def readers_of(to: str, private: bool) -> str:
    """Who will be able to read it, in words for the gate."""
    return "for this machine" if flavor_of(to) == FOLDER else "private" if private else "for everybody to read"


def fault_of_config(spec: JobSpec, config: type[Destination]) -> str:
    """Why a publication, which a person may have edited, cannot be carried out; empty if it can."""
    try:
        destination = config.model_validate(spec.config)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        return f"its config is no publication ({where}: {fault['msg']}); resume, and edit it again"
    if flavor_of(destination.to) != spec.flavor:  # what was asked about as staying here must not leave
        return f"`to` was a {spec.flavor} and is one no longer; name it in [output] of a new goal"
    return ""


class _Stopped(Exception):
    """The publication was stopped before its commit."""


class _Work:
    """One publication in a thread of its own; it can be stopped until its last step has begun."""

    def __init__(self, publish_it: Callable[[Heed], dict[str, Any]]) -> None:
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

    name = PUBLISHER
    _at_work: ClassVar[dict[Path, _Work]] = {}
    """Job folder → what this process has in hand."""

    def __init__(self, jobs: Path, ways: Mapping[Kind, Publish]) -> None:
        """jobs: folder of the run's job folders. ways: how each kind of publication is carried out."""
        super().__init__(jobs)
        self._ways = ways

    def first_status(self, spec: JobSpec) -> KeptStatus:
        return KeptStatus(state=JobState.RUNNING, timeout=spec.timeout_seconds)

    def put_down(self, folder: Path) -> None:
        self._at_work.pop(folder, None)

    def go_on(self, folder: Path, status: KeptStatus) -> KeptStatus:
        work = self._at_work.get(folder)
        cancelled = (folder / CANCEL).exists()
        if work is None and not cancelled:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            way = self._ways["model" if config.get("kind") == "model" else "dataset"]
            work = self._at_work[folder] = _Work(partial(way, config, folder))
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
