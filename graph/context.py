"""What a run stands on: settings, database and runners, opened when first used, and never in the state."""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from langgraph.runtime import Runtime

from agents.asking import heedless
from agents.brain import Brain, Playbook, Role, choose_brain
from agents.data_engineer import agent as data_agent
from agents.data_engineer import playbook as data_playbook
from agents.data_engineer.publishing import publisher
from agents.data_engineer.synthesis.teacher import TeacherRunner
from agents.evaluator import agent as evaluator_agent
from agents.evaluator import playbook as evaluator_playbook
from agents.evaluator.endpoint import SECTION, EndpointRunner
from agents.evaluator.scoring.judge import Judge, terms_of
from agents.hosting import is_hosted
from agents.jobs.base import JobRunner
from agents.jobs.flavors import Flavors, local_flavors
from agents.jobs.hf.order import HUB_TOKEN, secret
from agents.jobs.hf.runner import HfRunner
from agents.jobs.local import LocalRunner
from agents.jobs.slurm.runner import SlurmRunner
from agents.llm import LanguageModel
from agents.publishing.runner import PublishingRunner
from agents.researcher import agent as researcher_agent
from agents.researcher import playbook as researcher_playbook
from agents.tools.actions import ActionRunner
from agents.tools.people import People
from agents.trainer import agent as trainer_agent
from agents.trainer import playbook as trainer_playbook
from agents.trainer import publish as model_publisher
from agents.trainer.throughput import matrix_gflops
from agents.words import Words
from agents.workbench import Workbench
from graph.bookings import BudgetMeter
from graph.placement import offered
from graph.state import Plain, Stock
from shared_memory.actions import Actions
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import Unavailable
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.ledger import Ledger
from shared_memory.records import DatasetRecord, Job, JobSpec, Purpose
from shared_memory.run_paths import RunPaths
from shared_memory.runs import Runs
from shared_memory.settings import Settings, load_settings

RULES = {
    Role.RESEARCHER: researcher_playbook.propose,
    Role.DATA_ENGINEER: data_playbook.propose,
    Role.TRAINER: trainer_playbook.propose,
    Role.EVALUATOR: evaluator_playbook.propose,
}
"""The built-in brain, role by role."""
AGENTS = {
    Role.RESEARCHER: researcher_agent.propose,
    Role.DATA_ENGINEER: data_agent.propose,
    Role.TRAINER: trainer_agent.propose,
    Role.EVALUATOR: evaluator_agent.propose,
}
"""The same with a language model."""


UNPRICED = "unpriced by role"
"""Kind of the notes on whose models have no known price: role → {model: true}."""


@dataclass
class Context:
    """LangGraph's runtime context; whoever starts the graph may set it, and Studio shows it as a form."""

    home: str = ""
    """`$POSTGRAD_HOME` of this run; empty takes the environment's."""


@lru_cache(maxsize=8)
def _settings_of(home: str) -> Settings:
    return load_settings({**os.environ, "POSTGRAD_HOME": home} if home else os.environ)


@lru_cache(maxsize=8)
def _database_of(path: Path) -> Database:
    return Database.open(path)


