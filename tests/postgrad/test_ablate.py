"""What the parts of a champion are worth: a run of its own that leaves them out, one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import postgrad
from postgrad import ablate
from postgrad.cli import app
from postgrad.decide import approve_all
from postgrad.summary import summarise_all
from postgrad.tables import show_summary
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import DatasetRecord
from shared_memory.settings import Settings, load_settings
from tests.conftest import NOOP, MakeGoal

pytestmark = pytest.mark.usefixtures("noop_jobs")

PARTS = ["balance_letters", "place_choice", "half_of_the_rows", "lora", "learning_rate", "lr_scheduler", "warmup_ratio"]


THE_RUN: dict[str, str] = {}
"""Made by the first test that needs it: its id and the home that it lives in."""


@pytest.fixture
def champion(make_goal: MakeGoal, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose champion e2 went on from e1's checkpoint."""
    if not THE_RUN:
        summary = postgrad.run(make_goal(experiments=2))
        assert summary["champion"]["experiment"] == "e2", summary
        THE_RUN.update(id=summary["run_id"], home=str(home))
    monkeypatch.setenv("POSTGRAD_HOME", THE_RUN["home"])
    return THE_RUN["id"]


@pytest.fixture
def settings(champion: str) -> Settings:
    return load_settings()


def trainings(settings: Settings, run_id: str) -> list[tuple[str, str, int]]:
    actions = Ledger(Database.open(settings.database), run_id).actions()
    return [(action.purpose.value, action.experiment, action.attempt) for action in actions]


def test_every_part_is_left_out_once_and_null_effects_stay(champion: str, settings: Settings) -> None:
    asked: list[list[str]] = []

    def decide(requests: list[Any]) -> Any:
        asked.append([f"{request['purpose']} {request['experiment']}" for request in requests])
        return approve_all(requests)

    told = ablate(champion, seeds=1, parallel=4, approve="ask", decide=decide)

    assert (told["status"], told["of"], told["champion"], told["reference"]) == ("succeeded", champion, "e2", "e1")
    assert [each["part"] for each in told["variants"]] == [*PARTS, "seed"]
    assert {each["status"] for each in told["variants"]} == {"evaluated"}
    assert asked[:2] == [["training a1"], ["evaluation a1"]], "one goes first"
    assert asked[2] == [f"training a{n}" for n in (2, 3, 4, 5)], "then as many as may run side by side"
    effects = {effect["part"]: effect for effect in told["effects"]}
    assert set(effects) == set(PARTS)
    assert effects["learning_rate"]["change"] == "0.001 → 0.0005"
    assert effects["learning_rate"]["delta"] > 0.1
    assert effects["lora"]["delta"] == 0.0
    assert effects["lora"]["ci_low"] < 0 < effects["lora"]["ci_high"]
    assert all(effect["p_holm"] >= effect["p_value"] for effect in effects.values())
    assert told["noise"]["seeds"] == [0, 1]

    db = Database.open(settings.database)
    data = Journal(db, told["run_id"]).all(DatasetRecord)
    assert {each.without for each in data.values()} == {(), *((part,) for part in PARTS[:3])}
    for each in data.values():
        assert each.evidence is not None
        assert each.evidence.rows_checked >= each.rows, "each variant was searched for benchmark items"
    seeds = {
        json.loads((Path(job.folder) / "config.json").read_text())["seed"] for job in jobs_of(told, settings, "a8")
    }
    assert seeds == {1}


def jobs_of(told: dict[str, Any], settings: Settings, experiment: str) -> list[Any]:
    actions = Ledger(Database.open(settings.database), told["run_id"]).actions()
    return [a.job for a in actions if a.job and a.experiment == experiment and a.purpose.value == "training"]


