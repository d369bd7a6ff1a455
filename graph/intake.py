"""Whether a goal can be worked on at all: everything that can be known before the first job."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agents.base_model import BaseModel
from agents.brain import Playbook, Role
from agents.data_engineer.formats.methods import trains, why_not
from agents.data_engineer.formats.tables import Row, read_sources
from agents.data_engineer.synthesis import teacher
from agents.evaluator.benchmarks.benchmark import SMALLEST_PART, Benchmark, load_benchmark
from agents.evaluator.hold_out import FEWEST_ROWS
from agents.provider import Provider
from agents.publishing.runner import FOLDER, flavor_of
from agents.reading.files import READERS
from agents.reading.sources import HUB, Source, to_train_on
from graph.briefing import model_of
from graph.placement import offered
from graph.synthesis import teacher_of
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.recipes import layout_of
from shared_memory.records import Part

READ_AT_ONCE = 64 * 2**20
"""Bytes up to which training data is read before anything else, so that a bad file is known before a job has run."""


@dataclass(frozen=True)
class Checked:
    """What a goal stands on, once it is known that it can be worked on."""

    model: BaseModel
    benchmarks: dict[str, Benchmark]
    """By id."""
    trains: tuple[str, ...]
    """Methods that the goal's rows are laid out for; empty where there are none yet, or too many to look at now."""
    train: tuple[str, ...] = ()
    """What the goal names to train on; data sets of the Hub at the commit that was found."""
    files: tuple[Path, ...] = ()
    """The files behind it."""


def check_goal(goal: Goal, roles: Collection[Role] = tuple(Role), brain: str = "playbook") -> Checked:
    """Raises BadInput for whatever `roles` cannot use, or is not part of this version, with the next move.

    `brain` is the home's default: the data engineer's, if it is a language model, may write rows.
    """
    if goal.run.script and not Path(goal.run.script).is_file():
        raise BadInput(f"training script {goal.run.script} does not exist; check [run] script")
    if goal.limits.deadline is not None and goal.limits.deadline.timestamp() <= time.time():
        raise BadInput(f"limits.deadline ({goal.limits.deadline.isoformat()}) has passed; set a later one")
    _require_a_place(goal)
    _require_a_repository(goal.output.push_to, "push_to")
    benchmarks = {entry.id: load_benchmark(entry) for entry in goal.benchmark}
    for benchmark in benchmarks.values():
        _require_an_engine(benchmark, goal)
    if goal.limits.experiments:
        for entry in goal.benchmark:
            if entry.path or entry.limit:  # a published set is as large as it is
                _require_two_parts(benchmarks[entry.id])
    _require_a_judge(benchmarks, goal)
    if goal.run.on == "api":
        _require_what_a_server_does(goal, benchmarks)
    if goal.method == "reward":
        _require_pairs(benchmarks)
    sources = _sources_of(goal)
    rows = _rows_of(goal, sources)
    if goal.data.generator:
        _require_a_script(Path(goal.data.generator))
    if goal.data.teacher and (refused := teacher.refusal(goal.data.teacher, goal)):
        raise BadInput(refused)
    measures = Role.EVALUATOR in roles
    if measures and not goal.benchmark and not goal.data.train:
        if goal.data.generator or goal.data.teacher:
            raise BadInput(
                "rows that are yet to be written cannot be held out to measure on; give a [[benchmark]], or data of "
                "your own as [data] train"
            )
        raise BadInput("the goal has neither a [[benchmark]] nor training data to hold rows out of; give one of them")
    if Role.DATA_ENGINEER in roles and goal.limits.experiments and not goal.data.train:
        _require_a_writer(goal, goal.mind(Role.DATA_ENGINEER, brain))
    methods = trains(rows or ())
    wanted = layout_of("sft" if goal.method == "auto" else goal.method)
    if rows and wanted not in methods:
        others = f"; they train {' or '.join(methods)}" if methods else ""
        raise BadInput(f"{why_not(rows, wanted)}{others}: bring such rows, or change `method`")
    if goal.method == "distill" and any(row.passage for row in rows or ()):
        raise BadInput("distillation compares replies, and some rows are texts that nobody asked for; name chats")
    if measures and not goal.benchmark and rows is not None:
        _require_rows_to_measure_on(rows)
    model = model_of(goal)
    if goal.run.on == "api" and (fault := Provider(model.name, goal.run.api_base).fault_of_its_name()):
        raise BadInput(fault)
    _require_known_minds(goal, roles, brain)
    for benchmark in benchmarks.values():
        _require_room_for_answers(benchmark, model)
    files = tuple(source.path for named in sources.values() for source in named)
    return Checked(model, benchmarks, methods, tuple(map(_pinned, sources, sources.values())), files)


