"""Builds runs as the graph leaves them behind, in a real database and a real folder."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.recipes import SftRecipe
from shared_memory.records import (
    Branch,
    CategoryScore,
    ComparisonResult,
    DatasetRecord,
    Decision,
    Envelope,
    Estimate,
    EvalResult,
    Experiment,
    Finding,
    Job,
    JobSpec,
    JobState,
    Part,
    Purpose,
    Step,
    Verdict,
)
from shared_memory.run_paths import RunPaths
from shared_memory.runs import Outcome, Runs, RunStatus
from shared_memory.settings import Settings, load_settings

SEEN = ("density", "kinetic energy", "ohm's law", "pressure", "speed", "unit prefixes", "wave length", "work")
UNSEEN = ("momentum", "power")
SECRET = "hf_" + "Ab3" * 11
QUESTION = "A body of 3 kg moves at 4 m/s. What is its kinetic energy?"


@dataclass
class ARun:
    """A run under construction; `e1` and so on are added one by one."""

    settings: Settings
    db: Database
    run_id: str
    goal: Goal

    @property
    def paths(self) -> RunPaths:
        return self.settings.run_paths(self.run_id)

    @property
    def journal(self) -> Journal:
        return Journal(self.db, self.run_id)

    def ended(self, status: RunStatus, outcome: Outcome = Outcome.NONE, error: str = "") -> ARun:
        Runs(self.db).update(self.run_id, status=status, outcome=outcome, error=error, ended=time.time())
        return self

    def decide(self, spec: JobSpec, by: str = "policy", approved: bool = True, parent: str = "") -> None:
        """A decision at the gate, with its event; a person's covers three attempts of one scope."""
        reach = {"scope": spec.scope, "attempts": 3, "max_hours": 3.0} if by == "person" else {"max_hours": 1.0}
        Ledger(self.db, self.run_id).decide(
            Decision(
                spec_digest=spec.digest,
                approved=approved,
                by=by,
                reason="" if approved else "too long",
                envelope=Envelope.model_validate(reach),
                parent=parent,
            )
        )
        event = {
            "kind": "gate",
            "at": 1.0,
            "by": by,
            "requests": [{"digest": spec.digest, "title": spec.title, "approved": approved}],
        }
        with self.paths.events.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")

    def job(
        self,
        purpose: Purpose,
        experiment: str,
        seconds: float = 40.0,
        error: str = "",
        by: str = "policy",
        result: dict[str, object] | None = None,
        parent: str = "",
        **config: object,
    ) -> Job:
        """A finished job, approved, reserved, pinned and settled."""
        spec = a_spec(purpose, experiment, **config)
        self.decide(spec, by, parent=parent)
        ledger, budget = Ledger(self.db, self.run_id), Budget(self.db, self.run_id, self.goal.limits)
        action = ledger.intend(spec, 1)
        role = {"training": "trainer", "merge": "trainer", "generation": "data_engineer"}.get(purpose, "evaluator")
        budget.reserve(action.key, 0, role=role)
        self.journal.note("pinned", action.key, {"spec": spec.plain(), "packages": {"torch": "2.13.0"}})
        folder = self.paths.job(action.key)
        (folder / "out").mkdir(parents=True)
        (folder / spec.script).write_text("print()\n")
        job = Job(
            key=action.key,
            spec_digest=spec.digest,
            purpose=purpose,
            experiment=experiment,
            folder=str(folder),
            seconds=seconds,
            state=JobState.FAILED if error else JobState.SUCCEEDED,
            exit_code=1 if error else 0,
            error=error,
            result=result or {},
        )
        ledger.finished(action.key, job)
        budget.settle(action.key, 0)
        self.journal.put(job)
        return job

    def score(self, experiment: str, part: Part, rate: float, answered: float, n: int = 120) -> EvalResult:
        """A result with its item records; `rate` is the share of items answered rightly."""
        job = self.job(Purpose.EVALUATION, f"{experiment}-{part}")
        names = SEEN + (UNSEEN if part is Part.REPORT else ())
        draw = random.Random(7)
        rows: list[dict[str, Any]] = []
        for number in range(n):
            right = draw.random() < rate
            rows.append(
                {
                    "id": f"q{number}",
                    "part": part.value,
                    "category": names[number % len(names)],
                    "epoch": 0,
                    "score": int(right),
                    "answered": right or draw.random() < answered,
                    "truncated": False,
                    "answer": "A",
                    "output": QUESTION,
                    "output_tokens": 9,
                }
            )
        items = Path(job.folder) / "out" / "items.jsonl"
        items.write_text("".join(json.dumps(row) + "\n" for row in rows))
        mean = sum(row["score"] for row in rows) / n
        said = sum(row["answered"] for row in rows)
        categories = {}
        for name in names:
            own = [row["score"] for row in rows if row["category"] == name]
            categories[name] = CategoryScore(score=sum(own) / len(own), n=len(own))
        result = EvalResult(
            experiment=experiment,
            benchmark="physics",
            part=part,
            score=mean,
            stderr=math.sqrt(mean * (1 - mean) / n),
            n=n,
            answered=said / n,
            accuracy_given_answered=mean * n / said if said else 0.0,
            truncated=0.0,
            categories=categories,
            settings_digest="5e" * 32,
            items=str(items),
            job=job.key,
            seconds=41.0,
        )
        self.journal.put(result)
        return result

    def prepare(self) -> SftRecipe:
        """Findings, a recipe and a data set."""
        recipe = SftRecipe(
            id="lora-small",
            learning_rate=1e-3,
            batch=16,
            micro_batch=16,
            findings=("f-lora",),
            reason="small models take LoRA on all linear layers at a high learning rate",
            source="arXiv 2603.08640, § 4",
        )
        self.journal.put(
            Finding(
                id="f-lora",
                claim="LoRA equals full fine-tuning at 67 % of the compute | <b>if tuned</b>",
                source="https://thinkingmachines.ai/blog/lora/",
                confidence="high",
            )
        )
        self.journal.put(recipe)
        self.job(Purpose.GENERATION, "data", seconds=1.2)
        self.journal.put(
            DatasetRecord(
                id="d1",
                source="examples/quickstart/questions.py --part train --rows 480 --seed 1",
                path=str(self.paths.data / "d1.jsonl"),
                digest="ab" * 32,
                rows=462,
                licence="Apache-2.0",
                contamination={"physics": 0.0},
                steps=(
                    Step(name="convert", rows_in=480, rows_out=480),
                    Step(name="dedup", rows_in=480, rows_out=470, note="exact"),
                    Step(name="decontaminate", rows_in=470, rows_out=462),
                ),
                findings=("info: letters, 0 rows; balanced",),
            )
        )
        return recipe

    def train(
        self,
        name: str,
        parent: str,
        recipe: SftRecipe,
        verdict: Verdict | None,
        change: str,
        loss: float,
        branch: Branch = Branch.DRAFT,
    ) -> Experiment:
        job = self.job(Purpose.TRAINING, name, seconds=212.0)
        steps = 30
        metrics = [{"step": step, "loss": loss * math.exp(-2.5 * step / steps) + 0.05} for step in range(1, steps + 1)]
        (Path(job.folder) / "out" / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in metrics) + '{"step": 31, "lo'
        )
        experiment = Experiment(
            id=name,
            branch=branch,
            parent=parent,
            change=change,
            why="one change at a time tells what it was worth",
            recipe=recipe,
            dataset="d1",
            status="evaluated" if verdict else "trained",
            verdict=verdict,
            model=f"{job.folder}/out/adapter",
            jobs=(job.key,),
            train={
                "train_loss": metrics[-1]["loss"],
                "steps": steps,
                "tokens_per_second": 2210.4,
                "peak_memory_gib": 4.1,
                "seconds": 212.0,
            },
        )
        self.journal.put(experiment)
        return experiment

    def compare(self, name: str, delta: float, low: float, high: float, p: float) -> None:
        self.journal.put(
            ComparisonResult(
                benchmark="physics", experiment=name, delta=delta, ci_low=low, ci_high=high, p_value=p, n=120
            )
        )
        self.journal.note("champion", "champion", {"experiment": name, "model": str(self.paths.model / "merged")})
        self.journal.note(
            "integrity",
            "integrity",
            {
                "benchmarks": {"physics": "cd" * 32},
                "settings": ["5e" * 32],
                "training_data": {"d1": {"sha256": "ab" * 32, "contamination": {"physics": 0.0}}},
            },
        )


