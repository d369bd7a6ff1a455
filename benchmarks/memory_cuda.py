"""Compares predicted memory with what a GPU really holds: `torch.cuda.max_memory_allocated` over two weight updates.

    python benchmarks/memory_cuda.py [--json] [--only NAME]

The configurations are those of benchmarks/memory.py that this GPU has room for, each in a process of its own, with
random weights and real kernels: flash and memory-efficient attention, Triton, fused AdamW. `held` is what nvidia-smi
would show: what the allocator has reserved, and the context. Exit status 2 where there is no GPU: then nothing is
measured; 1 where the median error is above 5 % or the 95th percentile above 12 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents.jobs.hardware import local_hardware
from benchmarks.memory import EXACT, MEDIAN, NINETY_FIFTH, SEEN, UNSEEN, Configuration, errors

CONFIGURATIONS = {one.name: one for one in (*SEEN, *UNSEEN)}
GIB = 2**30
ROOM = 0.9
"""Share of a GPU's memory that a configuration may be predicted to take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="configurations whose name contains this")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(CONFIGURATIONS[arguments.one])))
        return 0
    gpus = local_hardware().gpus
    if not gpus:
        print("there is no GPU here (nvidia-smi lists none): nothing was measured", file=sys.stderr)
        return 2
    room = ROOM * gpus[0].memory_gib
    fitting = [one for one in CONFIGURATIONS.values() if arguments.only in one.name and one.predicted.peak <= room]
    rows = [row for one in fitting for row in run(one)]
    figures = errors(rows, "all")
    if arguments.json:
        print(json.dumps({"gpu": gpus[0].name, "configurations": rows, "errors": figures}, indent=2))
    else:
        worst = f"median {figures['median']:.1%} · p95 {figures['p95']:.1%}"
        print(f"{gpus[0].name} · {figures['n']} configurations · {worst}")
    met = figures["n"] > 0 and figures["median"] <= MEDIAN and figures["p95"] <= NINETY_FIFTH
    return 0 if met and len(rows) == len(fitting) else 1


def run(one: Configuration) -> list[dict[str, Any]]:
    """A configuration in a process of its own; none where that ended badly, with its last line on standard error."""
    done = subprocess.run([sys.executable, __file__, "--one", one.name], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        print(f"{one.name:58} ended with {done.returncode}: {last}", file=sys.stderr)
        return []
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sizes = f"allocated {row['allocated']:8.3f} GiB · predicted {row['predicted']:8.3f} · {row['error']:+6.1%}"
    whole = f"held {row['held']:8.3f} · with overhead {row['with_overhead']:8.3f}"
    print(f"{one.name:58} {sizes} · {whole}", file=sys.stderr, flush=True)
    return [row]


def measure(one: Configuration) -> dict[str, Any]:
    """Two weight updates of a configuration on this GPU."""
    sys.path.insert(0, str(EXACT.parent))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    import exact_memory  # type: ignore[import-not-found]  # beside train.py
    import torch

    with tempfile.TemporaryDirectory(prefix="postgrad-memory-") as folder:
        config = exact_memory.checked(one.job(Path(folder) / "job"))
        torch.set_default_device("cuda")  # where the weights are made
        trainer = exact_memory.trainer_without_weights(config, f"{folder}/out", {"max_steps": 2})
        torch.set_default_device("cpu")
        torch.cuda.reset_peak_memory_stats()
        trainer.train()
    free, total = torch.cuda.mem_get_info()
    allocated, predicted = torch.cuda.max_memory_allocated() / GIB, one.predicted
    reserved_now = torch.cuda.memory_reserved()
    return {
        "name": one.name,
        "seen": one in SEEN,
        "allocated": round(allocated, 4),
        "held": round((torch.cuda.max_memory_reserved() + total - free - reserved_now) / GIB, 4),
        "predicted": round(predicted.tensors, 4),
        "with_overhead": round(predicted.peak, 4),
        "error": round(predicted.tensors / allocated - 1, 4),
    }


if __name__ == "__main__":
    raise SystemExit(main())
