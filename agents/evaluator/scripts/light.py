# /// script
# requires-python = ">=3.11"
# dependencies = ["lighteval==0.13.0", "diskcache>=5.6", "xxhash<4", "torch>=2.6", "transformers>=5.0"]
# ///
"""Has LightEval score a language model on one of its tasks.

    python light.py --config config.json

    {"model": folder or Hub id, "task": "gsm8k", "revision": null, "tasks_file": null, "limit": null}

`model` and `task` are required. `task` is one as LightEval names it, `name` or `name|few_shots`, or a family of them
(`mmlu`); `tasks_file` is a Python file with a TASKS_TABLE, which is run. `limit` takes so many items of each task, that
LightEval draws with a seed of its own. Where LightEval cannot be imported, it is installed into an environment of this
job's own, beside the packages that are here, and removed with it.

Prints progress events, and {"result": ...} at the end; writes out/items.jsonl, a line an item: {"id", "category",
"epoch", "score", "answered", "truncated", "answer", "output", "output_tokens", "metrics"}. The score is the first of
the task's metrics that goes from 0 to 1, higher being better, and that every item has. Exit 2: the config, the task or
the model cannot be used as they are.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import site
import subprocess
import sys
import time
import types
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALLED = ("lighteval==0.13.0", "diskcache>=5.6", "xxhash<4")
"""0.13.0 needs a disk cache as soon as LiteLLM is there, and hands xxhash text, which 4 refuses."""
ASKING_THE_NETWORK = ("tiny_benchmarks", "mix_eval.main", "mt_bench.main")
"""Modules of tasks that ask the network when LightEval lists its tasks, one of them for a pickle to open; left out."""
OUT, ENVIRONMENT, CACHE, MODEL = Path("out"), Path("environment"), Path("cache"), Path("model")
PIECES, SMALLEST_PIECE = 20, 32
"""Calls that the items go to the model in, so that progress can be told between them, and what each asks at least."""
BATCH_ON_A_CPU = 8


class JobError(Exception):
    """The job cannot be done as it was given; the message ends with the next move."""


@dataclass(frozen=True)
class Config:
    model: str
    task: str
    revision: str | None = None
    tasks_file: str | None = None
    limit: int | None = None


def read_config(path: Path) -> Config:
    """Raises JobError for anything that is not exactly the documented settings."""
    try:
        config = Config(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as e:
        raise JobError(f"cannot use the config {path} ({e}); see the example at the top of this script") from e
    if Path(config.model).is_absolute() and not Path(config.model).is_dir():
        raise JobError(f"there is no folder {config.model}; correct its name, or give a Hub id")
    return config


def in_an_environment_of_its_own() -> int:
    """Runs this script again where LightEval is installed, and returns its exit status. Raises JobError."""
    print(f"installing {INSTALLED[0]} into an environment of this job's own", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        venv.create(ENVIRONMENT, with_pip=True, symlinks=True)
        packages = next(ENVIRONMENT.glob("lib/python*/site-packages"))
        # After its own packages: torch and what else is here already is not fetched again.
        (packages / "beside.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        python = str((ENVIRONMENT / "bin" / "python").absolute())
        pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", *INSTALLED]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            cause = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            raise JobError(
                f"{INSTALLED[0]} cannot be installed ({cause[-1][:300]}); see that the package index can be reached, "
                "or run on hf"
            )
        return subprocess.run([python, __file__, *sys.argv[1:]], check=False).returncode
    except (OSError, subprocess.CalledProcessError) as e:
        raise JobError(f"no environment can be made here ({e}); install Python's venv, or run on hf") from e
    finally:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)


def prepare_environment(config: Config) -> str:
    """The model's name for LightEval. Must come before the heavy imports: keeps libraries from needless requests."""
    OUT.mkdir(exist_ok=True)
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.getLogger().setLevel(logging.ERROR)
    for name in ASKING_THE_NETWORK:
        sys.modules[f"lighteval.tasks.tasks.{name}"] = types.ModuleType(name)
    if not Path(config.model).is_dir():
        return config.model
    # A relative name: LightEval keeps what a model said in a folder of the model's name, an absolute one included.
    MODEL.unlink(missing_ok=True)
    MODEL.symlink_to(Path(config.model).absolute(), target_is_directory=True)
    return str(MODEL)


def loaded(config: Config, name: str) -> Any:
    """LightEval's pipeline, with tasks, items and model. Raises JobError."""
    import torch
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

    on_a_cpu = not torch.cuda.is_available()
    TransformersModel.disable_tqdm = True  # bars that no variable turns off
    print(f"loading {config.task} and {config.model}", flush=True)
    try:
        return Pipeline(
            tasks=config.task,
            pipeline_parameters=PipelineParameters(
                launcher_type=ParallelismManager.ACCELERATE,
                custom_tasks_directory=config.tasks_file,
                max_samples=config.limit,
                bootstrap_iters=0,
            ),
            evaluation_tracker=EvaluationTracker(output_dir=str(CACHE)),
            model_config=TransformersModelConfig(
                model_name=name,
                revision=config.revision or "main",
                cache_dir=str(CACHE),
                batch_size=BATCH_ON_A_CPU if on_a_cpu else None,
            ),
        )
    except Exception as e:
        # Whatever it is: the task's name, its data, or the model; LightEval raises them all as they come.
        reason = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        raise JobError(
            f"LightEval cannot load {config.task} for {config.model} ({reason}); `lighteval tasks list` has the names"
        ) from e


