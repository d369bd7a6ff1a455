"""Benchmarks that goals can name: one entry for each, read from registry.toml."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from pydantic import Field

from agents.evaluator.benchmarks.files import Metric
from shared_memory.errors import BadInput
from shared_memory.record import Record

if TYPE_CHECKING:
    from agents.evaluator.benchmarks.items import AnyItem
    from agents.evaluator.benchmarks.published import Table

FILE = Path(__file__).with_name("registry.toml")
JUDGED: frozenset[Metric] = frozenset({"rubric", "pairwise"})
"""Metrics that a language model decides on."""
EXTRA = "pip install 'postgrad[eval]'"


class Entry(Record):
    """A published benchmark."""

    name: str
    title: str
    """As its authors call it."""
    source: str
    """Data set on the Hub; a repository on GitHub where `folder` is given."""
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Its commit: what was fetched once never changes."""
    config: str = ""
    """Of the data set; empty is its only or default one."""
    split: str = ""
    files: tuple[str, ...] = ()
    """Or the files of the repository that hold it, by name."""
    folder: str = ""
    """Of a repository on GitHub, where the Hub does not have the files."""
    items: int = Field(ge=1)
    """How many there are."""
    reader: Literal["rows", "task", "bfcl", "healthbench", "arena_hard"]
    """What makes items of the rows: those of one's own files, the inspect task, or a function of READERS."""
    metric: Metric
    measure: str
    """What the score is the share of; higher is better."""
    value: str = ""
    """Key of the value that counts, where the task's scorer gives several."""
    epochs: int = Field(default=1, ge=1)
    max_tokens: int = Field(ge=1)
    decoding: Literal["greedy", "model"] = "greedy"
    prompt: str
    """How it is asked, in a line."""
    licence: str
    gated: bool = False
    """Whether its readers have to accept terms on its page."""
    cites: str
    posttrainbench: str = ""
    """Its name among PostTrainBench's weights, where it is one of that benchmark's tasks."""
    task: str = ""
    """`module:function` of the inspect task, for reader `task`."""
    task_args: dict[str, Any] = Field(default_factory=dict)
    requires: dict[str, str] = Field(default_factory=dict)
    """Modules beside the `eval` extra → what pip installs them from."""
    note: str = ""
    """What else a person should know, in a line."""

    @property
    def needs(self) -> list[str]:
        """What a score of it takes beside a model."""
        return [
            *(["terms accepted on the Hub"] if self.gated else []),
            *(["a judge"] if self.metric in JUDGED else []),
            *(["a sandbox"] if self.metric == "code" else []),
        ]


class Reader(Protocol):
    """Makes items of an entry's tables, in the order of its `files`; a data set's split is one table."""

    def __call__(self, tables: list[Table], entry: Entry) -> tuple[AnyItem, ...]: ...


READERS: Mapping[str, str] = {
    "bfcl": "agents.evaluator.benchmarks.bfcl:bfcl_items",
    "healthbench": "agents.evaluator.benchmarks.judged_sets:healthbench_items",
    "arena_hard": "agents.evaluator.benchmarks.judged_sets:arena_hard_items",
}
"""`module:function` of each reader that is neither `rows` nor `task`; imported when it is used."""


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Name → entry, in the order of the file."""
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: Entry.model_validate({"name": name, **fields}) for name, fields in table.items()}


def entry_of(name: str) -> Entry:
    """The entry of a name. Raises BadInput, with the nearest names, where there is none."""
    if found := entries().get(name):
        return found
    near = difflib.get_close_matches(name, entries(), n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    raise BadInput(
        f"there is no benchmark `{name}`: {hint}`postgrad benchmarks` lists them; a file or a data set on the Hub is "
        "given as `path`, or --benchmark FILE"
    )


def why_unavailable(entry: Entry) -> str:
    """Why a benchmark cannot be scored on this machine, with the next move; empty where it can."""
    wanted = ["inspect_ai", *(["inspect_evals", "datasets"] if entry.reader == "task" else [])]
    if missing := next((name for name in wanted if find_spec(name) is None), ""):
        return f"it takes {missing}, which is not installed; {EXTRA}"
    for module, origin in entry.requires.items():
        if find_spec(module) is None:
            return f"its scorer stands on {module}, which is not installed; pip install '{origin}'"
    if entry.metric == "code":
        from agents.sandbox import fault_of_this_machine

        return fault_of_this_machine()
    return ""


def reader_of(entry: Entry) -> Reader:
    return cast(Reader, named(READERS[entry.reader]))


def named(path: str) -> Any:
    """What `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
