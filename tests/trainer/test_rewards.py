"""Rewards: right, wrong and hostile answers, and rewards that a job must not rely on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
import rewards
from programs import Unusable
from rewards import REWARDS, Case, Reward, code, for_trl, math_verify, rewards_of, self_test

from tests.trainer.job import ROWS, SCRIPTS, Warm, job

BLOCK = "```python\n{}\n```"
TESTS = {"tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0"}


@pytest.fixture(autouse=True)
def _untried() -> Iterator[None]:
    programs.isolated.cache_clear()
    yield
    programs.isolated.cache_clear()


@pytest.mark.parametrize(
    ("name", "reply", "answer", "reward"),
    [
        ("exact_match", "The answer:\n#### $1,000.", "1000", 1),
        ("exact_match", "  the Moon ", "The moon.", 1),
        ("exact_match", "ANSWER: C", "C", 1),
        ("exact_match", "\\boxed{3} no, \\boxed{4}", "3", 0),
        ("exact_match", "1 2 3 4 5 6 7 8 9", "7", 0),
        ("exact_match", "1,2", "12", 0),
        ("multiple_choice", "answer: c", "C", 1),
        ("multiple_choice", "ANSWER: $C$", "C", 1),
        ("multiple_choice", "ANSWER: C. ANSWER: D", "C", 0),
        ("multiple_choice", "ANSWER: C or D", "C", 0),
        ("multiple_choice", "The answer is C", "C", 0),
        ("math_verify", "so $x = 3$", "3", 1),
        ("math_verify", "$\\{1, 2\\}$", "\\{2, 1\\}", 1),
        ("math_verify", "50\\%", "0.51", 0),
    ],
)
def test_answers_are_worth_what_they_should(name: str, reply: str, answer: str, reward: float) -> None:
    assert REWARDS[name].score(reply, {"answer": answer}) == reward


def test_a_number_too_large_to_compute_is_a_wrong_answer_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "MATH_SECONDS", 2)
    assert math_verify("2", {"answer": "2"}) == 1
    began = time.monotonic()
    assert math_verify("$9^{9^{9^{9^{9^{9}}}}} - 9^{9^{9^{9}}} + 1$", {"answer": "2"}) == 0
    assert time.monotonic() - began < 8
    assert math_verify("2", {"answer": "2"}) == 1, "the next one is judged again"


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['true'])\nadd = lambda a, b: a + b",
        "print('x' * 10**9)",
        "import sys\nsys.stdout.write('ok'); sys.exit(0)",
        "assert False",
        "add = 1 +",
        "open('{home}/stolen', 'w').write('x')\nadd = lambda a, b: a + b",
        "open('{home}/secret').read()\nadd = lambda a, b: a + b",
    ],
)
def test_hostile_programs_earn_nothing_and_do_nothing(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "SECONDS", 3)
    (tmp_path / "secret").write_text("x")
    assert code(BLOCK.format(program.replace("{home}", str(tmp_path))), TESTS) == 0
    assert not (tmp_path / "stolen").exists()


def test_a_program_may_use_threads_and_libraries() -> None:
    program = (
        "from concurrent.futures import ThreadPoolExecutor\nimport numpy\n"
        "def add(a, b):\n    with ThreadPoolExecutor(2) as pool:\n"
        "        return int(numpy.sum(list(pool.map(int, (a, b)))))"
    )
    assert code("Thus:\n" + BLOCK.format(program), TESTS) == 1


def test_programs_are_not_run_where_they_cannot_be_isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unusable, match=r"bwrap is not installed.*; install bubblewrap"):
        rewards_of(["code"], tmp_path, [])
    (tmp_path / "bwrap").write_text(f"#!{shutil.which('sh', path='/bin:/usr/bin')}\necho No permission >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(Unusable, match="No permission"):
        rewards_of(["code"], tmp_path, [])


def test_trl_gets_a_reward_for_every_completion_by_its_own_row() -> None:
    score = for_trl("exact_match", REWARDS["exact_match"])
    completions = [[{"role": "assistant", "content": text}] for text in ("a", "b", "c")]
    told: dict[str, Any] = {"prompts": [[]] * 3, "trainer_state": object()}
    assert score(completions=completions, answer=["a", "x", "c"], **told) == [1, 0, 1]
    assert getattr(score, "__name__", "") == "exact_match"


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (Reward(lambda reply, row: 1.0, ()), "no cases of different worth"),
        (Reward(lambda reply, row: 1.0, (Case("a", 1.0), Case("b", 1.0))), "no cases of different worth"),
        (Reward(lambda reply, row: 1.0, (Case("a", 1.0), Case("b", 0.0))), "gives 'b' 1.0, and should 0.0"),
        (Reward(lambda reply, row: float("nan"), (Case("a", 1.0), Case("b", 0.0))), "gives 'a' nan"),
    ],
)
def test_a_reward_that_is_not_proved_is_refused(reward: Reward, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        self_test("own", reward)


@pytest.mark.parametrize(
    ("named", "file", "words"),
    [
        ("kindness", "", "there is no reward 'kindness'; choose of exact_match"),
        ("own.py:kind", "raise RuntimeError('no')", "own.py cannot be run (no)"),
        ("own.py:kind", "kind = len", "own.py has no Reward named kind"),
        ("away.py:kind", "", "away.py cannot be run"),
        (
            "own.py:kind",
            "from rewards import Case, Reward\nkind = Reward(lambda reply, row: 1.0, (Case('a', 1.0), Case('b', 0.0)))",
            "the reward kind gives 'b' 1.0, and should 0.0",
        ),
    ],
)
def test_a_job_does_not_start_with_a_reward_that_it_cannot_rely_on(
    warm: Warm, tmp_path: Path, named: str, file: str, words: str
) -> None:
    rows = [row | {"answer": "x"} for row in ROWS]
    folder = job(tmp_path / "job", rows, model="m", method="grpo", batch=8, rewards=[named])
    (folder / "own.py").write_text(file)
    assert words in warm.refusal(folder)


def test_every_reward_tells_its_own_cases_apart() -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS / "rewards.py")], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said == [f"{name}: {len(reward.cases)} cases as they should be" for name, reward in REWARDS.items()]
