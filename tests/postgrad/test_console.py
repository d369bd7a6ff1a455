from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal

from postgrad.console import Console, show_runs, show_summary
from postgrad.summary import summarise, summarise_all
from postgrad.typing_in import edit_text
from postgrad.units import dollars, duration, one_line, p_value, signed
from shared_memory.runs import Runs, RunStatus
from tests.postgrad.a_run import ARun, finished_run, new_run

JOB = {"key": "k1", "experiment": "e1", "purpose": "training", "title": "train e1"}


def progress(step: int, at: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "progress",
        **JOB,
        "step": step,
        "steps": 100,
        "seconds": at,
        "eta_seconds": 100.0 - at,
        "at": at,
        **more,
    }


def plain(*events: dict[str, Any]) -> list[str]:
    """What a console without a terminal writes for some events, without the times of day."""
    stream = io.StringIO()
    with Console(stream) as console:
        for event in events:
            console.render({"at": 0.0, **event})
    return [line[10:] for line in stream.getvalue().splitlines()]


def test_every_kind_of_event_is_a_line_of_its_own() -> None:
    assert plain(
        {"kind": "status", "status": "running", "text": "running"},
        {"kind": "move", "move": "baseline", "role": "data_engineer", "experiment": "", "text": "make training data"},
        {"kind": "proposal", "role": "trainer", "text": "e1: LoRA r16"},
        {
            "kind": "gate",
            "by": "policy",
            "requests": [{"digest": "a", "title": "train e1", "approved": True}],
            "text": "",
        },
        {
            "kind": "gate",
            "by": "person",
            "requests": [{"digest": "a", "title": "train e2", "approved": False}],
            "text": "",
        },
        {"kind": "job", **JOB, "state": "running", "seconds": 0.0, "error": ""},
        {"kind": "job", **JOB, "state": "succeeded", "seconds": 212.0, "error": ""},
        {"kind": "job", **JOB, "state": "failed", "seconds": 3.0, "error": "out of memory"},
        {"kind": "verdict", "experiment": "e1", "verdict": "keep", "text": "0.39 against 0.02"},
        {"kind": "note", "text": "the champion is e1"},
        {"kind": "spent", "usd": 0.0, "jobs": 1, "hours": 0.1},
        {"kind": "status", "status": "over_budget", "outcome": "no_improvement", "text": "limits.jobs is 3"},
    ) == [
        "running",
        "▸ data engineer: make training data",
        "trainer proposes: e1: LoRA r16",
        "approved by policy: train e1",
        "rejected by a person: train e2",
        "train e1: running",
        "✓ train e1 · 3 min 32 s",
        "✗ train e1 · 3 s · failed: out of memory",
        "e1: keep · 0.39 against 0.02",
        "the champion is e1",
        "over budget (no improvement): limits.jobs is 3",
    ]


def test_progress_is_throttled_by_time_and_by_share() -> None:
    slow = plain(*(progress(1, float(at)) for at in range(61)))
    assert len(slow) == 7  # at 0, 10, … 60 seconds
    fast = plain(*(progress(step, step / 1000) for step in range(101)))
    assert len(fast) == 11
    assert fast[-1] == "train e1: 100/100"


def test_jobs_are_throttled_each_by_itself() -> None:
    assert len(plain(progress(1, 0.0), progress(1, 0.1, key="k2", title="train e2"), progress(2, 0.2))) == 2


def test_progress_tells_loss_and_time_left() -> None:
    assert plain(progress(12, 38.0, loss=1.23456)) == ["train e1: 12/100 · loss 1.235 · 1 min 02 s left"]


def test_words_of_others_cannot_steer_the_terminal() -> None:
    assert plain({"kind": "note", "text": "a\x1b[2J\x1b]0;title\x07[red]b[/red]\r\nc :smile: \u202ed"}) == [
        "a]0;title[red]b[/red] c :smile: d"
    ]


def live(*events: dict[str, Any], now: float = 100.0) -> str:
    stream = io.StringIO()
    console = Console(stream, live=True, clock=lambda: now)
    for event in events:
        console.render({"at": now, **event})
    area = Terminal(file=stream, width=120, highlight=False)
    area.print(console._view.area())
    return stream.getvalue()


def test_the_live_area_shows_phase_bar_loss_and_spend() -> None:
    shown = live(
        {"kind": "status", "status": "running", "text": "running", "at": 40.0},
        {"kind": "move", "move": "draft", "role": "trainer", "experiment": "", "text": "plan the first experiment"},
        progress(25, 0.0, loss=0.5),
        {"kind": "spent", "usd": 1.5, "jobs": 2, "hours": 0.1, "at": 70.0},
    )
    assert "trainer: plan the first experiment" in shown
    assert "train e1" in shown
    assert "25/100 · loss 0.500" in shown
    assert "━" in shown
    assert "$1.50 spent · 2 jobs · 6 min 30 s" in shown  # 6 min at second 70, and 30 s since


