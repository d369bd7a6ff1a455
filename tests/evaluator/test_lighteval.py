"""LightEval as a second engine: what it may be asked, what becomes of its item records, and LightEval itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.evaluator import lighteval
from agents.evaluator.benchmarks.items import half_of
from agents.evaluator.scored import read_items
from postgrad.report.evidence import gather
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.settings import Settings

TASKS = """
from lighteval.metrics.metrics import Metrics
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc

def written(line, task_name=None):
    return Doc(task_name=task_name, query=line["question"], choices=[line["answer"]], gold_index=0)

def chosen(line, task_name=None):
    return Doc(task_name=task_name, query=line["question"], choices=[line["answer"], line["answer"] * 9], gold_index=0)

COMMON = dict(
    hf_repo="{folder}", hf_subset="default", hf_avail_splits=["test"], evaluation_splits=["test"],
    few_shots_split=None, few_shots_select=None, stop_sequence=[],
)
TASKS_TABLE = [
    LightevalTaskConfig(
        name="toy:written", prompt_function=written, generation_size=4, metrics=[Metrics.exact_match], **COMMON
    ),
    LightevalTaskConfig(name="toy:chosen", prompt_function=chosen, metrics=[Metrics.loglikelihood_acc], **COMMON),
]
"""
STAND_IN = """
import json, pathlib
config = json.load(open("config.json"))
out = pathlib.Path("out")
out.mkdir()
rows = [
    {"id": f"{n:x}", "category": "easy" if n % 2 else "hard", "cluster": "", "epoch": 1, "score": n % 2 * 1.0,
     "answered": True, "truncated": n == 0, "answer": None, "output": "x", "output_tokens": 3, "metrics": {"em": n % 2}}
    for n in range(config["limit"])
]
out.joinpath("items.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
print(json.dumps({"result": {"items": len(rows), "lighteval": "0.13.0"}}))
"""


@pytest.mark.parametrize(
    ("benchmark", "more", "said"),
    [
        ({"name": "gsm8k"}, {"limits": {"experiments": 3}}, "training data could not be searched for them"),
        ({"name": "gsm8k"}, {"run": {"on": "api"}}, "LightEval loads the model that it scores on gsm8k itself"),
        ({"name": "toy", "path": "tasks.py"}, {}, r"are code, .* allow that with \[run\] sandbox = \"none\""),
        ({"name": "toy", "path": "absent.py"}, {}, r"cannot be read .*; check \[\[benchmark\]\] path"),
        ({"path": "tasks.py"}, {}, "needs the `name` of one of its tasks"),
        ({"name": "gsm8k", "max_tokens": 64}, {}, "as its task says; leave `max_tokens` out"),
        ({"name": "gsm8k", "metric": "exact"}, {}, "as its task says; leave `metric` out"),
    ],
)
def test_what_lighteval_leaves_no_room_for_is_refused_in_one_line(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    benchmark: dict[str, Any], more: dict[str, Any], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("tasks.py").write_text("TASKS_TABLE = []")
    goal = {
        "text": "t", "base_model": "openai/m" if "run" in more else str(tiny_model),
        "benchmark": [{**benchmark, "engine": "lighteval"}], "limits": {"experiments": 0}, **more,
    }  # fmt: skip
    with pytest.raises(BadInput, match=said) as refused:
        postgrad.run(goal)
    assert "\n" not in str(refused.value)


def test_its_item_records_make_scores_like_any_others(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    stand_in = tmp_path / "light.py"
    stand_in.write_text(STAND_IN)
    monkeypatch.setattr(lighteval, "SCRIPT", stand_in)

    def scored() -> dict[str, Any]:
        return postgrad.evaluate(tiny_model, "gsm8k", engine="lighteval", limit=100, approve="auto")

    first, second = scored(), scored()

    assert (first["benchmark"], first["score"], first["n"], first["truncated"]) == ("gsm8k", 0.5, 100, 0.01)
    assert {name: each["score"] for name, each in first["by_category"].items()} == {"easy": 1.0, "hard": 0.0}
    rows = read_items(Path(first["items"]))
    assert all(row["part"] == half_of(row["id"]) for row in rows)
    assert sum(each["n"] for each in first["by_part"].values()) == 100
    assert first["settings_digest"] == second["settings_digest"]
    evidence = gather(settings, Database.open(settings.database), first["run_id"])
    assert {tuple(each.versions.items()) for each in evidence.results.values()} == {(("lighteval", "0.13.0"),)}
    assert (evidence.row.status, evidence.row.error) == ("succeeded", "")
    same = postgrad.compare(first["run_id"], second["run_id"])
    assert (same["n"], same["delta"]) == (100, 0.0)


def test_tasks_of_ones_own_are_code_that_is_always_asked_about(
    tmp_path: Path, tiny_model: Path, settings: Settings
) -> None:
    tasks = tmp_path / "mine.py"
    tasks.write_text("TASKS_TABLE = []")
    asked: list[Any] = []

    def decide(requests: list[postgrad.Request]) -> bool:
        asked.extend(requests)
        return False

    with pytest.raises(postgrad.PostgradError, match="no score"):
        postgrad.evaluate(
            tiny_model, "toy", engine="lighteval", path=tasks, sandbox="none", approve="paid", decide=decide
        )
    (request,) = asked
    assert request["custom"]
    assert request["modules"] == {"tasks.py": "TASKS_TABLE = []"}
    assert "with the tasks of mine.py: LightEval is installed for it, asks and scores" in request["title"]


def test_a_config_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    for config in ({"model": str(tmp_path / "no"), "task": "gsm8k"}, {"model": "m"}, {"model": "m", "tasks": "t"}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        done = subprocess.run([sys.executable, lighteval.SCRIPT], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_lighteval_is_installed_for_a_job_and_scores_a_model_by_its_own_rules(
    tmp_path: Path, tiny_model: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(30)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = tmp_path / "toy_tasks.py"
    tasks.write_text(TASKS.replace("{folder}", str(folder)))
    before = {path.name for path in tiny_model.iterdir()}
    try:
        scored = postgrad.evaluate(
            tiny_model, "toy", engine="lighteval", path=tasks, limit=20, sandbox="none", approve="auto"
        )
    except postgrad.PostgradError as error:
        if "cannot be installed" in str(error):
            pytest.skip(str(error))
        raise

    assert (scored["n"], scored["epochs"]) == (40, 1)
    # A text is likelier than itself nine times over, and random weights never write the right number.
    assert {name: each["score"] for name, each in scored["by_category"].items()} == {"chosen": 1.0, "written": 0.0}
    records = read_items(Path(scored["items"]))
    assert {row["output_tokens"] for row in records if row["category"] == "written"} == {4}
    assert scored["truncated"] == 0.5, "every written answer met the task's limit of 4 tokens"
    assert {path.name for path in tiny_model.iterdir()} == before, "nothing is kept in the model's folder"
    assert not (Path(scored["items"]).parent / "environment").exists()
    (job,) = gather(settings, Database.open(settings.database), scored["run_id"]).jobs.values()
    assert job.result["metrics"] == {"toy:chosen|0": "acc", "toy:written|0": "em"}
