"""What a person asks for, among the moves that are allowed: followed at the next step where it can be, or why not."""

from __future__ import annotations

from typing import Any

import pytest

from agents.brain import Move
from graph import routing
from graph.allowed import allowed_moves
from graph.choosing import choose
from graph.context import Context, Desk
from graph.state import RunState
from graph.steered import narrowed, ordered
from shared_memory.recipes import DpoRecipe, SftRecipe
from shared_memory.settings import Settings
from shared_memory.steering import CHAT, STEERED, Names, Steer, read_steer
from tests.graph.test_routing import experiment, recipes, state

NAMES = Names(recipes=("r0", "r1", "r2", "mild"), experiments=("e1", "e2"))
DATA = {"d1": {"method": "sft"}}
SEVERAL = state(scores={"e1": 0.5}, recipes=recipes(3), datasets=DATA)
"""A draft comes first, then improving e1, an ablation, the end."""


def steers(*words: str) -> dict[str, Steer]:
    read = {f"c{n}": read_steer(text, NAMES) for n, text in enumerate(words)}
    return {name: steer for name, steer in read.items() if steer is not None}


def asked(given: RunState, *words: str, settled: tuple[str, ...] = ()) -> tuple[list[str], dict[str, tuple[str, bool]]]:
    """The moves that are left, and what is told of each steer."""
    left = narrowed(allowed_moves(given), given, steers(*words), settled)
    outcomes = {name: (outcome.text, outcome.done) for name, outcome in left.outcomes.items()}
    return [f"{each.move.value} {each.subject}".strip() for each in left.choices], outcomes


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("improve e1", ["improve e1"]),
        ("an ablation next", ["ablate e1"]),
        ("prefer r1", ["draft"]),
        ("don't draft", ["improve e1", "ablate e1", "deliver e1"]),
        ("don't draft, don't ablate", ["improve e1", "deliver e1"]),
        ("stop after this experiment", ["deliver e1"]),
    ],
)
def test_a_wish_chooses_among_the_allowed_moves(words: str, left: list[str]) -> None:
    assert asked(SEVERAL, words)[0] == left


def test_to_stop_ends_the_search_for_good_once_what_was_begun_is_finished() -> None:
    begun = state(experiments={"e1": experiment("e1", "trained")})
    assert asked(begun, "please stop") == (["candidate e1"], {"c0": ("", False)})
    (choice,) = narrowed(allowed_moves(SEVERAL), SEVERAL, steers("please stop")).choices
    assert choice.ends
    assert asked(state(results={}), "please stop")[0] == ["baseline"], "the baseline is always measured"
    assert asked(state(), "please stop") == (["stop"], {"c0": ("the search ends here", True)})


@pytest.mark.parametrize(
    ("given", "words", "told", "done"),
    [
        (SEVERAL, "prefer dpo next", "no recipe of this run is `dpo`", True),
        (SEVERAL, "debug it: try debugging next", "the rules leave no room to debug now; it is kept in mind", False),
        (SEVERAL, "go on with e2", "nothing may be done about e2 now", False),
        (state(), "no more drafts", "it is all that may be done now: draft", False),
        (state(scores={"e1": 0.5}, exhausted=["stop:"]), "try another recipe", "the search has ended", True),
    ],
)
def test_what_cannot_be_followed_changes_nothing_and_says_why(
    given: RunState, words: str, told: str, done: bool
) -> None:
    left, outcomes = asked(given, words)
    assert left[0] == next(f"{each.move.value} {each.subject}".strip() for each in allowed_moves(given))
    text, settled = outcomes["c0"]
    assert told in text
    assert settled is done


def test_a_recipe_whose_data_are_not_there_is_told_so() -> None:
    both: dict[str, Any] = {**recipes(1), "mild": DpoRecipe(id="mild").plain()}
    given = state(scores={"e1": 0.5}, recipes=both, datasets=DATA)
    assert asked(given, "prefer dpo next")[1] == {"c0": ("the run's data are not laid out for `dpo`", True)}


