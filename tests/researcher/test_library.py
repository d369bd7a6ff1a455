"""The library of recipes: one for every method and size, each resting on findings that say where they are from."""

from __future__ import annotations

import re
import time
import tomllib

import pytest

from agents.brain import Brief, Move
from agents.evaluator.benchmarks.registry import entries as registered
from agents.researcher import playbook
from agents.researcher.playbook import LIBRARY, Entry
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal, Goal
from shared_memory.recipes import METHODS, Lora

TABLE = tomllib.loads(LIBRARY.read_text(encoding="utf-8"))
ENTRIES, FINDINGS = playbook.library()
NOT_HERE = {"tldr", "rewardbench"}
"""What recipes were measured on that no goal can name, but by a file of its own."""
SOURCE = re.compile(
    r"arXiv \d{4}\.\d{5}|Thinking Machines 2025|Hugging Face 202[4-6]|(?:alignment-handbook|open-r1), recipes/"
    r"|open-instruct, docs/|model card of \w"
)


def brief(method: str, millions: float, *benchmarks: str) -> Brief:
    goal = Goal(
        text="better",
        method=method,  # type: ignore[arg-type]
        distill_from="/models/large" if method == "distill" else "",
        benchmark=tuple(BenchmarkGoal(name=name) for name in benchmarks),
    )
    return Brief(goal=goal, move=Move.RESEARCH, parameters=int(millions * 1e6))


def proposed(method: str, millions: float, *benchmarks: str) -> list[str]:
    return [recipe.id for recipe in playbook.propose(brief(method, millions, *benchmarks)).recipes]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.recipe.id)
def test_every_recipe_can_be_carried_out_and_says_what_to_expect_of_it(entry: Entry) -> None:
    recipe = entry.recipe
    assert recipe.batch % recipe.micro_batch == 0
    assert entry.fits.min_m < entry.fits.max_m
    for words in (recipe.reason, recipe.source, recipe.expected, recipe.cost, recipe.risk):
        assert len(words) > 10
        assert words == words.strip()
    assert recipe.findings


def test_every_recipe_and_finding_says_where_it_is_from() -> None:
    named = {name for entry in TABLE["recipe"] for name in entry["findings"]}
    ids = [finding["id"] for finding in TABLE["finding"]]
    assert sorted(named) == sorted(ids)
    for entry in [*TABLE["recipe"], *TABLE["finding"]]:
        assert SOURCE.search(entry["source"]), entry["id"]


def test_the_library_is_large_and_its_benchmarks_can_be_named() -> None:
    assert len(ENTRIES) >= 25
    assert len({entry.recipe.id for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.recipe.method for entry in ENTRIES} == set(METHODS)
    names = {name for entry in ENTRIES for name in entry.fits.benchmarks}
    assert names - set(registered()) == NOT_HERE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("millions", "size"), [(135, "small"), (1700, "medium"), (7000, "medium")])
def test_a_plain_goal_starts_from_one_recipe_that_trains_an_adapter(method: str, millions: int, size: str) -> None:
    [name] = proposed(method, millions)
    assert name == f"{'lora' if method == 'sft' else method}-{size}"
    [recipe] = playbook.propose(brief(method, millions)).recipes
    assert isinstance(recipe.lora, Lora)
    assert proposed(method, millions, "physics") == [name], "a benchmark of one's own changes nothing"


@pytest.mark.parametrize(
    ("method", "millions", "benchmark", "names"),
    [
        ("sft", 1700, "gpqa_main", ["lora-medium", "ptb-gpqa-traces"]),
        ("sft", 7000, "gsm8k", ["orca-math", "lora-medium", "metamath", "tulu3-sft"]),
        ("sft", 7000, "humaneval", ["magicoder", "lora-medium"]),
        ("sft", 360, "ifeval", ["lora-small", "smollm2-sft-small"]),
        ("dpo", 8000, "ifeval", ["zephyr-dpo-qlora", "dpo-medium", "tulu3-dpo"]),
        ("kto", 7000, "gsm8k", ["orca-math-kto", "kto-medium"]),
        ("grpo", 1500, "aime2025", ["grpo-medium", "open-rs", "dr-grpo"]),
        ("grpo", 7000, "gsm8k", ["ptb-gsm8k-grpo", "tulu3-rlvr", "grpo-medium", "deepseekmath-grpo"]),
        ("distill", 8000, "aime2025", ["on-policy-distillation", "distill-medium"]),
    ],
)
def test_what_was_published_for_the_goals_benchmark_comes_first_and_the_pilot_trains_an_adapter(
    method: str, millions: int, benchmark: str, names: list[str]
) -> None:
    assert proposed(method, millions, benchmark) == names


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("millions", [135, 1700, 8000])
def test_a_proposal_is_short_the_same_every_time_and_cites_what_it_rests_on(method: str, millions: int) -> None:
    every = sorted(name for name in registered() if name != "lighteval")
    proposal = playbook.propose(brief(method, millions, *every))
    assert 1 <= len(proposal.recipes) <= playbook.MOST
    assert playbook.propose(brief(method, millions, *every)) == proposal
    assert {each for recipe in proposal.recipes for each in recipe.findings} == {each.id for each in proposal.findings}
    began = time.process_time()
    playbook.propose(brief(method, millions, *every))
    assert time.process_time() - began < 0.2


def test_a_distillation_learns_from_the_goals_teacher() -> None:
    [recipe] = playbook.propose(brief("distill", 135)).recipes
    assert recipe.plain()["teacher"] == "/models/large"


def test_what_the_library_has_nothing_for_is_refused() -> None:
    with pytest.raises(BadInput, match="no `sft` recipe for 100000M parameters"):
        playbook.propose(brief("sft", 100_000))
