"""Evaluations that die in the middle, through the front door: the next try asks only what was not answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import postgrad
from agents.evaluator import evaluation
from agents.evaluator.scored import read_items
from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.ledger import Action, Ledger
from shared_memory.settings import Settings
from tests.conftest import QUICKSTART
from tests.evaluator.job import SCRIPTS

pytestmark = pytest.mark.slow

ENOUGH = 12
"""Answers after which the first try dies."""
KILLED = "os.kill(os.getpid(), 9)"
CRASHED = "raise RuntimeError('a bug of the twelfth answer')"


@pytest.fixture
def dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a first try at an evaluation die after ENOUGH answers; what resumes lives."""

    def by(death: str) -> None:
        folder = tmp_path / "scripts"
        shutil.copytree(SCRIPTS, folder)
        keeping = folder / "answers.py"
        text = keeping.read_text(encoding="utf-8")
        place = text.index("    def close(self)")
        dying = f"        if len(self.given) >= {ENOUGH} and not self.taken_over:\n            {death}\n\n"
        keeping.write_text(text[:place].rstrip() + f"\n{dying}" + text[place:])
        monkeypatch.setitem(evaluation.SCRIPTS, "written", folder / "generate.py")
        monkeypatch.setattr(evaluation, "MICRO_BATCH", 8)

    return by


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = (QUICKSTART / "physics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:60]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(rows), encoding="utf-8")
    return path


def tries(settings: Settings, run_id: str) -> list[Action]:
    return Ledger(Database.open(settings.database), run_id).actions()


def counted(first: Action, second: Action) -> None:
    """The second try has answered nothing that the first one had."""
    assert first.job is not None
    assert second.job is not None
    before, after = (
        {row["id"]: row for row in read_items(Path(each.job.folder) / "out" / "answers.jsonl")}
        for each in (first, second)
        if each.job
    )
    assert ENOUGH <= len(before) < len(after) == 60
    assert all(after[name] == row for name, row in before.items())
    outcome = second.job.result
    assert outcome["taken_over"] == len(before)
    anew = {row["id"]: row for row in after.values() if row["id"] not in before}
    assert outcome["tokens"] == sum(row["output_tokens"] for row in anew.values())


def test_an_evaluation_that_the_system_killed_goes_on_with_fewer_prompts_at_a_time_on_the_same_yes(
    tiny_model: Path, items: Path, settings: Settings, dies: Callable[[str], None]
) -> None:
    dies(KILLED)
    notes: list[str] = []
    scored = postgrad.evaluate(
        tiny_model, items, max_tokens=12, approve="auto",
        on_event=lambda event: notes.append(event.text) if event.kind == "note" else None,
    )  # fmt: skip
    assert scored["n"] == 60
    first, second = tries(settings, scored["run_id"])
    assert first.job is not None
    assert (first.job.state, first.job.exit_code) == ("failed", -9)
    counted(first, second)
    configs = [json.loads((Path(each.job.folder) / "config.json").read_text()) for each in (first, second) if each.job]
    assert [config["micro_batch"] for config in configs] == [8, 4]
    assert configs[1]["resume_from"] == str(Path(first.job.folder) / "out")
    assert any("with 4 prompts at a time instead of 8, from the answers that it left" in note for note in notes)


def test_an_evaluation_with_a_bug_goes_on_where_it_was_when_the_run_is_resumed(
    tiny_model: Path, items: Path, settings: Settings, dies: Callable[[str], None]
) -> None:
    dies(CRASHED)
    with pytest.raises(PostgradError, match="a bug of the twelfth answer"):
        postgrad.evaluate(tiny_model, items, max_tokens=12, approve="auto")
    summary = postgrad.resume("last")
    assert summary["status"] == "succeeded", summary["error"]
    counted(*tries(settings, summary["run_id"]))
