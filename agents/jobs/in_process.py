"""Jobs that this process does itself, a step at each look: what they keep on disk, so that the next process goes on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from agents.jobs.base import JobStatus
from shared_memory.records import JobSpec, JobState
from shared_memory.run_paths import write_atomically

STATUS, LOG, CANCEL, CONFIG = "in_process.json", "log", "cancel", "config.json"


class KeptStatus(JobStatus):
    """The status of a job as it lies in its folder."""

    timeout: float
    """Seconds of work after which it ends."""


S = TypeVar("S", bound=KeptStatus)


class InProcessRunner(ABC, Generic[S]):
    """The part of a JobRunner that needs no knowledge of the work; its backend id is the submission key.

    A job goes on while it is looked at, in `go_on`; a request to cancel is a file in its folder.
    """

    listing_grace = 0.0
    kept: ClassVar[type[KeptStatus]] = KeptStatus

    def __init__(self, jobs: Path) -> None:
        """jobs: folder of the run's job folders."""
        self._jobs = jobs.resolve()

    @abstractmethod
    def first_status(self, spec: JobSpec) -> S:
        """The status of a job that was just submitted."""

    @abstractmethod
    def go_on(self, folder: Path, status: S) -> S:
        """Do some more of a job that has not ended, and say how it stands."""

    @abstractmethod
    def put_down(self, folder: Path) -> None:
        """Forget what this process has of a job that has ended."""

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        if self.find(key) is None:
            self._write(folder, self.first_status(spec))
        return key

    def find(self, key: str) -> str | None:
        return key if (self._jobs / key / STATUS).exists() else None

    def status(self, backend_id: str) -> JobStatus:
        """The job's state, after some more of it was done. Raises what keeps it from being done at all."""
        folder = self._jobs / backend_id
        if self.find(backend_id) is None:
            return JobStatus(state=JobState.UNKNOWN, error=f"no job {backend_id} was started here")
        status: Any = self.kept.model_validate_json((folder / STATUS).read_text(encoding="utf-8"))
        if not status.state.terminal:
            status = self.go_on(folder, status)
            self._write(folder, status)
            if status.state.terminal:
                self.put_down(folder)
        code = {JobState.SUCCEEDED: 0, JobState.FAILED: 1}.get(status.state)
        return JobStatus(state=status.state, exit_code=code, seconds=status.seconds, error=status.error)

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        log = self._jobs / backend_id / LOG
        if not log.exists():
            return "", offset
        with log.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
        return data.decode(errors="replace"), offset + len(data)

    def cancel(self, backend_id: str) -> None:
        folder = self._jobs / backend_id
        if folder.is_dir():
            (folder / CANCEL).touch()

    def fetch(self, backend_id: str, folder: Path) -> None:
        """Nothing: the work is done in the job's folder."""

    def metrics(self, backend_id: str) -> dict[str, float]:
        return {}

    def tell(self, folder: Path, line: dict[str, Any] | str) -> None:
        """Add an event, or a line of text, to the job's log."""
        text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
        with (folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def _write(self, folder: Path, status: KeptStatus) -> None:
        write_atomically(folder / STATUS, status.model_dump_json().encode())