def test_the_clock_of_the_live_area_stands_still_while_a_person_is_waited_for() -> None:
    spent = {"kind": "spent", "usd": 0.0, "jobs": 2, "hours": 0.1, "at": 10.0}
    assert "6 min 00 s" in live(spent, {"kind": "status", "status": "waiting", "text": "for approval", "at": 10.0})


def test_a_finished_job_leaves_the_live_area() -> None:
    shown = live(progress(25, 0.0), {"kind": "job", **JOB, "state": "succeeded", "seconds": 9.0, "error": ""})
    assert "25/100" not in shown
    assert "✓ train e1 · 9 s" in shown


def test_a_terminal_gets_a_live_area_that_goes_away_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with Console(stream) as console:
        console.render(progress(25, 0.0))
        console.render({"kind": "note", "at": 0.0, "text": "a finished line"})
    assert "a finished line" in stream.getvalue()
    assert "\x1b[?25h" in stream.getvalue()


def request(digest: str = "d1", **more: Any) -> dict[str, Any]:
    return {
        "digest": digest,
        "title": f"train {digest}: LoRA r16",
        "purpose": "training",
        "experiment": "e1",
        "runner": "local",
        "flavor": "cpu",
        "timeout_seconds": 3600,
        "estimate": {"hours": 0.07, "usd_micro": 0, "memory_gib": 4.1, "basis": "measured on e0"},
        "config": {"learning_rate": 0.001, "lora": {"r": 16}, "adapter": None},
        "script": "train.py",
        "files": {"train.py": "0" * 64, "data.jsonl": "1" * 64},
        "envelope": {"scope": "5c" * 32, "max_usd_micro": 1_500_000, "max_hours": 6.0, "attempts": 3},
        "script_text": "import torch\nprint('hi')\n",
        "secrets": [],
        **more,
    }


def asked(
    typed: str, *requests: dict[str, Any], edit: Callable[[str, str], str | None] = lambda text, suffix: None
) -> tuple[dict[str, Any] | None, str]:
    """The answers to some requests by what a person types, and what was shown."""
    stream = io.StringIO()
    console = Console(stream, answers=io.StringIO(typed), live=False, edit=edit)
    return console.ask(requests or (request(),)), stream.getvalue()


def test_a_request_shows_what_a_person_needs_to_decide() -> None:
    _, shown = asked(
        "q\n",
        request(
            estimate={"hours": 0.07, "usd_micro": 2_500_000, "memory_gib": 4.1, "basis": "measured on e0"},
            secrets=["HF_TOKEN"],
        ),
    )
    for part in (
        "train d1: LoRA r16",
        "about 4 min 12 s, stopped after 1 h 00 min",
        "4.1 GiB",
        "at worst $2.50",
        "3 tries of this work within $1.50 and 6 h 00 min",
        "measured on e0",
        "local (cpu)",
        "train.py, 2 lines; with data.jsonl",
        "config.learning_rate",
        "0.001",
        '{"r": 16}',
        "null",
        "HF_TOKEN",
    ):
        assert part in shown


def test_approving() -> None:
    assert asked("a\n")[0] == {"d1": {"approved": True, "reason": ""}}
    both, shown = asked("a\n", request("d1"), request("d2"))
    assert both == {"d1": {"approved": True, "reason": ""}, "d2": {"approved": True, "reason": ""}}
    assert "2 jobs: about 8 min 24 s in all, at worst $0.00" in shown


def test_picking_one_by_one() -> None:
    answers, _ = asked("p\na\nr\ntoo long\n", request("d1"), request("d2"))
    assert answers == {"d1": {"approved": True, "reason": ""}, "d2": {"approved": False, "reason": "too long"}}


def test_rejecting_with_a_reason() -> None:
    assert asked("r\nnot today\n")[0] == {"d1": {"approved": False, "reason": "not today"}}
    assert asked("r\n\ntoo long\n")[0] == {"d1": {"approved": False, "reason": "too long"}}


def test_rejecting_without_a_reason_asks_once_more_and_there_is_a_way_back() -> None:
    answers, shown = asked("r\n\n\n")
    assert answers == {"d1": {"approved": False, "reason": ""}}
    assert "b goes back" in shown
    approved = {"approved": True, "reason": ""}
    assert asked("r\n\nb\na\n")[0] == {"d1": approved}
    assert asked("r\n\nb\na\n", request("d1"), request("d2"))[0] == {"d1": approved, "d2": approved}
    assert asked("r\n\n")[0] is None