def _require_a_place(goal: Goal) -> None:
    """Raise BadInput for a cluster that is not here, and for what there is not where the jobs are to run."""
    if goal.run.image and goal.run.on == "local":
        raise BadInput(
            "[run] image is for hf and slurm, and jobs run on this machine; leave it out, or choose another on"
        )
    if goal.run.api_base and goal.run.on != "api":
        raise BadInput(f'[run] api_base is the address of a served model, and on is {goal.run.on}; set on = "api"')
    if goal.run.on == "slurm" or (goal.run.flavor and goal.run.on != "api"):
        flavors = offered(goal.run.on)
        if goal.run.flavor:
            flavors.named(goal.run.flavor)


def _require_a_repository(name: str, key: str) -> None:
    """Raise BadInput for a place to publish to that is neither a folder nor a name that the Hub takes."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    if not name or flavor_of(name) == FOLDER:
        return
    try:
        validate_repo_id(name.removeprefix("hf://"))
    except HFValidationError as error:
        raise BadInput(f"[output] {key} = {name!r} is no repository of the Hub ({error}); write you/name") from error


def _require_a_writer(goal: Goal, brain: str) -> None:
    """Raise BadInput where a goal without data has nobody who may write rows."""
    name = teacher_of(goal, brain)
    refused = teacher.refusal(name, goal) if name else ""
    if goal.data.synthesise == "never" or not (goal.data.generator or (name and not refused)):
        way_out = refused or "give [data] train = [...], or a generator, or a teacher"
        raise BadInput(f"the goal has no training data: {way_out}")


def _require_a_script(generator: Path) -> None:
    if not generator.is_file():
        raise BadInput(f"generator {generator} does not exist; check [data] generator")
    if generator.name.lower().endswith(tuple(READERS)):
        raise BadInput(f"generator {generator} is a data file and no script that writes rows; name it as [data] train")


def _require_two_parts(benchmark: Benchmark) -> None:
    for part in Part:
        n = sum(item.part == part for item in benchmark.items)
        if n < SMALLEST_PART:
            raise BadInput(
                f"benchmark {benchmark.name} has {n} {part.value} items; give it at least {SMALLEST_PART} of each part"
            )


def _require_room_for_answers(benchmark: Benchmark, model: BaseModel) -> None:
    """Raise BadInput where an answer may fill the whole context, so that every prompt would be refused or cut."""
    context = model.config.get("max_position_embeddings")
    if benchmark.is_written and isinstance(context, int) and benchmark.max_tokens >= context:
        raise BadInput(
            f"benchmark {benchmark.name} lets an answer take {benchmark.max_tokens:,} tokens, and the model reads "
            f"{context:,} in all; set max_tokens lower, and leave room for the prompt"
        )


def _require_an_engine(benchmark: Benchmark, goal: Goal) -> None:
    """Raise BadInput for a benchmark that nothing here could ask, or that training data could not be searched for."""
    name = benchmark.name
    if benchmark.is_written and find_spec("inspect_ai") is None:
        raise BadInput(f"inspect-ai asks and scores {name}, and is not installed; pip install 'postgrad[eval]'")
    if benchmark.engine != "lighteval":
        return
    if goal.limits.experiments:
        raise BadInput(
            f"{name} is LightEval's, which keeps its items to itself, so training data could not be searched for them; "
            "train for another benchmark, and score the model on this one afterwards (postgrad eval)"
        )
    if goal.run.on == "api":
        raise BadInput(f"LightEval loads the model that it scores on {name} itself; choose local, hf or slurm")
    if benchmark.local and goal.run.sandbox != "none":
        raise BadInput(
            f"the tasks in {benchmark.local} are code, and LightEval needs the network, which no sandbox lets it have; "
            'allow that with [run] sandbox = "none", or leave `path` out'
        )


def _require_what_a_server_does(goal: Goal, benchmarks: Mapping[str, Benchmark]) -> None:
    """Raise BadInput for what cannot be had of a model that others serve: its weights, and how likely a text is."""
    if goal.limits.experiments:
        raise BadInput(
            'on = "api" asks a model that others serve, which cannot be trained here; set limits.experiments = 0 to '
            "score it, or choose local, hf or slurm"
        )
    if not benchmarks:
        raise BadInput("a served model has no loss on rows that are held out; give a [[benchmark]]")
    named = {"revision": goal.revision, "[run] flavor": goal.run.flavor, "[run] image": goal.run.image}
    if idle := next((key for key, value in named.items() if value), ""):
        raise BadInput(f'{idle} is for jobs that load the model, and on = "api" asks one that is served; leave it out')
    for name, benchmark in benchmarks.items():
        if not benchmark.is_written:
            raise BadInput(
                f"{name} is scored by {benchmark.metric}, which takes the model's likelihoods, and a served one gives "
                "answers only; choose another metric, or score its weights (local, hf or slurm)"
            )
        if benchmark.chat_template:
            raise BadInput(f"{name} has a chat_template, and a served model renders its chats itself; leave it out")


def _require_a_judge(benchmarks: Mapping[str, Benchmark], goal: Goal) -> None:
    """Raise BadInput for a benchmark whose answers nobody would grade."""
    judged = next((name for name, benchmark in benchmarks.items() if benchmark.is_judged), "")
    if judged and not goal.judge.model:
        raise BadInput(
            f"a language model grades the answers to {judged}, and the goal names none; set [judge] model "
            '(as "openai/gpt-5-mini"; its address in api_base, where it is a server of your own), or --judge MODEL'
        )


def _require_known_minds(goal: Goal, roles: Collection[Role], brain: str) -> None:
    """Raise BadInput for a language model whose provider nobody knows: before a job has run, and not after."""
    at_the_server = {goal.mind(role, brain) for role in roles} - {Playbook.name}
    minds = [*((name, goal.brain.api_base) for name in sorted(at_the_server)), *((n, "") for n in goal.brain.fallbacks)]
    for name, api_base in minds:
        if fault := Provider(name, api_base).fault_of_its_name():
            raise BadInput(f"[brain]: {fault}")


def _require_pairs(benchmarks: Mapping[str, Benchmark]) -> None:
    """Raise BadInput for a benchmark that a model which only scores cannot take."""
    for benchmark in benchmarks.values():
        if benchmark.metric != "preference":
            raise BadInput(
                f"a reward model writes nothing, and benchmark {benchmark.name} is scored by {benchmark.metric}; "
                "give one of pairs (prompt, chosen and rejected), or none, to hold some of the rows out"
            )


def _require_rows_to_measure_on(rows: Sequence[Row]) -> None:
    wanted = sum(row.label is not False for row in rows)
    if wanted < FEWEST_ROWS:
        what = "rows" if wanted == len(rows) else "rows whose reply is wanted"
        raise BadInput(
            f"{wanted} {what} are too few to hold some out to measure on ({FEWEST_ROWS} are needed); "
            "give a [[benchmark]], or more rows"
        )


def _sources_of(goal: Goal) -> dict[str, list[Source]]:
    """What the goal names to train on → the files behind it; of a data set on the Hub they are fetched now."""
    for name in goal.data.train:
        if goal.data.train.count(name) > 1:
            raise BadInput(f"training data {name} is named twice; name it once in [data] train")
    sources = {name: to_train_on([name]) for name in goal.data.train}
    for name, files in sources.items():
        missing = next((source.path for source in files if not source.path.is_file()), None)
        if missing is not None:
            raise BadInput(f"training data {name} is no file, folder or data set of the Hub; check [data] train")
    return sources


def _pinned(name: str, files: Sequence[Source]) -> str:
    """The name, with the commit of a data set on the Hub: what is read later is what was found now."""
    if not files[0].origin:
        return name
    config = name.removeprefix(HUB).partition(":")[2]
    return f"{HUB}{files[0].origin}@{files[0].revision}" + (f":{config}" if config else "")


def _rows_of(goal: Goal, sources: Mapping[str, Sequence[Source]]) -> list[Row] | None:
    """The goal's training rows; None where they are too many to read before anything else."""
    if sum(source.path.stat().st_size for files in sources.values() for source in files) > READ_AT_ONCE:
        return None
    return read_sources(goal.data.train)
