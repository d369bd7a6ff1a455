"""Every file of a run, as a property."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from shared_memory.errors import PostgradError


@dataclass(frozen=True)
class RunPaths:
    """The folder of one run under `$POSTGRAD_HOME/runs`."""

    root: Path

    @property
    def goal(self) -> Path:
        return self.root / "goal.toml"

    @property
    def events(self) -> Path:
        """One redacted event a line; what consoles follow."""
        return self.root / "events.jsonl"

    @property
    def live(self) -> Path:
        """The newest `words` event alone, over and over: what a model is saying, which no trace keeps."""
        return self.root / "live.json"

    @property
    def worker_log(self) -> Path:
        return self.root / "worker.log"

    @property
    def files(self) -> Path:
        """Content-addressed store of scripts and data that jobs are made from."""
        return self.root / "files"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def answers(self) -> Path:
        """What language models answered, by the digest of the request."""
        return self.root / "answers"

    @property
    def tools(self) -> Path:
        """What the tools of the roles' models gave back, in full, by the digest of the call."""
        return self.root / "tools"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def model(self) -> Path:
        """The delivered model."""
        return self.root / "model"

    @property
    def report_md(self) -> Path:
        return self.root / "report.md"

    @property
    def report_html(self) -> Path:
        return self.root / "report.html"

    @property
    def report_json(self) -> Path:
        return self.root / "report.json"

    @property
    def trackio(self) -> Path:
        return self.root / "trackio"

    def job(self, key: str) -> Path:
        return self.jobs / key

    def store(self, content: bytes | Path) -> str:
        """Keep `content` (bytes, or a file's) and return its sha256; storing it again changes nothing."""
        data = content.read_bytes() if isinstance(content, Path) else content
        digest = hashlib.sha256(data).hexdigest()
        target = self.files / digest
        if not target.exists():
            self.files.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
        return digest

    def stored(self, digest: str) -> Path:
        return self.files / digest

    def fill_job_folder(self, key: str, files: dict[str, str], config: str) -> Path:
        """Lay out the folder of a job: its files by name and `config.json`; safe to repeat.

        Raises PostgradError where a stored file is not what its digest says: the approval was for that content alone.
        """
        folder = self.job(key)
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in files.items():
            if not (folder / name).exists():
                temporary = folder / f".{name}.part"
                shutil.copyfile(self.stored(digest), temporary)
                with temporary.open("rb") as stream:
                    copied = hashlib.file_digest(stream, "sha256").hexdigest()
                if copied != digest:
                    temporary.unlink()
                    raise PostgradError(
                        f"{name} is not what was approved: {self.stored(digest)} was changed since; "
                        "bring its content back, and resume; to change a job, edit it at the gate"
                    )
                temporary.replace(folder / name)
        write_atomically(folder / "config.json", config.encode())
        return folder


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.part")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
