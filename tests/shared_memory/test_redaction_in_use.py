"""Secrets in use, in every disguise that a log, a page or a person puts them into."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shared_memory.redaction import REDACTED, redact, suspect

SHAPELESS = "no-shape.of its/own+canary-9"
RANDOM = "q7ZkM2xVb9RtYw3LpDs8HnCj4GfE6aUo"

DISGUISES: dict[str, Callable[[str], str]] = {
    "wrapped by a log": lambda value: f"{value[:15]}\n{value[15:]}",
    "wrapped twice, for Windows": lambda value: f"{value[:9]}\r\n{value[9:21]}\r\n{value[21:]}",
    "in a panel": lambda value: f"{value[:15]} │\n          │ {value[15:]}",
    "wrapped in JSON": lambda value: json.dumps(f"{value[:15]}\n{value[15:]}"),
    "coloured in part": lambda value: f"{value[:9]}\x1b[1;32m{value[9:20]}\x1b[0m{value[20:]}",
    "coloured once, without ESC": lambda value: f"{value[:9]}[1;32m{value[9:20]}[0m{value[20:]}",
    "coloured, in JSON": lambda value: json.dumps(f"{value[:9]}\x1b[32m{value[9:]}"),
    "UTF-16 read as Latin-1": lambda value: value.encode("utf-16-le").decode("latin-1"),
    "UTF-16, as Python shows it": lambda value: repr(value.encode("utf-16-le")),
    "UTF-16, in JSON": lambda value: json.dumps(value.encode("utf-16-be").decode("latin-1")),
    "backwards": lambda value: value[::-1],
    "upper hexadecimal": lambda value: value.encode().hex().upper(),
    "lower percent signs": lambda value: value.replace("/", "%2f").replace(" ", "%20").replace("+", "%2b"),
    "escaped slashes": lambda value: value.replace("/", r"\/"),
    **{
        f"base64 in lines, {before} before": lambda value, before=before: base64.encodebytes(  # type: ignore[misc]
            b"p" * before + value.encode() + b"q" * 40
        ).decode()
        for before in (40, 41, 42)
    },
}


@pytest.fixture(params=[SHAPELESS, RANDOM], ids=["a passphrase", "a random one"])
def value(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SOMEBODYS_TOKEN", request.param)
    return str(request.param)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_secret_in_use_is_removed_in_every_disguise(disguise: str, value: str) -> None:
    written = DISGUISES[disguise](value)
    clean = redact(f"before {written} after")
    assert REDACTED in clean
    assert re.search(suspect(), written)
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    letters = re.sub(r"[^A-Za-z0-9]", "", clean)
    for third in (value[:10], value[10:20], value[-8:]):
        for form in (third, third[::-1], third.encode().hex(), base64.b64encode(third.encode()).decode()[2:-4]):
            assert re.sub(r"[^A-Za-z0-9]", "", form).lower() not in letters.lower()


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "HF_TOKEN_2", "OPENAI_APIKEY", "API_KEY", "KEY", "openai_api_key", "AWS_ACCESS_KEY_ID", "DB_PASS",
        "DB_PWD", "NPM_AUTH", "SENTRY_DSN", "SLACK_WEBHOOK_URL", "SESSION_COOKIE", "AZURE_CLIENT_SECRET", "GH_PAT",
        "SECRET_OF_THE_APP", "PGPASSWORD", "GIT_CREDENTIALS",
    ],
)  # fmt: skip
def test_variables_are_secret_by_the_names_that_people_give_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, RANDOM)
    assert redact(f"it is {RANDOM}") == f"it is {REDACTED}"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "SSH_AUTH_SOCK", "MONKEYS", "TOKENIZERS_PARALLELISM", "KEYBOARD"])
def test_other_variables_are_no_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/home/somebody/projects")
    assert redact("in /home/somebody/projects") == "in /home/somebody/projects"


def test_blanks_around_a_value_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_TOKEN", "hunter-two-hunter\n")
    monkeypatch.setenv("EMPTY_TOKEN", "          ")
    monkeypatch.setenv("SHORT_TOKEN", "     tea     ")
    assert redact("said hunter-two-hunter over a cup of          tea") == f"said {REDACTED} over a cup of          tea"


def test_the_key_that_wandb_has_saved_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc, key = tmp_path / "netrc", "0123456789abcdef" * 2 + "01234567"
    said = f"a commit, or its digest: {key}; login user, password"
    netrc.write_text(f"machine api.wandb.ai\n  login\n  user\n  password\n  {key}\n")
    monkeypatch.setenv("NETRC", os.devnull)
    assert redact(said) == said
    monkeypatch.setenv("NETRC", str(netrc))
    assert redact(said) == f"a commit, or its digest: {REDACTED}; login user, password"
