from __future__ import annotations

from pathlib import Path

import pytest

from shared_memory.errors import BadInput
from shared_memory.settings import load_settings


def test_without_anything_set_the_home_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings({})
    assert settings.home == tmp_path / ".postgrad"
    assert settings.database == tmp_path / ".postgrad" / "postgrad.db"
    assert settings.brain == "playbook"
    assert not settings.home.exists(), "reading settings makes nothing"
    assert load_settings({"POSTGRAD_HOME": ""}).home == settings.home


def test_the_environment_wins_over_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('brain = "some/model"\ndatabase = "shared.db"\n')
    settings = load_settings({"POSTGRAD_HOME": str(tmp_path)})
    assert (settings.brain, settings.database) == ("some/model", tmp_path / "shared.db")
    assert load_settings({"POSTGRAD_HOME": str(tmp_path), "POSTGRAD_BRAIN": "playbook"}).brain == "playbook"


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"POSTGRAD_HOME": "home"})
    assert settings.home == tmp_path / "home"
    assert settings.runs_dir == tmp_path / "home" / "runs"
    assert settings.slots_dir == tmp_path / "home" / "slots"
    assert settings.run_paths("r1").root == tmp_path / "home" / "runs" / "r1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('brian = "x"', "unknown key `brian`; did you mean `brain`?"),
        ("zzz = 1", "unknown key `zzz`; known keys: brain, database"),
        ("brain = 3", "`brain` must be text"),
        ("brain = ", "is not valid TOML"),
    ],
)
def test_a_faulty_config_file_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        load_settings({"POSTGRAD_HOME": str(tmp_path)})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_that_is_a_file_and_a_config_that_is_no_text_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="which is a file"):
        load_settings({"POSTGRAD_HOME": str(tmp_path / "file")})
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot be read as UTF-8 text"):
        load_settings({"POSTGRAD_HOME": str(tmp_path)})
