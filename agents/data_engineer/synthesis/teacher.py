"""A language model as a writer of training rows: who may be one, and its work as a job like any other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.asking import SIDE_BY_SIDE
from agents.data_engineer.formats.rows import Row
from agents.data_engineer.prepare import GENERATED
from agents.data_engineer.proposal import Generate
from agents.data_engineer.synthesis.synthesize import PROMPTS, ROWS_A_REQUEST, Order, Teaching, examples_of, topics_of
from agents.data_engineer.synthesis.verify import ATTEMPTS, ROWS_AT_ONCE
from agents.hosting import HOSTED, OWN, is_hosted, moved_out
from agents.jobs.asking_runner import AskingRunner, AskingStatus
from agents.jobs.in_process import CONFIG
from agents.llm import LanguageModel
from agents.prompting import fill
from agents.provider import Provider
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.records import Estimate, JobSpec, JobState, Purpose
from shared_memory.run_paths import RunPaths, write_atomically

SYSTEM, EXAMPLES = "teacher.md", "examples.jsonl"
SECONDS_A_REQUEST = 20.0
"""What a hosted model takes for eight rows; one on a CPU takes longer, and the time-out is generous."""
REQUEST_TOKENS = 4000
"""Of a request with its examples, on the long side."""
TIMEOUT_SECONDS = 4 * 3600


def refusal(model: str, goal: Goal) -> str:
    """Why a model may not write training data for a goal, with the next move; empty where it may."""
    if goal.rules.hosted_teacher or not is_hosted(model, goal.brain.api_base):
        return ""
    return (
        f"`{model}` is a hosted model and rules.hosted_teacher is false; name one on this machine "
        "(its address in [brain] api_base), or give [data] a generator"
    )


def teaching_job(generate: Generate, goal: Goal, rows: Sequence[Row], *, choices: bool, paths: RunPaths) -> JobSpec:
    """The job in which a teacher writes: its prompt and the rows that it is shown are files, seen at the gate.

    `rows` are the goal's, without those that are held out. `choices`: whether it is to write multiple choice.
    """
    order = Order(
        teacher=generate.teacher,
        rows=generate.rows,
        seed=generate.seed,
        verify=generate.verify,
        kind="choice" if choices else "text",
        goal=goal.text,
        topics=goal.data.topics,
        have=topics_of(rows, goal.data.topics),
    )
    shown = examples_of(rows, generate.seed)
    return JobSpec(
        purpose=Purpose.GENERATION,
        experiment="data",
        script=SYSTEM,
        files={
            SYSTEM: paths.store(fill(PROMPTS / SYSTEM).encode()),
            EXAMPLES: paths.store("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown).encode()),
        },
        config=order.plain(),
        runner="teacher",
        timeout_seconds=TIMEOUT_SECONDS,
        **_told(order, len(shown), goal),
    )


def _told(order: Order, examples: int, goal: Goal) -> dict[str, Any]:
    """What a person is told of an order beside its config: title, flavor and estimate of the job."""
    hosted = is_hosted(order.teacher, goal.brain.api_base)
    leaves = f"; {examples} of yours leave this machine as examples" if hosted and examples else ""
    return {
        "title": f"have {order.teacher} write {order.rows} training rows{leaves}",
        "flavor": HOSTED if hosted else OWN,
        "estimate": estimate(order, goal),
    }


def told_anew(spec: JobSpec, goal: Goal, paths: RunPaths) -> JobSpec:
    """A teacher's spec whose config was edited, with what is told of it; one that is no order stays, to be refused."""
    try:
        order = Order.model_validate(spec.config)
    except ValidationError:
        return spec
    examples = paths.stored(spec.files[EXAMPLES]).read_bytes().count(b"\n")
    return spec.model_copy(update=_told(order, examples, goal))


def estimate(generate: Generate | Order, goal: Goal) -> Estimate:
    """What a teacher takes: a request for the taxonomy, one for a few rows each, and those that check the rows."""
    checks = {"computed": 0, "judge": 1, "majority": ATTEMPTS}[generate.verify]
    requests = 1 + math.ceil(generate.rows / ROWS_A_REQUEST) + checks * (1 + math.ceil(generate.rows / ROWS_AT_ONCE))
    each = Provider(generate.teacher, goal.brain.api_base).most_usd_micro(REQUEST_TOKENS)
    price = "its price is unknown: tokens are counted, dollars are not" if each is None else "priced by LiteLLM's list"
    return Estimate(
        hours=requests * SECONDS_A_REQUEST / SIDE_BY_SIDE / 3600,
        usd_micro=requests * (each or 0),
        memory_gib=0.0,
        basis=f"about {requests} requests, each held against limits.usd and limits.llm_tokens; {price}",
    )


def fault_of_config(spec: JobSpec, goal: Goal) -> str:
    """Why a teacher's config, which a person may have edited, cannot be carried out; empty if it can."""
    if spec.runner != TeacherRunner.name:
        return ""
    try:
        order = Order.model_validate(spec.config)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        return f"its config is no order ({'.'.join(map(str, fault['loc']))}: {fault['msg']}); resume, and edit it again"
    return refusal(order.teacher, goal) or moved_out(order.teacher, goal.brain.api_base, spec.flavor)


class TeacherRunner(AskingRunner[Teaching]):
    """A JobRunner whose jobs are conversations with a language model that writes training rows."""

    name = "teacher"

    def __init__(self, jobs: Path, model: Callable[[str], LanguageModel]) -> None:
        """jobs: folder of the run's job folders. model: opens a language model, metered, by its name."""
        super().__init__(jobs)
        self._model = model

    def begun(self, folder: Path, flavor: str) -> Teaching:
        order = Order.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
        model = self._model(order.teacher)
        if fault := moved_out(model.name, model.api_base, flavor):
            raise BadInput(fault)
        examples = [json.loads(line) for line in (folder / EXAMPLES).read_text(encoding="utf-8").split("\n") if line]
        system = (folder / SYSTEM).read_text(encoding="utf-8")
        return Teaching(order, model, system, examples)

    def ended(self, folder: Path, status: AskingStatus, teaching: Teaching, more: bool) -> AskingStatus:
        """A cap that left room for some rows ends a job well; one that left room for none ends it without blame."""
        if teaching.stopped:
            return status.model_copy(update={"state": JobState.FAILED, "error": teaching.stopped})
        if not teaching.rows:
            state = JobState.CANCELLED if teaching.spent else JobState.FAILED
            return status.model_copy(update={"state": state, "error": str(teaching.spent or "it wrote no rows")})
        (folder / GENERATED).parent.mkdir(exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in teaching.rows)
        write_atomically(folder / GENERATED, "".join(lines).encode())
        result = {"rows": len(teaching.rows), "topics": teaching.topics(), "requests lost": teaching.lost}
        self.tell(folder, {"result": {**result, "ended by": str(teaching.spent or "")}})
        return status.model_copy(update={"state": JobState.SUCCEEDED})