def test_the_first_run_tells_what_was_learned(
    champion: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ablate(champion, components=["learning_rate", "lora"])

    summary = postgrad.show(champion)
    tree, *_ = summary["ablations"]
    assert (tree["part"], tree["given"], tree["other"], tree["run"]) == ("epochs", "e2", "e1", "")
    assert learned(champion, told) == ["learning_rate", "lora"]
    report = settings.run_paths(champion).report_md.read_text()
    assert "| epochs | 1 + 1 → 1 | +36.0 ± 9.8 |" in report
    assert f"e1 against a1 of {told['run_id']}" in report
    assert "evidence for the search, no claim" in report
    assert "The same as a forest plot." in report
    html = settings.run_paths(champion).report_html.read_text()
    assert "ablations-" in html, "the plot's own ids"
    show_summary(summary)
    own = postgrad.show(told["run_id"])
    show_summary(own)
    shown = capsys.readouterr().out
    assert f"What the parts of e2 of {champion} are worth, measured on e1: 2 variants of it have a score" in shown
    assert "0.001 → 0.0005" in shown
    assert own["ablation"] == {"of": champion, "champion": "e2", "reference": "e1"}


def learned(champion: str, told: dict[str, Any]) -> list[str]:
    """What the first run knows from an ablation."""
    return [each["part"] for each in postgrad.show(champion)["ablations"] if each["run"] == told["run_id"]]


def planned(run: str, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["ablate", run, "--plan-only", "--json", *options])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_a_plan_shows_what_would_be_trained_and_registers_nothing(champion: str, settings: Settings) -> None:
    runs = len(summarise_all(settings, Database.open(settings.database)))
    plan = planned(champion, "--factorial", "lora,learning_rate", "--seeds", "2", "--jobs", "6")
    assert [each["part"] for each in plan["variants"]] == [
        "lora",
        "learning_rate",
        "lora × learning_rate",
        "seed",
        "seed",
    ]
    assert plan["steps"][0]["what"] == "the pilot: e1 with lora r16 → r8"
    assert [step["jobs"] for step in plan["steps"]] == [2] * 5
    assert any("6 jobs leaves room for 3 of 5 variants" in note for note in plan["notes"])
    shown = CliRunner().invoke(app, ["ablate", champion, "--plan-only", "--components", "lora"])
    assert "e1 with lora r16 → r8" in shown.stdout
    assert runs == len(summarise_all(settings, Database.open(settings.database)))


def test_a_sweep_tells_how_two_parts_work_together(champion: str) -> None:
    told = ablate(champion, factorial=["lora", "learning_rate"])
    assert [each["part"] for each in told["variants"]] == ["lora", "learning_rate", "lora × learning_rate"]
    (interaction,) = told["interactions"]
    assert interaction["part"] == "lora × learning_rate"
    assert interaction["delta"] == 0.0, "these jobs look at the learning rate alone"
    assert len(told["effects"]) == 4


def test_a_cap_ends_it_and_what_was_learned_is_kept(champion: str, settings: Settings) -> None:
    told = ablate(champion, components=["lora", "learning_rate", "warmup_ratio"], jobs=5, parallel=8)
    assert (told["status"], told["error"]) == ("over_budget", "the cap on jobs leaves 1, and 2 are needed")
    assert len(trainings(settings, told["run_id"])) == 4
    assert [each["part"] for each in told["effects"]] == ["lora", "learning_rate"]
    assert [each["status"] for each in told["variants"]] == ["evaluated", "evaluated", "not tried"]
    assert learned(champion, told) == ["learning_rate", "lora"]


def test_a_cancelled_one_keeps_what_was_learned(champion: str, settings: Settings) -> None:
    def decide(requests: list[Any]) -> Any:
        if requests[0]["experiment"] == "a2":
            from shared_memory.runs import Runs

            Runs(Database.open(settings.database)).request_cancel(own[0])
        return approve_all(requests)

    own: list[str] = []
    told = ablate(
        champion, components=["learning_rate", "lora"], approve="ask", decide=decide,
        on_event=lambda event: own.append(event.run_id),
    )  # fmt: skip
    assert told["status"] == "cancelled"
    assert [each["part"] for each in told["effects"]] == ["learning_rate"]
    assert learned(champion, told) == ["learning_rate"]


DIES_AT_ITS_SECOND_TRAINING = """
import os, signal, sys
import postgrad

def watch(event):
    if event.kind == "job" and event.experiment == "a2" and event.state == "running":
        os.kill(os.getpid(), signal.SIGKILL)

postgrad.ablate(sys.argv[1], components=["learning_rate", "lora"], on_event=watch)
"""


def test_a_killed_one_goes_on_and_no_job_runs_twice(champion: str, settings: Settings) -> None:
    environment = {**os.environ, "PYTHONPATH": str(NOOP / "site")}
    command = [sys.executable, "-c", DIES_AT_ITS_SECOND_TRAINING, champion]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]

    told = ablate("last")
    assert told["of"] == champion
    assert (told["status"], told["error"]) == ("succeeded", "")
    assert trainings(settings, told["run_id"]) == [
        (purpose, f"a{n}", 1) for n in (1, 2) for purpose in ("training", "evaluation")
    ]


def test_variants_that_all_crash_end_it_after_two(champion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.evaluator import ablations

    real = ablations.leave_one_out

    def hopeless(*given: Any) -> Any:
        return tuple(
            variant.model_copy(update={"numbers": {**variant.numbers, "learning_rate": 1 + n / 10}})
            for n, variant in enumerate(real(*given), 1)
        )

    monkeypatch.setattr(ablations, "leave_one_out", hopeless)
    told = ablate(champion, components=["lora", "learning_rate", "warmup_ratio"])
    assert told["status"] == "failed"
    assert told["error"].startswith("a2 crashed: FloatingPointError: the loss is nan")
    assert [each["status"] for each in told["variants"]][:3] == ["crashed", "crashed", "not tried"]
    assert told["effects"] == []


def test_what_cannot_be_ablated_is_one_line(make_goal: MakeGoal, champion: str, settings: Settings) -> None:
    with pytest.raises(BadInput, match=r"no part 'decontaminate' to leave out; known here: balance_letters, .*lora"):
        ablate(champion, components=["decontaminate"])
    with pytest.raises(BadInput, match="a factorial sweep takes 2 to 3 factors"):
        ablate(champion, factorial=["lora"])
    with pytest.raises(BadInput, match="no part of e1 is left to leave out"):
        ablate(champion, components=[])
    nothing = postgrad.run(make_goal(experiments=0))["run_id"]
    refused = CliRunner().invoke(app, ["ablate", nothing])
    assert isinstance(refused.exception, BadInput)
    assert refused.exception.exit_code == 2
    assert "has nothing to ablate: its champion is the base model" in str(refused.exception)

    script = NOOP / "train.py"
    files = settings.run_paths(champion).files
    kept = next(path for path in files.iterdir() if path.read_bytes() == script.read_bytes())
    kept.write_bytes(script.read_bytes() + b"\n")
    with pytest.raises(BadInput, match=r"train.py of “train e1.* has changed"):
        ablate(champion)
    kept.write_bytes(script.read_bytes())


def test_another_training_script_would_compare_nothing(
    champion: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from agents.trainer import training

    other = tmp_path / "other" / "train.py"
    other.parent.mkdir()
    other.write_text((NOOP / "train.py").read_text() + "\n# a later version\n")
    monkeypatch.setattr(training, "SCRIPT", other)
    with pytest.raises(BadInput, match=r"train.py of “train e1.* is another one by now"):
        ablate(champion, components=["lora"])
