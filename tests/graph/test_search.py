"""The search as a whole, whatever its experiments come to: routing and the trainer's rules, without jobs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.brain import Brief, Move
from agents.evaluator import ablations
from agents.trainer import playbook, training
from agents.trainer.diagnosis import diagnose
from agents.trainer.proposal import AblationProposal, DebugProposal, TrainingProposal
from graph import routing
from graph.state import RunState
from shared_memory.records import Branch, DatasetRecord, Experiment, Job, JobState, Purpose, Verdict
from shared_memory.run_paths import RunPaths
from tests.graph.test_routing import recipes, result

JOBS_OF = {Move.BASELINE: 1, Move.DATA: 1, Move.DELIVER: 1, Move.CONFIRM: 1}
ERRORS = (
    "FloatingPointError: the loss is nan; lower the learning rate",
    "CUDA out of memory",
    "timed out after 60 s",
    "no such column",
    "rejected: no",
)
PATHS = RunPaths(Path("no-run"))
DATASET = DatasetRecord(id="d1", source="s", path="p", digest="0", rows=9)


def _free(experiments: dict[str, Experiment]) -> Iterator[str]:
    return (f"e{number}" for number in itertools.count(len(experiments) + 1))


class Search:
    """Plays a run: the moves are the router's, the plans the playbook's, and fate decides what becomes of them."""

    def __init__(self, draw: Any, limits: dict[str, int], parallel: int, kinds: int) -> None:
        self.draw = draw
        self.left = limits["jobs"]
        self.moves: list[Move] = []
        self.most_at_once = 0
        goal = {"text": "t", "benchmark": [{"path": "/b.jsonl", "target": 0.9}], "limits": limits}
        self.state: dict[str, Any] = {
            "goal": {**goal, "run": {"parallel": parallel}}, "results": {}, "experiments": {}, "exhausted": [],
            "given_up": [], "claims": {}, "halt": "",
        }  # fmt: skip
        self.kinds = kinds
        self.seconds = 1e6

    def play(self) -> None:
        while True:
            stock = {"seconds_left": self.seconds, "seconds_kept": 60.0, "jobs_left": self.left,
                     "usd_left_micro": 0, "usd_kept_micro": 0, "cancelled": False}  # fmt: skip
            self.state["stock"] = stock
            choice = routing.next_move(RunState(**self.state))  # type: ignore[typeddict-item]
            self.state |= {
                "move": choice.move.value,
                "subject": choice.subject,
                "halt": choice.halt or self.state["halt"],
            }
            self.moves.append(choice.move)
            assert len(self.moves) < 500, "the search goes round in circles"
            if choice.move is Move.STOP:
                return
            self.left -= JOBS_OF.get(choice.move, 0)
            getattr(self, f"on_{choice.move.value}", self.on_training)(choice.subject)
            if self.draw(st.integers(0, 30)) == 0:
                self.seconds = self.draw(st.sampled_from([1e6, 70.0, 30.0, 0.0]))

    def on_baseline(self, _: str) -> None:
        self.state["results"]["baseline/b/selection"] = result("baseline", "selection", 0.3)

    def on_research(self, _: str) -> None:
        self.state["recipes"] = recipes(self.kinds) | {
            f"r{n}": {**plain, "learning_rate": 1e-4 * (n + 1)} for n, plain in enumerate(recipes(self.kinds).values())
        }

    def on_data(self, _: str) -> None:
        self.state["datasets"] = {"d1": DATASET.plain()}

    def on_training(self, subject: str) -> None:
        given = RunState(**self.state)  # type: ignore[typeddict-item]
        experiments = routing.experiments_of(given)
        brief = Brief(
            goal=routing.goal_of(given), move=Move(self.state["move"]), experiment=subject, room=routing.room(given),
            incumbent=routing.incumbent(given), recipes=routing.recipes_of(given), datasets={"d1": DATASET},
            experiments=experiments,
        )  # fmt: skip
        if brief.move is Move.ABLATE:
            reference = ablations.reference_of(subject, experiments)
            every = ablations.leave_one_out(experiments[reference], experiments, brief.recipes, ())
            left = ablations.untried(every, reference, experiments, brief.datasets)
            brief = replace(brief, reference=reference, variants=left)
        proposal = playbook.propose(brief)
        planned: list[Experiment] = []
        match proposal:
            case TrainingProposal():
                planned = training.plan_experiments(proposal.plans, brief, PATHS)
            case AblationProposal():
                planned = [
                    training.ablated(experiments[proposal.reference], variant, name=name, dataset="d1")
                    for name, variant in zip(_free(experiments), proposal.variants, strict=False)
                ]
            case DebugProposal():
                planned = training.plan_experiments([proposal.plan] if proposal.plan else [], brief, PATHS)
            case _:
                planned = [experiments[subject]]
        if not planned:
            self.state["exhausted"].append(routing.exhausted(brief.move, subject or routing.BASELINE))
        self.most_at_once = max(self.most_at_once, len(planned))
        self.left -= len(planned)
        for experiment in planned:
            self.state["experiments"][experiment.id] = training.finish_training(
                experiment, job := self.ended(experiment), diagnose("", error=job.error) if job.error else None
            ).plain()

    def ended(self, experiment: Experiment) -> Job:
        error = self.draw(st.one_of(st.just(""), st.sampled_from(ERRORS)))
        state = JobState.FAILED if error else JobState.SUCCEEDED
        return Job(
            key=f"{experiment.id}-{len(experiment.jobs)}", spec_digest="d", purpose=Purpose.TRAINING, folder="/job",
            experiment=experiment.id, state=state, error=error, result={"model": "out/adapter"},
        )  # fmt: skip

    def on_candidate(self, _: str) -> None:
        for name in routing.unscored(RunState(**self.state)):  # type: ignore[typeddict-item]
            self.left -= 1
            if self.draw(st.integers(0, 9)) == 0:
                self.state["exhausted"].append(routing.exhausted(Move.CANDIDATE, name))
                continue
            score = self.draw(st.floats(0, 1))
            self.state["results"][f"{name}/b/selection"] = result(name, "selection", score)
            changes = {"status": "evaluated", "verdict": Verdict.DISCARD.value}
            self.state["experiments"][name] = {**self.state["experiments"][name], **changes}

    def on_deliver(self, subject: str) -> None:
        self.state["delivered"] = subject

    def on_confirm(self, subject: str) -> None:
        self.state["claims"]["b"] = {"experiment": subject}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_search_ends_within_its_caps_and_its_best_model_is_delivered(data: Any) -> None:
    limits = {"experiments": data.draw(st.integers(0, 14)), "jobs": data.draw(st.integers(1, 45))}
    parallel = data.draw(st.integers(1, 5))
    search = Search(data.draw, limits, parallel, kinds=data.draw(st.integers(1, 5)))
    search.play()

    state = RunState(**search.state)  # type: ignore[typeddict-item]
    jobs = [move for move in search.moves if move not in (Move.RESEARCH, Move.DELIVER, Move.STOP)]
    assert not jobs or jobs[0] is Move.BASELINE, "nothing is trained before the baseline is known"
    assert search.left >= 0, "no job beyond the cap"
    assert len(search.state["experiments"]) <= limits["experiments"]
    assert search.most_at_once <= parallel
    ablations = [e for e in routing.experiments_of(state).values() if e.branch is Branch.ABLATE]
    assert 3 * len(ablations) <= limits["experiments"], "two of three experiments try to get better"
    best = routing.incumbent(state)
    assert state.get("delivered", "baseline") == best, "the best model is what is handed over"
    if Move.CONFIRM in search.moves:
        assert search.moves.count(Move.CONFIRM) == 1, "the claim is made once"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_experiment_changes_one_thing_against_its_parent_and_none_is_tried_twice(data: Any) -> None:
    search = Search(data.draw, {"experiments": 14, "jobs": 100}, parallel=data.draw(st.integers(1, 4)), kinds=3)
    search.play()

    experiments = routing.experiments_of(RunState(**search.state))  # type: ignore[typeddict-item]
    learned = [e.recipe.model_dump_json(exclude=set(playbook.NOT_MATHEMATICS)) for e in experiments.values()]
    assert len(set(learned)) == len(learned)
    for experiment in experiments.values():
        if experiment.parent in experiments:
            parent = experiments[experiment.parent].recipe.plain()
            changed = {key for key, value in experiment.recipe.plain().items() if parent[key] != value}
            assert len(changed - {"micro_batch"}) == 1, changed
