"""Measures what a long batch leaves behind in its process: memory, open files, threads, and processes.

    python benchmarks/batch.py [--goals 200] [--concurrency 2] [--json]

Runs `postgrad batch` over a tiny model with jobs that do nothing (tests/noop): what grows then, is ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"
LOOKS = (20, 100, 200)
"""Goals after which the process is looked at, beside after the last one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goals", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postgrad-batch-") as folder:
        goals = write_goals(Path(folder), options.goals)
        figures = list(measure(goals, options.concurrency, options.goals))
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(*(f"{name:>14}" for name in figures[0]))
        for figure in figures:
            print(*(f"{value:>14}" for value in figure.values()))
    return 0 if figures[-1]["succeeded"] == options.goals else 1


def write_goals(folder: Path, n: int) -> Path:
    """A JSONL file of `n` goals that differ in their text; 25 items of each part of the quickstart's benchmark."""
    sys.path.insert(0, str(ROOT))
    from tests.tiny import make_tiny_model

    make_tiny_model(folder / "model")
    rows = [json.loads(line) for line in (QUICKSTART / "physics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row for part in ("selection", "report") for row in [row for row in rows if row["Part"] == part][:25]]
    (folder / "physics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    goal = {
        "base_model": "model",
        "data": {"generator": str(QUICKSTART / "questions.py")},
        "benchmark": [{"path": "physics.jsonl"}],
        "limits": {"usd": 0, "hours": 1, "experiments": 1},
        "run": {"approve": "auto", "report_to": []},
    }
    goals = folder / "goals.jsonl"
    lines = [json.dumps({"text": f"toy goal {number}", **goal}) + "\n" for number in range(n)]
    goals.write_text("".join(lines), encoding="utf-8")
    return goals


def measure(goals: Path, concurrency: int, n: int) -> Iterator[dict[str, float]]:
    """The figures after each of LOOKS: MiB, counts, and seconds since the start."""
    command = [sys.executable, "-m", "postgrad", "batch", str(goals), "--concurrency", str(concurrency), "--json"]
    home = str(goals.parent / "home")
    paths = os.pathsep.join([str(ROOT / "tests" / "noop" / "site"), str(ROOT)])
    environment = {**os.environ, "POSTGRAD_HOME": home, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    environment |= {"POSTGRAD_SMOKE_RUN": "never"}
    began = time.monotonic()
    succeeded = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        for number, line in enumerate(process.stdout or (), 1):
            succeeded += json.loads(line)["status"] == "succeeded"
            if number in LOOKS or number == n:
                memory = watched.memory_full_info()
                yield {
                    "goals": number,
                    "succeeded": succeeded,
                    "rss_mib": round(memory.rss / 2**20, 1),
                    "private_mib": round(memory.uss / 2**20, 1),
                    "open_files": watched.num_fds(),
                    "threads": watched.num_threads(),
                    "jobs_alive": jobs_alive(home),
                    "seconds": round(time.monotonic() - began),
                }


def jobs_alive(home: str) -> int:
    """Processes that work in the home: supervisors and jobs."""
    found = 0
    for process in psutil.process_iter():
        try:
            found += process.cwd().startswith(home)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
