"""A model that others serve, under test: the prompts of an evaluation go to it as chat completions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.evaluation import ANSWERS, PROMPTS, timeout_seconds
from agents.evaluator.scored import read_items
from agents.evaluator.scoring import judge as grading
from agents.evaluator.scoring.marking import Answer, prompts_of
from agents.hosting import HOSTED, OWN, is_hosted, moved_out
from agents.jobs.asking_runner import AskingRunner, AskingStatus
from agents.jobs.in_process import CONFIG
from agents.llm import LanguageModel
from agents.provider import Provider
from shared_memory.errors import BadInput, PostgradError
from shared_memory.goal import Goal
from shared_memory.records import Estimate, JobSpec, JobState, Part, Record
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import RunPaths, write_atomically

SECTION = "run"
"""Of the goal: its `api_base` is the server's address, and POSTGRAD_RUN_KEY the key for it."""
REQUEST = "request.json"
"""What is sent with every prompt, in the place of a script: a person may change it at the gate."""
AT_ONCE = 8
"""Requests in flight together; so many at most are paid for and lost where the run is killed."""
LOOK_SECONDS = 2.0
"""How long a look at the job sends requests: what was sent is waited for, then the run may be parked or cancelled."""
SECONDS_AN_ANSWER = 8.0
"""What a hosted model takes for an answer; one that thinks, or runs on a CPU, takes longer."""


