"""Secrets of whoever runs postgrad, looked for after a whole run: on disk, and in everything that a model was sent."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import postgrad
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.openai_chat import Fault, Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says

pytestmark = [pytest.mark.usefixtures("noop_jobs"), pytest.mark.slow]

SAVED = "hf_" + "SaVeDcAnArY" * 3 + "7"
CANARIES = {
    "HF_TOKEN": "hf_" + "cAnArY0123" * 3 + "wxyz",
    "OPENAI_API_KEY": "sk-canary-1234567890abcdefghij",
    "AWS_SECRET_ACCESS_KEY": "canary/" + "aB3+" * 8 + "x",
    "GITHUB_TOKEN": "ghp_" + "cAnArY0123" * 3 + "abcdef",
    "WANDB_API_KEY": "ca4a7" * 8,
    "MISTRAL_API_KEY": "no-shape.of its/own+canary",
}


def forms() -> Iterator[str]:
    """What would give a canary away."""
    for value in (SAVED, *CANARIES.values()):
        yield from {value, json.dumps(value)[1:-1], urllib.parse.quote(value, safe="")}
        for before in ("", "u:", "us:"):
            yield base64.b64encode(f"{before}{value}".encode()).decode().rstrip("=")[4:-4]


@pytest.fixture(autouse=True)
def _canaries(recipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe()
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    login = tmp_path_factory.mktemp("login")
    monkeypatch.setenv("HF_HOME", str(login))
    (login / "token").write_text(SAVED)


@pytest.fixture
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training rows of the person's; some hold the canaries, as a page does that somebody pasted a log into."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    said = [f"it answered {value}" for value in (SAVED, *CANARIES.values())]
    said += [base64.b64encode(f"user:{value}".encode()).decode() for value in CANARIES.values()]
    replies = [f"The answer to {number} is {number * number}." for number in range(80)] + said
    lines = [json.dumps({"prompt": f"Question {n}: and now?", "completion": text}) for n, text in enumerate(replies)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_no_secret_is_found_on_disk_or_in_a_request_after_a_whole_run(
    make_goal: MakeGoal, settings: Settings, rows: Path
) -> None:
    looked = set()
    token, shapeless = CANARIES["HF_TOKEN"], CANARIES["MISTRAL_API_KEY"]

    def script(request: Request) -> Reply:
        move = facts_in(request)["move"]
        asked = {tool["function"]["name"] for tool in request.body.get("tools", ())}
        if "run_python" in asked and move not in looked:  # what a tool gives back holds them, too
            looked.add(move)
            code = f"print({token[:9]!r} + {token[9:]!r})\nprint({shapeless[:5]!r} + {shapeless[5:]!r})"
            return Says("", calls=(("run_python", {"code": code}),))
        if move == "data" and "busy" not in looked:
            looked.add("busy")
            return Fault(500, f"upstream failed for key {CANARIES['OPENAI_API_KEY']}", type="server_error")
        reply = playbook_says(request)
        if move == "draft":
            reply.content["plans"][0]["why"] = f"{token} and {shapeless} say so"
        return reply

    with openai_chat(script) as server:
        path = make_goal(experiments=2, generator="", data=f'["{rows}"]', text=f"toy goal, log in as {SAVED}")
        goal = path.read_text() + f'[brain]\ndefault = "openai/gpt-4o"\napi_base = "{server.base_url}"\n'
        path.write_text(goal.replace("usd = 0", "usd = 5").replace("[data]", '[data]\nsynthesise = "never"'))
        summary = postgrad.run(path)

    assert summary["status"] == "succeeded", summary
    assert looked >= {"research", "data", "busy"}
    given_away = list(forms())
    for request in server.requests:
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        sent = request.raw + json.dumps(request.body, ensure_ascii=False) + json.dumps(headers)
        assert not [form for form in given_away if form in sent]
    files = [file for file in settings.home.rglob("*") if file.is_file()]
    assert len(files) > 50
    for file in files:
        content = file.read_bytes()
        assert not [form for form in given_away if form.encode() in content], file
    assert not [form for form in given_away if form in json.dumps(summary, ensure_ascii=False)]
