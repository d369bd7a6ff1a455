"""Failures told by their last words: the corpus in failures/, and logs that try to mislead."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from agents.jobs.base import LAST_WORDS_LENGTH, last_words
from agents.trainer.diagnosis import LIBRARY, diagnose
from shared_memory.jobs import Failure, JobState

CORPUS = Path(__file__).parent / "failures"
CASES: list[dict[str, Any]] = tomllib.loads((CORPUS / "cases.toml").read_text())["case"]
SIGNS = tomllib.loads(LIBRARY.read_text())
MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    step()\n'
PROGRESS = '{"step": 7, "steps": 9, "loss": 1.2, "seconds": 3.0}\n'


def told(case: dict[str, Any]) -> str:
    log = (CORPUS / f"{case['log']}.log").read_text()
    state = JobState(case.get("state", "failed"))
    return diagnose(log, error=case.get("error", ""), exit_code=case.get("exit_code", 1), state=state).kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['log']}-{case['kind']}")
def test_a_failure_of_the_corpus_is_told_by_its_log(case: dict[str, Any]) -> None:
    assert told(case) == case["kind"]


def test_the_corpus_has_every_kind_and_names_its_sources() -> None:
    logs = {path.stem for path in CORPUS.glob("*.log")}
    assert len(logs) >= 30
    assert {case["log"] for case in CASES} == logs
    assert {case["kind"] for case in CASES} == set(get_args(Failure))
    assert all(case["source"] for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['log']}-{case['kind']}")
def test_what_the_runner_makes_of_the_log_changes_nothing(case: dict[str, Any]) -> None:
    """A runner's `error` is mostly the log's own last words."""
    if "error" in case:
        return
    log, code = (CORPUS / f"{case['log']}.log").read_text(), case.get("exit_code", 1)
    assert diagnose(log, error=last_words(log, code), exit_code=code, state=JobState.FAILED).kind == case["kind"]


def test_every_kind_has_a_remedy_and_every_sign_a_source() -> None:
    assert SIGNS["remedies"].keys() == set(get_args(Failure))
    assert all(sign["source"] for sign in SIGNS["sign"])


def test_evidence_is_short_verbatim_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-very-secret-value")
    log = TRACEBACK + "OSError: [Errno 28] No space left on device: 'a-very-secret-value'" + "x" * 10_000
    found = diagnose(log, exit_code=1)
    assert found.kind == "disk_full"
    assert found.evidence[0].startswith("OSError: [Errno 28] No space left on device: '[redacted]'xxx")
    assert found.evidence[-1] == "train.py: step()"
    assert all(len(line) <= LAST_WORDS_LENGTH for line in found.evidence)
    assert len(found.evidence) <= 4


@pytest.mark.parametrize(
    "line",
    [
        "prompt: " + MEMORY,
        "| CUDA out of memory. Tried to allocate 2.00 GiB. | 3 |",
        '{"text": "torch.OutOfMemoryError: CUDA out of memory."}',
        "WARNING: the last run ended with: " + MEMORY,
        "Killed by the dragon, he rose again",
        "they were cancelled on request",
        "timed out after 3 s",
    ],
)
def test_what_rows_say_is_no_cause(line: str) -> None:
    log = f"{line}\n{TRACEBACK}ZeroDivisionError: division by zero\n"
    assert diagnose(log, exit_code=1).kind == "bug_in_script"
    quoted = f"{TRACEBACK}ValueError: odd row: {line}\n"
    assert diagnose(quoted, exit_code=1).kind == "bug_in_script"
    assert diagnose(f"{line}\n{PROGRESS}", exit_code=-11).kind == "unknown"


def test_a_failure_that_training_went_on_after_is_no_cause() -> None:
    log = TRACEBACK + MEMORY + "\n" + PROGRESS
    assert diagnose(log, exit_code=1).kind == "unknown"
    assert diagnose(log + TRACEBACK + "KeyError: 'beta'\n", exit_code=1).kind == "bug_in_script"


def test_what_ended_by_a_signal_was_ended_by_no_exception() -> None:
    log = TRACEBACK + "KeyError: 'beta'\n"
    assert diagnose(log, exit_code=-9).kind == "out_of_host_memory"
    assert diagnose(log, exit_code=143).kind == "network"


def test_a_remedy_names_what_is_missing() -> None:
    module = diagnose(TRACEBACK + "ModuleNotFoundError: No module named 'flash_attn'\n").remedy
    assert "package" in module
    argument = diagnose((CORPUS / "renamed-argument.log").read_text()).remedy
    assert "max_seq_length" in argument
    secret = diagnose((CORPUS / "missing-secret.log").read_text()).remedy
    assert "HF_TOKEN" in secret
    ours = diagnose(
        "error: batch 6 is not a multiple of micro_batch 4 x 1 process(es); change one of them\n", exit_code=2
    )
    assert (ours.kind, ours.remedy) == ("bug_in_script", "change one of them")


def test_odd_logs_are_read_all_the_same() -> None:
    for log in (
        "",
        "\n\n",
        "Traceback (most recent call last):",
        TRACEBACK,
        '  File "x", line 3',
        "\0\x1b[31m\r\r\n",
        "During handling of the above exception, another exception occurred:\n",
        "[rank3]: \n" * 3,
        "a" * 500_000,
        "\n".join(f"[rank{number}]: x" for number in range(5000)),
        ("Traceback (most recent call last):\n" * 5000),
    ):
        assert diagnose(log, exit_code=1).kind == "unknown"


def test_a_coloured_or_boxed_traceback_is_one_too() -> None:
    coloured = f"\x1b[1m{TRACEBACK}\x1b[0m\x1b[35m{MEMORY}\x1b[0m\n"
    boxed = f"╭───── Traceback (most recent call last) ─────╮\n│ train.py:3 in main │\n╰─────────╯\n{MEMORY}\n"
    for log in (coloured, boxed, coloured.replace("\n", "\r\n")):
        assert diagnose(log, exit_code=1).kind == "out_of_memory"


def test_the_end_of_a_long_log_is_enough() -> None:
    log = PROGRESS * 20_000 + TRACEBACK + MEMORY + "\n"
    assert diagnose(log, exit_code=1).kind == "out_of_memory"