class Request(Record):
    """REQUEST: the same for all prompts."""

    max_tokens: int = Field(ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 takes the likeliest token each time; None leaves it to the server."""
    seed: int | None = None
    """Of the first epoch, the next one has the next; None leaves it to the server."""

    def of(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """What goes along with one prompt, as OpenAI's API has it."""
        seed = {} if self.seed is None else {"seed": self.seed + prompt["epoch"] - 1}
        tools = [
            tool if "function" in tool else {"type": "function", "function": tool} for tool in prompt.get("tools", ())
        ]
        return self.model_dump(exclude_none=True, exclude={"seed"}) | seed | ({"tools": tools} if tools else {})


def served(spec: JobSpec, goal: Goal, paths: RunPaths) -> JobSpec:
    """An evaluation that a job of ours would do, as one of the model that the goal's server has."""
    request = _request_for(goal, spec.config["max_tokens"], spec.config["decoding"])
    kept = {name: digest for name, digest in spec.files.items() if name in (PROMPTS, grading.TERMS)}
    asked = spec.model_copy(
        update={
            "runner": EndpointRunner.name,
            "script": REQUEST,
            "files": {REQUEST: paths.store(request.model_dump_json(indent=2).encode()), **kept},
            "config": _config(goal),
        }
    )
    return told_anew(asked, goal, paths)


def told_anew(spec: JobSpec, goal: Goal, paths: RunPaths) -> JobSpec:
    """The spec with what a person is told of it, which follows from REQUEST; one that is no request stays, to be
    refused."""
    try:
        request = _request(spec, paths)
    except ValidationError:
        return spec
    prompts = read_items(paths.stored(spec.files[PROMPTS]))
    hosted = is_hosted(goal.base_model, goal.run.api_base)
    leaves = " and leave this machine" if hosted else ""
    at = f" at {goal.run.api_base}" if goal.run.api_base else ""
    told = f"; {len(prompts)} prompts go to "
    estimate = _estimate(prompts, request, goal)
    if terms := grading.terms_of(spec, paths):
        estimate = terms.added_to(estimate)
    return spec.model_copy(
        update={
            "title": spec.title.partition(told)[0] + told + f"{goal.base_model}{at}{leaves}",
            "flavor": HOSTED if hosted else OWN,
            "estimate": estimate,
            "timeout_seconds": timeout_seconds(estimate),
        }
    )


def estimate(benchmark: Benchmark, parts: Sequence[Part], goal: Goal) -> Estimate:
    """What asking the model of a goal for some parts of a benchmark takes."""
    request = _request_for(goal, benchmark.max_tokens, benchmark.decoding)
    return _estimate(prompts_of(benchmark, parts), request, goal)


def _estimate(prompts: Sequence[dict[str, Any]], request: Request, goal: Goal) -> Estimate:
    """What the prompts take. At worst there is a token for each byte of them, and every answer is as long as may be."""
    provider = _provider(goal)
    sent = [len(json.dumps([prompt["messages"], request.of(prompt)]).encode()) for prompt in prompts]
    costs = [provider.most_usd_micro(tokens, request.max_tokens) for tokens in sent]
    unknown = None in costs
    price = "its price is unknown: tokens are counted, dollars are not" if unknown else "priced by LiteLLM's list"
    hidden = sum(redact_plain(prompt["messages"]) != prompt["messages"] for prompt in prompts)
    without = f"; what looks like a secret is left out of {hidden} prompts" if hidden else ""
    return Estimate(
        hours=round(len(prompts) * SECONDS_AN_ANSWER / AT_ONCE / 3600, 4),
        usd_micro=sum(cost or 0 for cost in costs),
        memory_gib=0.0,
        basis=(
            f"{len(prompts):,} requests, at worst {sum(sent) + request.max_tokens * len(sent):,} tokens, each held "
            f"against limits.usd and limits.llm_tokens ({goal.limits.llm_tokens:,}); {price}{without}"
        ),
    )


def fault_of_config(spec: JobSpec, goal: Goal, paths: RunPaths) -> str:
    """Why an evaluation of a served model, which a person may have edited, cannot be carried out; empty if it can."""
    if spec.runner != EndpointRunner.name:
        return ""
    try:
        _request(spec, paths)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or REQUEST
        return f"its {REQUEST} is none ({where}: {fault['msg']}); resume, and edit it again"
    if spec.config != _config(goal):
        return f"its config names another model or place than the goal; edit {REQUEST}, or start a new evaluation"
    return moved_out(goal.base_model, goal.run.api_base, spec.flavor)


def _request_for(goal: Goal, max_tokens: int, decoding: str) -> Request:
    most = _provider(goal).within_the_models_own(max_tokens)
    if decoding == "greedy":
        return Request(max_tokens=most, temperature=0)
    return Request(max_tokens=most, seed=goal.run.seed)


def _config(goal: Goal) -> dict[str, Any]:
    return {"model": goal.base_model, "api_base": goal.run.api_base, "prompts": PROMPTS}


def _provider(goal: Goal) -> Provider:
    return Provider(goal.base_model, goal.run.api_base, SECTION)


def _request(spec: JobSpec, paths: RunPaths) -> Request:
    return Request.model_validate_json(paths.stored(spec.files[REQUEST]).read_text(encoding="utf-8"))


class _Asking:
    """The prompts of a job on their way to a model; what it has answered is on disk, and not asked again."""

    def __init__(self, prompts: Sequence[dict[str, Any]], request: Request, model: LanguageModel) -> None:
        self.prompts = prompts
        self.answers: dict[tuple[str, int], Answer] = {}
        self._left = iter(prompts)
        self._lock = threading.Lock()
        self._stopped = False
        self._request = request
        self._model = model

    @property
    def done(self) -> int:
        return len(self.answers)

    @property
    def total(self) -> int:
        return len(self.prompts)

    def go_on(self) -> bool:
        """Ask for LOOK_SECONDS; whether there is more to ask.

        Raises what keeps a prompt from being answered, when all that were sent have ended; it is not gone on with then.
        """
        ends = time.monotonic() + LOOK_SECONDS
        with ThreadPoolExecutor(AT_ONCE) as threads:
            # Each in a copy of this context: what the meter has to tell goes through the node that looks.
            for ended in [threads.submit(copy_context().run, self._ask_until, ends) for _ in range(AT_ONCE)]:
                ended.result()
        return self.done < self.total

    def _ask_until(self, ends: float) -> None:
        while not self._stopped and time.monotonic() < ends and (prompt := self._next()):
            try:
                self.answers[prompt["id"], prompt["epoch"]] = self._answer(prompt)
            except PostgradError:
                self._stopped = True
                raise

    def _next(self) -> dict[str, Any] | None:
        with self._lock:
            return next(self._left, None)

    def _answer(self, prompt: dict[str, Any]) -> Answer:
        said = self._model.say(prompt["messages"], self._request.of(prompt), sample=prompt["epoch"])
        return Answer(
            id=prompt["id"],
            epoch=prompt["epoch"],
            output=said.text,
            output_tokens=max(0, said.tokens - said.prompt_tokens),
            prompt_tokens=said.prompt_tokens,
            truncated=said.truncated,
        )

    def lines(self) -> Iterator[str]:
        """The answers in the order of their prompts, as `marking` reads them."""
        for prompt in self.prompts:
            yield self.answers[prompt["id"], prompt["epoch"]].model_dump_json() + "\n"


class EndpointRunner(AskingRunner[_Asking]):
    """A JobRunner whose jobs are prompts that a served model answers, some at each look."""

    name = "endpoint"

    def __init__(self, jobs: Path, model: Callable[[str, str], LanguageModel]) -> None:
        """jobs: folder of the run's job folders. model: opens a served model, metered, by its name and address."""
        super().__init__(jobs)
        self._model = model

    def begun(self, folder: Path, flavor: str) -> _Asking:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model = self._model(config["model"], config["api_base"])
        if fault := moved_out(model.name, model.api_base, flavor):
            raise BadInput(fault)
        request = Request.model_validate_json((folder / REQUEST).read_text(encoding="utf-8"))
        return _Asking(read_items(folder / config["prompts"]), request, model)

    def ended(self, folder: Path, status: AskingStatus, asking: _Asking, more: bool) -> AskingStatus:
        if more:
            why = f"{asking.done} of {asking.total} prompts were answered in its time; resume asks the others"
            return status.model_copy(update={"state": JobState.FAILED, "error": why})
        (folder / "out").mkdir(exist_ok=True)
        write_atomically(folder / "out" / ANSWERS, "".join(asking.lines()).encode())
        cut_off = sum(answer.truncated for answer in asking.answers.values())
        self.tell(folder, {"result": {"prompts": asking.total, "truncated": cut_off / asking.total}})
        return status.model_copy(update={"state": JobState.SUCCEEDED})
