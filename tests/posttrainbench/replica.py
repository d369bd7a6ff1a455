"""A task folder as PostTrainBench's harness lays it out: another evaluator and clock with the same ways to be asked."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
QUICKSTART = HERE.parents[1] / "examples" / "quickstart"
PROMPT = (
    "We want to train the small LLM \\`{model}\\` to excel at GPQA.\n"
    "Your goal is to implement an effective approach through systematic research and experimentation.\n"
)
"""As an agent gets it, backslashes included."""


@dataclass(frozen=True)
class Replica:
    folder: Path
    prompt: str
    clock: Path
    """Holds the epoch second at which the time is up; no part of the folder."""
    goal: Path
    """A template with the replica's items, and a generator of rows."""

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model"

    def set_clock(self, minutes: float) -> None:
        self.clock.write_text(str(int(time.time() + 60 * minutes)))


def lay_out(
    root: Path, model: Path, *, minutes: float = 60, fails: int = 0, evaluator: str = "quick.py", experiments: int = 1
) -> Replica:
    """fails: how often evaluate.py breaks before it works.

    evaluator: `quick.py` reads the score off the weights, where the stand-ins for jobs leave it; `evaluate.py` has the
    model answer.
    """
    replica = Replica(root / "task", PROMPT.format(model=model), root / "deadline", root / "goal.toml")
    (replica.folder / "templates").mkdir(parents=True)
    for name in ("llama3", "qwen3", "gemma3", "smollm"):
        shutil.copyfile(model / "chat_template.jinja", replica.folder / "templates" / f"{name}.jinja")
    items = _items(root / "items.jsonl")
    text = (HERE / evaluator).read_text(encoding="utf-8")
    told = {"FAILS": str(fails), "COUNTER": str(root / "attempts"), "ITEMS": str(items)}
    for name, value in told.items():
        text = text.replace(f"@{name}@", value)
    (replica.folder / "evaluate.py").write_text(text, encoding="utf-8")
    timer = (HERE / "timer.sh").read_text(encoding="utf-8").replace("@DEADLINE@", str(replica.clock))
    (replica.folder / "timer.sh").write_text(timer, encoding="utf-8")
    replica.goal.write_text(
        f'[data]\ngenerator = "{QUICKSTART / "questions.py"}"\n'
        f'[[benchmark]]\npath = "{items}"\nmax_tokens = 16\n'
        f"[limits]\nusd = 0\nexperiments = {experiments}\njobs = 20\n[run]\nreport_to = []\n",
        encoding="utf-8",
    )
    replica.set_clock(minutes)
    return replica


def _items(path: Path) -> Path:
    """Fifty four-choice questions in GPQA's columns, as many of each part."""
    lines = (QUICKSTART / "physics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = [row for part in ("selection", "report") for row in [r for r in rows if r["Part"] == part][:25]]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return path


def as_on_the_hub(model: Path, folder: Path) -> Path:
    """A copy as base models are there: written by transformers 4, and ending texts with another token than turns.

    Its rope_theta is not the default, as Qwen3's and SmolLM3's are not.
    """
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    changed = {"rope_theta": 500_000.0, "torch_dtype": config.pop("dtype"), "eos_token_id": 0, "bos_token_id": None}
    (folder / "config.json").write_text(json.dumps(config | changed | {"transformers_version": "4.51.0"}))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    del tokenizer["backend"]
    changed = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": None}
    changed["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | changed))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "transformers_version": "4.51.0"}))
    return folder
