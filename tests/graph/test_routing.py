"""Who is next: the router's choice from the state alone."""

from __future__ import annotations

from typing import Any

import pytest

from agents.brain import Move
from graph import routing
from graph.routing import Choice
from graph.state import RunState
from shared_memory.recipes import SftRecipe
from shared_memory.records import EvalResult, Experiment, Part

PLENTY = {
    "seconds_left": 1e6, "seconds_kept": 60.0, "jobs_left": 50, "usd_left_micro": 10**9, "usd_kept_micro": 0,
    "cancelled": False,
}  # fmt: skip


def result(name: str, part: str, score: float, n: int = 100) -> dict[str, Any]:
    return EvalResult(
        experiment=name, benchmark="b", part=Part(part), score=score, stderr=0.05, n=n, answered=1.0,
        accuracy_given_answered=score, truncated=0.0, settings_digest="s", items="i", job="j", seconds=1.0,
    ).plain()  # fmt: skip


def experiment(name: str, status: str, parent: str = "baseline", **more: Any) -> dict[str, Any]:
    fields = {"id": name, "parent": parent, "change": "x", "recipe": SftRecipe(id="r").plain(), "dataset": "d1"}
    verdict = {"evaluated": "discard", "crashed": "crash"}.get(status)
    return Experiment.model_validate({**fields, "status": status, "verdict": verdict, **more}).plain()


def recipes(count: int) -> dict[str, Any]:
    return {f"r{n}": SftRecipe(id=f"r{n}").plain() for n in range(count)}


MISSES = {
    "e1": experiment("e1", "evaluated"),
    **{f"e{n}": experiment(f"e{n}", "evaluated", "e1", branch="improve") for n in (2, 3, 4)},
}
PLATEAU = {"e1": 0.5, "e2": 0.4, "e3": 0.4, "e4": 0.4}
IMPROVED = {"e1": experiment("e1", "evaluated"), "e2": experiment("e2", "evaluated", "e1", branch="improve")}
MENDED_TWICE = {
    "e1": experiment("e1", "crashed", jobs=["a"]),
    "e2": experiment("e2", "crashed", "e1", branch="debug", jobs=["b"]),
    "e3": experiment("e3", "crashed", "e2", branch="debug", jobs=["c"]),
}
NO_BENCHMARK = {"text": "t", "data": {"train": ["/rows.csv"]}}


