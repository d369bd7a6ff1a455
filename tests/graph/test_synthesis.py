"""Rows that are written for a run: whether they are, what they have to pass, and what is never trained on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.asking import SIDE_BY_SIDE
from graph.clean_hands import fault_of_data
from graph.context import Context, Desk
from postgrad.decide import approve_all
from postgrad.events import Event
from postgrad.worker import Driver
from shared_memory.budget import Budget
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import Goal, Limits
from shared_memory.journal import Journal
from shared_memory.lease import holder
from shared_memory.ledger import Ledger
from shared_memory.records import DatasetRecord, Finding, JobSpec, JobState, Purpose
from shared_memory.runs import Runs, RunStatus
from shared_memory.settings import Settings
from tests.conftest import NOOP, MakeGoal
from tests.data_engineer.rows import force_rows, read_jsonl, write_jsonl
from tests.postgrad.test_cli import COMMAND, only_run, wait_until
from tests.servers.openai_chat import ChatServer, Fault, Reply, Request, Says, openai_chat
from tests.servers.playbook_replies import facts_in, playbook_says, words_in
from tests.servers.teacher_replies import kind_of, teacher

pytestmark = pytest.mark.usefixtures("noop_jobs")

ASKED = {"Taxonomy", "Drafts", "ChoiceDrafts", "Judgements", "Solutions"}


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890abcdefghij")


@pytest.fixture
def letters(tmp_path: Path) -> str:
    """50 rows of the goal's own: fewer than are enough."""
    return questions(tmp_path / "letters.jsonl", "What does letter {n} of the archive say?", 50)


def questions(path: Path, question: str, count: int) -> str:
    rows = [{"question": question.format(n=n), "answer": f"That is on page {n}."} for n in range(count)]
    return write_jsonl(path, rows)


def goal_of(path: Path, *, data: str = "", tables: str = "", server: ChatServer | None = None, usd: int = 0) -> Path:
    """The goal file with more in [data], and more tables; the models are the server's."""
    text = path.read_text().replace("[data]\n", f"[data]\n{data}\n").replace("usd = 0", f"usd = {usd}")
    brain = f'[brain]\napi_base = "{server.base_url}"\n' if server else ""
    path.write_text(text + tables + ("" if "[brain]" in tables else brain))
    return path


def journal_of(summary: dict[str, Any], settings: Settings) -> Journal:
    return Journal(Database.open(settings.database), summary["run_id"])


def texts(summary: dict[str, Any], settings: Settings) -> str:
    lines = settings.run_paths(summary["run_id"]).events.read_text().splitlines()
    return "\n".join(json.loads(line).get("text") or "" for line in lines)


TEACHER = 'teacher = "openai/a-model"'


def test_too_few_rows_are_a_reason_to_have_others_written_and_the_journal_has_the_numbers(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    with openai_chat(teacher(wrong=lambda question: "anchor" in question)) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1)
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server))

    assert summary["status"] == "succeeded", summary["error"]
    journal = journal_of(summary, settings)
    notes = journal.notes("written")
    assert notes["decision"]["line"] == (
        "60 rows are written by openai/a-model: 50 different rows to train on are fewer than 100"
    )
    assert notes["decision"]["audit"]["distinct"] == 50
    verified, novelty = notes["outcome"]["steps"]
    assert verified["note"] == "judge: 60 right, 0 wrong, 0 not to be checked"
    assert novelty["rows_out"] == notes["outcome"]["rows"] == 60
    (dataset,) = journal.all(DatasetRecord).values()
    assert dataset.rows == 110
    assert letters in dataset.source
    report = settings.run_paths(summary["run_id"]).report_md.read_text(encoding="utf-8")
    assert "openai/a-model wrote rows" in report
    examples = [words_in(request)["examples"] for request in server.requests if kind_of(request) == "Drafts"]
    assert all("archive" in each[0]["question"] for each in examples)
    assert summary["spent"]["llm_tokens"] == 120 * len(server.requests)


