from __future__ import annotations

import re
import threading

import pytest

from shared_memory.database import Database
from shared_memory.errors import BadInput, Conflict
from shared_memory.goal import Goal
from shared_memory.runs import Outcome, RunChanges, Runs, RunStatus, new_run_id

GOAL = Goal(text="Make SmolLM2 good at physics", base_model="models/smol")


@pytest.fixture
def runs(db: Database) -> Runs:
    return Runs(db)


def test_a_run_keeps_its_goal_and_creating_it_again_changes_nothing(runs: Runs) -> None:
    first = runs.create("r1", GOAL, 100.0)
    runs.update("r1", status=RunStatus.SUCCEEDED)
    again = runs.create("r1", GOAL, 200.0)
    assert Goal.model_validate(again.goal) == GOAL
    assert (first.started, again.started, again.status) == (100.0, 100.0, RunStatus.SUCCEEDED)
    with pytest.raises(Conflict, match="exists with another goal"):
        runs.create("r1", Goal(text="Something else"), 300.0)


def test_runs_are_found_by_id_by_prefix_and_as_the_last(runs: Runs) -> None:
    for at, run_id in enumerate(["20261121-one-aaaa", "20261121-two-bbbb", "20261121-two-bbbb-again"]):
        runs.create(run_id, GOAL, float(at))
    assert [row.run_id for row in runs.list()] == [
        "20261121-two-bbbb-again",
        "20261121-two-bbbb",
        "20261121-one-aaaa",
    ]
    assert runs.get("last").run_id == "20261121-two-bbbb-again"
    assert runs.get("20261121-two-bbbb").run_id == "20261121-two-bbbb"
    assert runs.get("20261121-o").run_id == "20261121-one-aaaa"


def test_an_unknown_or_ambiguous_id_names_the_nearest(runs: Runs) -> None:
    with pytest.raises(BadInput, match="no runs yet"):
        runs.get("last")
    runs.create("20261121-one-aaaa", GOAL, 1.0)
    runs.create("20261121-two-bbbb", GOAL, 2.0)
    with pytest.raises(BadInput, match=r"could be several runs; did you mean .*one-aaaa.*`postgrad runs` lists them"):
        runs.get("20261121")
    with pytest.raises(BadInput, match=r"no run `20261121-oen-aaaa`; did you mean `20261121-one-aaaa`"):
        runs.get("20261121-oen-aaaa")
    with pytest.raises(BadInput, match=r"there is no run ``; `postgrad runs`"):
        runs.get("")


def test_updates_change_only_what_they_name(runs: Runs) -> None:
    created = runs.create("r1", GOAL, 1.0)
    runs.request_cancel("r1")
    row = runs.update("r1", status=RunStatus.FAILED, outcome=Outcome.NONE, ended=9.0, exit_code=1, error="a\n  b")
    assert row == runs.get("r1")
    assert (row.cancel_requested, row.error, row.exit_code, row.ended) == (True, "a b", 1, 9.0)
    assert row.updated > created.updated
    wrong: RunChanges = {"run_id": "r2"}  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="run_id"):
        runs.update("r1", **wrong)
    with pytest.raises(BadInput, match="no run `r9`"):
        runs.update("r9", status=RunStatus.FAILED)


def test_an_answer_goes_to_exactly_one_taker(runs: Runs) -> None:
    runs.create("r1", GOAL, 1.0)
    with pytest.raises(Conflict, match="waits for no answer"):
        runs.put_answer("r1", {"approve": True})
    assert runs.put_request("r1", {"jobs": ["d1"]}).status is RunStatus.WAITING
    assert runs.take_answer("r1") is None
    runs.put_answer("r1", {"approve": True})
    runs.put_answer("r1", {"approve": True})
    with pytest.raises(Conflict, match="answered already"):
        runs.put_answer("r1", {"approve": False})

    taken: list[object] = []
    threads = [threading.Thread(target=lambda: taken.append(runs.take_answer("r1"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer for answer in taken if answer] == [{"approve": True}]
    row = runs.get("r1")
    assert (row.request, row.answer, row.status) == (None, None, RunStatus.RUNNING)


def test_asking_the_same_again_keeps_the_answer_and_asking_anew_drops_it(runs: Runs) -> None:
    runs.create("r1", GOAL, 1.0)
    runs.put_request("r1", {"jobs": ["d1"]})
    runs.put_answer("r1", {"approve": True})
    assert runs.put_request("r1", {"jobs": ["d1"]}).answer == {"approve": True}
    assert runs.put_request("r1", {"jobs": ["d2"]}).answer is None


def test_an_answer_is_kept_without_secrets_whatever_its_reason_is_and_an_edit_to_the_letter(runs: Runs) -> None:
    token = "hf_" + "aB3" * 12
    runs.create("r1", GOAL, 1.0)
    runs.put_request("r1", {"jobs": ["d1"]})
    edit = {"edit": {"config": {"reason": token}}, "reason": token}
    kept = runs.put_answer("r1", {"d1": {"approved": False, "reason": None}, "d2": edit, "d3": {"reason": [token]}})
    assert kept.answer == {
        "d1": {"approved": False, "reason": None},
        "d2": {**edit, "reason": "[redacted]"},
        "d3": {"reason": ["[redacted]"]},
    }


def test_active_seconds_add_up(runs: Runs) -> None:
    runs.create("r1", GOAL, 1.0)
    runs.add_active_seconds("r1", 1.5)
    assert runs.add_active_seconds("r1", 2.0).active_seconds == 3.5


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Make SmolLM2-135M-Instruct answer physics questions", "make-smollm2-135m"),
        ("Schön & schnell!", "schon-schnell"),
        ("教えて", "run"),
        ("x" * 100, "x" * 20),
    ],
)
def test_run_ids_read_like_the_goal(text: str, slug: str) -> None:
    assert re.fullmatch(rf"20\d{{6}}-{slug}-[0-9a-f]{{4}}", new_run_id(text))
