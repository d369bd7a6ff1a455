"""Where the training rows come from, by rule."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agents.brain import Brief, DataAudit, Move
from agents.data_engineer.playbook import decide
from agents.data_engineer.playbook import propose_data as propose
from agents.data_engineer.proposal import EXACT_ONLY, DataProposal, Generate
from shared_memory.errors import BadInput
from shared_memory.goal import DataGoal, Goal, RunOptions
from shared_memory.recipes import DpoRecipe, SftRecipe


def brief(generated: tuple[str, ...] = (), known: dict[str, Any] | None = None, **data: Any) -> Brief:
    """`known` is what the brief says beside the goal."""
    goal = Goal(text="t", data=DataGoal(**data), run=RunOptions(seed=5))
    recipes = {"best": SftRecipe(id="best", train_rows=400), "second": SftRecipe(id="second", train_rows=9)}
    return Brief(goal=goal, move=Move.DATA, recipes=recipes, generated=generated, **(known or {}))


def audit(distinct: int, **changes: Any) -> DataAudit:
    return DataAudit(rows=distinct, distinct=distinct, **changes)


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
    recipes = {"best": DpoRecipe(id="best"), "second": SftRecipe(id="second")}
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


MINE: dict[str, Any] = {"train": ("/a.jsonl",), "generator": "/g.py"}


@pytest.mark.parametrize(
    ("found", "reasons", "rows"),
    [
        (audit(100), (), 0),
        (audit(99), ("99 different rows to train on are fewer than 100",), 362),
        (audit(9, verdict="unfit", findings={"empty": 7}), ("the audit finds the 9 rows unfit (empty 7)",), 480),
        (audit(500, topics={"tides": 3, "stars": 10}), ("topics with fewer than 10 rows: tides 3",), 9),
    ],
)
def test_rows_are_written_beside_the_goals_own_where_the_audit_says_that_they_are_needed(
    found: DataAudit, reasons: tuple[str, ...], rows: int
) -> None:
    given = brief(known={"audit": found}, **MINE)
    decision = decide(given)
    assert (decision.reasons, decision.rows, decision.write) == (reasons, rows, bool(reasons))
    proposal = propose(given)
    assert proposal.generate == (Generate(script="/g.py", rows=rows, seed=5) if reasons else None)
    assert all(reason in decision.line for reason in reasons or ("the goal's rows suffice",))
    assert decide(brief(known={"audit": found}, **{**MINE, "synthesise": "never"})).write is False


def test_without_anybody_who_can_write_few_rows_are_trained_on_as_they_are() -> None:
    given = brief(known={"audit": audit(50)}, train=("/a.jsonl",))
    assert decide(given).line == (
        "no rows are written: 50 different rows to train on are fewer than 100, and nobody can write any"
    )
    assert propose(given).sources == ("/a.jsonl",)
    assert "50 different rows" in propose(given).why


def test_rows_that_are_unfit_are_not_trained_on_alone() -> None:
    given = brief(known={"audit": audit(9, verdict="unfit", findings={"empty": 7})}, train=("/a.jsonl",))
    with pytest.raises(BadInput, match=r"the audit finds the 9 rows unfit \(empty 7\) and there is no"):
        propose(given)


def test_a_teacher_writes_where_there_is_no_generator_and_is_checked_by_what_fits() -> None:
    proposal = propose(brief(known={"teacher": "openai/t"}))
    assert proposal.generate == Generate(teacher="openai/t", rows=480, seed=5, verify="judge")
    assert proposal.near_duplicate_threshold == 0.7
    assert proposal.summary().startswith("write 480 rows with openai/t: `data.train` is empty")
    choices = propose(brief(known={"teacher": "openai/t", "choices": True}))
    assert choices.generate is not None
    assert choices.generate.verify == "majority"
    both = propose(brief(known={"teacher": "openai/t"}, generator="/g.py")).generate
    assert both == Generate(script="/g.py", rows=480, seed=5)


def test_a_teacher_that_the_goal_forbids_is_the_reason_why_there_is_nothing_to_train_on() -> None:
    with pytest.raises(BadInput, match=r"`data.train` is empty and there is no `data.generator`; it is a hosted model"):
        propose(brief(known={"no_teacher": "it is a hosted model"}))


def test_a_teacher_writes_no_preference_pairs() -> None:
    recipes = {"best": DpoRecipe(id="best")}
    given = Brief(goal=Goal(text="t"), move=Move.DATA, recipes=recipes, teacher="openai/t")
    with pytest.raises(BadInput, match=r"there is no `data\.generator`"):
        propose(given)


def test_rows_that_did_not_pass_are_not_asked_for_again() -> None:
    known = {"audit": audit(50), "not_written": "4 of 10 sampled rows are wrong"}
    proposal = propose(brief(known=known, **MINE))
    assert proposal.sources == ("/a.jsonl",)
    assert "rows that were written are not used" in proposal.why
    always = propose(brief(known=known, **MINE, synthesise="always"))
    assert always.sources == ("/a.jsonl",), "what could not be written is no reason to train on nothing"
    with pytest.raises(BadInput, match=r"`data\.train` is empty, and no rows were written: 4 of 10 sampled rows"):
        propose(brief(known={"not_written": "4 of 10 sampled rows are wrong"}, generator="/g.py"))


def test_rows_have_one_writer() -> None:
    with pytest.raises(ValidationError, match="by a `script`, by a `teacher` or by a `program`"):
        Generate(rows=1, seed=0)
    with pytest.raises(ValidationError, match="by a `script`, by a `teacher` or by a `program`"):
        Generate(script="/g.py", teacher="openai/t", rows=1, seed=0)


def test_a_proposal_either_generates_or_reads() -> None:
    with pytest.raises(ValidationError, match="either `generate` or `sources`"):
        DataProposal()
    with pytest.raises(ValidationError, match="either `generate` or `sources`"):
        DataProposal(sources=("/a",), generate=Generate(script="/g.py", rows=1, seed=0))


def test_a_file_named_twice_is_refused_because_its_rows_would_go_by_two_ids() -> None:
    with pytest.raises(ValidationError, match=r"`sources` names '/a\.jsonl' twice; name it once"):
        DataProposal(sources=("/a.jsonl", "/b.jsonl", "/a.jsonl"))
