"""An evaluation job, run as a runner would run it: a folder, a config, a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "agents" / "evaluator" / "scripts"
NO_NETWORK = """
import socket
def refuse(*a, **k):
    raise AssertionError("a socket was opened to the outside")
socket.getaddrinfo = refuse
socket.create_connection = refuse
"""


def job(folder: Path, rows: Sequence[dict[str, Any]], asked: str = "items", **config: Any) -> Path:
    """`asked`: what the rows are, as the config names their file: items or prompts."""
    folder.mkdir()
    (folder / f"{asked}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps({asked: f"{asked}.jsonl"} | config, default=str))
    return folder


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    """With a home of its own and no way out to the network."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    (folder / "home").mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")}
    own = {"HOME": str(folder / "home"), "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / script), "--config", "config.json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", cwd=folder, env=kept | own)


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    with start(folder, script) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return last["result"]  # type: ignore[no-any-return]


def lines(folder: Path, name: str = "items.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / name).read_text(encoding="utf-8").splitlines()]


def refused(folder: Path, script: str, words: str) -> None:
    done = run(folder, script)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
