"""Models that others serve, over real HTTP: what they are asked, what it costs, and that the scores are the same."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.evaluator.endpoint import AT_ONCE, REQUEST, EndpointRunner, served
from agents.evaluator.scored import read_items
from agents.evaluator.scoring.marking import Answer
from agents.llm import LanguageModel, Tally
from graph.forecast import forecast
from postgrad.crafts import evaluation_goal
from postgrad.decide import approve_all
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import Goal, Limits
from shared_memory.lease import holder
from shared_memory.records import Estimate, JobSpec, JobState, Purpose
from shared_memory.run_paths import RunPaths
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import COMMAND, Cli, cli, only_run, wait_until
from tests.servers.openai_chat import (
    NO_SUCH_MODEL,
    WRONG_KEY,
    Fault,
    Reply,
    Request,
    Says,
    busy,
    openai_chat,
)

__all__ = ["cli"]

KEY = "sk-canary-1234567890abcdefghij"
MODEL = "openai/a-model"
PRICED = "openai/gpt-4o"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def questions(make_goal: MakeGoal) -> Path:
    """50 questions in GPQA's columns."""
    return make_goal().with_name("physics.jsonl")


def always(request: Request) -> Reply:
    return Says("I think so. ANSWER: A")


def run_of(scored: Mapping[str, Any], settings: Settings) -> RunPaths:
    return settings.run_paths(scored["run_id"])


def error_of(settings: Settings) -> str:
    (row,) = Database.open(settings.database).execute("SELECT error FROM runs")
    return str(row["error"])


# What it scores


@pytest.mark.usefixtures("noop_jobs")
def test_the_same_outputs_have_the_same_scores_wherever_they_come_from(
    tiny_model: Path, questions: Path, settings: Settings
) -> None:
    local = postgrad.evaluate(tiny_model, questions, approve="auto", epochs=2)
    (folder,) = run_of(local, settings).jobs.iterdir()
    answers = {(row["id"], row["epoch"]): row["output"] for row in read_items(folder / "out" / "answers.jsonl")}
    prompts = read_items(folder / "prompts.jsonl")
    said = {prompt["messages"][-1]["content"]: answers[prompt["id"], prompt["epoch"]] for prompt in prompts}

    with openai_chat(lambda request: Says(said[request.messages[-1]["content"]])) as server:
        there = postgrad.evaluate(MODEL, questions, approve="auto", epochs=2, api_base=server.base_url)

    assert 0 < local["score"] < 1
    same = ("benchmark", "score", "stderr", "n", "epochs", "answered", "by_part", "by_category", "completed")
    assert {key: there[key] for key in same} == {key: local[key] for key in same}
    kept = ("id", "part", "category", "epoch", "score", "answer", "output")
    assert [[row[key] for key in kept] for row in read_items(Path(there["items"]))] == [
        [row[key] for key in kept] for row in read_items(Path(local["items"]))
    ]
    assert (there["model"], there["n"], there["epochs"]) == (MODEL, 50, 2)
    assert there["settings_digest"] != local["settings_digest"]


def test_every_prompt_is_asked_once_without_its_answer_and_what_was_cut_off_is_known(
    questions: Path, settings: Settings
) -> None:
    def script(request: Request) -> Reply:
        cut = len(request.said) % 2
        return Says("ANSWER: A", completion_tokens=7, finish_reason="length" if cut else "stop")

    with openai_chat(script) as server:
        scored = postgrad.evaluate(MODEL, questions, approve="auto", api_base=server.base_url, max_tokens=64)

    assert len({request.said for request in server.requests}) == len(server.requests) == 50
    sent = server.requests[0].body
    assert {key: sent[key] for key in ("model", "max_tokens", "temperature")} == {
        "model": "a-model", "max_tokens": 64, "temperature": 0,
    }  # fmt: skip
    assert sent.keys() == {"model", "messages", "max_tokens", "temperature"}
    cut = sum(len(request.said) % 2 for request in server.requests)
    assert 0 < cut < 50
    assert scored["truncated"] == cut / 50
    assert {row["output_tokens"] for row in read_items(Path(scored["items"]))} == {7}
    spend = Budget(Database.open(settings.database), scored["run_id"], Limits()).spent()
    assert (spend.llm_tokens, spend.held_llm_tokens) == (107 * 50, 0)
    report = json.loads(run_of(scored, settings).report_json.read_text())
    assert MODEL in json.dumps(report)


