"""The goal that a task of PostTrainBench comes to: what task, clock and rules say, over a person's template."""

from __future__ import annotations

import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.base_model import BaseModel
from agents.evaluator import posttrainbench as ptb
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.goal_reading import parse_goal


def goal_of(task: ptb.Task, base: BaseModel, *, seconds: float, template: Path | None = None, brain: str = "") -> Goal:
    """A goal of `seconds` on the wall clock. The template gives data, recipe's limits, brain, judge; the rest is set.

    Jobs run here and are approved by policy, no hosted model writes rows, nothing is published. Raises BadInput as
    `parse_goal` does.
    """
    table = _read(template) if template else {}
    data = table.get("data", {})
    if not data.get("train") and not data.get("generator"):
        data = {**data, "train": list(task.known.train)}
    benchmark = (table.get("benchmark") or [_benchmark(task)])[0]
    evaluator = {"primary": True, "chat_template": str(ptb.template_of(task, base.architecture))}
    deadline = datetime.fromtimestamp(time.time() + seconds, UTC)
    mind = {"default": brain} if brain else {}
    said = {
        "text": table.get("text") or f"Post-train {task.model} for {task.known.title}, as PostTrainBench asks",
        "base_model": base.folder,
        "data": data,
        "benchmark": [{**benchmark, **evaluator}],
        "limits": {**table.get("limits", {}), "hours": seconds / 3600, "deadline": deadline},
        "output": {"save": ["merged"]},
        "rules": {**table.get("rules", {}), "hosted_teacher": False},
        "run": {**table.get("run", {}), "on": "local", "approve": "auto"},
        "brain": {**table.get("brain", {}), **mind},
    }
    return parse_goal(
        {**table, **said}, template.absolute().parent if template else Path.cwd(), str(template or "goal")
    )


def _read(template: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(template.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{template} cannot be read as TOML ({error}); mend it, or leave --goal out") from error


def _benchmark(task: ptb.Task) -> dict[str, str]:
    """The benchmark by its name in the registry, with the items of the container's cache where they are there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = sorted(Path(HF_HUB_CACHE).glob(task.known.cached)) if task.known.cached else []
    return {"name": task.known.registry, **({"path": str(found[-1])} if found else {})}
