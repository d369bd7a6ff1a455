"""The trainer's rules for every method: drafts that say what they are, and changes that can be carried out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.brain import Brief, Move
from agents.researcher import playbook as researcher
from agents.trainer import agent, playbook
from agents.trainer.proposal import Plan, TrainingProposal, with_recipes_of
from agents.trainer.training import ablated, plan_experiments
from shared_memory.ablations import Effect, EffectTable, Variant
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.recipes import METHODS, layout_of, recipe_of
from shared_memory.records import DatasetRecord, Experiment
from shared_memory.run_paths import RunPaths


def brief(method: str, move: Move = Move.DRAFT, **changes: Any) -> Brief:
    """A run whose recipes are the library's, and whose rows are laid out for the method."""
    teacher = {"distill_from": "/models/large"} if method == "distill" else {}
    goal = Goal(text="better", method=method, **teacher)  # type: ignore[arg-type]
    recipes = researcher.propose(Brief(goal=goal, move=Move.RESEARCH, parameters=135_000_000)).recipes
    rows = DatasetRecord(id="d1", source="rows", path="/rows.jsonl", digest="0", rows=100, method=layout_of(method))
    known: dict[str, Any] = {"recipes": {each.id: each for each in recipes}, "datasets": {"d1": rows}}
    return Brief(goal=goal, move=move, **{**known, **changes})


def proposed(brief: Brief) -> tuple[Plan, ...]:
    proposal = playbook.propose(brief)
    assert isinstance(proposal, TrainingProposal)
    return proposal.plans


def after(start: Brief, **recipe: Any) -> Brief:
    """The same run, its draft scored and kept, with other numbers if need be."""
    [plan] = proposed(start)
    trained = plan.recipe.model_copy(update=recipe)
    e1 = Experiment(
        id="e1", parent="baseline", change="c", recipe=trained, dataset="d1", status="evaluated", model="/adapter",
        adapter=trained.lora is not None,
    )  # fmt: skip
    return replace(start, move=Move.IMPROVE, experiment="e1", incumbent="e1", experiments={"e1": e1}, room=9)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("sft", "SFT, LoRA r16, lr 0.001, 1 epoch"),
        ("dpo", "DPO, LoRA r16, lr 5e-05, 1 epoch"),
        ("kto", "KTO, LoRA r16, lr 5e-05, 1 epoch"),
        ("reward", "reward model, LoRA r16, lr 0.0003, 1 epoch"),
        ("grpo", "GRPO, LoRA r8, lr 5e-05, 1 epoch, rewarded by exact_match"),
        ("rloo", "RLOO, LoRA r8, lr 5e-05, 1 epoch, rewarded by exact_match"),
        ("distill", "distillation, LoRA r16, lr 0.0005, 1 epoch, from large"),
    ],
)
def test_a_draft_names_its_method_and_what_it_learns_from(method: str, change: str) -> None:
    [plan] = proposed(brief(method))
    assert plan.change == change


@pytest.mark.parametrize(
    ("answers", "reward"), [("letter", "multiple_choice"), ("mathematics", "math_verify"), ("text", "exact_match")]
)
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_the_reward_is_the_one_that_suits_the_answers_in_the_data(method: str, answers: str, reward: str) -> None:
    start = brief(method)
    rows = start.datasets["d1"].model_copy(update={"answers": answers})
    [plan] = proposed(replace(start, datasets={"d1": rows}))
    assert plan.recipe.plain()["rewards"] == [reward]
    assert plan.change.endswith(f", rewarded by {reward}")

    [recipe] = start.recipes.values()
    chosen = recipe.model_copy(update={"rewards": ("exact_match", "format")})
    [plan] = proposed(replace(start, datasets={"d1": rows}, recipes={recipe.id: chosen}))
    assert plan.recipe == chosen, "what somebody chose stays"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", ["as it is", "the smallest"])
def test_every_change_of_every_method_can_be_carried_out_and_put_on_record(method: str, batch: str) -> None:
    smallest = {"grpo": 8, "rloo": 4, "kto": 2}.get(method, 1)
    numbers = {"batch": smallest, "micro_batch": smallest} if batch == "the smallest" else {}
    start = after(brief(method), **numbers)
    plans = proposed(start)
    assert len(plans) >= 3
    for plan in plans:
        assert recipe_of(plan.recipe.plain()) == plan.recipe
    assert len(plan_experiments(plans, start, RunPaths(Path("no-run")))) == len(plans)
    assert any(plan.continues for plan in plans)


def test_a_smaller_batch_is_split_into_parts_that_divide_it() -> None:
    plans = proposed(after(brief("sft"), batch=12, micro_batch=4))
    assert [(plan.recipe.batch, plan.recipe.micro_batch) for plan in plans if plan.recipe.batch != 12] == [(6, 2)]


