"""A training job, run as a runner would run it: a folder, a config, a process; or, to save time, a warm one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "agents" / "trainer" / "scripts"
PLACES = ("attic", "bridge", "cellar", "dock", "earth", "field", "garden", "harbour")
ROWS: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "user", "content": f"Item {number}: what is kept in the {place}?"}],
        "completion": [{"role": "assistant", "content": f"{number * 7} kg of {place[::-1]}."}],
    }
    for number, place in enumerate(PLACES, 2)
]
PAIRS: list[dict[str, Any]] = [
    {
        "prompt": row["prompt"],
        "chosen": row["completion"],
        "rejected": [{"role": "assistant", "content": "I do not know, and nobody does."}],
    }
    for row in ROWS
]
NO_NETWORK = """
import socket
def refuse(*a, **k):
    raise AssertionError("a socket was opened to the outside")
socket.getaddrinfo = refuse
socket.create_connection = refuse
"""
LEARNS = {"batch": 4, "micro_batch": 2, "learning_rate": 1e-2, "lora": {"r": 8, "alpha": 16}}


def job(folder: Path, rows: Sequence[dict[str, Any]] = ROWS, **config: Any) -> Path:
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(LEARNS | config, default=str))
    return folder


def start(folder: Path, *launcher: str, **variables: str) -> subprocess.Popen[str]:
    """With no way out to the network, and an environment that asks for one."""
    environment = _environment(folder) | {"TRACKIO_SPACE_ID": "somebody/elsewhere"} | variables
    command = [*(launcher or (sys.executable,)), str(SCRIPTS / "train.py"), "--config", "config.json"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def run(folder: Path, *launcher: str, **variables: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Events and result of a job that succeeds; every line of its standard output is an event."""
    process = start(folder, *launcher, **variables)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return told(out)


def told(out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *events, last = [json.loads(line) for line in out.splitlines()]
    return events, last["result"]


def updates(events: Sequence[dict[str, Any]], key: str = "loss") -> list[float]:
    """A figure at every weight update."""
    return [event[key] for event in events if key in event]


class Warm:
    """Runs jobs as `start` does, in forks of one process: the imports are paid for once."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self.trackio = folder / "trackio"
        """Where Trackio keeps its projects."""

    def run(self, folder: Path, config: Path = Path("config.json")) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        assert self._status(folder, config) == 0, (folder / "stderr").read_text()
        return told((folder / "stdout").read_text())

    def refusal(self, folder: Path) -> str:
        """The one line that a job leaves which cannot be done."""
        status = self._status(folder)
        err = (folder / "stderr").read_text()
        assert (status, (folder / "stdout").read_text()) == (2, ""), err
        assert "Traceback" not in err
        last = err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "; " in last
        return last

    def crash(self, folder: Path) -> tuple[list[dict[str, Any]], str]:
        """What a job that fails told before it did, and what it left on standard error."""
        assert self._status(folder) == 1
        return [json.loads(line) for line in (folder / "stdout").read_text().splitlines()], (
            folder / "stderr"
        ).read_text()

    def _status(self, folder: Path, config: Path = Path("config.json")) -> int:
        assert self._process.stdout
        print(json.dumps([str(folder), str(config)]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    command = [sys.executable, str(Path(__file__).with_name("warm.py")), str(SCRIPTS)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, env=_environment(folder) | {"HF_HUB_OFFLINE": "1"}, **pipes) as process:
        yield Warm(process, folder)


def _environment(folder: Path) -> dict[str, str]:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    return {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder / "site"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "OMP_NUM_THREADS": "1",
    }


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def mean_loss(model: Any, rows: Sequence[tuple[list[int], int]]) -> float:
    """Over the tokens of all rows from where each one's loss begins."""
    import math

    import torch

    losses: list[float] = []
    for ids, begin in rows:
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        losses += (-scores.gather(-1, torch.tensor(ids)[1:, None])[begin - 1 :, 0]).tolist()
    return math.fsum(losses) / len(losses)
