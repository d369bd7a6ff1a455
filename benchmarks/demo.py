"""Measures the quickstart: wall time, peak memory of all its processes, and what it gained.

    python benchmarks/demo.py [--json]

Runs `examples/quickstart/goal.toml` with `--approve auto` in a home of its own, after the base model is in place.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"
SAMPLE_SECONDS = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    subprocess.run([sys.executable, str(QUICKSTART / "prepare.py")], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="postgrad-demo-") as home:
        figures = measure(Path(home))
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value}")
    return 0 if figures["exit_code"] == 0 else 1


def measure(home: Path) -> dict[str, object]:
    """The figures of one run: seconds, GiB, and fractions of 1."""
    command = [sys.executable, "-m", "postgrad", "run", str(QUICKSTART / "goal.toml"), "--approve", "auto", "--json"]
    environment = {**os.environ, "POSTGRAD_HOME": str(home)}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_gib(str(home), process.pid))
            time.sleep(SAMPLE_SECONDS)
        summary = json.loads((process.stdout.read() if process.stdout else "") or "{}")
    seconds = time.monotonic() - began
    baseline = next(iter(summary.get("baseline", {}).values()), {})
    score = next(iter(summary.get("champion", {}).get("score", {}).values()), {})
    gain = next(iter(summary.get("champion", {}).get("improvement", {}).values()), {})
    return {
        "exit_code": process.returncode,
        "minutes": round(seconds / 60, 2),
        "peak_memory_gib": round(peak, 2),
        "outcome": summary.get("outcome"),
        "baseline": baseline.get("score"),
        "champion": score.get("score"),
        "n": score.get("n"),
        "delta": gain.get("delta"),
        "ci_low": gain.get("ci_low"),
        "ci_high": gain.get("ci_high"),
    }


def resident_gib(home: str, root: int) -> float:
    """Memory of the command, the run's worker and its jobs, each page of shared memory counted once (PSS).

    Worker and jobs are found by their environment or folder, since they are detached from the command.
    """
    total = 0
    for process in psutil.process_iter(["pid"]):
        try:
            ours = (
                process.pid == root or process.cwd().startswith(home) or process.environ().get("POSTGRAD_HOME") == home
            )
            total += process.memory_full_info().pss if ours else 0
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return total / 1024**3


if __name__ == "__main__":
    sys.exit(main())