def state(**changes: Any) -> RunState:
    """A run after its baseline, with recipe and data, and `scores` of evaluated experiments on the selection items."""
    scores: dict[str, float] = changes.pop("scores", {})
    limits = changes.pop("limits", {})
    results = {"baseline/b/selection": result("baseline", "selection", 0.2)}
    results |= {f"{name}/b/selection": result(name, "selection", score) for name, score in scores.items()}
    base: dict[str, Any] = {
        "goal": {"text": "t", "benchmark": [{"path": "/b.jsonl", "target": 0.9}], "limits": limits},
        "stock": PLENTY,
        "results": results,
        "recipes": {"r": SftRecipe(id="r").plain()},
        "datasets": {"d1": {}},
        "experiments": {name: experiment(name, "evaluated") for name in scores},
    }
    return RunState(**(base | changes))  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (state(results={}), (Move.BASELINE, "")),
        (state(results={}, goal=NO_BENCHMARK), (Move.HOLD_OUT, "")),
        (state(results={}, goal=NO_BENCHMARK, held_out=[{"path": "/held.jsonl"}]), (Move.BASELINE, "")),
        (state(limits={"experiments": 0}, recipes={}), (Move.STOP, "")),
        (state(recipes={}), (Move.RESEARCH, "")),
        (state(datasets={}), (Move.DATA, "")),
        (state(), (Move.DRAFT, "")),
        (state(experiments={"e1": experiment("e1", "trained")}), (Move.CANDIDATE, "e1")),
        (state(experiments={"e1": experiment("e1", "planned")}), (Move.RETRY, "e1")),
        (state(experiments={"e1": experiment("e1", "crashed")}), (Move.DEBUG, "e1")),
        (state(experiments={"e1": experiment("e1", "crashed", verdict="discard")}), (Move.STOP, "")),
        (state(experiments={"e1": experiment("e1", "crashed")}, exhausted=["debug:e1"]), (Move.STOP, "")),
        (state(experiments={"e1": experiment("e1", "crashed", jobs=["a", "b", "c"])}), (Move.STOP, "")),
        (state(experiments={"e1": experiment("e1", "crashed")}, recipes=recipes(2)), (Move.DEBUG, "e1")),
        (state(experiments=MENDED_TWICE, recipes=recipes(1)), (Move.STOP, "")),
        (state(experiments=MENDED_TWICE, recipes=recipes(2)), (Move.DRAFT, "")),
        (state(scores={"e1": 0.5}, recipes=recipes(3)), (Move.DRAFT, "")),
        (state(scores={"e1": 0.5, "e2": 0.3, "e3": 0.1}, recipes=recipes(9)), (Move.IMPROVE, "e1")),
        (state(scores={"e1": 0.5}), (Move.IMPROVE, "e1")),
        (state(scores={"e1": 0.1}), (Move.IMPROVE, "e1")),
        (state(scores={"e1": 0.1}, exhausted=["improve:e1"]), (Move.STOP, "")),
        (state(scores={"e1": 0.5}, exhausted=["improve:e1"]), (Move.ABLATE, "e1")),
        (state(scores={"e1": 0.5}, exhausted=["improve:e1", "ablate:e1"]), (Move.DELIVER, "e1")),
        (state(scores=PLATEAU, experiments=MISSES), (Move.ABLATE, "e1")),
        (state(scores=PLATEAU, experiments=MISSES, exhausted=["ablate:e1"]), (Move.DELIVER, "e1")),
        (state(scores=PLATEAU | {"e4": 0.6}, experiments=MISSES), (Move.ABLATE, "e4")),
        (state(scores=PLATEAU | {"e4": 0.6}, experiments=MISSES, exhausted=["ablate:e4"]), (Move.IMPROVE, "e4")),
        (state(scores={"e1": 0.95}), (Move.DELIVER, "e1")),
        (state(scores={"e1": 0.5}, limits={"experiments": 1}), (Move.DELIVER, "e1")),
        (state(scores={"e1": 0.95}, delivered="e1"), (Move.CONFIRM, "e1")),
        (state(scores={"e1": 0.95}, delivered="e1", claims={"b": {"experiment": "e1"}}), (Move.STOP, "")),
        (state(scores={"e1": 0.95}, delivered="e1", given_up=["confirm"]), (Move.STOP, "")),
    ],
)
def test_the_next_move_follows_from_what_is_known(given: RunState, expected: tuple[Move, str]) -> None:
    choice = routing.next_move(given)
    assert (choice.move, choice.subject) == expected
    assert choice.halt == ""


@pytest.mark.parametrize("halt", ["cancelled", "failed"])
def test_a_halted_run_delivers_its_incumbent_and_starts_no_job(halt: str) -> None:
    given = state(scores={"e1": 0.5}, halt=halt)
    assert routing.next_move(given) == Choice(Move.DELIVER, "e1")
    assert routing.next_move(state(scores={"e1": 0.5}, halt=halt, delivered="e1")) == Choice(Move.STOP)


def test_time_kept_back_cuts_the_search_before_it_is_used_up() -> None:
    short = {**PLENTY, "seconds_left": 90.0, "seconds_kept": 100.0}
    choice = routing.next_move(state(scores={"e1": 0.5}, stock=short))
    assert (choice.move, choice.halt) == (Move.DELIVER, "timed_out")
    after = state(scores={"e1": 0.5}, stock=short, halt="timed_out", delivered="e1")
    assert routing.next_move(after) == Choice(Move.CONFIRM, "e1")


def test_dollars_kept_back_cut_the_search_before_they_are_used_up() -> None:
    poor = {**PLENTY, "usd_left_micro": 900_000, "usd_kept_micro": 1_000_000}
    choice = routing.next_move(state(scores={"e1": 0.5}, stock=poor))
    assert (choice.move, choice.halt) == (Move.DELIVER, "over_budget")


def test_the_pilot_goes_alone_and_then_as_many_as_the_goal_and_its_caps_allow() -> None:
    goal = {"text": "t", "benchmark": [{"path": "/b.jsonl"}], "run": {"parallel": 4}, "limits": {"experiments": 6}}
    assert routing.room(state(goal=goal)) == 1
    assert routing.room(state(goal=goal, scores={"e1": 0.5})) == 4
    assert routing.room(state(goal=goal, scores={f"e{n}": 0.5 for n in range(4)})) == 2
    few = {**PLENTY, "jobs_left": routing.jobs_of_the_end(state()) + 5}
    assert routing.room(state(goal=goal, scores={"e1": 0.5}, stock=few)) == 2
    assert routing.room(state(goal=goal, scores={f"e{n}": 0.5 for n in range(6)})) == 0


