"""Free text, flags and drafts: the ways to a goal that do not begin with a goal file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared_memory.goal_reading import read_goal
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import Cli, cli, environment  # noqa: F401 - fixtures
from tests.servers.openai_chat import Says, openai_chat


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.csv"
    rows = [f"How long is the walk to stop {n} of line {n % 9}?,It takes {n % 7 + 1} minutes" for n in range(160)]
    path.write_text("question,answer\n" + "\n".join(rows) + "\n")
    return path


def test_free_text_and_flags_are_a_goal(cli: Cli, answers: Path, tiny_model: Path) -> None:  # noqa: F811
    flags = ("--base-model", tiny_model, "--data", answers, "--approve", "auto", "--budget-usd", 0, "--experiments", 1)
    done = cli("run", "fine-tune it on my answers", *flags, "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["goal"]["text"] == "fine-tune it on my answers"
    assert summary["outcome"] == "improved"
    assert done.stderr.splitlines()[0].endswith("fine-tune it on my answers")


def test_what_is_missing_is_exit_2_with_a_draft_that_holds_what_is_known(
    cli: Cli,  # noqa: F811
    answers: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    refused = cli("run", 'say "hi" in Dutch', "--data", answers, "--hours", 2)

    assert refused.returncode == 2
    assert "lacks base_model" in refused.stderr
    assert "Traceback" not in refused.stderr
    draft = tmp_path / "goal.toml"
    goal = read_goal(draft)
    assert (goal.text, goal.data.train, goal.limits.hours) == ('say "hi" in Dutch', (str(answers),), 2.0)
    assert "MISSING: base_model" in draft.read_text()

    again = cli("run", "something else")
    assert "goal-2.toml" in again.stderr, "a draft never overwrites another file"
    draft.write_text(draft.read_text().replace('base_model = ""', f'base_model = "{tiny_model}"'))
    assert cli("run", draft, "--plan-only").returncode == 0


def test_a_goal_file_that_is_not_there_is_not_taken_for_words(cli: Cli) -> None:  # noqa: F811
    for name in ("absent.toml", "goals/absent"):
        refused = cli("run", name)
        assert refused.returncode == 2
        assert "does not exist" in refused.stderr


def test_an_empty_goal_says_so(cli: Cli) -> None:  # noqa: F811
    refused = cli("run", "")
    assert refused.returncode == 2
    assert "the goal is empty" in refused.stderr


def test_plan_only_shows_the_whole_plan_and_leaves_nothing_behind(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    home: Path,
) -> None:
    planned = cli("run", make_goal(experiments=3), "--plan-only", "--json")

    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    moves = [step["move"] for step in plan["steps"]]
    assert moves == ["baseline", "research", "data", "draft", "draft", "deliver", "confirm"]
    assert plan["jobs"] == 1 + 1 + 2 * 3 + 1 + 1
    assert plan["worst_hours"] <= 1.0, "the goal's cap is the worst"
    assert plan["worst_usd"] == 0
    assert not (home / "runs").exists()
    tight = make_goal(experiments=12, jobs=26)
    assert "room for 11 of 12 experiments" in cli("run", tight, "--plan-only").stdout
    assert "at worst" in cli("run", make_goal(), "--plan-only").stdout


def test_the_plan_of_a_goal_without_a_benchmark_holds_rows_out_first(
    cli: Cli,  # noqa: F811
    answers: Path,
    tiny_model: Path,
) -> None:
    planned = cli("run", "learn my answers", "--base-model", tiny_model, "--data", answers, "--plan-only", "--json")
    plan = json.loads(planned.stdout)
    assert plan["steps"][0]["move"] == "hold_out"
    assert "of 160 rows" in plan["steps"][0]["what"]


def test_a_language_model_reads_the_rest_of_the_goal_from_the_text(
    cli: Cli,  # noqa: F811
    answers: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890abcdefghij")
    read = {"base_model": str(tiny_model), "train": [str(answers), "/invented/file.csv"], "usd": 3, "hours": 2}
    with openai_chat([Says(json.dumps(read))]) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        text = f"make {tiny_model} answer like {answers}, in at most 2 hours and $3"
        planned = cli("run", text, "--brain", "openai/gpt-4o", "--plan-only", "--json")

    assert planned.returncode == 0, planned.stderr
    assert "read the goal in" in planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["worst_hours"] <= 2.0
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_language_model_that_may_write_the_rows_stands_in_for_data(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (benchmark,) = read_goal(make_goal()).benchmark
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890abcdefghij")
    flags = ("--base-model", tiny_model, "--brain", "openai/gpt-4o", "--plan-only", "--json")
    with openai_chat(lambda request: Says(json.dumps({}))) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        planned = cli("run", "learn physics", "--benchmark", benchmark.path, *flags)
        refused = cli("run", "learn physics", *flags)

    assert planned.returncode == 0, planned.stderr
    data = next(step for step in json.loads(planned.stdout)["steps"] if step["move"] == "data")
    assert "rows with openai/gpt-4o" in data["what"]
    assert refused.returncode == 2, "nothing to measure on"
    assert "lacks [data] train" in refused.stderr


def plan_of(cli: Cli, goal: Path) -> dict[str, Any]:  # noqa: F811
    planned = cli("run", goal, "--plan-only", "--json")
    assert planned.returncode == 0, planned.stderr
    plan: dict[str, Any] = json.loads(planned.stdout)
    return plan


@pytest.mark.slow
def test_a_teacher_that_cannot_be_paid_is_told_and_counted(cli: Cli, make_goal: MakeGoal) -> None:  # noqa: F811
    goal = make_goal(generator="")
    goal.write_text(goal.read_text().replace("[data]\n", '[data]\nteacher = "openai/gpt-4o"\n'))
    plan = plan_of(cli, goal)
    assert plan["worst_usd"] == round(sum(step["worst_usd"] for step in plan["steps"]), 2) > 0
    assert any("limits.usd is 0, so this cannot be paid: write" in note for note in plan["notes"])
    assert "does not list" not in " ".join(plan["notes"])
    goal.write_text(goal.read_text().replace("openai/gpt-4o", "openai/gpt-9-nosuch"))
    unknown = plan_of(cli, goal)
    assert "LiteLLM does not list `openai/gpt-9-nosuch`: check its name" in " ".join(unknown["notes"])


def test_the_plan_says_what_no_step_shows(cli: Cli, make_goal: MakeGoal, answers: Path) -> None:  # noqa: F811
    goal = make_goal(data=json.dumps([str(answers)]), report_to='[]\nsandbox = "none"')
    more = '[data]\nteacher = "openai/gpt-4o"\nweights = [2.0]\n'
    goal.write_text(goal.read_text().replace("[data]\n", more))
    notes = plan_of(cli, goal)["notes"]
    assert "where rows are written, questions.py writes them; the teacher openai/gpt-4o is not used" in notes
    assert "rows are mixed by weight: answers.csv 2" in notes
    assert any(note.startswith("sandbox = none: ") for note in notes)


@pytest.mark.slow
def test_what_writes_rows_is_a_script_and_needs_something_to_measure_on(
    cli: Cli,  # noqa: F811
    make_goal: MakeGoal,
    answers: Path,
) -> None:
    refused = cli("run", make_goal(generator=answers), "--plan-only")
    assert refused.returncode == 2
    assert "is a data file and no script that writes rows" in refused.stderr
    goal = make_goal()
    head, _, rest = goal.read_text().partition("[[benchmark]]")
    goal.write_text(head + rest[rest.index("[limits]") :])
    refused = cli("run", goal, "--plan-only")
    assert refused.returncode == 2
    assert "rows that are yet to be written cannot be held out to measure on; give a [[benchmark]]" in refused.stderr
    goal.write_text(head + "weights = {file = 2.0}\n" + rest[rest.index("[limits]") :])
    refused = cli("run", goal, "--plan-only")
    assert "`data.weights`: write a list of numbers, one for each entry of train" in refused.stderr
