"""What most tests stand on: a home of their own, a tiny model, a toy goal, and jobs that take no time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents import sandbox
from shared_memory.settings import Settings, load_settings
from tests.noop import jobs as noop
from tests.tiny import make_tiny_model

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"
NOOP = Path(__file__).parent / "noop"

MakeGoal = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the person's home, caches or tokens, or asks the Hub."""
    home = tmp_path_factory.mktemp("hf")
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    for name in [name for name in os.environ if name.endswith(("_TOKEN", "_API_KEY", "_BASE_URL", "_API_BASE"))]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `$POSTGRAD_HOME` of this test's own: no test touches the person's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("POSTGRAD_HOME", str(folder))
    # Twenty seconds for every training job; tests that are about smoke runs set it back.
    monkeypatch.setenv("POSTGRAD_SMOKE_RUN", "never")
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a tokenizer and a chat template."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def make_goal(tmp_path: Path, tiny_model: Path) -> MakeGoal:
    """Writes a goal file: the quickstart's questions for a tiny model, every job asked for."""

    def make(**changes: object) -> Path:
        lines = (QUICKSTART / "physics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        kept = [row for part in ("selection", "report") for row in [r for r in rows if r["Part"] == part][:25]]
        benchmark = tmp_path / "physics.jsonl"
        benchmark.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        values = {
            "approve": "auto", "experiments": 2, "jobs": 20, "usd": 0, "hours": 1.0, "model": tiny_model,
            "benchmark": benchmark, "generator": QUICKSTART / "questions.py", "max_tokens": 16, "report_to": "[]",
            "data": "[]", "text": "toy goal",
        } | changes  # fmt: skip
        path = tmp_path / "goal.toml"
        path.write_text(
            """
text = "{text}"
base_model = "{model}"
[data]
train = {data}
generator = "{generator}"
[[benchmark]]
path = "{benchmark}"
max_tokens = {max_tokens}
[limits]
usd = {usd}
hours = {hours}
jobs = {jobs}
experiments = {experiments}
[run]
approve = "{approve}"
report_to = {report_to}
""".format(**values),
            encoding="utf-8",
        )
        return path

    return make


@pytest.fixture
def noop_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that keep the job contract and take a tenth of a second; everything around them is real."""
    noop.install(monkeypatch.setattr)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the one recipe that the researcher's library holds."""
    from agents.researcher import playbook

    def set_recipe(**values: object) -> None:
        fields = {"learning_rate": 1e-3, "batch": 8, "micro_batch": 8, "train_rows": 40} | values
        lines = [f"{key} = {value}" for key, value in fields.items()]
        library = tmp_path / "recipes.toml"
        library.write_text(
            '[[recipe]]\nid = "toy"\nfits = { min_m = 0, max_m = 1000 }\nmethod = "sft"\nfindings = ["f"]\n'
            + "\n".join(lines)
            + '\n[[finding]]\nid = "f"\nclaim = "small numbers are quick"\nsource = "this test"\n',
            encoding="utf-8",
        )
        monkeypatch.setattr(playbook, "LIBRARY", library)
        playbook._library.cache_clear()

    yield set_recipe
    playbook._library.cache_clear()


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which bubblewrap is not installed."""
    kept = [folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "bwrap").exists()]
    monkeypatch.setenv("PATH", ":".join([*kept, str(tmp_path)]))
    sandbox._tried.cache_clear()
    yield
    sandbox._tried.cache_clear()