class Progress:
    """Asks in pieces, and prints how far it is after each."""

    def __init__(self, items: int) -> None:
        self.items, self.answered, self.began = items, 0, time.monotonic()

    def told(self, ask: Callable[..., list[Any]]) -> Callable[[Sequence[Any]], list[Any]]:
        def in_pieces(docs: Sequence[Any]) -> list[Any]:
            size, responses = max(SMALLEST_PIECE, -(-len(docs) // PIECES)), []
            for start in range(0, len(docs), size):
                piece = ask(docs[start : start + size])
                responses += piece
                self.answered += len(piece)
                seconds = round(time.monotonic() - self.began, 1)
                print(json.dumps({"step": self.answered, "steps": self.items, "seconds": seconds}), flush=True)
            return responses

        return in_pieces


def metric_of(task: Any, details: Sequence[Any]) -> str:
    """The metric that an item's score is. Raises JobError where none of the task's would do."""
    names = []
    for metric in task.metrics:
        several = metric.metric_name if isinstance(metric.metric_name, list) else [metric.metric_name]
        better = metric.higher_is_better
        names += [name for name in several if (better.get(name) if isinstance(better, dict) else better)]
    for name in names:
        values = [detail.metric.get(name) for detail in details]
        if all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in map(plain, values)):
            return str(name)
    raise JobError(f"{task.full_name} has no metric that gives every item a score from 0 to 1; choose another task")


def plain(value: Any) -> Any:
    """A value without numpy around it; what is no number stays what it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value


def records(
    task: Any, metric: str, details: Sequence[Any], ends: set[int], seen: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The lines of out/items.jsonl of one task; `ends` are the tokens that end or fill an output."""
    family, _, category = task.config.name.partition(":")
    for detail in details:
        doc, response = detail.doc, detail.model_response
        digest = hashlib.sha256(json.dumps([task.config.name, doc.query, doc.choices]).encode()).hexdigest()[:16]
        seen[digest] += 1
        tokens = [int(token) for token in (response.output_tokens or [[]])[0]] if response.text else []
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        text = response.text[0] if response.text else ""
        limit = doc.generation_size
        yield {
            "id": digest if seen[digest] == 1 else f"{digest}-{seen[digest]}",
            "category": category or ("" if family == task.config.name else family),
            "cluster": "",
            "epoch": 1,
            "score": float(plain(detail.metric[metric])),
            "answered": bool(text.strip()) or not response.text,
            "truncated": bool(tokens) and end is None and limit is not None and len(tokens) >= limit,
            "answer": None,
            "output": text,
            "output_tokens": len(tokens) if end is None else end + 1,
            "metrics": {key: plain(value) for key, value in detail.metric.items()},
        }


def evaluate(config: Config) -> dict[str, Any]:
    """Runs the job and returns its result. Raises JobError."""
    began = time.monotonic()
    pipeline = loaded(config, prepare_environment(config))
    model = pipeline.model
    known = [model.tokenizer.eos_token_id, model.tokenizer.pad_token_id]
    own = model.model.generation_config.eos_token_id if model.model.generation_config else None
    ends = {token for token in [*known, *(own if isinstance(own, list) else [own])] if token is not None}
    progress = Progress(sum(map(len, pipeline.sampling_docs.values())))
    for name in ("greedy_until", "loglikelihood", "loglikelihood_rolling"):
        setattr(model, name, progress.told(getattr(model, name)))
    pipeline.evaluate()
    seen: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    metrics = {}
    for name, details in sorted(pipeline.get_details().items()):
        task, items = pipeline.tasks_dict[name], merged(details)
        metrics[name] = metric_of(task, items)
        rows += records(task, metrics[name], items, ends, seen)
    with (OUT / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, default=str) + "\n" for row in rows)
    return {
        "items": len(rows),
        "metrics": metrics,
        "lighteval": version("lighteval"),
        "seconds": round(time.monotonic() - began, 1),
    }


def merged(details: Sequence[Any]) -> list[Any]:
    """An item that was asked in several ways (written and by likelihood) as one, with all its metrics."""
    by_id: dict[str, Any] = {}
    for detail in details:
        first = by_id.setdefault(detail.doc.id, detail)
        if first is not detail:
            first.metric.update(detail.metric)
            if not first.model_response.text:
                first.model_response = detail.model_response
    return list(by_id.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Has LightEval score a language model on one of its tasks.")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    try:
        config = read_config(parser.parse_args().config)
        if find_spec("lighteval") is None:
            return in_an_environment_of_its_own()
        result = evaluate(config)
    except JobError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