def test_enough_rows_are_trained_on_as_they_are_and_nobody_is_asked(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    rows = [
        {"question": f"What does page {n} of {'abcdefghij'[n % 10]} say?", "answer": f"It says {n}."}
        for n in range(120)
    ]
    own = write_jsonl(tmp_path / "own.jsonl", rows)
    with openai_chat(teacher()) as server:
        path = make_goal(data=f'["{own}"]', generator="", experiments=1)
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server))
    assert summary["status"] == "succeeded", summary["error"]
    assert server.requests == []
    assert journal_of(summary, settings).notes("written")["decision"]["line"] == (
        "no rows are written: the goal's rows suffice"
    )


def test_topics_that_the_goal_names_and_no_row_is_about_get_the_rows(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    own = questions(tmp_path / "tides.jsonl", "When do tides turn at pier {n}?", 120)
    with openai_chat(teacher()) as server:
        path = make_goal(data=f'["{own}"]', generator="", experiments=1)
        summary = postgrad.run(goal_of(path, data=TEACHER + '\ntopics = ["tides", "lighthouses"]', server=server))
    assert summary["status"] == "succeeded", summary["error"]
    decision = journal_of(summary, settings).notes("written")["decision"]
    assert decision["audit"]["topics"] == {"tides": 120, "lighthouses": 0}
    assert decision["reasons"] == ["topics with fewer than 10 rows: lighthouses 0"]
    cells = [cell for r in server.requests if kind_of(r) == "Drafts" for cell in words_in(r)["cells"]]
    assert Counter(cell["topic"] for cell in cells) == {"lighthouses": 12}


def test_a_teacher_whose_sample_is_wrong_leaves_the_goals_own_rows_and_a_finding(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    with openai_chat(teacher(wrong=lambda question: "lantern" in question)) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1)
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server))

    assert summary["status"] == "succeeded", summary["error"]
    journal = journal_of(summary, settings)
    assert "of 10 sampled rows are wrong (judge; at most 20% may be)" in journal.all(Finding)["written"].claim
    (dataset,) = journal.all(DatasetRecord).values()
    assert dataset.rows == 50
    assert "rows that were written are not used" in texts(summary, settings)
    assert Counter(map(kind_of, server.requests)) == {"Taxonomy": 1, "Drafts": 2, "Judgements": 1}


def test_without_rows_of_its_own_a_run_whose_teacher_is_stopped_fails_with_the_reason(
    make_goal: MakeGoal, settings: Settings
) -> None:
    with openai_chat(teacher(wrong=lambda question: True)) as server:
        summary = postgrad.run(goal_of(make_goal(generator="", experiments=1), data=TEACHER, server=server))
    assert summary["status"] == "failed"
    assert "`data.train` is empty, and no rows were written" in summary["error"]
    assert "; mend that, and start a new run" in summary["error"]


def test_a_script_whose_calculations_are_wrong_is_stopped_like_a_teacher(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path, letters: str
) -> None:
    rows = [{**row, "Explanation": "2 * 2 = 5"} for row in force_rows(40)]
    script = tmp_path / "careless.py"
    script.write_text(
        f"import json, pathlib\npathlib.Path('out').mkdir(exist_ok=True)\n"
        f"pathlib.Path('out/data.jsonl').write_text(''.join(json.dumps(row) + '\\n' for row in {rows!r}))\n"
        'print(json.dumps({"result": {"rows": 40}}))\n'
    )
    summary = postgrad.run(make_goal(generator=script, experiments=1))
    assert summary["status"] == "failed"
    assert "10 of 10 sampled rows are wrong (computed; at most 20% may be)" in summary["error"]
    assert "2 * 2 = 5 is wrong: the left side is 4" in summary["error"]

    summary = postgrad.run(make_goal(generator=script, data=f'["{letters}"]', experiments=1))
    assert summary["status"] == "succeeded", summary["error"]
    (dataset,) = journal_of(summary, settings).all(DatasetRecord).values()
    assert dataset.rows == 50