def a_spec(purpose: Purpose, experiment: str, **config: object) -> JobSpec:
    script = {"training": "train.py", "merge": "merge.py", "generation": "questions.py"}.get(purpose, "evaluate.py")
    return JobSpec(
        purpose=purpose,
        experiment=experiment,
        title=f"{purpose.value} of {experiment}, as shown at the gate",
        script=script,
        files={script: "0" * 64},
        config={"seed": 0, "for": experiment, **config},
        timeout_seconds=3600,
        estimate=Estimate(hours=0.1, usd_micro=0, memory_gib=4.0, basis="measured before"),
    )


def new_run(
    home: Path,
    run_id: str = "20261121-teach-physics-a3f9",
    text: str = "Teach SmolLM2-135M-Instruct to answer four-choice physics questions",
    goal: dict[str, Any] | None = None,
) -> ARun:
    settings = load_settings({"POSTGRAD_HOME": str(home)})
    db = Database.open(settings.database)
    table = {
        "text": text,
        "base_model": "/models/smollm2",
        "benchmark": [{"path": "physics.jsonl", "target": 0.8}],
        "limits": {"usd": 0.0, "hours": 1.0},
        "run": {"approve": "auto"},
        **(goal or {}),
    }
    asked = parse_goal(table, folder=home)
    Runs(db).create(run_id, asked, started=time.time() - 600)
    Runs(db).add_active_seconds(run_id, 590.0)
    run = ARun(settings, db, run_id, asked)
    run.paths.root.mkdir(parents=True)
    return run


def baseline(run: ARun) -> ARun:
    run.journal.note(
        "base_model",
        "base_model",
        {"name": "smollm2", "folder": "/models/smollm2", "revision": "", "parameters": 134_515_008},
    )
    run.score("baseline", Part.SELECTION, 0.02, 0.03, n=100)
    return run


def finished_run(home: Path, delta: float = 0.7, low: float = 0.615, high: float = 0.785, p: float = 1e-9) -> ARun:
    """Two experiments, the second one better; a paired comparison as given."""
    run = baseline(new_run(home))
    recipe = run.prepare()
    run.train("e1", "baseline", recipe, Verdict.KEEP, "LoRA r16, lr 1e-3, 1 epoch", loss=1.6)
    run.score("e1", Part.SELECTION, 0.39, 0.97, n=100)
    run.train(
        "e2",
        "e1",
        recipe.model_copy(update={"epochs": 2}),
        Verdict.KEEP,
        "another epoch from e1's checkpoint",
        loss=0.4,
    )
    run.score("e2", Part.SELECTION, 0.74, 1.0, n=100)
    run.score("baseline", Part.REPORT, 0.02, 0.03)
    run.score("e2", Part.REPORT, 0.02 + delta, 0.99)
    run.job(Purpose.MERGE, "e2", seconds=12.0)
    run.compare("e2", delta, low, high, p)
    return run.ended(RunStatus.SUCCEEDED, Outcome.IMPROVED if low > 0 else Outcome.NO_IMPROVEMENT)
