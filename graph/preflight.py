"""Everything that can be known of a job before a person is asked about it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from langgraph.runtime import Runtime

from agents import sandbox
from agents.data_engineer.synthesis import teacher
from agents.evaluator import endpoint
from agents.jobs.hf.order import secret
from agents.tools import actions
from agents.trainer import training
from agents.trainer.preflight import examine
from agents.trainer.preflight.report import Facts, Preflight
from graph import clean_hands, publications
from graph.briefing import benchmarks_of, model_of
from graph.context import Context, Desk
from graph.state import JobsState, Plain, jobs_update
from graph.submission import refused, specs_of, undecided
from shared_memory.actions import Actions
from shared_memory.goal import Goal
from shared_memory.records import DatasetRecord, Job, JobSpec, JobState, Purpose


def preflight(state: JobsState, runtime: Runtime[Context]) -> Plain:
    """Refuse what can be known to fail: such a job comes out as failed, and nobody is asked about it."""
    desk = Desk.of(runtime)
    goal = Goal.model_validate(state["goal"])
    finished = [Job.model_validate(plain) for plain in state.get("finished", [])]
    begin = {"admitted": state.get("admitted", []), "tracked": state.get("tracked", {})}
    pending, preflights = specs_of(state), dict(state.get("preflights", {}))
    for spec in undecided(state):
        fault = (
            fault_of(spec, desk)
            or teacher.fault_of_config(spec, goal)
            or endpoint.fault_of_config(spec, goal, desk.paths)
            or publications.fault_of(spec)
            or actions.fault_of(spec, Actions(desk.journal).get)
            or clean_hands.fault_of_data(spec, goal, desk)
        )
        if not fault and spec.purpose is Purpose.TRAINING:
            found = _examined(spec, goal, desk)
            preflights[spec.digest] = found.plain()
            fault = found.fault
        if fault:
            finished.append(refused(spec, JobState.FAILED, f"preflight: {fault}"))
            pending.remove(spec)
    return jobs_update(pending=pending, finished=finished, answers={}, preflights=preflights, **begin)


def _examined(spec: JobSpec, goal: Goal, desk: Desk) -> Preflight:
    """What the trainer's checks and its smoke run find of a training job; kept for the report."""
    smoke = desk.settings.smoke_run == "auto"
    if smoke:
        desk.emit("note", text=f"checking {spec.experiment}'s training, with two steps of it on this processor")
    written = [benchmark.max_tokens for benchmark in benchmarks_of(goal).values() if benchmark.is_written]
    records = desk.journal.all(DatasetRecord).values()
    facts = Facts(
        model_folder=model_of(goal).folder,
        predicted_seconds=3600 * spec.estimate.hours,
        online=spec.runner == "hf",
        disk="kept",  # every runner brings home what a job leaves in out/
        max_tokens=max(written, default=None),
        cache_folder=str(desk.settings.home / "preflight"),
        left_out=next((each.without for each in records if each.digest == spec.files.get(clean_hands.DATA)), ()),
    )
    files = {name: desk.paths.stored(digest) for name, digest in spec.files.items()}
    found = examine(spec, files, facts=facts, smoke=smoke)
    desk.journal.note("preflight", spec.digest, found.plain())
    for warning in found.warnings:
        desk.emit("note", text=f"{spec.experiment}: {warning}")
    return found


def fault_of(spec: JobSpec, desk: Desk) -> str:
    """Why a job cannot succeed, in one line with the next move; empty if nothing speaks against it."""
    missing = [name for name, digest in spec.files.items() if not desk.paths.stored(digest).exists()]
    if missing:
        return f"{missing[0]} is not in the run's file store; start the run again"
    given = secret if spec.runner == "hf" else os.environ.get
    unset = [name for name in spec.secrets if not given(name)]
    if unset:
        return f"the job needs {unset[0]}, which is not set; export it and resume"
    if spec.sandbox == "auto" and (fault := sandbox.fault_of_this_machine()):
        return f"its script cannot be kept apart: {fault}"
    if spec.sandbox == "auto" and spec.flavor != "cpu":
        return f"its script would see no GPU in the sandbox; use the flavor `cpu`, {sandbox.ALLOW}"
    if fault := training.fault_of_config(spec):
        return f"its config is no recipe ({fault}); resume, and edit it again"
    for key in ("model", "adapter"):
        folder = spec.config.get(key)
        if isinstance(folder, str) and Path(folder).is_absolute() and not Path(folder).is_dir():
            return f"its {key} folder {folder} does not exist"
    in_this_python = spec.runner == "local" or (spec.runner == "slurm" and not spec.image)
    return _fault_of_this_python(spec) if in_this_python else ""


def _fault_of_this_python(spec: JobSpec) -> str:
    """Why a job cannot run in the environment that jobs of this machine, and of a cluster's nodes, run in."""
    needs = {Purpose.TRAINING: ("torch", "trl", "peft"), Purpose.MERGE: ("torch", "peft")}
    needs[Purpose.EVALUATION] = ("torch", "inspect_ai")
    absent = [name for name in needs.get(spec.purpose, ()) if importlib.util.find_spec(name) is None]
    return f"{absent[0]} is not installed; pip install 'postgrad[train,eval]', then resume" if absent else ""