def test_a_forbidden_hosted_teacher_is_refused_before_any_request(make_goal: MakeGoal, letters: str) -> None:
    rules = "[rules]\nhosted_teacher = false\n"
    path = goal_of(make_goal(data=f'["{letters}"]', generator=""), data='teacher = "openai/gpt-4o"', tables=rules)
    with pytest.raises(BadInput, match=r"`openai/gpt-4o` is a hosted model and rules\.hosted_teacher is false"):
        postgrad.run(path)

    brain = '[brain]\ndefault = "openai/gpt-4o"\n'
    with pytest.raises(BadInput, match=r"has no training data: `openai/gpt-4o` is a hosted model"):
        postgrad.run(goal_of(make_goal(generator=""), tables=rules + brain))


def test_a_model_on_this_machine_teaches_where_hosted_ones_may_not(make_goal: MakeGoal, letters: str) -> None:
    with openai_chat(teacher()) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1, approve="paid")
        rules = "[rules]\nhosted_teacher = false\n"
        brain = f'[brain]\napi_base = "{server.base_url}"\n'
        summary = postgrad.run(goal_of(path, data=TEACHER, tables=rules + brain))
    assert summary["status"] == "succeeded", summary["error"]
    assert len(server.requests) > 8


def test_a_person_sees_what_a_teacher_is_shown_may_edit_its_order_and_may_say_no(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    seen: list[dict[str, Any]] = []

    def decide(requests: list[dict[str, Any]]) -> Any:
        (request,) = requests
        if request["purpose"] != "generation":
            return approve_all(requests)  # type: ignore[arg-type]
        seen.append(request)
        if request["config"]["rows"] == 60:
            return {request["digest"]: {"edit": {"config": {**request["config"], "rows": 16}}}}
        return {request["digest"]: {"approved": False, "reason": "not these letters"}}

    with openai_chat(teacher()) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1, approve="ask")
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server), decide=decide)  # type: ignore[arg-type]
    assert summary["status"] == "succeeded", summary["error"]
    assert server.requests == []
    assert [request["config"]["rows"] for request in seen] == [60, 16]
    assert seen[0]["title"] == "have openai/a-model write 60 training rows"
    assert "You write training data" in seen[0]["script_text"]
    shown = settings.run_paths(summary["run_id"]).stored(seen[0]["files"]["examples.jsonl"]).read_text()
    assert shown.count("archive") == 4
    assert "rejected: not these letters" in journal_of(summary, settings).all(Finding)["written"].claim


def test_a_cap_ends_the_writing_with_what_there_is_or_the_run_over_budget(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    def dear(request: Request) -> Reply:
        said = teacher()(request)
        return Says(said.content, prompt_tokens=3000, completion_tokens=3000) if isinstance(said, Says) else said

    with openai_chat(dear) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1)
        path.write_text(path.read_text().replace("[limits]\n", "[limits]\nllm_tokens = 90_000\n"))
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server))
        assert summary["status"] == "succeeded", summary["error"]
        assert summary["spent"]["llm_tokens"] <= 90_000
        limits = Limits(llm_tokens=90_000, usd=0)
        spend = Budget(Database.open(settings.database), summary["run_id"], limits).spent()
        assert spend.llm_tokens == 6000 * len(server.requests)

        path = make_goal(generator="", experiments=1)
        path.write_text(path.read_text().replace("[limits]\n", "[limits]\nllm_tokens = 5_000\n"))
        sent = len(server.requests)
        summary = postgrad.run(goal_of(path, data=TEACHER, server=server))
    assert summary["status"] == "over_budget", summary
    assert "limits.llm_tokens is 5,000" in summary["error"]
    assert len(server.requests) == sent


