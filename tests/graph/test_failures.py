"""Jobs that fail or cannot end well, through the front door: stopped early, diagnosed, and done in another way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.evaluator import evaluation
from agents.trainer import training
from postgrad.decide import Request, approve_all
from shared_memory.database import Database
from shared_memory.ledger import Ledger
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal
from tests.noop import jobs as noop

SetRecipe = Callable[..., None]

CHILD = "if config['adapter']:"
"""Begins what only an experiment that goes on from another one does: the first one is the incumbent by then."""
HANGS = "    time.sleep(120)\n"
SICK = {
    "its loss is no number": (
        "    print(json.dumps({'step': 3, 'steps': 9, 'loss': float('nan'), 'seconds': 3.0}), flush=True)\n",
        "the loss is nan at step 3",
        "diverged",
    ),
    "its loss runs away": (
        "    for step in range(80):\n"
        "        loss = 1.0 if step < 30 else 9.0\n"
        "        print(json.dumps({'step': step, 'steps': 900, 'loss': loss, 'seconds': step / 10}), flush=True)\n",
        "the loss has been around 9 for 20 updates; it began at 1 and was 1",
        "diverged",
    ),
    "it gets stuck": (
        "    for step in range(60):\n"
        "        seconds = float(step if step < 45 else 45 + 100 * (step - 44))\n"
        "        print(json.dumps({'step': step, 'steps': 70, 'loss': 1.0, 'seconds': seconds}), flush=True)\n",
        "it makes 0.01 steps a second, after 1 before",
        "stopped",
    ),
    "it takes longer than there is time": (
        "    for step in range(24):\n"
        "        print(json.dumps({'step': step, 'steps': 3000, 'loss': 1.0, 'seconds': 10.0 * step}), flush=True)\n"
        "        time.sleep(0.7 * (step > 13))\n",
        "steps to come need 8.3 h at its pace, and the run has ",
        "stopped",
    ),
}
"""Of each: what it prints, why it is stopped, and the kind of its diagnosis."""
BY_THE_CLOCK = ("it gets stuck", "it takes longer than there is time")


@pytest.fixture
def sick(tmp_path: Path, noop_jobs: None, recipe: SetRecipe, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes the second training print what it is given, and then hang until it is ended."""
    recipe()

    def write(prints: str) -> Path:
        text = (NOOP / "train.py").read_text()
        place = text.index('if config["learning_rate"] > 10:')
        path = tmp_path / "sick" / "train.py"
        path.parent.mkdir()
        path.write_text(f"{text[:place]}{CHILD}\n{prints}{HANGS}{text[place:]}")
        monkeypatch.setattr(training, "SCRIPT", path)
        return path

    return write


@pytest.mark.parametrize(
    "illness", [pytest.param(name, marks=pytest.mark.slow if name in BY_THE_CLOCK else ()) for name in SICK]
)
def test_a_training_that_cannot_end_well_is_stopped_early_and_the_best_model_so_far_is_kept(
    make_goal: MakeGoal, settings: Settings, sick: Callable[[str], Path], illness: str
) -> None:
    prints, why, kind = SICK[illness]
    sick(prints)
    notes: list[str] = []
    summary = postgrad.run(
        make_goal(), on_event=lambda event: notes.append(event.text) if event.kind == "note" else None
    )

    assert summary["status"] == "succeeded", summary["error"]
    assert summary["outcome"] == "improved"
    assert summary["champion"]["experiment"] == "e1"
    second = summary["experiments"][1]
    assert second["verdict"] == "crash"
    assert any(note.startswith("stopping e2: ") and why in note for note in notes)
    paths = settings.run_paths(summary["run_id"])
    records = json.loads(paths.report_json.read_text())["records"]
    assert why in records["experiments"][1]["error"]
    (diagnosis,) = [each["diagnosis"] for each in records["experiments"] if each["diagnosis"]]
    assert diagnosis["kind"] == kind
    (job,) = [each for each in records["jobs"] if each["experiment"] == "e2" and each["purpose"] == "training"]
    assert job["seconds"] < 60, "it would have hung for two minutes"
    assert why in paths.report_md.read_text()


