"""A local stand-in for HF Jobs, at the endpoint of the Hub's: it really runs what is submitted, as a local process.

A job's "container" is a folder: volumes are laid out in it from the repositories of the Hub's stand-in, mount paths in
the command and in JSON files become paths in there, and `uv` is a program that runs the script with this Python.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.servers.hub import HubServer, Request
from tests.servers.hub_routes import NOT_FOUND, Answer

UV = f"""#!{sys.executable} -I
import os, sys
words = [word for word in sys.argv[2:] if word != "--quiet"]
if words[0] == "--with-requirements":
    words = ["-m", "torch.distributed.run", *words[3:]]
os.execv({sys.executable!r}, [{sys.executable!r}, *words])
"""
"""`uv run [--with-requirements FILE torchrun] SCRIPT …`, with what is installed here."""
HARDWARE = [
    {
        "name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "ephemeralStorage": "20 GB",
        "accelerator": None, "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute",
    },
    {
        "name": "a10g-large", "prettyName": "Nvidia A10G - large", "cpu": "12 vCPU", "ram": "46 GB",
        "ephemeralStorage": "110 GB", "unitCostMicroUSD": 25000, "unitCostUSD": 0.025, "unitLabel": "minute",
        "accelerator": {"type": "gpu", "model": "A10G", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
    },
]  # fmt: skip
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""


@dataclass
class RunningJob:
    """One job: what was asked for, and how it goes."""

    id: str
    owner: str
    spec: dict[str, Any]
    created: float
    started: float | None = None
    finished: float | None = None
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    stop: str = ""
    """Stage that it was told to end in."""

    def plain(self) -> dict[str, Any]:
        """The job as the API has it: of its secrets the names."""
        now = self.finished or time.time()
        running = None if self.started is None else int(now - self.started)
        return {
            "id": self.id, "type": "job", "createdAt": _iso(self.created), "startedAt": _iso(self.started),
            "finishedAt": _iso(self.finished), "dockerImage": self.spec.get("dockerImage"),
            "command": self.spec["command"], "arguments": [], "environment": self.spec["environment"],
            "secrets": dict.fromkeys(self.spec.get("secrets", {}), ""), "flavor": self.spec["flavor"],
            "labels": self.spec.get("labels"), "volumes": self.spec.get("volumes"),
            "status": {"stage": self.stage, "message": self.message},
            "durations": {
                "schedulingSecs": int((self.started or now) - self.created), "runningSecs": running,
                "totalSecs": int(now - self.created),
            },
            "owner": {"id": "0", "name": self.owner, "type": "user"},
        }  # fmt: skip


@dataclass
class JobsServer:
    """What runs, what is scheduled, and what is to go wrong."""

    hub: HubServer
    containers: Path
    jobs: dict[str, RunningJob] = field(default_factory=dict)
    scheduled: dict[str, dict[str, Any]] = field(default_factory=dict)
    scheduling_seconds: float = 0.0
    """How long a job waits for its hardware."""
    head_start: float = 0.0
    """Seconds that a job seems to have run when it starts, for a bill that one can see."""
    listing_lag: float = 0.0
    """Seconds for which the list misses a new job."""
    frozen_after: int | None = None
    """Events after which every stream of a log says nothing more, although the job goes on."""
    preamble: list[str] = field(default_factory=list)
    """What the platform itself prints into a log."""
    gpus: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the metrics say of the GPUs."""
    closing: bool = False

    def __call__(self, request: Request) -> Answer | None:
        """The answer to a request that is about jobs."""
        match = re.fullmatch(r"/api/(jobs|scheduled-jobs)/([^/]+)(?:/([^/]+))?(?:/([^/]+))?", request.path)
        if match is None:
            return None
        kind, namespace, id, action = match.groups()
        user = self.hub.users.get(request.token, "")
        if not user:
            return Answer({"error": "Invalid username or password."}, 401)
        if (kind, namespace, id) == ("jobs", "hardware", None):
            return Answer(HARDWARE)
        if namespace != user and user not in self.hub.orgs.get(namespace, frozenset()):
            return Answer({"error": f"You have no right to use the Jobs of {namespace}"}, 403)
        if kind == "scheduled-jobs":
            return self._scheduled(request, namespace, id, action)
        if id is None:
            return self._submit(request, namespace) if request.method == "POST" else self._list(request, namespace)
        job = self.jobs.get(id)
        if job is None or job.owner != namespace:
            return Answer({"error": "Job not found"}, 404)
        return self._one(request, job, action)

    @property
    def only(self) -> RunningJob:
        (job,) = self.jobs.values()
        return job

    def _one(self, request: Request, job: RunningJob, action: str | None) -> Answer:
        match request.method, action:
            case "GET", None:
                return Answer(job.plain())
            case "GET", "logs":
                events = {"Content-Type": "text/event-stream"}
                return Answer(self._logs(job, int(request.query.get("tail", ["0"])[0])), headers=events)
            case "GET", "metrics":
                if job.stage != "RUNNING":
                    return Answer({"error": "the job does not run"}, 406)
                return Answer(self._metrics(job), headers={"Content-Type": "text/event-stream"})
            case "POST", "cancel":
                if job.stage in ENDED:
                    return Answer({"error": "Job has already ended"}, 400)
                job.stop = "CANCELED"
                return Answer({})
        return NOT_FOUND

    def _list(self, request: Request, namespace: str) -> Answer:
        wanted = dict(label.split("=", 1) for label in request.query.get("label", []))
        stages = request.query.get("stage", [])
        newest = time.time() - self.listing_lag
        return Answer(
            [
                job.plain()
                for job in reversed(self.jobs.values())
                if job.owner == namespace and job.created <= newest and (not stages or job.stage in stages)
                and wanted.items() <= job.spec.get("labels", {}).items()
            ]
        )  # fmt: skip

    def _submit(self, request: Request, namespace: str) -> Answer:
        spec = json.loads(request.body)
        if spec["flavor"] not in {hardware["name"] for hardware in HARDWARE}:
            return Answer({"error": f"Invalid flavor: {spec['flavor']}"}, 400)
        return Answer(self._new(namespace, spec).plain())

    def _new(self, namespace: str, spec: dict[str, Any]) -> RunningJob:
        job = RunningJob(f"{len(self.jobs):024x}", namespace, spec, time.time())
        self.jobs[job.id] = job
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def _run(self, job: RunningJob) -> None:
        """From scheduling to the end, as the platform does it."""
        while time.time() < job.created + self.scheduling_seconds and not job.stop and not self.closing:
            time.sleep(0.01)
        if not job.stop and not self.closing:
            job.started = time.time() - self.head_start
            job.process = self._start(job)
            job.lines.append((time.time(), f"===== Job started at {_iso(job.started)} ====="))
            job.lines += [(time.time(), line) for line in self.preamble]
            job.stage = "RUNNING"
            reader = threading.Thread(target=self._read, args=(job, job.process), daemon=True)
            reader.start()
            self._supervise(job, job.process)
            reader.join()
        code = job.process.wait() if job.process else None
        job.finished = time.time()
        job.stage, job.message = _end_of(job, code)

    def _start(self, job: RunningJob) -> subprocess.Popen[bytes]:
        """Lay out the container and start the command in it, with nothing of this process's environment."""
        root = self.containers / job.id
        programs = root / "bin"
        programs.mkdir(parents=True)
        (programs / "uv").write_text(UV)
        (programs / "uv").chmod(0o755)
        mounts = {volume["mountPath"]: self._mount(root, volume) for volume in job.spec.get("volumes", [])}
        (root / "tmp").mkdir()

        def inside(text: str) -> str:
            for path, folder in mounts.items():
                text = re.sub(rf"{re.escape(path)}(?=/|$)", str(folder), text)
            return text

        environment = {
            "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(root), "TMPDIR": str(root / "tmp"), "JOB_ID": job.id,
            "HF_ENDPOINT": self.hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        return subprocess.Popen(
            [inside(word) for word in job.spec["command"]],
            cwd=root,
            env={**environment, **job.spec["environment"], **job.spec.get("secrets", {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            executable=str(programs / job.spec["command"][0]),
        )

    def _mount(self, root: Path, volume: dict[str, Any]) -> Path:
        """A repository, or a folder of one, at a revision; read-only."""
        commit = self.hub.repos[f"{volume['type']}s", volume["source"]].at(volume.get("revision", "main"))  # type: ignore[index]
        assert commit is not None, f"no revision {volume}"
        folder = root / "volumes" / volume["mountPath"].strip("/")
        prefix = f"{volume['path']}/" if volume.get("path") else ""
        for path, blob in commit.files.items():
            if path.startswith(prefix):
                file = folder / path.removeprefix(prefix)
                file.parent.mkdir(parents=True, exist_ok=True)
                content = blob.content
                if file.suffix == ".json" and not blob.lfs:
                    content = content.replace(f'"{volume["mountPath"]}/'.encode(), f'"{folder}/'.encode())
                file.write_bytes(content)
                file.chmod(0o444)
        return folder

    def _read(self, job: RunningJob, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                job.lines.append((time.time(), line.decode(errors="replace").rstrip("\n")))

    def _supervise(self, job: RunningJob, process: subprocess.Popen[bytes]) -> None:
        kill_at = float("inf")
        while process.poll() is None:
            now = time.time()
            if now > (job.started or now) + job.spec.get("timeoutSeconds", 1800) and not job.stop:
                job.stop = "ERROR"
            if (job.stop or self.closing) and kill_at == float("inf"):
                kill_at = now + (0 if self.closing else GRACE_SECONDS)
                _signal(process, signal.SIGTERM)
            if now >= kill_at:
                _signal(process, signal.SIGKILL)
            time.sleep(0.01)
        _signal(process, signal.SIGKILL)  # what is left of its group

    def _logs(self, job: RunningJob, tail: int) -> Iterator[bytes]:
        sent = max(0, len(job.lines) - tail) if tail else 0
        while not self.closing:
            ended = job.stage in ENDED
            while sent < len(job.lines):
                while self.frozen_after is not None and sent >= self.frozen_after:
                    time.sleep(0.02)
                    if self.closing:
                        return
                at, line = job.lines[sent]
                sent += 1
                yield f"data: {json.dumps({'timestamp': _iso(at), 'data': line}, ensure_ascii=False)}\n\n".encode()
            if ended:
                return
            time.sleep(0.01)

    def _metrics(self, job: RunningJob) -> Iterator[bytes]:
        while job.process and job.process.poll() is None and not self.closing:
            with suppress(psutil.Error):
                process = psutil.Process(job.process.pid)
                used = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
                sample = {
                    "cpu_usage_pct": 12, "cpu_millicores": 2000, "memory_used_bytes": used, "memory_total_bytes": 2**34,
                    "rx_bps": 0, "tx_bps": 0, "gpus": self.gpus, "replica": "r1",
                }  # fmt: skip
                yield f"event: metric\ndata: {json.dumps(sample)}\n\n".encode()
            time.sleep(0.2)

    def _scheduled(self, request: Request, namespace: str, id: str | None, action: str | None) -> Answer:
        mine = {key: job for key, job in self.scheduled.items() if job["owner"]["name"] == namespace}
        if id is None and request.method == "GET":
            return Answer([_shown(job) for job in mine.values()])
        if id is None:
            asked = json.loads(request.body)
            job: dict[str, Any] = {
                "id": f"5{len(self.scheduled):023x}", "createdAt": _iso(time.time()), "schedule": asked["schedule"],
                "suspend": asked.get("suspend", False), "concurrency": asked.get("concurrency", False),
                "jobSpec": asked["jobSpec"] | {"timeout": asked["jobSpec"].get("timeoutSeconds")},
                "status": {"lastJob": None, "nextJobRunAt": "2026-12-01T00:00:00.000Z"},
                "owner": {"id": "0", "name": namespace, "type": "user"},
            }  # fmt: skip
            self.scheduled[job["id"]] = job
            return Answer(_shown(job))
        if id not in mine:
            return Answer({"error": "Scheduled job not found"}, 404)
        match request.method, action:
            case "GET", None:
                return Answer(_shown(mine[id]))
            case "DELETE", None:
                del self.scheduled[id]
                return Answer({})
            case "POST", "run":
                return Answer(self._new(namespace, mine[id]["jobSpec"]).plain())
            case "POST", "suspend" | "resume":
                mine[id]["suspend"] = action == "suspend"
                return Answer({})
        return NOT_FOUND


def _shown(scheduled: dict[str, Any]) -> dict[str, Any]:
    """A scheduled job as the API has it: of its secrets the names."""
    spec = scheduled["jobSpec"]
    return scheduled | {"jobSpec": spec | {"secrets": dict.fromkeys(spec.get("secrets", {}), "")}}


def _end_of(job: RunningJob, code: int | None) -> tuple[str, str | None]:
    """Stage and message of a job that has ended."""
    if job.stop == "ERROR":
        return "ERROR", "Job timeout"
    if job.stop or code is None:
        return job.stop or "CANCELED", None
    shown = 128 - code if code < 0 else code
    return ("COMPLETED", None) if code == 0 else ("ERROR", f"Job failed with exit code: {shown}. Reason: Error")


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def hf_jobs(hub: HubServer, containers: Path) -> Iterator[JobsServer]:
    """Adds the Jobs API to a running Hub until the block ends; then every job is killed and every stream has ended."""
    server = JobsServer(hub, containers)
    hub.services.append(server)
    try:
        yield server
    finally:
        server.closing = True
        give_up_at = time.monotonic() + 10
        while any(job.finished is None for job in server.jobs.values()) and time.monotonic() < give_up_at:
            time.sleep(0.01)
        hub.services.remove(server)