def test_a_language_model_that_drives_the_run_also_teaches_within_what_the_rules_allow(
    make_goal: MakeGoal, settings: Settings
) -> None:
    def script(request: Request) -> Reply:
        if kind_of(request) in ASKED:
            return teacher()(request)
        said = playbook_says(request)
        if facts_in(request)["move"] == "data" and said.content["generate"]:
            wanted = {**said.content["generate"], "teacher": "openai/dearer" if len(refused) < 1 else "openai/a-model"}
            refused.append(request)
            return Says({**said.content, "generate": wanted})
        return said

    refused: list[Request] = []
    with openai_chat(script) as server:
        brain = f'[brain]\ndefault = "openai/a-model"\napi_base = "{server.base_url}"\n'
        summary = postgrad.run(goal_of(make_goal(generator="", experiments=1), tables=brain))
    assert summary["status"] == "succeeded", summary["error"]
    assert "must name teacher 'openai/a-model' and seed 0" in refused[1].messages[-1]["content"]
    kinds = Counter(map(kind_of, server.requests))
    assert kinds["ChoiceDrafts"] == 6, "the benchmark asks multiple-choice questions, and so do the rows"
    assert kinds["Solutions"] == 3 * (1 + 1 + 4), "a sample of the first rows, one of all, and the other 38"
    (dataset,) = journal_of(summary, settings).all(DatasetRecord).values()
    prompt = read_jsonl(dataset.path)[0]["prompt"][-1]["content"]
    assert prompt.startswith("Answer the following multiple choice question.")


@pytest.mark.slow
def test_a_run_killed_while_its_teacher_writes_goes_on_and_pays_for_no_answer_twice(
    make_goal: MakeGoal, settings: Settings, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = threading.Event()

    def script(request: Request) -> Reply:
        if kind_of(request) == "Drafts" and facts_in(request)["request"] > 2 and not dead.is_set():
            dead.wait(90)  # the worker dies with these in flight
        return teacher()(request)

    def in_flight() -> bool:
        return Counter(map(kind_of, list(server.requests)))["Drafts"] == 2 + SIDE_BY_SIDE

    monkeypatch.setenv("PYTHONPATH", str(NOOP / "site"))
    with openai_chat(script) as server:
        path = goal_of(make_goal(data=f'["{letters}"]', generator="", experiments=1), data=TEACHER, server=server)
        with subprocess.Popen([*COMMAND, "run", str(path), "--detach"], stdout=subprocess.DEVNULL):
            wait_until(in_flight, 120)
            run = only_run(settings)
            os.kill(wait_until(lambda: holder(Database.open(settings.database), run)).pid, signal.SIGKILL)
        wait_until(lambda: holder(Database.open(settings.database), run) is None)
        dead.set()
        kept, sent = len(list(settings.run_paths(run).answers.glob("*.json"))), len(server.requests)
        summary = postgrad.resume(run, decide=approve_all)

    assert summary["status"] == "succeeded", summary["error"]
    assert kept == 4, "the taxonomy, the first two batches, and what was said of a sample"
    written, checked = 1 + 8 + 1, 6
    assert len(server.requests) - sent == written + checked - kept
    (job,) = settings.run_paths(run).jobs.glob("*/teacher.md")
    steps = [json.loads(line).get("step") for line in (job.parent / "log").read_text().splitlines()]
    assert steps == [16, 48, 60, None], "what was told before is not told again"
    spend = Budget(Database.open(settings.database), run, Limits(usd=0)).spent()
    assert spend.llm_tokens == 120 * (written + checked)
    assert spend.held_llm_tokens > 0, "what was in flight may have been billed"


class Enough(Exception):
    """Somebody who watches a run leaves it."""


@pytest.mark.parametrize("leaves", ["parks", "cancels", "has no time left"])
def test_rows_that_a_model_checks_for_long_let_the_run_be_left_meanwhile_and_go_on_without_asking_twice(
    make_goal: MakeGoal, settings: Settings, letters: str, leaves: str
) -> None:
    told = threading.Event()

    def leave(event: Event) -> None:
        if event.kind == "note" and "openai/a-model checks the written rows (judge)" in event.text:
            runs = Runs(Database.open(settings.database))
            if leaves == "cancels":
                runs.request_cancel(only_run(settings))
            if leaves == "has no time left":
                runs.add_active_seconds(only_run(settings), 1e6)
            told.set()
            if leaves == "parks":
                raise Enough

    def script(request: Request) -> Reply:
        if checks() == 2:
            told.wait(60)
            time.sleep(0.2)  # the run parks when the callable that raised has returned
        return teacher()(request)

    def checks() -> int:
        return Counter(map(kind_of, list(server.requests)))["Judgements"]

    with openai_chat(script) as server:
        path = goal_of(make_goal(data=f'["{letters}"]', generator="", experiments=1), data=TEACHER, server=server)
        if leaves == "parks":
            with pytest.raises(Enough):
                postgrad.run(path, on_event=leave)
        else:
            summary = postgrad.run(path, on_event=leave)
            assert summary["status"] == ("cancelled" if leaves == "cancels" else "timed_out")
        assert checks() <= 2, "two samples, and no more"
        if leaves == "has no time left":
            return
        summary = postgrad.resume(only_run(settings))
    assert summary["status"] == "succeeded", summary["error"]
    assert checks() == 1 + 1 + 5
    assert journal_of(summary, settings).notes("written")["outcome"]["rows"] == 60


def test_an_edited_order_is_asked_about_as_what_it_is_now_and_its_rows_are_checked_by_whom_it_names(
    make_goal: MakeGoal, letters: str
) -> None:
    seen: list[dict[str, Any]] = []

    def decide(requests: list[dict[str, Any]]) -> Any:
        (request,) = requests
        if request["purpose"] != "generation":
            return approve_all(requests)  # type: ignore[arg-type]
        seen.append(request)
        if request["config"]["teacher"] == "openai/a-model":
            order = {**request["config"], "teacher": "openai/gpt-4o", "rows": 16}
            return {request["digest"]: {"edit": {"config": order}}}
        return approve_all(requests)  # type: ignore[arg-type]

    with openai_chat(teacher()) as server:
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1, approve="ask")
        path = goal_of(path, data=TEACHER, server=server, usd=5)
        summary = postgrad.run(path, decide=decide)  # type: ignore[arg-type]
    assert summary["status"] == "succeeded", summary["error"]
    assert seen[1]["title"] == ("have openai/gpt-4o write 16 training rows (edited: teacher openai/gpt-4o, rows 16)")
    assert seen[0]["estimate"]["usd_micro"] == 0 < seen[1]["estimate"]["usd_micro"]
    assert {request.body["model"] for request in server.requests} == {"gpt-4o"}


