"""A training script of a person's own: asked about each time, checked, kept apart, and delivered like ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents import sandbox
from postgrad.decide import Request, approve_all
from shared_memory.settings import Settings
from tests.a_gate import shown_at_the_gate
from tests.conftest import MakeGoal

isolated = pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())
pytestmark = pytest.mark.usefixtures("noop_jobs")

SCRIPT = '''
"""Keeps the contract with the standard library alone, and says what it could see."""

import argparse
import json
import struct
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path, required=True)
config = json.loads(parser.parse_args().config.read_text())
rows = Path(config["data"]).read_text().splitlines()
assert json.loads((Path(config["model"]) / "config.json").read_text())["vocab_size"], "the model can be read"
before = Path(config["adapter"]) / "quality.json" if config["adapter"] else None
quality = json.loads(before.read_text())["quality"] if before else 0.2
{middle}
print(json.dumps({{"step": 1, "steps": 1, "loss": 1.5, "seconds": 0.1}}))
out = Path("out/adapter")
out.mkdir(parents=True, exist_ok=True)
(out / "quality.json").write_text(json.dumps({{"quality": quality + 0.3}}))
(out / "adapter_config.json").write_text(json.dumps({{"peft_type": "LORA"}}))
(out / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{{}}")
sees = {{"home": Path({home!r}).exists(), "train_loss": 1.5, "rows": len(rows), "model": "out/adapter"}}
print(json.dumps({{"result": sees}}))
'''


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Callable[..., None]) -> None:
    recipe()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """A training script in a folder of its own, with lines of the test's in its middle."""

    def write(middle: str = "") -> Path:
        path = tmp_path / "mine" / "my_train.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT.format(middle=middle, home=str(Path(__file__))))
        return path

    return write


@isolated
@pytest.mark.slow
def test_a_script_of_ones_own_is_asked_about_also_where_it_is_free_and_trains_in_the_sandbox(
    make_goal: MakeGoal, settings: Settings, script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRAD_SMOKE_RUN", "auto")
    asked: list[Any] = []

    def decide(requests: Sequence[Request]) -> Any:
        asked.extend(requests)
        return approve_all(requests)

    summary = postgrad.run(make_goal(approve="paid"), script=script(), decide=decide)

    assert summary["status"] == "succeeded", summary["error"]
    assert summary["outcome"] == "improved"
    assert [(request["purpose"], request["experiment"]) for request in asked] == [
        ("training", "e1"),
        ("training", "e2"),
    ]
    assert asked[0]["custom"]
    assert asked[0]["sandbox"] == "auto"
    assert asked[0]["preflight"]["smoke"].startswith("passed in"), asked[0]["preflight"]
    assert asked[1]["preflight"]["smoke"].startswith("passed before"), asked[1]["preflight"]
    records = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())["records"]
    assert not records["experiments"][0]["train"]["home"], "it saw no file of this machine but its own"
    shown = shown_at_the_gate([asked[0]])
    assert "no yes covers another run of it" in shown
    assert "checks passed" in shown
    assert "smoke run passed in" in shown


@isolated
@pytest.mark.parametrize("again", [True, False], ids=["and is approved", "and is refused"])
def test_a_script_of_ones_own_that_runs_out_of_memory_is_asked_about_before_it_runs_again(
    make_goal: MakeGoal, script: Callable[..., Path], again: bool
) -> None:
    asked: list[Any] = []

    def decide(requests: Sequence[Request]) -> Any:
        trainings = [request for request in requests if request["purpose"] == "training"]
        asked.extend(trainings)
        return approve_all(requests) if again or not trainings or len(asked) == 1 else False

    greedy = script('if config["micro_batch"] > 2:\n    raise MemoryError("out of memory")')
    summary = postgrad.run(make_goal(approve="paid", experiments=1), script=greedy, decide=decide)

    assert [request["config"]["micro_batch"] for request in asked] == [4, 2]
    assert {request["config"]["batch"] for request in asked} == {8}
    assert "again with micro-batches of 2 instead of 4, the batch of 8 unchanged" in asked[1]["title"]
    if again:
        assert summary["status"] == "succeeded", summary["error"]
        assert summary["outcome"] == "improved"
    else:
        assert summary["status"] == "failed"
        assert "out of memory; another try was refused" in summary["error"]


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_a_script_of_ones_own_is_refused_unless_it_is_allowed_by_name(
    make_goal: MakeGoal, script: Callable[..., Path]
) -> None:
    asked: list[Any] = []

    def decide(requests: Sequence[Request]) -> Any:
        asked.extend(request for request in requests if request["purpose"] == "training")
        return approve_all(requests)

    goal = make_goal(approve="ask", experiments=1, generator="", data=f'["{_rows(script)}"]')
    refused = postgrad.run(goal, script=script(), decide=decide)
    assert refused["status"] == "failed"
    assert "its script cannot be kept apart: bubblewrap is not installed; install it" in refused["error"]
    assert "--sandbox none" in refused["error"]
    assert not asked

    allowed = postgrad.run(goal, script=script(), sandbox="none", decide=decide)
    assert allowed["status"] == "succeeded", allowed["error"]
    assert allowed["outcome"] == "improved"
    assert "NOT isolated" in shown_at_the_gate(asked)


@isolated
@pytest.mark.slow
def test_a_script_that_was_broken_at_the_gate_is_not_run_and_asked_about_again(
    make_goal: MakeGoal, script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRAD_SMOKE_RUN", "auto")
    sound = script()
    text = sound.read_text()
    broken = {
        "no Python": (text + "\nif\n", "my_train.py"),
        "a keyword of an older TRL": (
            text + '\nfrom trl import SFTConfig\nSFTConfig(output_dir="out", max_seq_length=512)\n',
            "takes no `max_seq_length`; write `max_length`",
        ),
        "no result": (text + '\nprint("done")\n', "its last line is not {\"result\": …} but 'done'"),
    }

    def breaking(new: str) -> Callable[..., Any]:
        edited: list[str] = []

        def decide(requests: Sequence[Request]) -> Any:
            (request,) = requests
            if request["purpose"] != "training" or edited:
                return approve_all(requests)
            edited.append(request["digest"])
            return {request["digest"]: {"edit": {"files": {"my_train.py": new}}}}

        return decide

    goal = make_goal(approve="ask", experiments=1)
    summary: Any = None
    for new, words in broken.values():
        decide = breaking(new)
        if summary is None:
            summary = postgrad.run(goal, script=sound, decide=decide)
        else:
            summary = postgrad.resume(summary["run_id"], decide=decide)
        assert summary["status"] == "failed"
        assert "preflight: " in summary["error"]
        assert words in summary["error"]
        assert summary["spent"]["jobs"] == 2, "the baseline and the data: no training was started"

    mended = postgrad.resume(summary["run_id"], decide=approve_all)
    assert mended["status"] == "succeeded", mended["error"]
    assert mended["outcome"] == "improved"


def _rows(script: Callable[..., Path]) -> Path:
    """Rows to train on beside the script, so that no generator has to run."""
    path = script().with_name("rows.jsonl")
    with path.open("w", encoding="utf-8") as stream:
        for number in range(60):
            row = {"prompt": f"How many metres are {number} km?", "completion": f"{1000 * number} m"}
            stream.write(json.dumps(row) + "\n")
    return path
