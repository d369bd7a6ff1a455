"""Measures what the sandbox adds to a short program: Python started bare, under the limits alone, and isolated.

    python benchmarks/sandbox.py [--json] [--rounds 30]

The three take turns within each round, so that a busy machine slows all of them alike; figures are medians in
milliseconds. The first sandbox of a process also tries out what works on this machine; that is measured apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents import sandbox

PROGRAM = [sys.executable, "-c", "print('hello')"]
MOST = 150.0
"""Milliseconds over a bare start that the sandbox may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:40} {value:8.2f}")
    return 0 if figures["overhead of the sandbox, ms"] <= MOST else 1


def measure(rounds: int) -> dict[str, float]:
    first = timed(lambda: sandbox.isolation("auto"))
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: subprocess.run(PROGRAM, capture_output=True, check=True),
        "limits": lambda: sandbox.run(PROGRAM, {}, mode="none"),
        "sandbox": lambda: sandbox.run(PROGRAM, {}),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(timed(way))
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "Python, bare, ms": median["bare"],
        "under the limits alone, ms": median["limits"],
        "in the sandbox, ms": median["sandbox"],
        "overhead of the sandbox, ms": median["sandbox"] - median["bare"],
        "ratio of the sandbox": median["sandbox"] / median["bare"],
        "trying out what works, once, ms": first,
    }


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
