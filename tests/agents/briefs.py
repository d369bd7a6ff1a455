"""Briefs of a run in its middle, for tests of the roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.brain import Brief, Move
from shared_memory.ablations import Effect, Variant
from shared_memory.goal import Goal
from shared_memory.recipes import SftRecipe
from shared_memory.records import (
    CategoryScore,
    DatasetRecord,
    Diagnosis,
    EvalResult,
    Experiment,
    Finding,
    Lora,
    Part,
    Verdict,
)

GOAL = Goal.model_validate(
    {
        "text": "teach it physics",
        "base_model": "/models/tiny",
        "data": {"train": ["/data/rows.jsonl", "/data/more.jsonl"]},
        "benchmark": [{"path": "/data/physics.jsonl"}, {"path": "/data/chemistry.jsonl"}],
    }
)
GENERATED_GOAL = GOAL.model_copy(
    update={"data": GOAL.data.model_copy(update={"train": (), "generator": "/data/write.py"})}
)
RECIPE = SftRecipe(id="toy", learning_rate=1e-3, batch=8, micro_batch=8, reason="it worked elsewhere", source="a paper")
E1 = Experiment(
    id="e1", parent="baseline", change="SFT", recipe=RECIPE, dataset="d1", status="evaluated", verdict=Verdict.KEEP,
    model="/runs/r/jobs/1/out/adapter", train={"loss": 0.3, "tokens_per_second": 900.0},
)  # fmt: skip
E2 = E1.model_copy(
    update={"id": "e2", "parent": "e1", "recipe": RECIPE.model_copy(update={"epochs": 2, "lora": Lora(r=32)})}
)
VARIANTS = (
    Variant(part="lora", kind="number", change="with lora r32 → r16", numbers={"lora": Lora(r=16).plain()}),
    Variant(part="balance_letters", kind="data", change="without letter balancing", without=("balance_letters",)),
    Variant(part="epochs", kind="stage", change="with epochs 2 → 1", numbers={"epochs": 1}),
)
EPOCHS_MATTER = Effect(
    part="epochs", kind="stage", change="2 → 1", given="e2", other="e1", delta=0.2, stderr=0.04, ci_low=0.1,
    ci_high=0.3, p_value=0.001, p_holm=0.001, n=100, shrunken=0.19, raised=True,
)  # fmt: skip
CRASHED = Experiment(
    id="e3", parent="e1", change="lr", recipe=RECIPE.model_copy(update={"learning_rate": 2e-3}), dataset="d1",
    status="crashed", verdict=Verdict.CRASH, error="loss is nan at step 1",
    diagnosis=Diagnosis(kind="diverged", evidence=("loss is nan at step 1",)),
)  # fmt: skip


def result(experiment: str, part: Part, score: float) -> EvalResult:
    return EvalResult(
        experiment=experiment, benchmark="physics", part=part, score=score, stderr=0.05, n=100, answered=1.0,
        accuracy_given_answered=score, truncated=0.0, categories={"optics": CategoryScore(score=score, n=100)},
        settings_digest="0" * 64, items="/runs/r/items.jsonl", job="k", seconds=9.0,
    )  # fmt: skip


def brief(move: Move, **changes: Any) -> Brief:
    """A brief for `move`, of a run that has two experiments and a crash behind it."""
    subject = {Move.RETRY: "e3", Move.DEBUG: "e3", Move.IMPROVE: "e1", Move.ABLATE: "e2", Move.DELIVER: "e2",
               Move.CONFIRM: "e2"}.get(move, "")  # fmt: skip
    experiments = {each.id: each for each in (E1, E2, CRASHED)}
    results = [result("baseline", Part.SELECTION, 0.25), result("baseline", Part.REPORT, 0.777),
               result("e1", Part.SELECTION, 0.5)]  # fmt: skip
    return replace(
        Brief(
            goal=GOAL, move=move, experiment=subject, room=2, unscored=("e2",), incumbent="e2", parameters=135_000_000,
            findings={"f": Finding(id="f", claim="small numbers are quick", source="a paper")},
            recipes={"toy": RECIPE},
            datasets={"d1": DatasetRecord(id="d1", source="rows.jsonl", path="/runs/r/d.jsonl", digest="0", rows=192)},
            experiments={} if move in (Move.DRAFT, Move.RESEARCH, Move.DATA, Move.BASELINE) else experiments,
            results={each.id: each for each in results},
            variants=VARIANTS if move is Move.ABLATE else (), reference="e2" if move is Move.ABLATE else "",
        ),
        **changes,
    )  # fmt: skip
