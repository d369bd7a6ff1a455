from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console as Terminal

from postgrad.answer import answer, improved
from postgrad.summary import summarise, summarise_all
from postgrad.tables import show_runs, show_summary
from shared_memory.errors import BadInput
from shared_memory.records import Part, Verdict
from shared_memory.runs import Outcome, RunStatus
from tests.postgrad.a_run import SECRET, ARun, baseline, finished_run, new_run
from tests.postgrad.a_tree import loss, tree_of_experiments


def test_a_summary_has_the_shape_that_scripts_rely_on(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    summary = summarise(run.settings, run.db, run.run_id)
    assert json.loads(json.dumps(summary)) == summary
    assert {
        "run_id",
        "status",
        "outcome",
        "goal",
        "baseline",
        "champion",
        "experiments",
        "spent",
        "integrity",
        "report",
    } <= set(summary)
    assert (summary["status"], summary["outcome"]) == ("succeeded", "improved")
    assert summary["baseline"]["physics"].keys() == {"score", "stderr", "n", "part", "unit", "higher_is_better"}
    assert summary["champion"].keys() == {"experiment", "score", "improvement", "model"}
    assert {"delta", "ci_low", "ci_high", "p_value"} <= summary["champion"]["improvement"]["physics"].keys()
    assert [(e["id"], e["parent"], e["verdict"]) for e in summary["experiments"]] == [
        ("e1", "baseline", "keep"),
        ("e2", "e1", "keep"),
    ]
    assert summary["experiments"][1]["branch"] == "draft"
    assert summary["experiments"][1]["score"]["part"] == "selection"
    assert summary["spent"].keys() == {"usd", "unpriced", "llm_tokens", "hours", "jobs", "by_role", "roles"}
    assert summary["spent"]["roles"]["data_engineer"] == {
        "usd": 0.0, "unpriced": [], "hours": pytest.approx(1.2 / 3600), "jobs": 1, "llm_tokens": 0
    }  # fmt: skip
    assert summary["spent"]["by_role"] == {"evaluator": 0.0, "data_engineer": 0.0, "trainer": 0.0}
    assert summary["goal"]["base_model"] == "/models/smollm2"


def test_baseline_and_champion_are_shown_on_the_same_part(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    run.score("baseline", Part.REPORT, 0.02, 0.03)
    recipe = run.prepare()
    run.train("e1", "baseline", recipe, Verdict.KEEP, "LoRA", loss=1.6)
    run.score("e1", Part.SELECTION, 0.4, 0.9, n=100)
    run.journal.note("champion", "champion", {"experiment": "e1", "model": "/somewhere"})
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["baseline"]["physics"]["part"] == summary["champion"]["score"]["physics"]["part"] == "selection"
    run.score("e1", Part.REPORT, 0.4, 0.9)
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["baseline"]["physics"]["part"] == summary["champion"]["score"]["physics"]["part"] == "report"


def test_a_run_that_has_only_begun_can_be_summarised(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["baseline"] == summary["champion"] == summary["integrity"] == {}
    assert summary["experiments"] == []
    assert summary["report"] == ""
    assert answer(summary) == "No improvement has been shown so far: the base model has not been scored."


def test_the_baseline_is_the_champion_where_nothing_is_better(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    run.train("e1", "baseline", run.prepare(), Verdict.DISCARD, "LoRA", loss=1.6)
    run.score("e1", Part.SELECTION, 0.0, 0.9, n=100)
    run.ended(RunStatus.SUCCEEDED, Outcome.NO_IMPROVEMENT)
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["champion"]["experiment"] == "baseline"
    assert summary["champion"]["model"] == "/models/smollm2"
    assert answer(summary).startswith("No improvement was shown: the one experiment did not score above the base model")


def test_an_experiment_that_is_ahead_but_not_saved_is_no_champion(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    run.train("e1", "baseline", run.prepare(), Verdict.KEEP, "LoRA", loss=1.6)
    run.score("e1", Part.SELECTION, 0.4, 0.9, n=100)
    assert summarise(run.settings, run.db, run.run_id)["champion"] == {}


@pytest.mark.parametrize(
    ("delta", "low", "high", "words"),
    [
        (0.05, -0.03, 0.13, "the interval includes no difference"),
        (0.05, 0.0, 0.1, "the interval includes no difference"),
        (-0.1, -0.15, -0.05, "scores below the base model"),
    ],
)
def test_a_difference_that_proves_nothing_is_not_called_a_win(
    tmp_path: Path, delta: float, low: float, high: float, words: str
) -> None:
    run = finished_run(tmp_path, delta=max(delta, 0.0), low=low, high=high, p=0.2)
    run.compare("e2", delta, low, high, 0.2)
    summary = summarise(run.settings, run.db, run.run_id)
    assert not improved(summary)
    assert answer(summary).startswith("No improvement was shown")
    assert words in answer(summary)


def test_a_win_is_stated_with_its_interval(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    summary = summarise(run.settings, run.db, run.run_id)
    assert improved(summary)
    assert answer(summary).startswith("Improved: on the report items of physics, e2 scores ")
    assert "95 % interval +61.5 to +78.5, p < 0.001" in answer(summary)


def test_of_a_loss_less_is_better_everywhere(tmp_path: Path) -> None:
    run = tree_of_experiments(tmp_path / "better")
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["goal"]["benchmark"] == [], "the goal stays as it was written"
    assert summary["baseline"]["holdout"]["unit"] == "nats"
    assert summary["baseline"]["holdout"]["higher_is_better"] is False
    assert summary["champion"]["experiment"] == "e5"
    assert improved(summary)
    assert answer(summary) == (
        "Improved: on the report items of holdout, e5 scores 1.511 against 2.300 nats a token for the base model, "
        "−0.800 nats a token (95 % interval −0.900 to −0.700, p < 0.001; lower is better)."
    )
    worse = tree_of_experiments(tmp_path / "worse", low=0.1, high=0.3)
    summary = summarise(worse.settings, worse.db, worse.run_id)
    assert not improved(summary)
    assert "scores worse than the base model" in answer(summary)


def test_an_unsaved_experiment_with_less_loss_is_ahead_of_the_baseline(tmp_path: Path) -> None:
    run = new_run(tmp_path, goal={"benchmark": [{"path": "holdout.jsonl", "metric": "loss"}]})
    loss(run, "baseline", Part.SELECTION, 2.3)
    run.train("e1", "baseline", run.prepare(), Verdict.DISCARD, "LoRA", loss=1.6)
    loss(run, "e1", Part.SELECTION, 2.5)
    run.ended(RunStatus.SUCCEEDED, Outcome.NO_IMPROVEMENT)
    summary = summarise(run.settings, run.db, run.run_id)
    assert summary["champion"]["experiment"] == "baseline"
    assert "the one experiment did not score better than the base model on the selection items" in answer(summary)
    run.train("e2", "baseline", run.journal.recipes()["lora-small"], Verdict.KEEP, "LoRA", loss=1.6)
    loss(run, "e2", Part.SELECTION, 2.1)
    assert summarise(run.settings, run.db, run.run_id)["champion"] == {}, "it is ahead, and not saved"


def test_the_table_lists_experiments_and_the_spend_of_every_role(tmp_path: Path) -> None:
    run = tree_of_experiments(tmp_path)
    terminal = Terminal(file=io.StringIO(), width=160)
    show_summary(summarise(run.settings, run.db, run.run_id), terminal)
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"e4 +e3 with learning rate 0.02 → 0.00667 +keep +1.914 ± 0.020 nats", shown)
    assert "−0.800 (−0.900 to −0.700), lower is better" in shown
    assert "trainer: 7 jobs, 16 min 08 s, $0.00" in shown
    assert "researcher: 1,234 tokens, $0.00" in shown


def test_a_narrow_terminal_cuts_nothing_but_the_text_of_a_goal(tmp_path: Path) -> None:
    run = new_run(tmp_path, text="a long story " * 20)
    (row,) = summarise_all(run.settings, run.db)
    for width, shown_text in ((80, 12), (200, 60)):
        terminal = Terminal(file=io.StringIO(), width=width)
        show_runs([row], terminal)
        heading, line = terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert line.startswith(f"{row['run_id']}  {row['status']}")
        assert "$0.00" in line
        assert line.endswith("…")
        assert shown_text <= len(line[heading.index("goal") :]) <= 60
        assert len(line) <= width
    show_runs([{**row, "run_id": "r" * 70}], terminal := Terminal(file=io.StringIO(), width=80))
    assert f"{'r' * 70}  {row['status']}" in terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "story" not in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_paths_of_a_summary_are_whole_in_a_narrow_terminal(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    summary = {**summarise(run.settings, run.db, run.run_id), "report": "/a" * 60}
    terminal = Terminal(file=io.StringIO(), width=80)
    show_summary(summary, terminal)
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert summary["report"] in shown
    assert summary["champion"]["model"] in shown


def test_a_secret_in_a_goal_does_not_reach_the_summary(tmp_path: Path) -> None:
    run = new_run(tmp_path, text=f"use {SECRET}")
    assert SECRET not in json.dumps([summarise(run.settings, run.db, run.run_id), summarise_all(run.settings, run.db)])


def test_all_runs_are_listed_newest_first(tmp_path: Path) -> None:
    first: ARun = new_run(tmp_path, "20261120-first-aaaa")
    new_run(tmp_path, "20261121-second-bbbb")
    rows = summarise_all(first.settings, first.db)
    assert [row["run_id"] for row in rows] == ["20261121-second-bbbb", "20261120-first-aaaa"]
    assert {"run_id", "status", "outcome", "text", "started", "spent"} <= rows[0].keys()
    assert rows[0]["spent"]["hours"] == pytest.approx(590 / 3600)


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with pytest.raises(BadInput, match="there is no run `nothing`"):
        summarise(run.settings, run.db, "nothing")