class Desk:
    """Everything that a node of one run works with."""

    def __init__(self, run_id: str, context: Context, runtime: Runtime[Context] | None = None) -> None:
        self.run_id = run_id
        self.context = context
        self._runtime = runtime
        self._node = contextvars.copy_context()
        self._unpriced: set[tuple[str, str]] = set()

    @classmethod
    def of(cls, runtime: Runtime[Context]) -> Desk:
        """The desk of the run that a node belongs to: LangGraph's thread is the run."""
        info = runtime.execution_info
        if info is None or info.thread_id is None:
            raise ValueError("postgrad's graph needs a checkpointer and a thread_id: the thread is the run")
        return cls(info.thread_id, runtime.context or Context(), runtime)

    @property
    def draining(self) -> bool:
        """Whether whoever drives the run has asked it to stop after this step."""
        control = self._runtime.control if self._runtime else None
        return control is not None and control.drain_requested

    @cached_property
    def settings(self) -> Settings:
        return _settings_of(self.context.home)

    @cached_property
    def db(self) -> Database:
        return _database_of(self.settings.database)

    @cached_property
    def paths(self) -> RunPaths:
        return self.settings.run_paths(self.run_id)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.db)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.db, self.run_id)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.db, self.run_id)

    def budget(self, goal: Goal) -> Budget:
        return Budget(self.db, self.run_id, goal.limits)

    def brain(self, goal: Goal, role: Role, heed: Callable[[], None] = heedless) -> Brain:
        """The mind of a role; `heed` may end its work between two requests."""
        name = self.brain_name(goal, role)
        return choose_brain(
            None if name == Playbook.name else self.workbench(goal, role, name, heed),
            RULES,
            AGENTS,
            stand_ins=self.journal.notes("stand_in"),
            on_stand_in=self.note_stand_in,
        )

    def workbench(self, goal: Goal, role: Role, name: str, heed: Callable[[], None] = heedless) -> Workbench:
        """What the language model of a role works with."""
        return Workbench(
            model=self.language_model(goal, role, name, heed),
            outputs=self.paths.tools,
            library=self.settings.home / "library",
            allowed_hosts=self.settings.allowed_hosts,
            steps=goal.brain.steps,
            tools=self.people.tools(role, Actions(self.journal)),
            jobs=self.paths.jobs,
            tell=self.emit,
        )

    def brain_name(self, goal: Goal, role: Role) -> str:
        """What a role's mind is called."""
        return goal.mind(role, self.settings.brain)

    def language_model(
        self, goal: Goal, role: Role | str, name: str, heed: Callable[[], None] = heedless, *, alone: bool = False
    ) -> LanguageModel:
        """The model called `name`, paid for by the run on the account of `role`; its words are told as they come.

        alone: without the goal's fallbacks, where it was agreed on who is shown the rows.
        """
        words = Words(self.emit, role, name)
        return LanguageModel(
            name,
            api_base=goal.brain.api_base,
            cache=self.paths.answers,
            meter=self._meter(goal, role, name),
            heed=words.afresh(heed),
            on_words=words,
            fallbacks=() if alone else goal.brain.fallbacks,
            meter_of=lambda other: self._meter(goal, role, other),
            on_fallback=lambda other, why: self.emit("note", text=f"`{other}` is asked in its place: {why}"),
            reasoning_effort=goal.brain.reasoning_effort,
            window=goal.brain.window,
            prices=self.settings.prices,
        )

    def judge(
        self, spec: JobSpec, goal: Goal, answers: int, kept_usd_micro: int, heed: Callable[[], None]
    ) -> Judge | None:
        """What grades the answers of a job, as its consent has it; None where no language model does.

        answers: how many there are. kept_usd_micro: what is kept back for the end of the run. Raises Unavailable where
        the model is at another place than was asked about.
        """
        terms = terms_of(spec, self.paths)
        if terms is None:
            return None
        name, api_base = terms.model, goal.judge.api_base
        if is_hosted(name, api_base) and not terms.hosted:
            raise Unavailable(
                f"`{name}` was asked about as a judge on this machine and is at another address now; "
                "set the environment as it was, then resume the run"
            )
        meter = self._meter(goal, Role.EVALUATOR, name, kept_usd_micro)
        model = LanguageModel(name, api_base=api_base, section="judge", cache=self.paths.answers, meter=meter)
        verdicts = self.settings.home / "verdicts"
        return Judge(model, verdicts, answers, heed, lambda text: self.emit("note", text=text))

    def _meter(self, goal: Goal, role: str, name: str, kept_usd_micro: int = 0) -> BudgetMeter:
        return BudgetMeter(self.budget(goal), role, lambda: self._note_unpriced(name, role), kept_usd_micro)

    def _note_unpriced(self, model: str, role: str) -> None:
        if (model, role) in self._unpriced:  # each answer comes here
            return
        self._unpriced.add((model, role))
        self.journal.note(UNPRICED, role, {**self.journal.notes(UNPRICED).get(role, {}), model: True})
        if model not in self.journal.notes("unpriced"):
            self.journal.note("unpriced", model, "its tokens are counted, its dollars are not")
            self.emit("note", text=f"the price of `{model}` is unknown: its tokens are counted, its dollars are not")

    def note_stand_in(self, key: str, role: Role, reason: str) -> None:
        self.journal.note("stand_in", key, {"role": role.value, "reason": reason})
        self.emit("note", text=f"the playbook stands in for the {role.value.replace('_', ' ')}'s model: {reason}")

    def runner(self, name: str) -> JobRunner:
        """The backend called `name`; intake has refused the names that this version does not know."""
        runners: dict[str, Callable[[], JobRunner]] = {
            "local": lambda: LocalRunner(
                self.settings.slots_dir, self.paths.jobs, memory_gib=self.settings.job_memory_gib
            ),
            "hf": lambda: HfRunner(self.paths.jobs, self.run_id),
            "slurm": lambda: SlurmRunner(self.paths.jobs),
            "teacher": lambda: TeacherRunner(self.paths.jobs, self._teacher),
            "endpoint": lambda: EndpointRunner(self.paths.jobs, self._served),
            "publisher": self._publisher,
            "action": lambda: ActionRunner(self.paths.jobs, self.people.call),
        }
        return runners[name]()

    @cached_property
    def people(self) -> People:
        """What people have added to this home for its roles."""
        listed = partial(self._noted, "mcp_tools")  # once a run: its tools stay what they were
        return People(self.run_id, self.settings, listed, self._note_tool_fault)

    def _note_tool_fault(self, line: str) -> None:
        if line not in self.journal.notes("tool_fault"):
            self.journal.note("tool_fault", line, "its tools are left out")
            self.emit("note", text=line)

    def _publisher(self) -> PublishingRunner:
        datasets, paths = self.journal.all(DatasetRecord), self.paths  # here, for the work is done in another thread
        return PublishingRunner(
            paths.jobs,
            {
                "dataset": lambda config, job, heed: publisher.carry_out(config, datasets, heed),
                "model": lambda config, job, heed: model_publisher.carry_out(config, job, paths, heed),
            },
        )

    def _teacher(self, name: str) -> LanguageModel:
        goal = Goal.model_validate(self.runs.get(self.run_id).goal)
        return self.language_model(goal, Role.DATA_ENGINEER, name, alone=True)

    def _served(self, name: str, api_base: str) -> LanguageModel:
        meter = self._meter(Goal.model_validate(self.runs.get(self.run_id).goal), Role.EVALUATOR, name)
        return LanguageModel(name, api_base=api_base, section=SECTION, cache=self.paths.answers, meter=meter)

    @property
    def held_out(self) -> dict[str, Any]:
        """The note on the rows that the run is measured on: `benchmarks`, `rows`, `files`; empty where none are."""
        note: dict[str, Any] = self.journal.notes("held_out").get("held_out", {})
        return note

    def emit(self, kind: str, **fields: Any) -> None:
        """Tell whoever watches the run, from any thread; see docs/events.md for the vocabulary."""
        if self._runtime is not None:
            # LangGraph looks up in the context of the node where an event belongs; a thread of ours has another.
            self._node.copy().run(self._runtime.stream_writer, {"kind": kind, "at": time.time(), **fields})

    def tell_spent(self, goal: Goal) -> None:
        """Tell what the run has spent so far; `unpriced` names the models whose dollars nobody knows."""
        spend = self.budget(goal).spent()
        hours = self.runs.get(self.run_id).active_seconds / 3600
        unpriced = list(self.journal.notes("unpriced"))
        self.emit("spent", usd=spend.usd_micro / 1e6, jobs=spend.jobs, hours=round(hours, 4), unpriced=unpriced)

    def register(self, goal: Goal) -> None:
        """Put the run into the register, where a LangGraph server and not our worker started it."""
        self.runs.create(self.run_id, goal, time.time(), driver="studio")

    def flavors(self, goal: Goal) -> Flavors:
        """The hardware that the goal's jobs can have, and what it costs."""
        if goal.run.on == "local":
            return local_flavors()
        return Flavors.model_validate(self._noted("flavors", goal.run.on, lambda: offered(goal.run.on).plain()))

    def has_token(self) -> bool:
        """Whether there is a token of the Hub, which a job elsewhere may need for a gated model."""
        return bool(self._noted("machine", "token", lambda: {"set": bool(secret(HUB_TOKEN))})["set"])

    def gflops(self) -> float:
        """This machine's matrix rate."""
        return float(self._noted("machine", "gflops", lambda: {"gflops": matrix_gflops()})["gflops"])

    def _noted(self, kind: str, name: str, find_out: Callable[[], Plain]) -> Plain:
        """What was found out once a run: a plan made again after a crash must come out the same."""
        noted: Plain | None = self.journal.notes(kind).get(name)
        if noted is None:
            noted = find_out()
            self.journal.note(kind, name, noted)
        return noted

    def count_time(self, seconds: float) -> None:
        """Count driving time where no worker of ours has a clock for it: under a LangGraph server."""
        if self.runs.get(self.run_id).driver == "studio":
            self.runs.add_active_seconds(self.run_id, seconds)

    def seconds_left(self, goal: Goal) -> float:
        """Until the goal's hours (of driving) or its wall-clock deadline are used up."""
        left = goal.limits.hours * 3600 - self.runs.get(self.run_id).active_seconds
        if goal.limits.deadline is not None:
            left = min(left, goal.limits.deadline.timestamp() - time.time())
        return left

    def stock(self, goal: Goal, seconds_kept: float) -> Stock:
        spend = self.budget(goal).spent()
        return Stock(
            seconds_left=self.seconds_left(goal),
            seconds_kept=seconds_kept,
            jobs_left=goal.limits.jobs - spend.jobs,
            usd_left_micro=goal.limits.usd_micro - spend.usd_micro - spend.held_usd_micro,
            usd_kept_micro=round(seconds_kept * self._usd_micro_a_second()) + self._usd_micro_to_judge(),
            cancelled=self.runs.get(self.run_id).cancel_requested,
        )

    def _usd_micro_to_judge(self) -> int:
        """What the dearest grading of a model's answers to report items has cost so far."""
        return max((int(note["report_usd_micro"]) for note in self.journal.notes("judged").values()), default=0)

    def _usd_micro_a_second(self) -> float:
        """What the dearest evaluation of this run has cost so far."""
        jobs = [job for job in self.journal.all(Job).values() if job.purpose is Purpose.EVALUATION and job.seconds]
        return max((job.usd_micro / job.seconds for job in jobs), default=0.0)
