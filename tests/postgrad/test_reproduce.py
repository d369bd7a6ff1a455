"""A champion done again: it agrees where nothing has changed, and what has changed is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.jobs import launch
from postgrad import reproduce
from postgrad.decide import approve_all
from postgrad.reproduction import outcome
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import DatasetRecord, EvalResult
from shared_memory.settings import Settings
from tests.conftest import MakeGoal

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture
def champion(make_goal: MakeGoal) -> str:
    """A run whose champion was trained in two steps, the second from the first one's checkpoint."""
    summary = postgrad.run(make_goal(experiments=2))
    assert summary["champion"]["experiment"] == "e2", summary
    return str(summary["run_id"])


def test_a_champion_done_again_agrees_item_by_item(champion: str, settings: Settings) -> None:
    told = reproduce(champion)

    assert (told["verdict"], told["agrees"], told["items_equal"]) == ("agrees", True, 1.0)
    assert told["of"] == champion
    assert told["again"] == told["original"]
    assert [(step["purpose"], step["experiment"]) for step in told["steps"]] == [
        ("training", "e1"), ("training", "e2"), ("merge", "e2"), ("evaluation", "e2"),
    ]  # fmt: skip
    assert told["training_loss"]["e1"] == {"original": 1.5, "again": 1.5}
    old, new = settings.run_paths(champion), settings.run_paths(told["run_id"])
    for job in told["steps"]:
        config = (new.job(job["job"]) / "config.json").read_text()
        assert str(old.root) not in config, "nothing that the first run made is used again"
    assert (new.model / "merged" / "config.json").exists()
    decisions = Ledger(Database.open(settings.database), told["run_id"]).decisions()
    assert len(decisions) == 4, "each of its jobs passed the gate"
    assert postgrad.show(told["run_id"])["reproduction"] == {key: told[key] for key in ("of", "verdict", "reason")}
    report = new.report_md.read_text()
    assert f"does the champion of {champion} again" in report
    assert "agrees" in report
    assert f"postgrad reproduce {told['run_id']}" in report
    assert len(Ledger(Database.open(settings.database), champion).decisions()) == len(
        json.loads(old.report_json.read_text())["records"]["decisions"]
    ), "the first run stays as it was"


def test_rows_held_out_are_the_measure_again(tmp_path: Path, tiny_model: Path) -> None:
    data = tmp_path / "mine.csv"
    rows = [f"Since my journey number {n} to city {n % 9} I cough.,Rest for {n % 9 + 2} days." for n in range(200)]
    data.write_text("question,answer\n" + "\n".join(rows) + "\n")
    goal = {
        "text": "fine-tune on my data", "base_model": str(tiny_model), "data": {"train": [str(data)]},
        "limits": {"usd": 0, "experiments": 1}, "run": {"approve": "auto", "report_to": []},
    }  # fmt: skip
    told = reproduce(postgrad.run(goal)["run_id"])
    assert (told["verdict"], told["benchmark"], told["again"]["unit"]) == ("agrees", "holdout", "nats")


