"""The Python API: typed events, the ways to decide, what happens when a callable raises, and the async twins."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad.decide import Request, approve_all
from postgrad.events import parse_event
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.ledger import Ledger
from shared_memory.runs import RunRow, Runs
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_cli import wait_until

pytestmark = pytest.mark.usefixtures("noop_jobs")


@pytest.fixture(autouse=True)
def _small_recipe(recipe: Callable[..., None]) -> None:
    recipe()


def only_run(settings: Settings) -> RunRow:
    (row,) = Runs(Database.open(settings.database)).list()
    return row


def jobs_of(settings: Settings, run_id: str) -> list[str]:
    return [action.purpose for action in Ledger(Database.open(settings.database), run_id).actions()]


# Events


def test_stream_yields_typed_events_of_every_known_kind(make_goal: MakeGoal, settings: Settings) -> None:
    events = list(postgrad.stream(make_goal(experiments=1, approve="ask"), decide=approve_all))

    row = only_run(settings)
    assert {event.run_id for event in events} == {row.run_id}
    assert {event.kind for event in events} == {
        "status", "move", "proposal", "gate", "job", "progress", "verdict", "spent", "note"
    }  # fmt: skip
    assert not any(isinstance(event, postgrad.OtherEvent) for event in events)
    training = [event for event in events if isinstance(event, postgrad.JobEvent) and event.purpose == "training"]
    assert [event.state for event in training][-1] == "succeeded"
    gate = next(event for event in events if isinstance(event, postgrad.GateEvent))
    assert gate.by == "person"
    assert gate.requests[0].approved
    last = events[-1]
    assert isinstance(last, postgrad.StatusEvent)
    assert (last.status, last.outcome) == ("succeeded", "improved")


def test_events_on_disk_stay_plain_and_become_the_same_objects(make_goal: MakeGoal, settings: Settings) -> None:
    told: list[postgrad.Event] = []
    summary = postgrad.run(make_goal(approve="ask"), on_event=told.append)

    lines = settings.run_paths(summary["run_id"]).events.read_text().splitlines()
    assert [parse_event(json.loads(line), summary["run_id"]) for line in lines] == told


def test_an_event_that_was_cut_short_leaves_the_next_one_whole(make_goal: MakeGoal, settings: Settings) -> None:
    run_id = postgrad.run(make_goal(experiments=1, approve="ask"))["run_id"]
    path = settings.run_paths(run_id).events
    path.write_bytes(path.read_bytes()[:-9])
    cut = len(path.read_text().splitlines())

    postgrad.resume(run_id, decide=approve_all)

    lines = path.read_text().splitlines()
    assert json.loads(lines[cut])["kind"] == "status", "it has a line of its own"
    with pytest.raises(ValueError, match=r"Unterminated|delimiter|Expecting"):
        json.loads(lines[cut - 1])


def test_every_kind_and_field_of_the_documented_events_is_typed() -> None:
    document = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", document, re.M)
    assert len(rows) == 13

    for kind, cell in rows:
        event = getattr(postgrad, f"{kind.title()}Event")
        assert event.model_fields["kind"].default == kind
        fields = re.findall(r"`(\w+)`", re.sub(r"\[.*?\]|\(.*?\)", "", cell))
        assert set(fields) <= event.model_fields.keys(), kind


def test_an_event_of_a_newer_version_keeps_its_extra_fields() -> None:
    event = parse_event({"at": 1.0, "kind": "note", "text": "hello", "colour": "red"})

    assert isinstance(event, postgrad.NoteEvent)
    assert event.model_dump()["colour"] == "red"


@pytest.mark.parametrize(
    "plain",
    [
        {"at": 1.0, "kind": "dance", "text": "a kind of tomorrow", "steps": 3},
        {"at": 1.0, "kind": "spent", "usd": "a lot"},
        {"kind": "note", "text": 7},
        {},
    ],
)
def test_an_event_that_is_not_understood_is_passed_on_whole(plain: dict[str, Any]) -> None:
    event = parse_event(plain, "r1")

    assert isinstance(event, postgrad.OtherEvent)
    assert event.fields == plain
    assert event.run_id == "r1"


# Deciding


def test_true_approves_everything_that_is_asked(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(approve="ask", experiments=1), decide=lambda requests: True)

    assert summary["outcome"] == "improved"


def test_false_rejects_everything_that_is_asked(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(approve="ask"), decide=lambda requests: False)

    assert summary["status"] == "cancelled"
    assert jobs_of(settings, summary["run_id"]) == []


def test_a_mapping_may_answer_with_yes_and_no(make_goal: MakeGoal, settings: Settings) -> None:
    def no_training(requests: list[Request]) -> dict[str, bool]:
        return {request["digest"]: request["purpose"] != "training" for request in requests}

    summary = postgrad.run(make_goal(approve="ask"), decide=no_training)

    assert summary["status"] == "cancelled"
    assert "training" not in jobs_of(settings, summary["run_id"])
    assert "evaluation" in jobs_of(settings, summary["run_id"])


def test_one_answer_may_stand_for_all_requests(make_goal: MakeGoal, settings: Settings) -> None:
    summary = postgrad.run(make_goal(approve="ask"), decide=lambda requests: {"approved": False, "reason": "not today"})

    assert summary["status"] == "cancelled"
    assert "not today" in summary["error"]


def test_none_leaves_the_run_waiting(make_goal: MakeGoal) -> None:
    summary = postgrad.run(make_goal(approve="ask"), decide=lambda requests: None)

    assert summary["status"] == "waiting"
    assert postgrad.resume(summary["run_id"], decide=approve_all)["outcome"] == "improved"


def raises(*_: object) -> None:
    raise LookupError("a slip of the caller's")


def test_a_decide_that_raises_leaves_the_run_waiting_and_its_error_is_the_callers(
    make_goal: MakeGoal, settings: Settings
) -> None:
    with pytest.raises(LookupError, match="a slip of the caller's"):
        postgrad.run(make_goal(approve="ask"), decide=raises)

    row = only_run(settings)
    assert row.status == "waiting"
    assert jobs_of(settings, row.run_id) == []
    assert postgrad.resume("last", decide=approve_all)["outcome"] == "improved"


def test_a_decide_that_answers_with_something_else_is_told_what_it_may_return(
    make_goal: MakeGoal, settings: Settings
) -> None:
    with pytest.raises(TypeError, match="return True, False, None"):
        postgrad.run(make_goal(approve="ask"), decide=lambda requests: "yes")  # type: ignore[arg-type, return-value]

    assert only_run(settings).status == "waiting"


def test_an_answer_to_something_that_is_not_asked_is_no_rejection(make_goal: MakeGoal, settings: Settings) -> None:
    with pytest.raises(ValueError, match="which is not asked"):
        postgrad.run(make_goal(approve="ask"), decide=lambda requests: {requests[0]["title"]: True})

    assert only_run(settings).status == "waiting"


def test_a_listener_that_raises_parks_the_run(make_goal: MakeGoal, settings: Settings) -> None:
    with pytest.raises(LookupError):
        postgrad.run(make_goal(), on_event=raises)

    assert only_run(settings).status == "interrupted"
    assert postgrad.resume("last")["outcome"] == "improved"


# Goals and options


def test_a_goal_may_be_the_tables_of_a_goal_file(tiny_model: Path, make_goal: MakeGoal) -> None:
    written = make_goal()
    summary = postgrad.run(
        {"text": "from a dict", "base_model": str(tiny_model), "limits": {"usd": 0, "experiments": 1}},
        benchmark=written.with_name("physics.jsonl"),
        data=written.with_name("physics.jsonl"),
    )

    assert summary["status"] == "waiting"
    assert summary["goal"]["benchmark"][0]["path"] == str(written.with_name("physics.jsonl"))
    assert summary["goal"]["data"]["train"] == [str(written.with_name("physics.jsonl"))]


def test_an_unknown_option_is_told_the_known_ones(make_goal: MakeGoal) -> None:
    with pytest.raises(BadInput, match=r"`budget` is no option of a run; known: .*experiments"):
        postgrad.run(make_goal(), budget=3)  # type: ignore[call-arg]


# Async twins


def test_arun_asks_a_coroutine_and_leaves_the_loop_free(make_goal: MakeGoal) -> None:
    ticks: list[float] = []

    async def decide(requests: list[Request]) -> bool:
        await asyncio.sleep(0.01)
        return True

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def both() -> dict[str, Any]:
        ticking = asyncio.create_task(tick())
        summary = await postgrad.arun(make_goal(approve="ask", experiments=1), decide=decide)
        ticking.cancel()
        return summary

    assert asyncio.run(both())["outcome"] == "improved"
    assert len(ticks) > 20


def test_astream_yields_the_events_of_a_run_and_aresume_its_summary(make_goal: MakeGoal) -> None:
    async def moves() -> tuple[list[str], dict[str, Any]]:
        told = []
        async for event in postgrad.astream(make_goal(experiments=1), decide=approve_all):
            if isinstance(event, postgrad.MoveEvent):
                told.append(event.move)
        return told, await postgrad.aresume("last")

    told, summary = asyncio.run(moves())
    assert (told[0], told[-1]) == ("baseline", "stop")
    assert summary["status"] == "succeeded"


def test_cancelling_the_task_parks_the_run_and_its_job_goes_on(
    make_goal: MakeGoal, settings: Settings, recipe: Callable[..., None]
) -> None:
    recipe(learning_rate=20.0)

    async def cancelled_in_training() -> None:
        training = asyncio.Event()

        async def listen(event: postgrad.Event) -> None:
            if isinstance(event, postgrad.ProgressEvent) and event.purpose == "training":
                training.set()

        task = asyncio.create_task(postgrad.arun(make_goal(), on_event=listen))
        await training.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_in_training())
    row = only_run(settings)
    assert row.status == "interrupted"
    (open_job,) = Ledger(Database.open(settings.database), row.run_id).open_actions()
    assert open_job.purpose == "training"
    cancel_and_wait(settings, row.run_id)


def test_cancelling_the_task_while_a_coroutine_decides_leaves_the_run_waiting(
    make_goal: MakeGoal, settings: Settings
) -> None:
    async def cancelled_at_the_gate() -> None:
        asked = asyncio.Event()

        async def decide(requests: list[Request]) -> bool:
            asked.set()
            await asyncio.sleep(600)
            return True

        task = asyncio.create_task(postgrad.arun(make_goal(approve="ask"), decide=decide))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_at_the_gate())
    assert only_run(settings).status == "waiting"


def test_closing_an_async_stream_parks_the_run(
    make_goal: MakeGoal, settings: Settings, recipe: Callable[..., None]
) -> None:
    recipe(learning_rate=20.0)

    async def left_in_training() -> None:
        events = postgrad.astream(make_goal())
        async for event in events:
            if isinstance(event, postgrad.ProgressEvent) and event.purpose == "training":
                break
        await events.aclose()

    asyncio.run(left_in_training())
    assert only_run(settings).status == "interrupted"
    cancel_and_wait(settings, only_run(settings).run_id)


def test_what_a_coroutine_raises_reaches_whoever_awaits_the_run(make_goal: MakeGoal, settings: Settings) -> None:
    async def decide(requests: list[Request]) -> bool:
        raise LookupError("a slip of the caller's")

    with pytest.raises(LookupError):
        asyncio.run(postgrad.arun(make_goal(approve="ask"), decide=decide))
    assert only_run(settings).status == "waiting"


def cancel_and_wait(settings: Settings, run_id: str) -> None:
    from postgrad.api import cancel

    cancel(settings, run_id)
    wait_until(lambda: Runs(Database.open(settings.database)).get(run_id).status == "cancelled")
