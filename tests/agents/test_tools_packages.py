"""Packages with tools that are not as they should be: what they cost, and what they may not cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.tools.people import People
from postgrad.cli import app
from shared_memory.actions import Actions
from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.journal import Journal
from shared_memory.settings import Settings
from tests.agents.people_tools import install

GOOD = """
from langchain_core.tools import tool

@tool
def note(text: str, times: int = 1) -> str:
    "Write a note."
    return text * times
"""
ODD = {
    "leaves": "raise SystemExit('no licence for you')",
    "lacks": "import a_module_that_is_not_there",
    "injects": GOOD
    + """
from typing import Annotated
from langgraph.prebuilt import InjectedState

@tool
def note(text: str, state: Annotated[dict, InjectedState]) -> str:
    "Write a note."
    return str(state)
""",
    "misnames": GOOD + "note.metadata = {'roles': ['trainr']}",
}


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> tuple[People, list[str]]:
    for name, source in ODD.items():
        install(tmp_path / "site", monkeypatch, f"tools_that_{name}", {name: "note"}, source)
    install(tmp_path / "site", monkeypatch, "tools_that_talk", {"talks": "note"}, f"print('hello')\n{GOOD}")
    monkeypatch.delitem(sys.modules, "tools_that_talk", raising=False)  # so that it talks in each test
    settings.home.mkdir()
    told: list[str] = []
    return People("r", settings, lambda name, find_out: find_out(), told.append), told


def test_a_package_that_cannot_be_used_is_a_line_whatever_it_does_when_it_is_imported(
    faults: tuple[People, list[str]],
) -> None:
    everyone, told = faults
    assert list(everyone.offers()) == ["talks__note"]
    reasons = ["needs `state` injected", "No module named", "SystemExit: no licence for you", "no role 'trainr'"]
    assert len(told) == len(reasons)
    for line, reason in zip(told, reasons, strict=True):
        assert reason in line


@pytest.mark.usefixtures("faults")
def test_what_a_package_prints_is_not_in_the_document_on_stdout() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    checks = json.loads(result.stdout)
    assert "talks__note" in next(check["detail"] for check in checks if check["name"] == "tools")
    assert "hello" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"text": "a", "times": "many"}, "talks__note: `$.times`: 'many' is not of type 'integer'"),
        ({"text": "a", "times": float("nan")}, "talks__note takes JSON"),
        ({"text": "half of a sign: \ud83d"}, "talks__note takes JSON"),
    ],
)
def test_nobody_is_asked_about_a_call_that_could_not_be_made(
    faults: tuple[People, list[str]], settings: Settings, arguments: dict[str, object], told: str
) -> None:
    everyone, _ = faults
    actions = Actions(Journal(Database.open(settings.database), "r"))
    (note,) = everyone.tools("trainer", actions)
    with pytest.raises(PostgradError) as fault:
        note.invoke(arguments)
    assert told in str(fault.value)
    assert actions.open() == []
