"""Benchmarks: items in a fixed order, each in its part, and how their answers are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agents.evaluator.files import Metric as Metric
from agents.evaluator.files import read_benchmark
from agents.evaluator.items import AnyItem
from agents.multiple_choice import TEMPLATE
from shared_memory.errors import BadInput
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Record, canonical_digest

READ: frozenset[Metric] = frozenset({"loss", "preference"})
"""Metrics of what a model reads; all others are of answers that it writes."""
JUDGED: frozenset[Metric] = frozenset({"rubric", "pairwise"})
"""Metrics that a language model decides on."""
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
    """The inspect task that asks and scores (`inspect_evals/gsm8k`), for metric `task`."""
    task_args: dict[str, Any] = Field(default_factory=dict)
    engine: Literal["inspect", "lighteval"] = "inspect"
    digest: str
    """sha256 of the items, the metric and the prompt template."""

    @property
    def is_written(self) -> bool:
        """Whether the model writes answers; a likelihood is only read."""
        return self.metric not in READ

    @property
    def is_judged(self) -> bool:
        return self.metric in JUDGED


def load_benchmark(entry: BenchmarkGoal) -> Benchmark:
    """The benchmark of a goal.

    Raises BadInput for a name that the registry does not hold, and for a file that is not what it claims to be.
    """
    if entry.name:
        raise BadInput(
            f"there is no benchmark `{entry.name}`: benchmarks by name are not in this version; give a file, as `path` "
            "or --benchmark FILE"
        )
    path = Path(entry.path)
    if not path.is_file():
        raise BadInput(f"benchmark file {path} does not exist; check [[benchmark]] path")
    metric, items = read_benchmark(path, path.stat().st_mtime_ns, entry.metric)
    if metric == "loss" and entry.target is not None:
        raise BadInput(f"benchmark {entry.id} is scored by loss, and `target` is a share of right answers; remove it")
    chat_template = _chat_template(entry.chat_template)
    asked = {
        "items": [item.plain() for item in items], "metric": metric, "template": TEMPLATE,
        "chat_template": chat_template,
    }  # fmt: skip
    return Benchmark(
        name=entry.id,
        source=str(path),
        metric=metric,
        items=items,
        max_tokens=entry.max_tokens or DEFAULT_MAX_TOKENS,
        epochs=entry.epochs or 1,
        decoding="model" if entry.decoding == "model" else "greedy",
        chat_template=chat_template,
        digest=canonical_digest(asked),
    )


def _chat_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"chat template {path} cannot be read ({error}); check [[benchmark]] chat_template") from error
