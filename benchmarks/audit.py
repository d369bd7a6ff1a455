"""Measures `postgrad audit` on a million chat rows with planted faults: time, memory, what it finds, and the curve.

    python benchmarks/audit.py [--rows 1000000] [--folder FOLDER] [--json]

In FOLDER (default: a temporary one) it writes `planted` and `clean`, made by benchmarks/data, about 2.2 GB; data that
are there already are used again. Each audit is the command, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.data import chat, others  # noqa: E402

CURVE = (10_000, 100_000, 1_000_000)
MAX_LENGTH = 1_000
"""Words; the rows planted as too long are longer, all others shorter."""
FOUND_AT_LEAST = 0.95
"""Share of the planted near-duplicates that must be found; of all other kinds, all."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postgrad-audit-") as temporary:
        figures = measure(arguments.folder or Path(temporary), arguments.rows)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:44} {value}")
    return 1 if figures["planted faults missed"] or figures["errors on the clean set"] else 0


def measure(folder: Path, count: int) -> dict[str, Any]:
    planted, clean = folder / "planted", folder / "clean"
    for place, is_clean in ((planted, False), (clean, True)):
        if not (place / "key.json").is_file():
            chat.write(place, count, seed=0, clean=is_clean)
    benchmark = str(planted / "benchmark.jsonl")
    found = audit(planted / "data", "--max-length", str(MAX_LENGTH))
    checked = audit(planted / "data", "--max-length", str(MAX_LENGTH), "--benchmark", benchmark)
    control = audit(clean / "data", "--benchmark", benchmark)
    missed = compare(json.loads((planted / "key.json").read_text()), checked)
    for name, key in others.write_others(folder, seed=0).items():
        missed |= {f"{name}: {kind}": text for kind, text in compare(key, audit(folder / name)).items()}
    ours, polars = reading(clean / "data" / "train.jsonl")
    return {
        "rows": found["rows"],
        "bytes": sum(file.stat().st_size for file in (planted / "data").iterdir()),
        "audit (s)": found["wall"],
        "audit, peak memory (GiB)": found["memory"],
        "audit with a 1,000-item benchmark (s)": checked["wall"],
        "the same, peak memory (GiB)": checked["memory"],
        "planted faults missed": missed,
        "errors on the clean set": [f for f in control["findings"] if f["severity"] == "error"],
        "warnings on the clean set": [f["kind"] for f in control["findings"] if f["severity"] == "warning"],
        "reading alone (s)": ours,
        "polars.read_ndjson (s)": polars,
        "microseconds a row by number of rows": curve(folder, count),
    }


def audit(data: Path, *flags: str) -> dict[str, Any]:
    """The command's JSON, with the seconds (`wall`) and GiB (`memory`, sum over its processes) that it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "postgrad", "audit", str(data), "--json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    peak = watch_memory(process.pid)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {**json.loads(out), "wall": round(time.monotonic() - began, 1), "memory": round(peak() / 2**30, 2)}


def watch_memory(pid: int) -> Callable[[], int]:
    """Watch a process and its children; the returned function tells the highest sum of their resident bytes."""
    highest = 0

    def watch() -> None:
        nonlocal highest
        while True:
            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                highest = max(highest, sum(member.memory_info().rss for member in family))
            except psutil.NoSuchProcess:
                return
            time.sleep(0.2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return lambda: highest


def compare(key: dict[str, int], found: dict[str, Any]) -> dict[str, str]:
    """Planted kinds that were not found as often as they were planted; 0 in the key asks for the kind alone."""
    counts = {finding["kind"]: finding["count"] for finding in found["findings"]}
    if found["contamination"]:
        counts["contamination"] = sum(entry["flagged"] for entry in found["contamination"])
    counts["near_duplicates"] = found["duplicates"]["near"]
    missed = {}
    for kind, planted in key.items():
        share = FOUND_AT_LEAST if kind == "near_duplicates" else 1
        if counts.get(kind, -1) < share * planted:
            missed[kind] = f"{counts.get(kind, 0)} of {planted}"
    return missed


def reading(path: Path) -> tuple[float, float]:
    """Seconds that reading every row takes us and polars, in this process, one after the other."""
    import polars as pl

    from agents.reading.files import read_batches

    began = time.monotonic()
    for _ in read_batches(path):
        pass
    between = time.monotonic()
    pl.read_ndjson(path)
    return round(between - began, 1), round(time.monotonic() - between, 1)


def curve(folder: Path, most: int) -> dict[int, float]:
    """Rows → microseconds a row of the whole command, start-up included."""
    figures = {}
    for count in (size for size in CURVE if size <= most):
        place = folder / f"clean-{count}"
        if not (place / "key.json").is_file():
            chat.write(place, count, seed=1, clean=True)
        found = audit(place / "data")
        figures[count] = round(1e6 * found["wall"] / found["rows"])
    return figures


if __name__ == "__main__":
    os.environ.setdefault("POSTGRAD_HOME", tempfile.mkdtemp(prefix="postgrad-audit-home-"))
    raise SystemExit(main())