DIES_BEFORE_IT_CANCELS = """
import os, signal, sys
from pathlib import Path
import postgrad
from agents.jobs.local import LocalRunner
from agents.trainer import training

LocalRunner.cancel = lambda self, backend_id: os.kill(os.getpid(), signal.SIGKILL)
training.SCRIPT = Path(sys.argv[2])
postgrad.run(sys.argv[1])
"""


def test_a_worker_killed_between_the_decision_to_stop_a_job_and_its_cancellation_stops_it_when_the_run_goes_on(
    make_goal: MakeGoal, settings: Settings, sick: Callable[[str], Path], tmp_path: Path
) -> None:
    prints, why, _ = SICK["its loss is no number"]
    script = sick(prints)
    environment = {**os.environ, "PYTHONPATH": str(NOOP / "site"), "NOOP_RECIPES": str(tmp_path / "recipes.toml")}
    command = [sys.executable, "-c", DIES_BEFORE_IT_CANCELS, str(make_goal()), str(script)]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]

    summary = postgrad.resume("last")
    assert summary["status"] == "succeeded", summary["error"]
    assert summary["champion"]["experiment"] == "e1"
    assert summary["experiments"][1]["verdict"] == "crash"
    paths = settings.run_paths(summary["run_id"])
    records = json.loads(paths.report_json.read_text())["records"]
    (job,) = [each for each in records["jobs"] if each["experiment"] == "e2" and each["purpose"] == "training"]
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert why in job["error"]
    assert job["seconds"] < 110, "it would have hung for two minutes"


@pytest.fixture
def wide_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a vocabulary of a usual kind of size: its logits are what takes the memory."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "wide"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(16384)
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_that_does_not_fit_into_its_memory_is_done_with_fewer_rows_at_once_on_the_same_yes(
    make_goal: MakeGoal,
    wide_model: Path,
    tmp_path: Path,
    settings: Settings,
    recipe: SetRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noop.install(lambda module, name, value: module is evaluation and monkeypatch.setattr(module, name, value))
    monkeypatch.setenv("POSTGRAD_JOB_MEMORY_GIB", str(LIMIT_GIB))
    recipe(batch=8, micro_batch=4, max_length=1024)
    asked: list[Any] = []
    notes: list[str] = []

    def decide(requests: Sequence[Request]) -> Any:
        asked.extend(request for request in requests if request["purpose"] == "training")
        return approve_all(requests)

    summary = postgrad.run(
        make_goal(model=wide_model, generator="", data=f'["{long_rows(tmp_path)}"]', approve="ask", experiments=1),
        decide=decide,
        on_event=lambda event: notes.append(event.text) if event.kind == "note" else None,
    )

    assert summary["status"] == "succeeded", summary["error"]
    (request,) = asked
    assert (request["config"]["batch"], request["config"]["micro_batch"]) == (8, 4)
    paths, database = settings.run_paths(summary["run_id"]), Database.open(settings.database)
    first, second = [a for a in Ledger(database, summary["run_id"]).actions() if a.purpose == "training"]
    assert first.job is not None
    assert second.job is not None
    assert "out of memory: it used " in first.job.error
    assert second.job.state == "succeeded"
    configs = [json.loads((paths.job(action.key) / "config.json").read_text()) for action in (first, second)]
    changed = {key for key in configs[0] if configs[0][key] != configs[1][key]}
    assert changed == {"micro_batch"}
    assert configs[1]["micro_batch"] == 2
    assert second.job.result["steps"] == 2, "16 rows in batches of 8, exactly as approved"
    assert second.job.result["peak_memory_gib"] < LIMIT_GIB + 0.3

    decisions = Ledger(database, summary["run_id"]).decisions()
    (derived,) = [decision for decision in decisions if decision.by == "policy"]
    assert derived.parent == request["digest"]
    what = "again with micro-batches of 2 instead of 4, the batch of 8 unchanged"
    assert any("the next try is " in note and what.removeprefix("again ") in note for note in notes)
    report = paths.report_md.read_text()
    assert "micro batch 4 → 2, the mathematics as before" in report


LIMIT_GIB = 1.9
"""Of a job: micro-batches of 4 were measured to take 2.36 GiB, of 2 1.54."""


def long_rows(folder: Path) -> Path:
    """Sixteen rows of about a thousand tokens."""
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for start in range(16):
            reply = " ".join(str(start + number) for number in range(260))
            stream.write(json.dumps({"prompt": f"Count from {start}.", "completion": reply}) + "\n")
    return path