def test_where_all_weights_were_trained_one_more_epoch_begins_at_the_base() -> None:
    longer = next(plan for plan in proposed(after(brief("sft"), lora=None)) if plan.recipe.epochs == 2)
    assert not longer.continues
    assert longer.change == "e1 with epochs 1 → 2"


def effect(part: str, gain: float, *, raised: bool = True, n: int = 200) -> Effect:
    return Effect(
        part=part, kind="number", change="c", given="e1", other="e0", delta=gain, stderr=0.01, ci_low=-1, ci_high=1,
        p_value=1, p_holm=1, n=n, shrunken=gain, raised=raised,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("effects", "first", "last"),
    [
        ([], "one more epoch from e1's checkpoint (1 → 2)", "e1 with batch 4 → 2"),
        ([effect("lora", 0.06)], "e1 with lora r16 → r32", "e1 with batch 4 → 2"),
        ([effect("epochs", 0.04), effect("lora", 0.06)], "e1 with lora r16 → r32", "e1 with batch 4 → 2"),
        ([effect("epochs", 0.01)], "e1 with learning rate 0.001 → 0.002", "one more epoch"),
        ([effect("learning_rate", 0.05, raised=False)], "e1 with learning rate 0.001 → 0.0005", "0.001 → 0.002"),
        ([effect("lora", -0.05)], "one more epoch from e1's checkpoint (1 → 2)", "e1 with lora r16 → r32"),
    ],
)
def test_the_next_change_goes_along_what_was_worth_something_and_away_from_what_was_not(
    effects: list[Effect], first: str, last: str
) -> None:
    known = replace(after(brief("sft")), effects=EffectTable(champion="e1", effects=tuple(effects)))
    changes = [plan.change for plan in proposed(known)]
    assert changes[0] == first
    assert last in changes[-1]
    assert len(changes) == 5, "nothing is left out"


def test_a_variant_of_an_experiment_is_trained_from_the_base_and_says_what_it_leaves_out() -> None:
    e1 = after(brief("sft")).experiments["e1"]
    variant = Variant(part="lora", kind="number", change="with lora r16 → r8", numbers={"lora": {"r": 8, "alpha": 16}})
    made = ablated(e1, variant, name="a1", dataset="d1")
    assert (made.parent, made.change, made.branch.value) == ("e1", "e1 with lora r16 → r8", "ablate")
    assert made.recipe.lora is not None
    assert (made.recipe.lora.r, made.continues) == (8, False)
    again = Variant(part="seed", kind="seed", change="again, by seed 3", seed=3)
    assert (ablated(e1, again, name="a2", dataset="d1").seed, made.seed) == (3, None)
    with pytest.raises(BadInput, match="with no rate: Input should be greater than 0"):
        ablated(e1, variant.model_copy(update={"change": "with no rate", "numbers": {"learning_rate": 0}}),
                name="a3", dataset="d1")  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_language_model_proposes_recipes_of_the_method_alone_and_may_say_what_the_rules_would(method: str) -> None:
    for move in (Move.DRAFT, Move.IMPROVE):
        start = brief(method) if move is Move.DRAFT else after(brief(method))
        ours = TrainingProposal(plans=proposed(start))
        kind = with_recipes_of(method, TrainingProposal)
        said = TrainingProposal.model_validate(kind.model_validate(ours.plain()).plain())
        assert said == ours
        assert agent.fault(said, start) == ""
        other = "dpo" if method == "sft" else "sft"
        with pytest.raises(ValueError, match="method"):
            with_recipes_of(other, TrainingProposal).model_validate(ours.plain())


def test_a_language_model_changes_neither_the_teacher_nor_goes_on_from_what_is_no_adapter() -> None:
    start = after(brief("distill"))
    recipe = start.experiments["e1"].recipe
    other = Plan(parent="e1", change="c", why="w", recipe=recipe.model_copy(update={"teacher": "/elsewhere"}))
    assert "the teacher is the goal's to name" in agent.fault(TrainingProposal(plans=(other,)), start)

    whole = after(brief("sft"), lora=None)
    more = whole.experiments["e1"].recipe.model_copy(update={"epochs": 2})
    on = Plan(parent="e1", change="c", why="w", recipe=more, continues=True)
    assert "goes on from an adapter" in agent.fault(TrainingProposal(plans=(on,)), whole)


def test_kto_in_single_rows_is_no_recipe() -> None:
    for numbers in ({"batch": 1}, {"micro_batch": 1}):
        with pytest.raises(ValueError, match="greater than or equal to 2"):
            recipe_of({"id": "r", "method": "kto", **numbers})
