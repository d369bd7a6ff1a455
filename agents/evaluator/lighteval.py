"""LightEval as a second engine: one of its tasks, asked and scored by LightEval itself, inside a job.

Its items are not held here: training data could not be searched for them, so such a benchmark only scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel
from agents.evaluator.benchmarks.benchmark import Benchmark
from agents.evaluator.benchmarks.items import half_of
from agents.jobs.hardware import local_hardware
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Estimate, JobSpec, Purpose, canonical_digest
from shared_memory.run_paths import RunPaths

SCRIPT = Path(__file__).parent / "scripts" / "light.py"
TASKS_FILE = "tasks.py"
"""What a person's file of tasks is called in the job's folder."""
HOURS = 1.0
"""How many items a task has is known when it is loaded."""
TIMEOUT_SECONDS = 6 * 3600


def benchmark_of(entry: BenchmarkGoal) -> Benchmark:
    """A goal's benchmark with engine lighteval. Raises BadInput for what LightEval's tasks leave no room for."""
    if not entry.name:
        raise BadInput('engine = "lighteval" needs the `name` of one of its tasks; `path` is a Python file of more')
    fixed = {
        "metric": entry.metric != "auto",
        "max_tokens": entry.max_tokens,
        "epochs": entry.epochs,
        "decoding": entry.decoding != "auto",
        "chat_template": entry.chat_template,
    }
    if given := next((key for key, value in fixed.items() if value), ""):
        raise BadInput(f"LightEval asks and scores {entry.name} as its task says; leave `{given}` out")
    tasks = ""
    if entry.path:
        try:
            tasks = Path(entry.path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"file of tasks {entry.path} cannot be read ({error}); check [[benchmark]] path") from error
    return Benchmark(
        name=entry.name,
        source=entry.path or "LightEval",
        metric="task",
        items=(),
        max_tokens=0,
        task=entry.name,
        task_args={"limit": entry.limit},
        local=entry.path,
        engine="lighteval",
        digest=canonical_digest({"task": entry.name, "tasks": tasks, "limit": entry.limit}),
    )


def lighteval_job(benchmark: Benchmark, *, name: str, model: BaseModel, paths: RunPaths) -> JobSpec:
    """The job in which LightEval scores a model; a file of tasks of one's own makes it one that is always asked about.

    `name` is the experiment it is filed under.
    """
    tasks = {TASKS_FILE: paths.store(Path(benchmark.local))} if benchmark.local else {}
    what = f", with the tasks of {Path(benchmark.local).name}" if tasks else ""
    return JobSpec(
        purpose=Purpose.EVALUATION,
        experiment=name,
        title=(f"score {name} on LightEval's {benchmark.task}{what}: LightEval is installed for it, asks and scores"),
        benchmark=benchmark.name,
        script=SCRIPT.name,
        files={SCRIPT.name: paths.store(SCRIPT), **tasks},
        config={
            "model": model.folder,
            "revision": None,
            "task": benchmark.task,
            "tasks_file": TASKS_FILE if tasks else None,
            "limit": benchmark.task_args["limit"],
        },
        flavor=local_hardware().flavor,
        timeout_seconds=TIMEOUT_SECONDS,
        estimate=estimate(model),
        custom=bool(tasks),
    )


def estimate(model: BaseModel) -> Estimate:
    return Estimate(
        hours=HOURS,
        usd_micro=0,
        memory_gib=round(1.5 + 6 * model.parameters / 1024**3, 2),
        basis="how many items its task has is known when LightEval has loaded it; the time is a guess",
    )


def fault_of_records(records: Sequence[dict[str, Any]]) -> str:
    """Why the item records that LightEval's job left are none; empty where they are."""
    ids = [row["id"] for row in records]
    return "" if ids and len(set(ids)) == len(ids) else "it scored no items, or some of them twice"


def with_parts(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records in the parts that their ids put them in, as those of any benchmark without parts of its own."""
    return [{**row, "part": half_of(str(row["id"])).value} for row in records]
