"""Training jobs as preflight sees them: sound ones, to plant a fault in, and ways to look at what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.trainer.methods import SCRIPT_FILES
from agents.trainer.preflight import Check, Facts, Preflight, examine
from shared_memory.records import Estimate, JobSpec, Purpose

PLAIN = "import json\n\nprint(json.dumps({'result': {'model': 'out/model'}}))\n"
"""A script that asks nothing of any library."""
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"Item {number}: what is kept in the attic?"}],
        "completion": [{"role": "assistant", "content": f"{number * 7} kg of hay."}],
    }
    for number in range(1, 13)
]
SFT: dict[str, Any] = {
    "method": "sft", "data": "data.jsonl", "batch": 16, "micro_batch": 8, "max_length": 256, "max_steps": None,
    "lora": {"r": 8, "alpha": 16}, "learning_rate": 1e-3, "epochs": 3, "report_to": [],
}  # fmt: skip


def look(
    folder: Path,
    *,
    script: str | Path = PLAIN,
    rows: Sequence[Mapping[str, Any]] = ROWS,
    config: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    smoke: bool = False,
    custom: bool = True,
    **spec: Any,
) -> Preflight:
    """Examine a job: `script` is a text, or the folder of train.py and its siblings."""
    files = {}
    if isinstance(script, str):
        files["train.py"] = folder / "train.py"
        files["train.py"].write_text(script, encoding="utf-8")
    else:
        files |= {name: script / name for name in SCRIPT_FILES}
    files["data.jsonl"] = folder / "data.jsonl"
    files["data.jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    estimate = Estimate(hours=0.1, usd_micro=0, memory_gib=1, basis="a guess")
    job = JobSpec.model_validate(
        {
            "purpose": Purpose.TRAINING, "experiment": "e1", "title": "train e1", "script": "train.py",
            "files": dict.fromkeys(files, ""), "config": {**SFT, **(config or {})}, "timeout_seconds": 3600,
            "estimate": estimate, "custom": custom, "sandbox": "auto" if custom else "", **spec,
        }
    )  # fmt: skip
    return examine(job, files, facts=Facts.model_validate({**(facts or {})}), smoke=smoke)


def found(preflight: Preflight, name: str) -> Check:
    return next(check for check in preflight.checks if check.name == name)


def troubles(preflight: Preflight) -> dict[str, str]:
    """Name → message of all that is not well."""
    return {check.name: check.message for check in preflight.checks if check.status in ("fault", "warning")}