def test_a_later_wish_comes_before_an_earlier_one_and_one_that_was_settled_asks_no_more() -> None:
    assert asked(SEVERAL, "no more ablations", "an ablation next")[0] == ["ablate e1"]
    assert asked(SEVERAL, "an ablation next", "improve e1")[0] == ["improve e1"]
    assert asked(SEVERAL, "an ablation next", settled=("c0",))[0][0] == "draft"
    assert "ablate e1" not in asked(SEVERAL, "no more ablations", settled=("c0",))[0], "what is avoided stays so"


def test_a_wish_to_stop_is_taken_back_by_a_later_one_to_go_on() -> None:
    taken_back = {"c0": ("what you said after it takes it back", True)}
    for later in ("don't stop", "keep going", "an ablation next"):
        left, outcomes = asked(SEVERAL, "stop after this experiment", later)
        assert left == asked(SEVERAL, later)[0], later
        assert outcomes | taken_back == outcomes
    begun = state(experiments={"e1": experiment("e1", "trained")})
    assert asked(begun, "please stop", "go on")[1]["c0"] == taken_back["c0"], "while what was begun is finished, too"
    assert asked(SEVERAL, "an ablation next", "stop after this experiment")[0] == ["deliver e1"]
    assert asked(SEVERAL, "stop after this experiment", "no more ablations")[0] == ["deliver e1"]


def test_of_two_wishes_the_earlier_one_is_told_the_truth() -> None:
    later_first = ("what you asked for after it comes first; it is kept in mind", False)
    assert asked(SEVERAL, "an ablation next", "improve e1")[1] == {"c0": later_first, "c1": ("it comes next", True)}
    turned = asked(SEVERAL, "an ablation next", "no more ablations")[1]
    assert turned["c0"] == ("what you said after it takes it back", True)
    assert turned["c1"] == ("it is left out from now on", False)
    assert asked(SEVERAL, "no more ablations", "an ablation next")[1]["c0"][0] == "what you said after it takes it back"


def test_a_wish_that_names_nothing_is_told_so_and_changes_nothing() -> None:
    left, outcomes = asked(SEVERAL, "do not try higher learning rates")
    assert left == asked(SEVERAL)[0]
    text, done = outcomes["c0"]
    assert text.startswith("it names nothing that the router could act on")
    assert done


def test_a_preferred_recipe_is_the_first_to_be_drafted_and_an_avoided_one_is_not() -> None:
    known = {name: SftRecipe(id=name) for name in ("r0", "r1", "r2")}
    assert list(ordered(known, steers("prefer r2", "no more r0"))) == ["r2", "r1"]
    assert list(ordered(known, steers("avoid sft"))) == []
    assert list(ordered(known, steers("avoid sft", "try sft after all"))) == ["r0", "r1", "r2"]
    given = state(scores={"e1": 0.5}, recipes=recipes(2), datasets=DATA)
    assert asked(given, "no more sft")[0][0] == "improve e1"
    assert routing.next_move(given).move is Move.DRAFT


def test_the_router_says_once_what_becomes_of_each_wish(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk("20261201-t-0000", Context(home=str(settings.home)))
    told: list[str] = []
    monkeypatch.setattr(desk, "emit", lambda kind, **fields: told.append(f"{kind}: {fields['text']}"))
    for name, steer in steers(
        "stop after this experiment", "no more ablations", "be careful, use less", "go on"
    ).items():
        desk.journal.note(CHAT, name, {"steer": steer.plain()})
    for _ in range(2):
        assert choose(SEVERAL, desk).choice.move is Move.DRAFT
    assert told == [
        "steer: the search goes on as its rules allow",
        "steer: it names nothing that the router could act on; roles with a language model are shown it",
        "steer: it is left out from now on",
        "steer: what you said after it takes it back",
    ]
    assert [note["done"] for note in desk.journal.notes(STEERED).values()] == [True, True, False, True]