@pytest.fixture
def jobs_with(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Changes what the jobs' Python does, as another version of a package would."""
    site = settings.home / "site"
    monkeypatch.setattr(launch, "PASSED_ON", launch.PASSED_ON | {"PYTHONPATH"})
    monkeypatch.setenv("PYTHONPATH", str(site))

    def put(code: str) -> None:
        site.mkdir(parents=True, exist_ok=True)
        (site / "sitecustomize.py").write_text(code)

    return put


def test_a_score_that_differs_is_said_to_differ(champion: str, jobs_with: Callable[[str], None]) -> None:
    jobs_with(
        "import json\n"
        "real = json.dumps\n"
        "def half(value, **more):\n"
        "    if isinstance(value, dict) and set(value) == {'quality'}:\n"
        "        value = {'quality': value['quality'] / 2}\n"
        "    return real(value, **more)\n"
        "json.dumps = half\n"
    )
    told = reproduce(champion)
    assert (told["verdict"], told["agrees"]) == ("differs", False)
    assert told["delta"] < 0
    assert told["items_equal"] < 1
    assert "items score as before" in told["reason"]


def test_a_job_that_fails_leaves_it_open_and_going_on_tries_again(
    champion: str, jobs_with: Callable[[str], None]
) -> None:
    jobs_with("import sys\nif 'merge.py' in sys.orig_argv: sys.exit('error: no room; make some')\n")
    told = reproduce(champion)
    assert (told["verdict"], told["agrees"]) == ("cannot", False)
    assert told["reason"].startswith("the merge of e2 was not done: ")
    assert told["reason"].endswith("no room; make some")
    jobs_with("")
    again = reproduce(told["run_id"])
    assert (again["run_id"], again["verdict"]) == (told["run_id"], "agrees")
    assert [step["state"] for step in again["steps"]] == ["succeeded", "succeeded", "failed", "succeeded", "succeeded"]


def test_an_adapter_that_was_handed_over_is_handed_over_again(make_goal: MakeGoal, settings: Settings) -> None:
    goal = make_goal(experiments=1)
    goal.write_text(goal.read_text() + '[output]\nsave = ["adapter"]\n')
    told = reproduce(postgrad.run(goal)["run_id"])
    assert (told["verdict"], [step["purpose"] for step in told["steps"]]) == ("agrees", ["training", "evaluation"])
    config = json.loads((settings.run_paths(told["run_id"]).job(told["steps"][1]["job"]) / "config.json").read_text())
    assert config["adapter"] == str(settings.run_paths(told["run_id"]).model / "adapter")


def test_an_input_that_has_changed_is_named_and_nothing_runs(champion: str, settings: Settings) -> None:
    paths = settings.run_paths(champion)
    journal = Journal(Database.open(settings.database), champion)
    dataset = journal.all(DatasetRecord)["d1"]
    script = next(path for path in paths.files.iterdir() if path.read_bytes().startswith(b'"""A training job'))
    benchmark = Path(json.loads(paths.report_json.read_text())["goal"]["benchmark"][0]["path"])
    items = Path(journal.all(EvalResult)["baseline/physics/report"].items)
    for path, words in (
        (script, "train.py of “train e1.* has changed"),
        (Path(dataset.path), "data set d1 has changed"),
        (paths.stored(dataset.digest), "data.jsonl of “train e1.* has changed"),
        (benchmark, r"benchmark physics \(.*\), or what scores it, has changed"),
        (items, "item records of baseline do not give its score"),
    ):
        content = path.read_bytes()
        path.write_bytes(_tampered(path, content))
        with pytest.raises(BadInput, match=words):
            reproduce(champion)
        path.write_bytes(content)
    script.unlink()
    with pytest.raises(BadInput, match=r"train.py .* is gone"):
        reproduce(champion)
    rows = sqlite3.connect(settings.database).execute("SELECT count(*) FROM runs").fetchone()
    assert rows == (1,), "no run was registered"


def _tampered(path: Path, content: bytes) -> bytes:
    """Other content in the same form."""
    if path.name == "items.jsonl":
        return content.replace(b'"score": 0', b'"score": 1')
    return content.replace(b"What", b"Which", 1) if path.name == "physics.jsonl" else content + b"\n# another\n"


def test_another_base_model_is_refused(make_goal: MakeGoal, tmp_path: Path, tiny_model: Path) -> None:
    own = tmp_path / "base"
    shutil.copytree(tiny_model, own)
    run_id = postgrad.run(make_goal(experiments=1, model=own))["run_id"]
    weights = own / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadInput, match=r"base model .* has changed since the run"):
        reproduce(run_id)


def test_a_run_without_a_champion_of_its_own_cannot_be_reproduced(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(experiments=0))
    with pytest.raises(BadInput, match="no model of its own: its champion is the base model"):
        reproduce(summary["run_id"])


def test_its_jobs_are_asked_for_and_a_refusal_ends_it(champion: str, settings: Settings) -> None:
    waiting = reproduce(champion, approve="ask")
    assert (waiting["verdict"], waiting["agrees"], waiting["steps"]) == ("waiting", None, [])

    asked: list[str] = []

    def decide(requests: list[Any]) -> Any:
        asked.extend(request["purpose"] for request in requests)
        return approve_all(requests)

    told = reproduce(waiting["run_id"], decide=decide)
    assert told["run_id"] == waiting["run_id"], "a reproduction is gone on with"
    assert (told["verdict"], asked) == ("agrees", ["training", "training", "merge", "evaluation"])

    refused = reproduce(champion, approve="ask", decide=lambda requests: False)
    assert (refused["verdict"], refused["agrees"]) == ("cannot", False)
    assert "rejected" in refused["reason"]
    assert outcome(settings, refused["run_id"]) == refused


