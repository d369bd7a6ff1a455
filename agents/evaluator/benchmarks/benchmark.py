"""Benchmarks: items in a fixed order, each in its part, and how their answers are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agents.evaluator.benchmarks.files import Metric as Metric
from agents.evaluator.benchmarks.files import read_benchmark
from agents.evaluator.benchmarks.items import AnyItem
from agents.evaluator.benchmarks.registry import JUDGED as JUDGED
from agents.evaluator.benchmarks.registry import Entry, entry_of, reader_of, why_unavailable
from agents.multiple_choice import TEMPLATE
from agents.reading.sources import Source, resolve
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part, Record, canonical_digest

READ: frozenset[Metric] = frozenset({"loss", "preference"})
"""Metrics of what a model reads; all others are of answers that it writes."""
OF_INSPECT_EVALS: frozenset[Metric] = frozenset({"task", "code"})
"""Metrics of which inspect-evals is a part."""
DEFAULT_MAX_TOKENS = 256

SMALLEST_PART = 20
"""Items below which a part of a benchmark says nothing: the 95 % interval of a share is wider than ± 20 points."""


class Benchmark(Record):
    """A benchmark, ready to be asked."""

    name: str
    source: str
    """File, or data set on the Hub."""
    revision: str = ""
    """The Hub's commit."""
    metric: Metric
    items: tuple[AnyItem, ...]
    max_tokens: int
    """Tokens that an answer may take."""
    epochs: int = 1
    """Resamples K of every item."""
    decoding: Literal["greedy", "model"] = "greedy"
    """As `BenchmarkGoal.decoding`."""
    chat_template: str = ""
    """Jinja text that renders the chats; empty is the model's own."""
    task: str = ""
    """The inspect task that its items are samples of (`inspect_evals.gsm8k:gsm8k`); with metric `task` its solver
    asks and its scorer marks."""
    task_args: dict[str, Any] = Field(default_factory=dict)
    value: str = ""
    """Key of the value that counts, where the task's scorer gives several."""
    local: str = ""
    """Copy of a published benchmark's data, in place of the Hub's."""
    engine: Literal["inspect", "lighteval"] = "inspect"
    digest: str
    """sha256 of the items, the metric, the prompt template and the task."""

    @property
    def is_written(self) -> bool:
        """Whether the model writes answers that are scored here; a likelihood is read, and LightEval scores itself."""
        return self.engine == "inspect" and self.metric not in READ

    @property
    def is_judged(self) -> bool:
        return self.metric in JUDGED

    @property
    def is_of_inspect_evals(self) -> bool:
        """Whether that package's code asks or marks."""
        return self.metric in OF_INSPECT_EVALS


def load_benchmark(entry: BenchmarkGoal) -> Benchmark:
    """The benchmark of a goal: one of the registry by its name, or a file or a data set of one's own.

    Raises BadInput for a name that the registry does not hold or that cannot be scored here, for data that one has to
    accept terms for, and for a file that is not what it claims to be; Unavailable where the Hub is out of reach and
    nothing was kept of what it holds.
    """
    if entry.engine == "lighteval":
        from agents.evaluator.lighteval import benchmark_of

        return benchmark_of(entry)
    return _loaded(entry, _changed(entry.path), _changed(entry.chat_template))


def _changed(path: str) -> int:
    """Time of the last change, so that a new content is read anew; 0 for what is no file here."""
    found = Path(path)
    return found.stat().st_mtime_ns if path and found.exists() else 0


@lru_cache(maxsize=16)
def _loaded(entry: BenchmarkGoal, changed: int, template_changed: int) -> Benchmark:
    given = _published(entry) if entry.name else _of_ones_own(entry)
    items = drawn(given["items"], entry.limit)
    if given["metric"] == "loss" and entry.target is not None:
        raise BadInput(f"benchmark {entry.id} is scored by loss, and `target` is a share of right answers; remove it")
    chat_template = _chat_template(entry.chat_template)
    asked = {
        "items": [item.plain() for item in items], "metric": given["metric"], "template": TEMPLATE,
        "chat_template": chat_template,
    }  # fmt: skip
    if given["metric"] in OF_INSPECT_EVALS:
        asked |= {key: given[key] for key in ("task", "task_args", "value")}
        asked |= {"versions": {"inspect-evals": version("inspect-evals")}}
    return Benchmark(
        **{
            **given,
            "name": entry.id,
            "items": items,
            "max_tokens": entry.max_tokens or given["max_tokens"],
            "epochs": entry.epochs or given["epochs"],
            "decoding": given["decoding"] if entry.decoding == "auto" else entry.decoding,
            "chat_template": chat_template,
            "digest": canonical_digest(asked),
        }
    )