def improved(**changes: Any) -> RunState:
    """A run whose first improvement has just been kept."""
    return state(**{"scores": {"e1": 0.5, "e2": 0.6}, "experiments": IMPROVED, **changes})


@pytest.mark.parametrize(
    ("experiments", "move"),
    [(2, Move.DELIVER), (3, Move.ABLATE), (6, Move.ABLATE)],
)
def test_once_a_first_improvement_was_tried_a_third_of_the_experiments_may_be_ablations(
    experiments: int, move: Move
) -> None:
    given = improved(limits={"experiments": experiments})
    assert routing.next_move(given).move is move
    assert routing.ablations_left(given) == (experiments // 3 if experiments > 2 else 0)


def test_ablations_run_side_by_side_within_their_share_and_then_it_goes_on_improving() -> None:
    limits = {"experiments": 7}
    goal = {"text": "t", "benchmark": [{"path": "/b.jsonl"}], "run": {"parallel": 4}, "limits": limits}
    assert routing.room(improved(goal=goal, move="ablate")) == 2
    assert routing.room(improved(goal=goal, move="improve")) == 4
    ablated = {name: experiment(name, "evaluated", "e1", branch="ablate") for name in ("e3", "e4")}
    after = improved(goal=goal, experiments=IMPROVED | ablated)
    assert routing.ablations_left(after) == 0
    assert routing.next_move(after) == Choice(Move.IMPROVE, "e2")
    assert routing.misses_in_a_row(after) == 0, "an ablation was not to become the incumbent"


@pytest.mark.parametrize(
    "stock",
    [
        {"jobs_left": 4},  # one more experiment, and the end
        {"seconds_left": 63.0},  # at a second each, and a minute is kept back
        {"usd_left_micro": 3_000_000, "usd_kept_micro": 1_000_000},  # the two experiments took two dollars
    ],
)
def test_where_means_for_a_few_experiments_are_left_these_are_no_ablations(stock: dict[str, Any]) -> None:
    limits = {"experiments": 20, "usd": 5.0}
    dear = {name: {**plain, "train": {"seconds": 0.5}} for name, plain in IMPROVED.items()}
    given = improved(limits=limits, experiments=dear, stock={**PLENTY, "usd_left_micro": 5_000_000, **stock})
    left = routing.affordable(given)
    assert 1 <= left <= 2
    assert routing.ablations_left(given) == (2 + left) // 3
    assert routing.ablations_left(improved(limits={"experiments": 2}, stock=given["stock"])) == 0


def test_jobs_are_kept_back_for_saving_and_measuring_the_champion() -> None:
    few = {**PLENTY, "jobs_left": routing.jobs_of_the_end(state()) + 1}
    choice = routing.next_move(state(scores={"e1": 0.5}, stock=few))
    assert (choice.move, choice.halt) == (Move.DELIVER, "over_budget")


def test_a_tie_goes_to_the_older_and_a_worse_score_never_replaces_the_incumbent() -> None:
    assert routing.incumbent(state(scores={"e1": 0.5, "e2": 0.5})) == "e1"
    assert routing.incumbent(state(scores={"e1": 0.5, "e2": 0.3})) == "e1"
    assert routing.incumbent(state(scores={"e1": 0.2})) == "baseline"


def test_of_losses_the_lower_is_the_better() -> None:
    losses = {name: {**result(name, "selection", score), "unit": "nats", "higher_is_better": False}
              for name, score in {"baseline": 2.0, "e1": 1.2, "e2": 1.5, "e3": 2.4}.items()}  # fmt: skip
    given = state(
        results={f"{name}/b/selection": plain for name, plain in losses.items()},
        experiments={name: experiment(name, "evaluated") for name in ("e1", "e2", "e3")},
    )
    assert routing.incumbent(given) == "e1"
    assert routing.best_experiment(given) == "e1"


def test_a_score_on_few_items_is_believed_less() -> None:
    few = EvalResult.model_validate(result("e1", "selection", 0.6, n=10)).metric.shrunken(0.2, routing.PRIOR_ITEMS)
    many = EvalResult.model_validate(result("e2", "selection", 0.55, n=200)).metric.shrunken(0.2, routing.PRIOR_ITEMS)
    assert many.better_than(few)
