"""Where the training rows come from, by rule."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agents.brain import Brief, Move
from agents.data_engineer.playbook import propose
from agents.data_engineer.proposal import EXACT_ONLY, DataProposal, Generate
from shared_memory.errors import BadInput
from shared_memory.goal import DataGoal, Goal, RunOptions
from shared_memory.records import Recipe


def brief(generated: tuple[str, ...] = (), **data: Any) -> Brief:
    goal = Goal(text="t", data=DataGoal(**data), run=RunOptions(seed=5))
    recipes = {"best": Recipe(id="best", train_rows=400), "second": Recipe(id="second", train_rows=9)}
    return Brief(goal=goal, move=Move.DATA, recipes=recipes, generated=generated)


def test_given_files_are_used_as_they_are() -> None:
    proposal = propose(brief(train=("/a.jsonl",), generator="/g.py"))
    assert (proposal.sources, proposal.generate, proposal.rows) == (("/a.jsonl",), None, None)
    assert proposal.near_duplicate_threshold == 0.7


def test_without_files_the_best_recipe_says_how_many_rows_are_generated_with_head_room() -> None:
    proposal = propose(brief(generator="/g.py"))
    assert proposal.generate == Generate(script="/g.py", rows=480, seed=5)
    assert proposal.sources == ()


def test_generated_rows_are_cut_to_what_the_recipe_asks_for() -> None:
    proposal = propose(brief(generated=("/out/data.jsonl",), generator="/g.py"))
    assert (proposal.sources, proposal.rows) == (("/out/data.jsonl",), 400)
    assert proposal.near_duplicate_threshold == EXACT_ONLY


def test_the_best_recipe_says_which_method_the_data_is_for() -> None:
    recipes = {"best": Recipe(id="best", method="dpo"), "second": Recipe(id="second")}
    for data, generated in [
        (DataGoal(train=("/a.jsonl",)), ()), (DataGoal(generator="/g.py"), ()), (DataGoal(generator="/g.py"), ("/d",)),
    ]:  # fmt: skip
        goal = Goal(text="t", data=data)
        assert propose(Brief(goal=goal, move=Move.DATA, recipes=recipes, generated=generated)).method == "dpo"
    assert propose(brief(train=("/a.jsonl",))).method == "sft"


def test_always_generates_beside_given_files() -> None:
    always: dict[str, Any] = {"train": ("/a.jsonl",), "generator": "/g.py", "synthesise": "always"}
    assert propose(brief(**always)).generate is not None
    joined = propose(brief(generated=("/out/data.jsonl",), **always))
    assert (joined.sources, joined.rows) == (("/a.jsonl", "/out/data.jsonl"), None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "`data.train` is empty and there is no `data.generator`; name a file"),
        ({"train": ("/a",), "synthesise": "always"}, "`data.synthesise` is always and there is no `data.generator`"),
        ({"generator": "/g.py", "synthesise": "never"}, "nothing to train on"),
    ],
)
def test_nothing_to_train_on_is_bad_input_with_a_way_out(data: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        propose(brief(**data))


def test_a_proposal_either_generates_or_reads() -> None:
    with pytest.raises(ValidationError, match="either `generate` or `sources`"):
        DataProposal()
    with pytest.raises(ValidationError, match="either `generate` or `sources`"):
        DataProposal(sources=("/a",), generate=Generate(script="/g.py", rows=1, seed=0))


def test_a_file_named_twice_is_refused_because_its_rows_would_go_by_two_ids() -> None:
    with pytest.raises(ValidationError, match=r"`sources` names '/a\.jsonl' twice; name it once"):
        DataProposal(sources=("/a.jsonl", "/b.jsonl", "/a.jsonl"))