def drawn(items: Sequence[AnyItem], limit: int | None) -> tuple[AnyItem, ...]:
    """At most `limit` of the items, as many of each part as it has of them, in their order.

    They are drawn by a hash of their ids: whoever asks for the same number gets the same items, and for more, those
    among them.
    """
    if limit is None or limit >= len(items):
        return tuple(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"drawn {item.id}".encode()).digest())
    parts = [[item.id for item in ranked if item.part == part] for part in Part]
    first = round(limit * len(parts[0]) / len(items))
    first = min(max(first, 1 if limit > 1 else 0), limit - (1 if limit > 1 and parts[1] else 0), len(parts[0]))
    chosen = {*parts[0][:first], *parts[1][: limit - first]}
    return tuple(item for item in items if item.id in chosen)


def _published(entry: BenchmarkGoal) -> dict[str, Any]:
    """A benchmark of the registry."""
    found = entry_of(entry.name)
    if entry.metric not in ("auto", found.metric):
        raise BadInput(f"benchmark {entry.name} has a scorer of its own; leave `metric` out, or give a file as `path`")
    if reason := why_unavailable(found):
        raise BadInput(f"benchmark {entry.name} cannot be scored here: {reason}")
    return {
        "source": entry.path or found.source,
        "revision": "" if entry.path else found.revision,
        "metric": found.metric,
        "items": _published_items(found, entry.path),
        "max_tokens": found.max_tokens,
        "epochs": found.epochs,
        "decoding": found.decoding,
        "task": found.task,
        "task_args": found.task_args,
        "value": found.value,
        "local": entry.path,
    }


def _published_items(entry: Entry, local: str) -> tuple[AnyItem, ...]:
    from agents.evaluator.benchmarks.published import paths_of, tables_of

    if entry.reader == "task":
        from agents.evaluator.benchmarks.inspect_tasks import task_items

        return task_items(entry, local)
    if entry.reader == "rows":
        return _rows(paths_of(entry, local), entry.metric, entry.name)[1]
    return reader_of(entry)(tables_of(entry, local), entry)


def _of_ones_own(entry: BenchmarkGoal) -> dict[str, Any]:
    """A file of one's own, a folder of them, or a data set on the Hub: of its splits the one to measure on."""
    sources = to_measure_on(resolve([entry.path]))
    if missing := next((source for source in sources if not source.path.is_file()), None):
        raise BadInput(f"benchmark file {missing.path} does not exist; check [[benchmark]] path")
    metric, items = _rows([source.path for source in sources], entry.metric, entry.path)
    return {
        "source": sources[0].origin or entry.path,
        "revision": sources[0].revision,
        "metric": metric,
        "items": items,
        "max_tokens": DEFAULT_MAX_TOKENS,
        "epochs": 1,
        "decoding": "greedy",
    }


def to_measure_on(sources: Sequence[Source]) -> list[Source]:
    """Those of the test split, else of the validation split, else all."""
    measured = [source for source in sources if source.is_measured_on]
    tested = [source for source in measured if source.split.startswith("test")]
    return tested or measured or list(sources)


def _rows(paths: Sequence[Path], wanted: str, name: str) -> tuple[Metric, tuple[AnyItem, ...]]:
    read = [read_benchmark(path, path.stat().st_mtime_ns, wanted) for path in paths]
    if len({metric for metric, _ in read}) > 1:
        raise BadInput(f"the files of {name} are scored in different ways; name one of them, or set `metric`")
    items = tuple(item for _, items in read for item in items)
    if len({item.id for item in items}) < len(items):
        raise BadInput(f"two files of {name} hold rows with the same Record ID; name one of them")
    return read[0][0], items


def _chat_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"chat template {path} cannot be read ({error}); check [[benchmark]] chat_template") from error
