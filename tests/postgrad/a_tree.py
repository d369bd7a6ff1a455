"""Builds a run for a goal without a benchmark, with everything that can happen in a search."""

from __future__ import annotations

import json
import random
from pathlib import Path

from shared_memory.budget import Budget
from shared_memory.records import (
    Branch,
    CategoryScore,
    ComparisonResult,
    DatasetRecord,
    Diagnosis,
    EvalResult,
    Experiment,
    Part,
    Purpose,
    Step,
    Verdict,
)
from shared_memory.runs import Outcome, RunStatus
from tests.postgrad.a_run import ARun, a_spec, new_run


def loss(run: ARun, experiment: str, part: Part, mean: float, n: int = 20) -> EvalResult:
    """A result in nats a token on the rows held out, with its item records: every item near `mean`."""
    job = run.job(Purpose.EVALUATION, f"{experiment}-{part}-loss")
    draw = random.Random(mean)
    values = [mean + draw.uniform(-0.1, 0.1) for _ in range(n)]
    rows = [{"id": f"q{n}", "part": part.value, "score": value} for n, value in enumerate(values)]
    items = Path(job.folder) / "out" / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = EvalResult(
        experiment=experiment, benchmark="holdout", part=part, score=sum(values) / n, stderr=0.02, n=n, unit="nats",
        higher_is_better=False, answered=1.0, accuracy_given_answered=sum(values) / n, truncated=0.0,
        categories={"": CategoryScore(score=sum(values) / n, n=n)}, settings_digest="7f" * 32, items=str(items),
        job=job.key, seconds=4.0,
    )  # fmt: skip
    run.journal.put(result)
    return result


def tree_of_experiments(home: Path, low: float = -0.9, high: float = -0.7, text: str = "use my data") -> ARun:
    """e5 is the champion, by a paired difference with an interval as given, in nats a token.

    e1 ran out of memory and was trained again with less at once, a person refused e2, e3 diverged and was mended as e4,
    e5 improves on e4, and e6 takes its change back.
    """
    limits = {"usd": 0.0, "hours": 1.0, "deadline": "2026-12-24T18:00:00Z"}
    goal = {"benchmark": [], "limits": limits, "run": {"approve": "ask", "parallel": 3}}
    run = new_run(home, text=text, goal=goal)
    entries = [{"path": str(run.paths.data / "holdout.jsonl"), "metric": "loss", "primary": True}]
    run.journal.note("held_out", "held_out", {"benchmarks": entries, "rows": [f"r{n}" for n in range(40)]})
    run.journal.note("stand_in", "q1", {"role": "data_engineer", "reason": "`some/model` gave no usable DataProposal"})
    Budget(run.db, run.run_id, run.goal.limits).reserve("llm:1", 0, role="researcher", jobs=0, tokens=1234)
    Budget(run.db, run.run_id, run.goal.limits).settle("llm:1", 0, 1234)
    for part in Part:
        loss(run, "baseline", part, 2.3)
    recipe = run.prepare()
    data = run.journal.all(DatasetRecord)["d1"]
    step = Step(name="hold_out", rows_in=520, rows_out=480, note="the run is measured on them")
    run.journal.put(data.model_copy(update={"steps": (step, *data.steps)}))
    oom = "CUDA out of memory; use a smaller micro-batch"
    first = run.job(Purpose.TRAINING, "e1", error=oom, by="person", micro_batch=16)
    run.journal.note("diagnosis", first.key, Diagnosis(kind="out_of_memory", evidence=(oom,)).plain())
    again = run.job(Purpose.TRAINING, "e1", parent=first.spec_digest, micro_batch=8)
    e1 = run.train("e1", "baseline", recipe, Verdict.DISCARD, "SFT, LoRA r16, lr 0.001, 1 epoch", loss=1.6)
    less = recipe.model_copy(update={"micro_batch": 8})
    run.journal.put(e1.model_copy(update={"recipe": less, "jobs": (first.key, again.key)}))
    run.decide(a_spec(Purpose.TRAINING, "e2"), by="person", approved=False)
    plan = Experiment(id="e2", parent="baseline", change="SFT, all weights", recipe=recipe, dataset="d1")
    run.journal.put(plan.model_copy(update={"status": "crashed", "verdict": Verdict.DISCARD,
                                            "error": "rejected: it costs too much"}))  # fmt: skip
    nan = "loss is nan at step 3; lower the learning rate"
    third = run.job(Purpose.TRAINING, "e3", error=nan, by="person")
    run.journal.note("diagnosis", third.key, Diagnosis(kind="diverged", evidence=(nan,)).plain())
    run.journal.put(plan.model_copy(update={"id": "e3", "change": "SFT, LoRA r16, lr 0.02", "status": "crashed",
                                            "error": nan, "verdict": Verdict.CRASH,
                                            "diagnosis": Diagnosis(kind="diverged", evidence=(nan,))}))  # fmt: skip
    tried = (("e4", "e3", "e3 with learning rate 0.02 → 0.00667", Branch.DEBUG, Verdict.KEEP, 1.9),
             ("e5", "e4", "one more epoch from e4's checkpoint (1 → 2)", Branch.IMPROVE, Verdict.KEEP, 1.5),
             ("e6", "e5", "e5 with epochs 2 → 1", Branch.ABLATE, Verdict.DISCARD, 1.8))  # fmt: skip
    loss(run, "e1", Part.SELECTION, 2.0)
    for name, parent, change, branch, verdict, mean in tried:
        epochs = 2 if name == "e5" else 1
        numbers = recipe.model_copy(update={"learning_rate": 0.00667, "epochs": epochs})
        run.train(name, parent, numbers, verdict, change, loss=mean, branch=branch)
        loss(run, name, Part.SELECTION, mean)
    loss(run, "e5", Part.REPORT, 1.5)
    run.compare("e5", (low + high) / 2, low, high, 1e-6)
    claim = run.journal.all(ComparisonResult)["physics"]
    run.journal.put(
        claim.model_copy(update={"benchmark": "holdout", "n": 20, "unit": "nats", "higher_is_better": False})
    )
    return run.ended(RunStatus.SUCCEEDED, Outcome.IMPROVED if high < 0 else Outcome.NO_IMPROVEMENT)