def test_an_example_that_somebody_edits_away_is_not_silently_shown_all_the_same(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    path = goal_of(make_goal(data=f'["{letters}"]', generator="", experiments=1, approve="ask"), data=TEACHER)
    answers: list[Callable[[dict[str, Any]], Any]] = [
        lambda request: {request["digest"]: {"approved": True}},  # the baseline
        lambda request: {request["digest"]: {"edit": {"files": {"examples.jsonl": ""}}}},
    ]

    def decide(requests: list[dict[str, Any]]) -> Any:
        return answers.pop(0)(requests[0]) if answers else None

    summary = postgrad.run(path, decide=decide)  # type: ignore[arg-type]
    assert summary["status"] == "waiting"
    asked = Runs(Database.open(settings.database)).get(summary["run_id"]).request
    assert asked is not None
    assert "edits `examples.jsonl`, which is made from records and data and stays" in asked["note"]


def test_a_teacher_of_this_machine_is_not_asked_once_the_environment_leads_elsewhere(
    make_goal: MakeGoal, settings: Settings, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(requests: list[dict[str, Any]]) -> Any:
        if requests[0]["purpose"] == "generation":
            monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example/v1")
        return approve_all(requests)  # type: ignore[arg-type]

    with openai_chat(teacher()) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        path = make_goal(data=f'["{letters}"]', generator="", experiments=1, approve="ask")
        run = postgrad.run(goal_of(path, data=TEACHER), decide=decide)  # type: ignore[arg-type]
        assert run["status"] == "failed"
        assert "`openai/a-model` was asked about as a model on this machine and is at another address" in run["error"]
        monkeypatch.delenv("OPENAI_BASE_URL")
        assert postgrad.resume(run["run_id"], decide=approve_all)["status"] == "succeeded"


def test_a_cancelled_teacher_whose_run_cannot_go_on_is_booked_as_what_it_is(
    make_goal: MakeGoal, settings: Settings, letters: str
) -> None:
    with openai_chat(lambda request: Fault(401, "wrong key", code="invalid_api_key")) as server:
        path = goal_of(make_goal(data=f'["{letters}"]', generator="", experiments=1), data=TEACHER, server=server)
        run = postgrad.run(path)
        assert run["status"] == "failed"
        Runs(Database.open(settings.database)).request_cancel(run["run_id"])
        ended = Driver(settings, run["run_id"]).drive()
    assert ended.status is RunStatus.CANCELLED
    (action,) = [
        a for a in Ledger(Database.open(settings.database), run["run_id"]).actions() if a.purpose is Purpose.GENERATION
    ]
    assert action.job is not None
    assert (action.job.runner, action.job.state) == ("teacher", JobState.CANCELLED)
    assert json.loads((Path(action.job.folder) / "in_process.json").read_text())["state"] == "cancelled"


# Clean hands


def test_data_that_was_searched_for_other_items_than_the_benchmark_holds_now_is_not_trained_on(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    path = make_goal(experiments=1)
    benchmark = tmp_path / "physics.jsonl"

    def edit(event: Event) -> None:
        if event.kind == "move" and event.move == "draft":
            rows = read_jsonl(benchmark)
            rows[0]["Question"] = "Which of these did nobody look for in the data?"
            write_jsonl(benchmark, rows)

    summary = postgrad.run(path, on_event=edit)
    assert summary["status"] == "failed"
    assert "data set d1 was not searched for the items of physics as they are now" in summary["error"]
    actions = Ledger(Database.open(settings.database), summary["run_id"]).actions()
    assert "training" not in [action.purpose for action in actions]


def test_data_that_has_changed_since_it_was_checked_is_not_trained_on(make_goal: MakeGoal, settings: Settings) -> None:
    def spoil(event: Event) -> None:
        if event.kind == "proposal" and event.role == "trainer":
            (run,) = settings.runs_dir.iterdir()
            (made,) = Journal(Database.open(settings.database), run.name).all(DatasetRecord).values()
            paths = settings.run_paths(run.name)
            paths.store(Path(made.path))
            paths.stored(made.digest).write_text("{}\n")

    summary = postgrad.run(make_goal(experiments=1), on_event=spoil)
    assert summary["status"] == "failed"
    assert "data set d1 has changed since it was checked; start a new run, which checks it" in summary["error"]


def test_data_that_nobody_has_checked_is_refused(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(experiments=1))
    desk = Desk(summary["run_id"], Context())
    goal = Goal.model_validate(desk.runs.get(desk.run_id).goal)
    pinned = [JobSpec.model_validate(note["spec"]) for note in desk.journal.notes("pinned").values()]
    (training,) = [spec for spec in pinned if spec.purpose is Purpose.TRAINING]
    assert fault_of_data(training, goal, desk) == ""
    foreign = training.model_copy(update={"files": {**training.files, "data.jsonl": "0" * 64}})
    assert "is no data set that this run has made and checked" in fault_of_data(foreign, goal, desk)
    (made,) = desk.journal.all(DatasetRecord).values()
    desk.journal.put(made.model_copy(update={"evidence": None}))
    assert "was not searched for the items of physics" in fault_of_data(training, goal, desk)


def test_a_contaminated_row_stops_the_run_where_the_goal_says_so(
    make_goal: MakeGoal, settings: Settings, tmp_path: Path
) -> None:
    path = make_goal(experiments=1, generator="", data=f'["{tmp_path / "leak.jsonl"}"]')
    leak = {"question": read_jsonl(tmp_path / "physics.jsonl")[0]["Question"], "answer": "I know this one."}
    questions(tmp_path / "leak.jsonl", "What does letter {n} of the archive say?", 120)
    write_jsonl(tmp_path / "leak.jsonl", [*read_jsonl(tmp_path / "leak.jsonl"), leak])
    summary = postgrad.run(goal_of(path, tables='[rules]\ncontaminated = "stop"\n'))
    assert summary["status"] == "failed"
    assert "1 of 121 rows contain items of physics" in summary["error"]