@pytest.mark.parametrize("purpose", ["training", "evaluation"])
def test_a_job_edited_at_the_gate_is_not_what_the_champion_stands_on(
    champion: str, settings: Settings, purpose: str
) -> None:
    def decide(requests: list[Any]) -> Any:
        (request,) = requests
        if request["purpose"] != purpose or request["config"]["seed"] == 7:
            return approve_all(requests)
        return {request["digest"]: {"edit": {"config": {**request["config"], "seed": 7}}}}

    told = reproduce(champion, approve="ask", decide=decide)
    assert (told["verdict"], told["agrees"]) == ("cannot", False)
    assert f"the {purpose} of e" in told["reason"]
    assert "edited at the gate" in told["reason"]
    delivered = settings.run_paths(told["run_id"]).model
    assert delivered.exists() == (purpose == "evaluation")

    again = reproduce(told["run_id"], decide=approve_all)
    assert again == told, "going on changes nothing: no other job runs, and nothing is handed over"
    assert delivered.exists() == (purpose == "evaluation")
    assert reproduce(champion)["verdict"] == "agrees", "it can be begun anew"


def _forget(settings: Settings, run_id: str, *tables: str) -> None:
    """Delete a run's records of its jobs."""
    with sqlite3.connect(settings.database, timeout=30) as connection:
        for table in tables:
            kind = "AND kind = 'job'" if table == "journal" else ""
            connection.execute(f"DELETE FROM {table} WHERE run_id = ? {kind}", (run_id,))
    connection.close()


def test_jobs_that_the_journal_has_lost_are_found_in_the_ledger(champion: str, settings: Settings) -> None:
    _forget(settings, champion, "journal")
    seen: list[str] = []

    def forget(event: Any) -> None:
        if event.kind == "job" and event.state == "succeeded":
            seen.append(event.purpose)
            _forget(settings, event.run_id, "journal")

    told = reproduce(champion, on_event=forget)
    assert (told["verdict"], seen) == ("agrees", ["training", "training", "merge", "evaluation"])
    assert [step["purpose"] for step in told["steps"]] == seen


def test_a_job_without_any_record_ends_it_and_is_named(champion: str, settings: Settings) -> None:
    def forget(event: Any) -> None:
        if event.kind == "job" and event.state == "succeeded" and event.experiment == "e2":
            _forget(settings, event.run_id, "journal", "actions")

    told = reproduce(champion, on_event=forget)
    assert (told["verdict"], told["agrees"]) == ("cannot", False)
    assert told["reason"].startswith("the training of e2 left no record; ")
    assert reproduce(told["run_id"]) == told

    waiting = reproduce(champion, approve="ask")
    _forget(settings, champion, "journal", "actions")
    with pytest.raises(BadInput, match=f"the record of job .* of run {champion} is gone"):
        reproduce(champion)
    ended = reproduce(waiting["run_id"], decide=approve_all)
    assert ended["verdict"] == "cannot"
    assert f"of run {champion} is gone" in ended["reason"]


@pytest.mark.slow
def test_the_command_line_tells_by_its_exit_code(champion: str, settings: Settings) -> None:
    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        line = [sys.executable, "-m", "postgrad", "reproduce", *arguments, "--json"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        return done.returncode, json.loads(done.stdout or "{}")

    code, told = command(champion)
    assert (code, told["verdict"]) == (0, "agrees")
    code, waiting = command(champion, "--approve", "ask")
    assert (code, waiting["verdict"], waiting["agrees"]) == (3, "waiting", None)
    assert command("no-such-run") == (2, {})
    Path(settings.run_paths(champion).model / "merged").joinpath("config.json").unlink()
    assert command(champion)[0] == 0, "what the first run handed over is not used"
