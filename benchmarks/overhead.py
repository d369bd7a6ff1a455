"""Measures postgrad's own overhead: a run of 20 experiments whose jobs do nothing, its checkpoints, start-up times, and
a turn of a language model.

    python benchmarks/overhead.py [--json] [--experiments 20] [--only run|turn]

Everything is real but the jobs' scripts, which keep the job contract and compute nothing (tests/noop): the router, the
gates under `--approve auto`, the ledger, a process and a folder for every job, the report. For a turn of a model, and
what it is compared with, see llm_turns.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

REPEATS = 5
"""Start-up times are the median of so many."""
COMMAND = [sys.executable, "-m", "postgrad"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--only", choices=["run", "turn"])
    arguments = parser.parse_args()
    figures: dict[str, object] = {"status": "succeeded"}
    with tempfile.TemporaryDirectory(prefix="postgrad-overhead-") as folder:
        if arguments.only != "turn":
            figures = measure(Path(folder), arguments.experiments)
        if arguments.only != "run":
            from benchmarks.llm_turns import measure_turns

            figures |= measure_turns(Path(folder) / "turns")
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:40} {value}")
    return 0 if figures["status"] == "succeeded" else 1


def measure(folder: Path, experiments: int) -> dict[str, object]:
    """Figures of one run in a home of its own, and of the start-up; seconds and bytes."""
    goal = write_goal(folder, experiments)
    environment = {
        **os.environ,
        "POSTGRAD_HOME": str(folder / "home"),
        "POSTGRAD_SMOKE_RUN": "never",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "noop" / "site"), str(ROOT)]),
        "NOOP_RECIPES": str(folder / "recipes.toml"),
    }
    began = time.monotonic()
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*COMMAND, "run", str(goal), "--json"], env=environment, **pipes)
    process.stderr.readline()
    first_line = time.monotonic() - began
    out, _ = process.communicate()
    seconds = time.monotonic() - began
    summary = json.loads(out)
    sizes = checkpoint_sizes(folder / "home" / "postgrad.db")
    return {
        "status": summary["status"],
        "experiments": len(summary["experiments"]),
        "jobs": summary["spent"]["jobs"],
        "seconds": round(seconds, 2),
        "first line of `postgrad run` (s)": round(first_line, 2),
        "checkpoints": len(sizes),
        "largest checkpoint (bytes)": max(sizes),
        "mean checkpoint (bytes)": round(statistics.mean(sizes)),
        "`import postgrad` (s)": median_seconds([sys.executable, "-c", "import postgrad"]),
        "`postgrad --help` (s)": median_seconds([*COMMAND, "--help"]),
        "python alone (s)": median_seconds([sys.executable, "-c", "pass"]),
    }


def write_goal(folder: Path, experiments: int) -> Path:
    from tests.tiny import make_tiny_model

    model = make_tiny_model(folder / "tiny")
    # At this rate every further epoch of the no-op job is a small gain, so that the search goes on to its cap.
    library = (ROOT / "tests" / "noop" / "recipes.toml").read_text()
    (folder / "recipes.toml").write_text(library.replace("learning_rate = 1e-3", "learning_rate = 1e-4"))
    quickstart = ROOT / "examples" / "quickstart"
    goal = folder / "goal.toml"
    goal.write_text(
        f'text = "overhead"\nbase_model = "{model}"\n[data]\ngenerator = "{quickstart / "questions.py"}"\n'
        f'[[benchmark]]\npath = "{quickstart / "physics.jsonl"}"\n[limits]\nusd = 0\njobs = 100\n'
        f'experiments = {experiments}\n[run]\napprove = "auto"\nreport_to = []\n'
    )
    return goal


def checkpoint_sizes(database: Path) -> list[int]:
    """Bytes that each step of the graph wrote: its checkpoint, and the writes that belong to it."""
    with sqlite3.connect(database) as connection:
        checkpoints = connection.execute(
            "SELECT thread_id, checkpoint_ns, checkpoint_id, length(checkpoint) + length(metadata) FROM checkpoints"
        ).fetchall()
        grouped = "SELECT thread_id, checkpoint_ns, checkpoint_id, sum(length(value)) FROM writes GROUP BY 1, 2, 3"
        writes = {row[:3]: row[3] for row in connection.execute(grouped)}
    return [size + writes.get(tuple(step), 0) for *step, size in checkpoints]


def median_seconds(command: list[str]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    sys.exit(main())
