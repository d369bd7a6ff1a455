from __future__ import annotations

import math

import pytest

from agents.jobs.base import LAST_WORDS_LENGTH, last_words, read_events

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("first")
ValueError: first
"""
TORCHRUN = """Traceback (most recent call last):
  File "torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
=======================================================
train.py FAILED
-------------------------------------------------------
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 20008)  (SIGTERM)
  traceback : Signal 15 (SIGTERM) received by PID 20008
-------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 20009)  (SIGKILL)
  traceback : Signal 9 (SIGKILL) received by PID 20009
=======================================================
"""


def test_progress_and_result_are_read_in_order_among_plain_lines() -> None:
    text = 'loading\n{"step": 1, "loss": 2.5}\nnote: {"step": 9} of many\n{"step": 2}\n{"result": {"rows": 4}}\nbye\n'
    assert read_events(text) == ([{"step": 1, "loss": 2.5}, {"step": 2}], {"rows": 4})


def test_output_without_events_has_none() -> None:
    assert read_events("") == ([], None)
    assert read_events('{"loss": 1}\n[1, 2]\n{"step": 1\n{\'loss\': 2}\n"step"\n') == ([], None)


def test_an_event_behind_the_leftovers_of_a_progress_bar_is_read() -> None:
    text = '\r  0%|    | 0/5 [00:00<?]\r 20%|█   | 1/5 [00:01<00:04]{"step": 1}\r\n'
    assert read_events(text) == ([{"step": 1}], None)


def test_a_loss_that_is_not_a_number_is_read_as_one() -> None:
    progress, _ = read_events('{"step": 1, "loss": NaN}\n')
    assert math.isnan(progress[0]["loss"])


def test_a_result_that_is_no_object_is_no_result() -> None:
    assert read_events('{"result": 3}\n{"result": null}') == ([], None)


def test_deeply_nested_text_from_a_job_is_no_event() -> None:
    assert read_events('{"step":' * 100_000 + "}" * 100_000) == ([], None)


@pytest.mark.parametrize(
    ("log", "exit_code", "words"),
    [
        ("start\nerror: no rows; add some\nsaved nothing\n", 2, "no rows; add some"),
        (TRACEBACK, 1, "ValueError: first"),
        ("error: trying again\n" + TRACEBACK + "Exit.\n", 1, "ValueError: first"),
        (TRACEBACK + "error: no rows; add some\n", 1, "no rows; add some"),
        (TRACEBACK + "\nDuring handling of it:\n\n" + TRACEBACK.replace("first", "second"), 1, "ValueError: second"),
        ("\n".join("[rank1]: " + line for line in TRACEBACK.splitlines()), 1, "ValueError: first"),
        (TRACEBACK + TORCHRUN, 1, "ValueError: first"),
        (TORCHRUN.replace("(SIGKILL)", "(SIGBUS)").replace("Signal 9", "Signal 7"), 1, "killed by SIGBUS"),
        (TRACEBACK.replace("first", "1 problem\n  in the second line"), 1, "ValueError: 1 problem"),
        (
            "  File 'a.py', line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n",
            1,
            "SyntaxError: invalid syntax",
        ),
        ("10%|#  |\r100%|###|\nlast line\n\n", 1, "last line"),
        ("", 3, "exit code 3, without a word in the log"),
        ("step 4\n", -11, "killed by SIGSEGV"),
        ("step 4\n", -64, "killed by SIGRTMAX"),
        ("", None, ""),
    ],
)
def test_the_last_words_are_the_cause_in_one_line(log: str, exit_code: int | None, words: str) -> None:
    assert last_words(log, exit_code) == words


@pytest.mark.parametrize(("log", "exit_code"), [("step 4\n", -9), (TRACEBACK, 137), ("Killed\n", None), (TORCHRUN, 1)])
def test_a_job_killed_by_the_system_probably_ran_out_of_memory(log: str, exit_code: int | None) -> None:
    assert "out of memory" in last_words(log, exit_code)


def test_last_words_are_short() -> None:
    words = last_words("error: " + "x" * 1000)
    assert len(words) == LAST_WORDS_LENGTH
    assert words.endswith("…")