@pytest.mark.parametrize("typed", ["q\n", "", "\n\n", "p\na\nq\n", "p\na\n", "e\nq\n"])
def test_leaving_the_prompt_approves_nothing(typed: str) -> None:
    assert asked(typed, *([request("d1"), request("d2")] if typed[:1] in "pe" else [request()]))[0] is None


def test_an_unknown_key_asks_again() -> None:
    answers, shown = asked("\nyes\na\n")
    assert answers == {"d1": {"approved": True, "reason": ""}}
    assert shown.count("please type one of") == 2


def test_viewing_the_script_decides_nothing() -> None:
    answers, shown = asked("v\na\n")
    assert "print('hi')" in shown
    assert answers == {"d1": {"approved": True, "reason": ""}}
    answers, shown = asked("v\n2\nv\n9\na\n", request("d1"), request("d2", script_text="second = 2\n"))
    assert "second = 2" in shown
    assert "`9` is none of 1 to 2" in shown
    assert answers is not None
    assert len(answers) == 2


def test_an_edited_config_is_the_answer() -> None:
    def edit(text: str, suffix: str) -> str:
        assert suffix == ".json"
        return json.dumps({**json.loads(text), "learning_rate": 0.0005})

    answers, _ = asked("e\nc\n", edit=edit)
    assert answers == {"d1": {"edit": {"config": {"learning_rate": 0.0005, "lora": {"r": 16}, "adapter": None}}}}


def test_a_config_that_is_no_json_says_where_and_is_edited_again() -> None:
    versions = ['{"learning_rate": 0.0005,\n "lora" 3}', '{"learning_rate": NaN}', "[1]", '{"learning_rate": 0.0005}']
    seen: list[str] = []

    def edit(text: str, suffix: str) -> str:
        seen.append(text)
        return versions[len(seen) - 1]

    answers, shown = asked("e\nc\ne\ne\ne\n", edit=edit)
    assert "line 2, column 9: Expecting ':' delimiter" in shown
    assert "NaN is not JSON" in shown
    assert "it must be one JSON object" in shown
    assert seen[1:] == versions[:3]  # what was written is not lost
    assert answers == {"d1": {"edit": {"config": {"learning_rate": 0.0005}}}}


def test_going_back_from_a_broken_config_decides_nothing() -> None:
    answers, _ = asked("e\nc\nb\nr\nno\n", edit=lambda text, suffix: "{")
    assert answers == {"d1": {"approved": False, "reason": "no"}}


def test_an_edited_script_is_the_answer() -> None:
    answers, _ = asked("e\ns\n", edit=lambda text, suffix: text + "# more\n")
    assert answers == {"d1": {"edit": {"files": {"train.py": "import torch\nprint('hi')\n# more\n"}}}}


def test_an_edit_that_changes_nothing_asks_again() -> None:
    answers, shown = asked("e\nc\ne\ns\ne\nb\na\n")
    assert answers == {"d1": {"approved": True, "reason": ""}}
    assert shown.count("nothing was changed") == 2


def test_one_of_several_can_be_edited_and_the_rest_approved() -> None:
    answers, _ = asked(
        "e\n2\nc\na\n", request("d1"), request("d2"), request("d3"), edit=lambda text, suffix: '{"r": 8}'
    )
    assert answers == {
        "d2": {"edit": {"config": {"r": 8}}},
        "d1": {"approved": True, "reason": ""},
        "d3": {"approved": True, "reason": ""},
    }


def test_the_editor_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "my editor.py"
    editor.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[-1])\npath.write_text(path.read_text().upper())\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{editor}'")
    assert edit_text("abc", ".json") == "ABC"
    assert edit_text("ABC", ".json") is None


