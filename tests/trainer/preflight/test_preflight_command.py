"""`postgrad preflight FOLDER`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from postgrad.preflight_command import preflight
from shared_memory.errors import BadInput
from tests.trainer.preflight.a_job import PLAIN, ROWS, SFT

app = typer.Typer()
app.command()(preflight)


def folder(place: Path, script: str = PLAIN) -> Path:
    place.mkdir()
    (place / "train.py").write_text(script)
    (place / "config.json").write_text(json.dumps(SFT))
    (place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return place


def test_a_sound_folder_passes_and_what_was_skipped_is_shown(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, [str(folder(tmp_path / "job")), "--no-smoke"])
    assert told.exit_code == 0, told.output
    assert "columns fit" in told.output
    assert "smoke run: skipped (not asked for)" in told.output


def test_a_fault_ends_it_with_1_and_json_has_the_same(tmp_path: Path) -> None:
    place = folder(tmp_path / "job", PLAIN + "open('/home/anna/rows.jsonl')\n")
    told = CliRunner().invoke(app, [str(place), "--no-smoke", "--on", "hf", "--json"])
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["fault"].startswith("train.py, line 4: a path of this machine")
    assert {"name", "status", "message", "fix"} == found["checks"][0].keys()
    assert {"checks", "smoke", "not_exercised", "seconds", "fault"} == found.keys()


def test_a_folder_that_is_no_job_is_bad_input(tmp_path: Path) -> None:
    place = folder(tmp_path / "job")
    (place / "config.json").write_text("[1]")
    for argument, words in ((tmp_path / "nowhere", "is no folder"), (place, "holds no JSON object")):
        told = CliRunner().invoke(app, [str(argument)])
        assert isinstance(told.exception, BadInput)
        assert words in str(told.exception)
