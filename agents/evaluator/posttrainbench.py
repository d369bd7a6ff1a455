"""PostTrainBench as an agent meets it: the task folder, its clock, what must not be touched, and its own evaluation.

The harness [aisa-group/PostTrainBench, src/run_task.sh] starts an agent in a folder with `evaluate.py`, `timer.sh` and
`templates/`, tells model and benchmark in a prompt, and takes `final_model` when the time is up.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from shared_memory.errors import BadInput
from shared_memory.records import Record

FACTS = Path(__file__).with_suffix(".toml")
FINAL_MODEL = "final_model"
MODELS = ("Qwen3-1.7B-Base", "Qwen3-4B-Base", "SmolLM3-3B-Base", "gemma-3-4b-pt")
"""The four base models [scripts/compute_single_metrics.py]."""
FAMILIES = {"gemma": "gemma3", "llama": "llama3", "qwen": "qwen3", "smollm": "smollm"}
"""Part of the architecture's name → template, in the order in which evaluate.py looks for it."""
_PROMPT = re.compile(r"small LLM \\?`(?P<model>[^`\\]+)\\?` to excel at (?P<title>.+?)\.\s*(?:\n|$)")
"""The first sentence of src/eval/general/prompt.txt; its backticks reach the agent with their backslashes."""
_LEFT = re.compile(r"(\d+):(\d\d)\s*$")
ATTEMPTS = 3
TO_SPARE_SECONDS = 60.0
"""What an attempt at the official evaluation leaves on the clock."""
STOP_SECONDS = 20.0
"""How long an evaluation may take to end after SIGTERM: vLLM has processes of its own to stop."""


class Known(Record):
    """What is known of a task beforehand."""

    title: str
    registry: str
    """The same benchmark in our registry."""
    judged: bool = False
    """A language model grades the answers."""
    template_suffix: str = ""
    """Of Gemma's template."""
    cached: str = ""
    """Where the benchmark's container keeps the items, under the Hub's cache."""
    train: tuple[str, ...]
    """What to train on where the goal names nothing."""


class Task(Record):
    """A task folder."""

    folder: str
    benchmark: str
    """A name of `known_tasks`."""
    model: str
    """Hub id or folder of the base model."""

    @property
    def known(self) -> Known:
        return known_tasks()[self.benchmark]

    @property
    def final_model(self) -> Path:
        return Path(self.folder) / FINAL_MODEL


class Official(Record):
    """What evaluate.py said of final_model, on all items: those that selected it are among them."""

    score: float | None = None
    """`accuracy` of its JSON."""
    stderr: float | None = None
    attempts: int = 0
    error: str = ""
    """Why there is no score."""
    includes_selection_items: bool = True


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """posttrainbench.toml."""
    return tomllib.loads(FACTS.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def known_tasks() -> dict[str, Known]:
    return {name: Known.model_validate(plain) for name, plain in facts()["task"].items()}


def read_task(folder: Path, prompt: str = "", *, benchmark: str = "", model: str = "") -> Task:
    """The task of a folder: model and benchmark as the prompt says, or as named.

    Raises BadInput for a folder that is none of a task, and where nobody says which task it is.
    """
    for name in ("evaluate.py", "timer.sh", "templates"):
        if not (folder / name).exists():
            raise BadInput(f"{folder} is no task folder of PostTrainBench: it has no {name}; give the folder that has")
    said = _PROMPT.search(prompt)
    benchmark = benchmark or _named(said["title"] if said else "")
    model = model or (said["model"] if said else "")
    if benchmark not in known_tasks():
        what = f"`{benchmark}` is none" if benchmark else "the prompt names none"
        raise BadInput(f"{what} of PostTrainBench's benchmarks; give --benchmark: {', '.join(known_tasks())}")
    if not model:
        raise BadInput("the prompt names no model to train; give --model, a Hub id or a folder")
    return Task(folder=str(folder.absolute()), benchmark=benchmark, model=model)


def _named(title: str) -> str:
    return next((name for name, task in known_tasks().items() if title.strip() in (task.title, name)), "")


def seconds_left(task: Task) -> float:
    """What timer.sh says; it shows whole minutes, rounded down. Raises BadInput where it says no time."""
    try:
        ran = subprocess.run(["bash", "timer.sh"], cwd=task.folder, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"timer.sh cannot be asked ({error}); run `bash timer.sh` in {task.folder}") from error
    if "expired" in ran.stdout:
        return 0.0
    shown = _LEFT.search(ran.stdout.strip())
    if shown is None:
        raise BadInput(f"timer.sh shows no hours:minutes; run `bash timer.sh` in {task.folder} to see what it does")
    return 3600.0 * int(shown[1]) + 60.0 * int(shown[2])


def template_of(task: Task, architecture: str) -> Path:
    """The chat template that evaluate.py renders with. Raises BadInput for a model that it has none for."""
    family = next((name for name in FAMILIES if name in architecture.lower()), "")
    suffix = task.known.template_suffix if family == "gemma" else ""
    template = Path(task.folder) / "templates" / f"{FAMILIES.get(family, architecture)}{suffix}.jinja"
    if not template.is_file():
        raise BadInput(f"the task has no template for {architecture} ({template}); name another --model")
    return template


def protected_files(task: Task, own: Collection[Path] = ()) -> dict[str, str]:
    """File → sha256 of all that lies in a fresh task folder: evaluator, clock, templates, and what belongs to them.

    own: folders of the agent's. Logs and compiled Python do not count, for the harness itself writes them.
    """
    return {
        str(path.relative_to(task.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(_files(Path(task.folder), {task.final_model, *own}))
    }


def _files(folder: Path, apart: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path in apart or path.name.startswith(".") or path.name in ("__pycache__", "logs"):
            continue
        if path.is_dir():
            yield from _files(path, apart)
        elif path.is_file() and path.suffix not in (".log", ".pyc"):
            yield path


def tampered(task: Task, protected: Mapping[str, str]) -> list[str]:
    """The protected files that are not what they were."""
    changed = []
    for name, digest in protected.items():
        path = Path(task.folder) / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            changed.append(name)
    return changed


def official_evaluation(
    task: Task,
    protected: Mapping[str, str],
    *,
    python: str,
    folder: Path,
    tell: Callable[[str], None],
    left: Callable[[], float],
) -> Official:
    """Ask evaluate.py, with the task's own Python, for the score of final_model on all items.

    folder: takes its logs and its JSON. left: seconds on the clock. An attempt that fails is made again, three times
    in all as long as there is time. Nothing that it prints is passed on: it may hold items.
    """
    folder.mkdir(parents=True, exist_ok=True)
    error = "no time is left for it"
    made = 0
    while made < ATTEMPTS:
        seconds = left() - TO_SPARE_SECONDS
        if seconds <= 0:
            break
        if changed := tampered(task, protected):
            return Official(attempts=made, error=f"{changed[0]} was changed; it is not run")
        made += 1
        found, error = _attempt(task, python, folder, made, seconds)
        if found is not None:
            return found.model_copy(update={"attempts": made})
        tell(f"evaluate.py, attempt {made} of {ATTEMPTS}: {error}")
    return Official(attempts=made, error=error)


def _attempt(task: Task, python: str, folder: Path, number: int, seconds: float) -> tuple[Official | None, str]:
    log, answer = folder / f"attempt-{number}.log", folder / f"metrics-{number}.json"
    answer.unlink(missing_ok=True)
    command = [python, "evaluate.py", "--model-path", FINAL_MODEL, "--limit", "-1", "--json-output-file", str(answer)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=task.folder, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None, f"it was stopped after {seconds / 60:.0f} min, for the clock runs out; see {log}"
        finally:
            _stop(process)
    try:
        return read_metrics(answer), ""
    except BadInput as fault:
        return None, f"it ended with exit status {code}; see {log}" if code else f"{fault}; see {log}"


def _environment(folder: Path) -> dict[str, str]:
    """Ours without what points a Python to our own environment; inspect's logs go where ours are."""
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    return {key: value for key, value in os.environ.items() if key not in ours} | {"INSPECT_LOG_DIR": str(folder)}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the evaluation with all that it has started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def read_metrics(path: Path) -> Official:
    """The JSON of evaluate.py. Raises BadInput where it is none, or its score is no fraction."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        score = float(metrics["accuracy"])
        stderr = float(metrics["stderr"]) if metrics.get("stderr") is not None else None
    except FileNotFoundError as error:
        raise BadInput(f"{path} was not written") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} holds no `accuracy` that can be read ({error!r})") from error
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise BadInput(f"{path} says that `accuracy` is {score}, which is no fraction of 1")
    return Official(score=score, stderr=stderr)


class Row(Record):
    """A line of the leaderboard."""

    version: str
    name: str
    average: float
    spread: float | None = None
    """As published, beside the average."""
    scores: tuple[float, ...] = Field(default=())
    """By benchmark, in the order of v1's weights; empty where only the average is published."""
    ranked: bool = True
    source: str


def leaderboard(version: str) -> list[Row]:
    """The published lines, best first."""
    rows = [Row.model_validate(plain) for plain in facts()["row"]]
    return sorted((row for row in rows if row.version == version), key=lambda row: -row.average)


def weights(version: str) -> dict[str, float]:
    """Benchmark → its weight in the average."""
    return dict(facts()["weights"][version])


def base_score(benchmark: str, model: str) -> float:
    """What the untrained model scores zero-shot; where no figure of it is published, the mean of the four."""
    base = facts()["base"]
    return float(base["model"].get(benchmark, {}).get(model, base["mean"][benchmark]))