@pytest.mark.parametrize(
    ("editor", "cause"),
    [("false", "exit code 1"), ("/no/such/editor", "No such file"), ("'vi", "No closing quotation")],
)
def test_an_editor_that_fails_is_said_to_with_how_it_is_chosen(
    editor: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    for key in "cs":
        answers, shown = asked(f"e\n{key}\na\n", edit=edit_text)
        assert answers == {"d1": {"approved": True, "reason": ""}}
        said = " ".join(shown.split())
        assert f"the editor `{editor}` failed" in said
        assert cause in said
        assert "$VISUAL, or else $EDITOR" in said
        assert "nothing was changed" not in said


def in_a_terminal(command: list[str], *dialogue: tuple[str, str], **environment: str) -> tuple[int, str]:
    """Exit code and output of a process in a terminal, where each text is answered as soon as it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, {**os.environ, **environment})
    shown, seen = "", 0
    waiting = list(dialogue)
    with suppress(OSError):  # the terminal is gone once the process is
        while select.select([terminal], [], [], 30)[0] and (part := os.read(terminal, 4096)):
            shown += part.decode(errors="replace")
            while waiting and (found := shown.find(waiting[0][0], seen)) >= 0:
                seen = found + len(waiting[0][0])
                time.sleep(0.1)  # what is typed before the prompt reads is not what is tested
                os.write(terminal, waiting.pop(0)[1].encode())
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL if waiting else 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.mark.parametrize("dialogue", [(("> ", CTRL_C),), (("> ", "r\n"), ("why? ", CTRL_C))])
def test_ctrl_c_leaves_a_prompt_at_once(dialogue: tuple[tuple[str, str], ...]) -> None:
    code = (
        "import json, sys, polars; from postgrad.console import Console\n"
        "print('decided:', Console(live=False).ask([json.loads(sys.argv[1])]))"
    )
    ended, shown = in_a_terminal([sys.executable, "-c", code, json.dumps(request())], *dialogue)
    assert ended == 0, shown
    assert "decided: None" in shown


@pytest.fixture
def waiting_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ARun:
    run = new_run(tmp_path)
    monkeypatch.setenv("POSTGRAD_HOME", str(run.settings.home))
    Runs(run.db).put_request(run.run_id, {"requests": [request()]})
    Runs(run.db).update(run.run_id, status=RunStatus.WAITING)
    return run


@pytest.mark.parametrize("key", ["q\n", CTRL_C, CTRL_D])
@pytest.mark.parametrize("command", [["approve", "--edit"], ["attach"]])
def test_leaving_a_prompt_ends_with_3_and_the_run_keeps_waiting(
    command: list[str], key: str, waiting_run: ARun
) -> None:
    code, shown = in_a_terminal([sys.executable, "-m", "postgrad", *command, waiting_run.run_id], ("> ", key))
    assert code == 3, shown
    assert f"postgrad approve {waiting_run.run_id}" in shown
    row = Runs(waiting_run.db).get(waiting_run.run_id)
    assert (row.status, row.answer) == (RunStatus.WAITING, None)


@pytest.mark.parametrize(
    ("flags", "fault"), [([], "--edit needs a terminal"), (["--reject", "no"], "--edit and --reject are two answers")]
)
def test_editing_needs_a_terminal_and_no_other_answer(flags: list[str], fault: str, waiting_run: ARun) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "postgrad", "approve", waiting_run.run_id, "--edit", *flags],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert fault in done.stderr
    assert Runs(waiting_run.db).get(waiting_run.run_id).answer is None


def test_the_summary_table_tells_the_answer_and_where_the_report_is(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.paths.report_html.write_text("")
    terminal = Terminal(file=io.StringIO(), width=200)
    show_summary(summarise(run.settings, run.db, run.run_id), terminal)
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "Improved: on the report items of physics" in shown
    assert "+70.0 (+61.5 to +78.5)" in shown
    assert str(run.paths.report_html) in shown
    assert "report" in shown


def test_the_summary_of_a_run_that_has_only_begun_can_be_shown(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    terminal = Terminal(file=io.StringIO(), width=200)
    show_summary(summarise(run.settings, run.db, run.run_id), terminal)
    assert "No improvement has been shown so far" in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_runs_are_listed_with_their_goal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path)
    show_runs(summarise_all(run.settings, run.db))
    shown = capsys.readouterr().out
    assert run.run_id in shown
    assert "running" in shown
    assert "answer four-choice physics" in shown
    show_runs([])
    assert "no runs yet" in capsys.readouterr().out


def test_importing_the_console_stays_quick() -> None:
    """A structural check: nothing heavy is imported, so that the first line of a run comes at once."""
    heavy = ("matplotlib", "jinja2", "pydantic", "langgraph", "torch")
    code = f"import sys, postgrad.console; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (duration(41.6), "42 s"),
        (duration(252), "4 min 12 s"),
        (duration(7500), "2 h 05 min"),
        (duration(-1), "0 s"),
        (dollars(0), "$0.00"),
        (dollars(0.004), "< $0.01"),
        (dollars(1234.5), "$1,234.50"),
        (signed(0.7), "+70.0"),
        (signed(-0.031), "−3.1"),
        (p_value(1e-9), "p < 0.001"),
        (p_value(0.0321), "p = 0.032"),
        (one_line(" a\n\x1b[1mb\x00 "), "a b"),
    ],
)
def test_figures_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected
