"""What this machine remembers of the jobs on HF Jobs: `hf.json` in each job's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agents.jobs.base import JobStatus
from shared_memory.records import Record
from shared_memory.run_paths import write_atomically

NOTE = "hf.json"


class Note(Record):
    """One job; times are seconds since the epoch."""

    key: str
    namespace: str
    job_id: str = ""
    """Empty while it is not known whether the submission arrived."""
    timeout_seconds: int = 0
    """0 where another machine submitted it."""
    usd_micro_per_minute: int = 0
    """Price of its flavor when it was submitted."""
    sent: float = 0.0
    """When its submission was last sent; 0 where it was not, or was refused."""
    submitted: float = 0.0
    """When the Hub had it."""
    status: JobStatus | None = None
    """As it was last seen; a terminal one is for good."""
    looked: float = 0.0
    """When the status was last read."""
    trouble_since: float = 0.0
    """Since when it could not be read; 0 if the last look was answered."""

    @property
    def backend_id(self) -> str:
        return f"{self.namespace}/{self.job_id}"

    def trouble_for(self, now: float) -> float:
        """Seconds for which the status could not be read."""
        return now - self.trouble_since if self.trouble_since else 0.0

    @property
    def ended(self) -> bool:
        return self.status is not None and self.status.state.terminal


@dataclass(frozen=True)
class Notes:
    """The notes of a run's jobs."""

    jobs: Path
    """Folder of the job folders, which are named by their keys."""

    def of_key(self, key: str) -> Note | None:
        try:
            return Note.model_validate_json((self.jobs / key / NOTE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def of_id(self, backend_id: str) -> Note | None:
        found = (self.of_key(path.parent.name) for path in self.jobs.glob(f"*/{NOTE}"))
        return next((note for note in found if note is not None and note.backend_id == backend_id), None)

    def write(self, note: Note) -> Note:
        folder = self.jobs / note.key
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / NOTE, note.model_dump_json().encode())
        return note