def test_a_model_that_decodes_as_it_likes_is_asked_with_another_seed_in_every_epoch(questions: Path) -> None:
    with openai_chat(always) as server:
        postgrad.evaluate(
            MODEL, questions, approve="auto", epochs=3, decoding="model", limit=4, seed=7, api_base=server.base_url
        )

    assert Counter(request.body["seed"] for request in server.requests) == {7: 4, 8: 4, 9: 4}
    assert all("temperature" not in request.body for request in server.requests)


# What a person is asked


def test_the_gate_says_what_leaves_the_machine_and_what_it_costs_at_worst(
    questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def decide(requests: list[postgrad.Request]) -> bool:
        asked.extend(requests)
        return False

    for on in ({"on": "api"}, {"api_base": "http://127.0.0.1:9/v1"}):
        with pytest.raises(postgrad.PostgradError, match="no score"):
            postgrad.evaluate(PRICED, questions, decide=decide, max_tokens=100, **on)

    goal = evaluation_goal(PRICED, questions, max_tokens=100, on="api")
    hosted, own = asked
    assert forecast(goal).worst_usd == pytest.approx(hosted["estimate"]["usd_micro"] / 1e6, abs=0.01)
    assert hosted["title"].endswith("; 50 prompts go to openai/gpt-4o and leave this machine")
    assert own["title"].endswith("; 50 prompts go to openai/gpt-4o at http://127.0.0.1:9/v1")
    assert (hosted["flavor"], own["flavor"]) == ("hosted", "own")
    # $10 a million tokens of answers alone.
    assert hosted["estimate"]["usd_micro"] > 50 * 100 * 10
    assert "50 requests, at worst " in hosted["estimate"]["basis"]
    assert json.loads(hosted["script_text"]) == {"max_tokens": 100, "temperature": 0.0, "seed": None}


def test_the_request_can_be_edited_at_the_gate_and_neither_the_model_nor_its_place(
    questions: Path, settings: Settings
) -> None:
    edits: list[dict[str, Any]] = [
        {"files": {REQUEST: json.dumps({"max_tokens": 9, "temperature": 0.5})}},
        {"files": {REQUEST: json.dumps({"max_tokens": 9, "top_p": 0.5})}},
        {"config": {"model": "openai/another", "api_base": "", "prompts": "prompts.jsonl"}},
    ]
    said: list[str] = []

    def decide(requests: list[postgrad.Request]) -> Any:
        (request,) = requests
        said.append(request["title"])
        return {request["digest"]: {"edit": edit}} if len(said) == 1 else True

    for edit in edits:
        said.clear()
        with openai_chat(always) as server:
            options: Any = {"decide": decide, "api_base": server.base_url, "limit": 2}
            if edit is edits[0]:
                postgrad.evaluate(MODEL, questions, **options)
                assert [request.body["max_tokens"] for request in server.requests] == [9, 9]
                assert said[1] == f"{said[0]} (edited: request.json)"
            else:
                with pytest.raises(postgrad.PostgradError, match=r"is none \(top_p|names another model or place"):
                    postgrad.evaluate(MODEL, questions, **options)
                assert server.requests == []


# What can go wrong


@pytest.mark.slow
def test_an_eval_that_is_killed_goes_on_from_the_answers_it_has(cli: Cli, questions: Path, settings: Settings) -> None:
    dead, numbers = threading.Event(), itertools.count(1)

    def script(request: Request) -> Reply:
        if next(numbers) > 20:
            dead.wait(60)
        return always(request)

    def kept() -> int:
        return len(list(settings.home.glob("runs/*/answers/*.json")))

    with openai_chat(script) as server:
        command = [*COMMAND, "eval", MODEL, "--benchmark", str(questions), "--api-base", server.base_url]
        with subprocess.Popen(
            [*command, "--approve", "auto"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as cmd:
            try:
                wait_until(lambda: len(server.requests) > 20 and kept() == 20)
                run = only_run(settings)
                os.kill(wait_until(lambda: holder(Database.open(settings.database), run)).pid, signal.SIGKILL)
            finally:
                cmd.kill()
        dead.set()
        wait_until(lambda: holder(Database.open(settings.database), run) is None)
        sent = len(server.requests)
        summary = postgrad.resume(run)
        done = cli("eval", "--resume", run, "--json")

    assert summary["status"] == "succeeded", summary["error"]
    assert 0 < sent - 20 <= AT_ONCE
    assert len(server.requests) - sent == 50 - 20, "what was answered is not asked again"
    scored = json.loads(done.stdout)
    assert (scored["n"], scored["model"], scored["answered"]) == (50, MODEL, 1.0)
    assert {
        "benchmark",
        "score",
        "stderr",
        "epochs",
        "truncated",
        "settings_digest",
        "items",
        "seconds",
    } < scored.keys()
    assert KEY not in "".join(path.read_text(errors="replace") for path in settings.home.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (WRONG_KEY, r"refuses the key; set OPENAI_API_KEY to a valid one, then resume the run"),
        (NO_SUCH_MODEL, r"does not exist, or this account may not use it; check \[run\], then resume the run"),
        (Fault(503), r"is out of reach .* then resume the run"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_line_and_the_eval_can_be_gone_on_with(
    questions: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    monkeypatch.setattr("agents.provider.time.sleep", lambda seconds: None)
    broken = True

    def script(request: Request) -> Reply:
        return fault if broken else always(request)

    with openai_chat(script) as server:
        with pytest.raises(postgrad.PostgradError, match=said):
            postgrad.evaluate(MODEL, questions, approve="auto", limit=10, api_base=server.base_url)
        assert error_of(settings).count("\n") == 0
        broken = False
        assert postgrad.resume("last")["status"] == "succeeded"


def test_a_busy_server_is_waited_for(questions: Path) -> None:
    replies = iter([busy(0.01), busy(0.01), *[Says("ANSWER: A")] * 50])

    with openai_chat(lambda request: next(replies)) as server:
        scored = postgrad.evaluate(MODEL, questions, approve="auto", limit=3, api_base=server.base_url)

    assert (scored["n"], len(server.requests)) == (3, 5)


def test_a_cap_on_tokens_is_never_exceeded_and_what_was_answered_is_kept(questions: Path, settings: Settings) -> None:
    def dear(request: Request) -> Reply:
        return Says("ANSWER: A", prompt_tokens=200, completion_tokens=200)

    with openai_chat(dear) as server, pytest.raises(postgrad.PostgradError, match=r"limits\.llm_tokens is 10,000"):
        postgrad.evaluate(MODEL, questions, approve="auto", api_base=server.base_url, llm_tokens=10_000)

    run = only_run(settings)
    spend = Budget(Database.open(settings.database), run, Limits()).spent()
    assert 0 < spend.llm_tokens == 400 * len(server.requests) <= 10_000
    assert len(list(settings.run_paths(run).answers.glob("*.json"))) == len(server.requests)
    (row,) = Database.open(settings.database).execute("SELECT exit_code FROM runs")
    assert row["exit_code"] == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limits": {"experiments": 2}}, "which cannot be trained here; set limits.experiments = 0"),
        ({"benchmark": [{"path": "texts.jsonl", "metric": "loss"}]}, "scored by loss, which takes the model's likelih"),
        ({"benchmark": [{"path": "pairs.jsonl"}]}, "scored by preference, which takes the model's likelihoods"),
        ({"benchmark": [], "data": {"train": ["texts.jsonl"]}}, r"give a \[\[benchmark\]\]"),
        ({"base_model": "Qwen/Qwen3-1.7B"}, "no provider that LiteLLM knows; .* openai/Qwen/Qwen3-1.7B with its api_b"),
        ({"base_model": "{folder}"}, "asks a served model, and base_model is /"),
        ({"revision": "main"}, "revision is for jobs that load the model"),
        ({"run": {"on": "api", "flavor": "t4-small"}}, r"\[run\] flavor is for jobs that load the model"),
        ({"run": {"on": "local", "api_base": "http://127.0.0.1:9/v1"}}, r"set on = \"api\""),
        ({"run": {"on": "api", "api_base": "127.0.0.1:9"}}, "is the http address of a model server"),
    ],
)
def test_what_a_served_model_cannot_do_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"What is {n}?", "completion": "a number"} for n in range(60)]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"prompt": f"What is {n}?", "chosen": "a number", "rejected": "nothing"} for n in range(60)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    goal = {
        "text": "t", "base_model": MODEL, "benchmark": [{"path": "texts.jsonl", "metric": "exact"}],
        "limits": {"experiments": 0}, "run": {"on": "api"},
    }  # fmt: skip
    changes = {key: value.format(folder=tmp_path) if key == "base_model" else value for key, value in changes.items()}

    with pytest.raises(BadInput, match=said) as refused:
        postgrad.run({**goal, **changes})
    assert "\n" not in str(refused.value)


# The runner


def a_job(folder: Path, base_url: str, prompts: list[dict[str, Any]]) -> tuple[EndpointRunner, JobSpec, RunPaths]:
    paths = RunPaths(folder / "run")
    goal = Goal.model_validate({"text": "t", "base_model": MODEL, "run": {"on": "api", "api_base": base_url}})
    lines = "".join(json.dumps({"id": f"q{n}", "epoch": 1, **prompt}) + "\n" for n, prompt in enumerate(prompts))
    local = JobSpec(
        purpose=Purpose.EVALUATION, experiment="baseline", title="score", script="generate.py",
        files={"generate.py": paths.store(b""), "prompts.jsonl": paths.store(lines.encode())},
        config={"max_tokens": 32, "decoding": "greedy", "seed": 0}, timeout_seconds=60,
        estimate=Estimate(hours=0, usd_micro=0, memory_gib=0, basis=""),
    )  # fmt: skip
    spec = served(local, goal, paths)
    paths.fill_job_folder("k", spec.files, json.dumps(spec.config))

    def opened(name: str, api_base: str) -> LanguageModel:
        return LanguageModel(name, api_base=api_base, cache=paths.answers, meter=Tally())

    runner = EndpointRunner(paths.jobs, opened)
    runner.submit(spec, "k", paths.job("k"))
    return runner, spec, paths


def ends(runner: EndpointRunner) -> JobState:
    while not (status := runner.status("k")).state.terminal:
        pass
    return status.state


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_a_cancelled_evaluation_asks_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.evaluator.endpoint.LOOK_SECONDS", 0.2)
    with openai_chat(always) as server:
        runner, _, _ = a_job(tmp_path, server.base_url, [user(f"q {n}") for n in range(300)])
        assert runner.status("k").state is JobState.RUNNING
        asked = len(server.requests)
        runner.cancel("k")
        assert runner.status("k").state is JobState.CANCELLED
    assert 0 < asked == len(server.requests) < 300


def test_calls_that_the_server_took_out_of_the_text_are_put_back_and_no_secret_is_sent(tmp_path: Path) -> None:
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}
    with openai_chat([Says("", calls=(("f", {"x": 1}), ("f", {"x": 2})), finish_reason="tool_calls")]) as server:
        runner, spec, paths = a_job(tmp_path, server.base_url, [{**user(f"call f, my key is {KEY}"), "tools": [tool]}])
        assert ends(runner) is JobState.SUCCEEDED

    (request,) = server.requests
    assert request.body["tools"] == [{"type": "function", "function": tool}]
    assert KEY not in request.raw
    assert "what looks like a secret is left out of 1 prompts" in spec.estimate.basis
    (answer,) = map(Answer.model_validate, read_items(paths.job("k") / "out" / "answers.jsonl"))
    assert answer.output == (
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {"x": 2}}\n</tool_call>'
    )


def test_a_model_that_has_moved_out_since_it_was_approved_is_not_asked(
    questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Callable[[list[postgrad.Request]], bool] = approve_all

    def decide(requests: list[postgrad.Request]) -> bool:
        monkeypatch.setenv("OPENAI_API_BASE", "http://models.example/v1")
        return asked(requests)

    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    with pytest.raises(postgrad.PostgradError, match="is at another address now"):
        postgrad.evaluate(MODEL, questions, decide=decide, on="api", limit=2)
