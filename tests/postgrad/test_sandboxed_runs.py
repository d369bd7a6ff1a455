"""A run whose rows a generator writes: what the person is told of the sandbox, and what happens without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

import postgrad
from agents import sandbox
from postgrad.decide import Request
from postgrad.doctor import examine
from shared_memory.settings import Settings
from tests.a_gate import shown_at_the_gate
from tests.conftest import MakeGoal

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Callable[..., None]) -> None:
    recipe()


@pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())
def test_the_gate_and_the_report_say_that_a_generator_runs_in_a_sandbox(
    make_goal: MakeGoal, settings: Settings
) -> None:
    shown: dict[str, str] = {}

    def decide(requests: Sequence[Request]) -> bool:
        for request in requests:
            shown[request["purpose"]] = shown_at_the_gate([request])
        return True

    summary = postgrad.run(make_goal(experiments=1, approve="ask"), decide=decide)
    assert summary["status"] == "succeeded", summary["error"]
    assert "in a sandbox: no network, no home" in shown["generation"]
    assert "sandbox" not in shown["training"]
    report = settings.run_paths(summary["run_id"]).report_md.read_text(encoding="utf-8")
    assert "questions.py was run" in report
    assert "in a sandbox: no network, no home" in report


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_a_generator_is_refused_before_anybody_is_asked(make_goal: MakeGoal) -> None:
    asked: list[str] = []

    def decide(requests: Sequence[Request]) -> bool:
        asked.extend(request["purpose"] for request in requests)
        return True

    summary = postgrad.run(make_goal(experiments=1, approve="ask"), decide=decide)
    assert summary["status"] == "failed"
    assert "bubblewrap is not installed; install it" in summary["error"]
    assert "--sandbox none" in summary["error"]
    assert "generation" not in asked


@pytest.mark.usefixtures("no_bubblewrap")
def test_allowed_by_name_it_runs_and_gate_and_report_say_that_it_was_not_isolated(
    make_goal: MakeGoal, settings: Settings
) -> None:
    shown: dict[str, str] = {}

    def decide(requests: Sequence[Request]) -> bool:
        shown.update({request["purpose"]: shown_at_the_gate([request]) for request in requests})
        return True

    summary = postgrad.run(make_goal(experiments=1, approve="ask"), decide=decide, sandbox="none")
    assert summary["status"] == "succeeded", summary["error"]
    assert "NOT isolated" in shown["generation"]
    assert "NOT isolated" in settings.run_paths(summary["run_id"]).report_md.read_text(encoding="utf-8")


@pytest.mark.skipif(bool(sandbox.fault_of_this_machine()), reason=sandbox.fault_of_this_machine())
def test_a_sandbox_that_has_to_do_without_something_says_so_at_the_gate_and_to_the_doctor(
    make_goal: MakeGoal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_tried", lambda: sandbox._Tried(options=("--disable-userns",)))
    shown: list[str] = []

    def decide(requests: Sequence[Request]) -> bool | None:
        shown.extend(request["title"] for request in requests)
        return True if requests[0]["purpose"] == "evaluation" else None

    postgrad.run(make_goal(experiments=1, approve="ask"), decide=decide)
    assert shown[-1].endswith(", in a sandbox without a /proc of its own")
    (check,) = [check for check in examine(settings) if check["name"] == "sandbox"]
    assert (check["status"], "without a /proc of its own" in check["detail"]) == ("warning", True)
