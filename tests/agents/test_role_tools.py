"""What the roles' models can look at, each in its craft: rows, logs, scripts, differences of scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.brain import Brief, Move
from agents.data_engineer import tools as of_the_data_engineer
from agents.evaluator import tools as of_the_evaluator
from agents.llm import LanguageModel, Tally
from agents.trainer import tools as of_the_trainer
from agents.workbench import Workbench
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import EvalResult, Part
from tests.agents.briefs import GOAL, brief, result


def call(tools: list[Any], name: str, **arguments: Any) -> str:
    (tool,) = (each for each in tools if each.name == name)
    return str(tool.invoke(arguments))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    model = LanguageModel("openai/m", cache=tmp_path / "answers", meter=Tally())
    return Workbench(model, outputs=tmp_path / "tools", library=tmp_path / "library", jobs=tmp_path / "jobs")


@pytest.fixture
def with_rows(tmp_path: Path) -> Brief:
    for name, numbers in (("a.jsonl", range(30)), ("b.jsonl", range(30, 60))):
        rows = [{"prompt": f"What is {n} plus {n}?", "completion": str(2 * n)} for n in numbers]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    goal = GOAL.model_copy(update={"data": GOAL.data.model_copy(update={"train": files})})
    return brief(Move.DATA, goal=goal)


def test_rows_are_shown_from_any_place_on_and_those_that_are_held_out_never(with_rows: Brief) -> None:
    tools = of_the_data_engineer.tools_of(replace(with_rows, held_out=frozenset({"1:2", "2:1"})))
    shown = [json.loads(line) for line in call(tools, "read_rows", limit=3).splitlines()]
    assert [row["question"] for row in shown] == ["What is 0 plus 0?", "What is 2 plus 2?", "What is 3 plus 3?"]
    assert shown[0]["completion"][0]["content"] == "0"
    assert "What is 31 plus 31?" in call(tools, "read_rows", offset=29, limit=1)
    assert len(call(tools, "read_rows", limit=1000).splitlines()) == of_the_data_engineer.MOST_ROWS
    assert call(tools, "read_rows", offset=1000) == "there is no row at 1000"


def test_the_audit_of_all_rows_can_be_asked_for(with_rows: Brief) -> None:
    told = json.loads(call(of_the_data_engineer.tools_of(with_rows), "audit_data"))
    assert told["rows"] == 60
    assert told["verdict"] in ("fit", "fixable", "unfit")
    assert all(found.keys() == {"kind", "severity", "count", "advice"} for found in told["findings"])


def test_a_goal_without_rows_of_its_own_leaves_nothing_to_look_at() -> None:
    goal = GOAL.model_copy(update={"data": GOAL.data.model_copy(update={"train": ()})})
    assert of_the_data_engineer.tools_of(brief(Move.DATA, goal=goal)) == []


def test_the_trainer_reads_the_log_of_the_latest_job_and_the_source_of_the_script(
    bench: Workbench, tmp_path: Path
) -> None:
    told = brief(Move.DEBUG)
    crashed = told.experiments["e3"].model_copy(update={"jobs": ("first", "second")})
    tools = of_the_trainer.tools_of(replace(told, experiments={**told.experiments, "e3": crashed}), bench)
    assert call(tools, "read_log", experiment="e3") == "e3 left no log"
    for job in ("first", "second"):
        (tmp_path / "jobs" / job).mkdir(parents=True)
        (tmp_path / "jobs" / job / "log.txt").write_text(f"the log of the {job}")
    assert call(tools, "read_log", experiment="e3") == "the log of the second"
    assert call(tools, "read_log", experiment="e9") == "there is no experiment 'e9'; there are e1, e2, e3"
    assert "argparse" in call(tools, "read_training_script")
    assert call(tools, "read_training_script", file="../agent.py").startswith("there is no '../agent.py'; there are ")
    assert of_the_trainer.tools_of(brief(Move.DELIVER), bench) == []


def test_the_evaluator_compares_two_scores_pair_by_pair_on_the_selection_items(tmp_path: Path) -> None:
    items = tmp_path / "arithmetic.jsonl"
    parts = [Part.SELECTION if n < 40 else Part.REPORT for n in range(80)]
    rows = [{"id": str(n), "question": f"{n}+1?", "answer": str(n + 1), "Part": part} for n, part in enumerate(parts)]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    goal = GOAL.model_copy(update={"benchmark": (BenchmarkGoal(path=str(items)),)})

    def scored(name: str, right: int) -> EvalResult:
        file = tmp_path / f"{name}.jsonl"
        kept = [{"id": str(n), "epoch": 0, "score": float(n < right), "part": parts[n]} for n in range(80)]
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))
        return result(name, Part.SELECTION, right / 40).model_copy(
            update={"benchmark": goal.primary.id, "items": str(file)}
        )

    results = [scored("baseline", 5), scored("e1", 35)]
    tools = of_the_evaluator.tools_of(brief(Move.CONFIRM, goal=goal, results={each.id: each for each in results}))
    told = json.loads(call(tools, "compare_scores", baseline="baseline", candidate="e1"))
    assert told["n"] == 40
    assert told["delta"] == pytest.approx(0.75)
    assert told["ci_low"] > 0
    only = call(tools, "compare_scores", baseline="baseline", candidate="e2")
    assert only == "only these have a score on the selection items of arithmetic: baseline, e1"
    assert of_the_evaluator.tools_of(brief(Move.BASELINE)) == []
