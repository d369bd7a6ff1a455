"""What a run is measured on is not trained on, whatever is generated and whatever becomes of the files meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad.decide import approve_all
from postgrad.events import Event
from shared_memory.errors import BadInput
from shared_memory.settings import Settings

pytestmark = pytest.mark.usefixtures("noop_jobs")

COPYIST = """
import json, pathlib
rows = [json.loads(line) for line in {text!r}.splitlines()]
rows += [{{"question": f"How far is port {{n}} of the islands?", "answer": f"{{n}} miles."}} for n in range(60)]
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/data.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
print(json.dumps({{"result": {{"rows": len(rows)}}}}))
"""
"""A generator that writes 60 rows of its own and every row of the goal's file."""


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    path = tmp_path / "visits.jsonl"
    rows = [{"question": f"Since journey {n} I cough. What now?", "answer": f"Rest for {n} days."} for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def goal_with(tmp_path: Path, tiny_model: Path, recipe: Callable[..., None]) -> Callable[[str], Path]:
    recipe()

    def write(data: str) -> Path:
        path = tmp_path / "goal.toml"
        path.write_text(
            f'text = "fine-tune this model on my data"\nbase_model = "{tiny_model}"\n[data]\n{data}\n'
            '[limits]\nusd = 0\nhours = 1.0\nexperiments = 1\n[run]\nreport_to = []\napprove = "auto"\n'
        )
        return path

    return write


def records_of(summary: dict[str, Any], settings: Settings) -> tuple[dict[str, Any], set[str]]:
    """The data set, and the questions that were held out."""
    paths = settings.run_paths(summary["run_id"])
    lines = (paths.data / "holdout.jsonl").read_text().splitlines()
    (dataset,) = json.loads(paths.report_json.read_text())["records"]["datasets"]
    return dataset, {json.loads(line)["prompt"][0]["content"] for line in lines}


def test_a_generator_that_writes_held_out_rows_again_is_found_out_and_the_certificate_says_so(
    visits: Path, goal_with: Callable[[str], Path], settings: Settings, tmp_path: Path
) -> None:
    copyist = tmp_path / "copyist.py"
    copyist.write_text(COPYIST.format(text=visits.read_text()))
    summary = postgrad.run(goal_with(f'train = ["{visits}"]\ngenerator = "{copyist}"\nsynthesise = "always"'))

    assert summary["status"] == "succeeded", summary["error"]
    dataset, held = records_of(summary, settings)
    trained_on = [json.loads(line)["prompt"][0]["content"] for line in Path(dataset["path"]).read_text().splitlines()]
    assert not held & set(trained_on)
    assert len(trained_on) == 200 - len(held) + 60
    report = json.loads(settings.run_paths(summary["run_id"]).report_json.read_text())
    assert report["integrity"]["training_data"]["d1"]["contamination"] == {"holdout": 1.0}
    assert "holdout: 100" in settings.run_paths(summary["run_id"]).report_md.read_text()


def test_a_file_edited_after_rows_were_held_out_stops_the_run_until_it_is_restored(
    visits: Path, goal_with: Callable[[str], Path], settings: Settings
) -> None:
    before = visits.read_text()

    def edit(event: Event) -> None:
        if event.kind == "move" and event.move == "baseline":
            visits.write_text("".join(before.splitlines(keepends=True)[1:] + before.splitlines(keepends=True)[:1]))

    stopped = postgrad.run(goal_with(f'train = ["{visits}"]'), on_event=edit)
    assert stopped["status"] == "failed"
    assert stopped["error"].endswith(
        "visits.jsonl has changed since rows were held out of it; restore it, or start a new run"
    )
    visits.write_text(before)
    summary = postgrad.resume("last", decide=approve_all)
    assert summary["status"] == "succeeded", summary["error"]
    dataset, held = records_of(summary, settings)
    assert (dataset["rows"], dataset["contamination"]) == (200 - len(held), {"holdout": 0.0})


def test_a_goal_that_names_a_file_twice_is_refused(visits: Path, goal_with: Callable[[str], Path]) -> None:
    with pytest.raises(BadInput, match=r"visits\.jsonl is named twice; name it once in \[data\] train"):
        postgrad.run(goal_with(f'train = ["{visits}", "./visits.jsonl"]'))
