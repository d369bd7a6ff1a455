"""Rewards for completions that a model samples: plug-ins, each proved on answers of known worth before it is used.

One of your own is a file beside the job's script that makes a Reward, named in the settings as `my_rewards.py:terse`:

    from rewards import Case, Reward
    terse = Reward(lambda reply, row: float(len(reply) < 80), cases=(Case("Yes.", 1.0), Case("Well, " * 40, 0.0)))

`python rewards.py` tries all that are here.
"""

import json
import math
import re
import runpy
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from programs import Unusable, passes

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A reply whose reward is known."""

    reply: str
    reward: float
    row: Row = field(default_factory=dict)
    """Columns of the row that it answers."""


@dataclass(frozen=True)
class Reward:
    score: Callable[[str, Row], float]
    """The reward of a reply, given its row; replies are untrusted and may be anything."""
    cases: tuple[Case, ...]
    """Right, wrong and hostile replies."""
    needs: tuple[str, ...] = ()
    """Columns that rows must have."""


MARK = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}|####[ \t]*([^\n]+)|ANSWER[ \t]*:[ \t]*([^\n]+)", re.IGNORECASE)
"""Answers as MATH, GSM8K and multiple-choice evaluators have them marked."""
AROUND = " \t.*_`'\"$()"


def answer_in(reply: str) -> str:
    """The last marked answer, or all of a reply that marks none."""
    *_, last = [None, *MARK.finditer(reply)]
    return next(filter(None, last.groups()), "") if last else reply


def plain(answer: str) -> str:
    """Without what two ways to write the same answer differ in: case, spaces, thousands, a full stop, emphasis."""
    return re.sub(r"(?<=\d),(?=\d{3})", "", " ".join(answer.split()).strip(AROUND).casefold())


def exact_match(reply: str, row: Row) -> float:
    """1 where the reply's answer is the row's, letter by letter."""
    return float(plain(answer_in(reply)) == plain(str(row["answer"])))


def multiple_choice(reply: str, row: Row) -> float:
    """1 where the last `ANSWER: X` names the right letter, and no other."""
    *_, last = ["", *re.findall(r"ANSWER[ \t]*:[ \t]*([^\n]*)", reply, re.IGNORECASE)]
    return float(last.strip(AROUND).upper() == str(row["answer"]).strip().upper())


def form(reply: str, row: Row) -> float:
    """1 where the reply marks one answer, and does so in its last line: nothing is said about the answer."""
    marks = list(MARK.finditer(reply))
    return float(len(marks) == 1 and "\n" not in reply[marks[0].start() :].strip())


def math_verify(reply: str, row: Row) -> float:
    """1 where the reply's last expression equals the row's answer as mathematics, 1/2 as 0.5 [library math-verify]."""
    return float(Mathematician.one().agrees(str(row["answer"]), reply))


def code(reply: str, row: Row) -> float:
    """1 where the reply's last block of Python passes the row's `tests`, a Python text of assertions."""
    *_, program = ["", *re.findall(r"```(?:python|py)?[ \t]*\n(.*?)```", reply, re.DOTALL)]
    return float(bool(program.strip()) and passes(program, str(row["tests"])))


MATH_SECONDS = 10
"""For one comparison. sympy may be asked for a power tower, which no alarm interrupts: then the process is ended."""
MIB = 2**20


class Mathematician:
    """A process of its own that compares answers, ended and begun again where it does not come back."""

    @staticmethod
    @cache
    def one() -> "Mathematician":
        return Mathematician()

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def agrees(self, gold: str, reply: str) -> bool:
        """Whether they are the same; a comparison that fails or takes too long says no."""
        process = self.process
        if process is None or process.poll() is not None:
            command = [sys.executable, __file__, "--compare"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self.process = process
            if self._hears(process, 60) != "ready\n":
                raise Unusable("math-verify cannot be loaded; pip install math-verify")
        print(json.dumps([gold, reply]), file=process.stdin, flush=True)
        return self._hears(process, MATH_SECONDS) == "true\n"

    def _hears(self, process: subprocess.Popen[str], seconds: float) -> str:
        heard = process.stdout and select.select([process.stdout], [], [], seconds)[0]
        line = process.stdout.readline() if process.stdout and heard else ""
        if not line:
            with process:
                process.kill()
        return line


def compare_for_ever() -> None:
    """The other end of a Mathematician: a line [gold, reply] in, `true` or `false` out."""
    import resource

    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (4096 * MIB, 4096 * MIB))
    print("ready", flush=True)
    for line in sys.stdin:
        gold, reply = json.loads(line)
        try:
            # A bare `1/2` is no LaTeX yet; the reply is read as it is.
            same = verify(parse(f"${gold}$"), parse(reply)) or verify(parse(gold), parse(reply))
        except Exception:  # noqa: BLE001 - whatever a reply makes sympy do, it is not the right answer
            same = False
        print(json.dumps(bool(same)), flush=True)


DOUBLE = {"tests": "assert double(2) == 4\nassert double(-3) == -6"}
REWARDS = {
    "exact_match": Reward(
        exact_match,
        (
            Case("Adding both gives\n#### 1,234", 1.0, {"answer": "1234"}),
            Case("Paris.", 1.0, {"answer": "paris"}),
            Case("So \\boxed{\\frac{1}{2}}.", 1.0, {"answer": "\\frac{1}{2}"}),
            Case("#### 12\n#### 13", 0.0, {"answer": "12"}),
            Case("", 0.0, {"answer": "12"}),
            Case("12 or 13 or 14", 0.0, {"answer": "12"}),
            Case("\\boxed{" * 2000, 0.0, {"answer": "12"}),
        ),
        ("answer",),
    ),
    "multiple_choice": Reward(
        multiple_choice,
        (
            Case("It is the second.\nANSWER: B", 1.0, {"answer": "B"}),
            Case("ANSWER: A\nNo, wait.\n**ANSWER: (b)**.", 1.0, {"answer": "B"}),
            Case("ANSWER: B\nANSWER: C", 0.0, {"answer": "B"}),
            Case("B", 0.0, {"answer": "B"}),
            Case("ANSWER: A, B, C or D", 0.0, {"answer": "B"}),
            Case("ANSWER: A B C D", 0.0, {"answer": "A"}),
            Case("ANSWER:", 0.0, {"answer": "B"}),
        ),
        ("answer",),
    ),
    "format": Reward(
        form,
        (
            Case("Because.\nANSWER: C", 1.0),
            Case("Thus \\boxed{4}", 1.0),
            Case("ANSWER: C\nBecause.", 0.0),
            Case("C", 0.0),
            Case("ANSWER: A\nANSWER: B\nANSWER: C", 0.0),
            Case("", 0.0),
        ),
    ),
    "math_verify": Reward(
        math_verify,
        (
            Case("It is $\\frac{2}{4}$.", 1.0, {"answer": "1/2"}),
            Case("\\boxed{x^2 + 2x + 1}", 1.0, {"answer": "(x+1)^2"}),
            Case("The answer is 0.5", 1.0, {"answer": "\\frac{1}{2}"}),
            Case("$\\frac{2}{3}$", 0.0, {"answer": "1/2"}),
            Case("", 0.0, {"answer": "1/2"}),
            Case("$" * 500 + "\\frac{" * 500, 0.0, {"answer": "1/2"}),
        ),
        ("answer",),
    ),
    "code": Reward(
        code,
        (
            Case("```python\ndef double(x):\n    return 2 * x\n```", 1.0, DOUBLE),
            Case("```python\ndef double(x):\n    return x * x\n```", 0.0, DOUBLE),
            Case("def double(x): return 2 * x", 0.0, DOUBLE),
            Case("```python\nimport os\nos._exit(0)\n```", 0.0, DOUBLE),
            Case("```python\nraise SystemExit\n```", 0.0, DOUBLE),
            Case("```python\nx = [0] * 10**10\ndef double(x): return 2 * x\n```", 0.0, DOUBLE),
            Case("```python\nimport socket\nsocket.create_connection(('1.1.1.1', 80), 1)\n"
                 "def double(x): return 2 * x\n```", 0.0, DOUBLE),
            Case("```python\nopen('/usr/lib/here', 'w')\ndef double(x): return 2 * x\n```", 0.0, DOUBLE),
        ),
        ("tests",),
    ),
}  # fmt: skip
"""Name in the settings → reward."""


def rewards_of(names: Sequence[str], folder: Path, rows: Sequence[Row]) -> dict[str, Reward]:
    """The rewards that settings name, those of one's own from files in `folder`, all of them proved.

    Raises Unusable for one that is not there, has no cases, gives one of its cases another reward than it should, or
    needs a column that a row does not have.
    """
    found = {name.rpartition(":")[2]: own_reward(name, folder) if ":" in name else built_in(name) for name in names}
    for name, reward in found.items():
        self_test(name, reward)
        for column in reward.needs:
            lacking = next((number for number, row in enumerate(rows, 1) if row.get(column) in (None, "")), 0)
            if lacking:
                raise Unusable(f"row {lacking} has no `{column}`, which the reward {name} needs; add it to every row")
    return found


def built_in(name: str) -> Reward:
    """One of REWARDS. Raises Unusable for another."""
    if name not in REWARDS:
        raise Unusable(f"there is no reward {name!r}; choose of {', '.join(REWARDS)}, or name file.py:reward")
    return REWARDS[name]


def own_reward(name: str, folder: Path) -> Reward:
    """A reward from a file of one's own. Raises Unusable where the file has none of that name."""
    file, _, attribute = name.partition(":")
    try:
        reward = runpy.run_path(str(folder / file)).get(attribute)
    except Exception as error:
        raise Unusable(f"{file} cannot be run ({error}); it belongs beside config.json") from error
    if not isinstance(reward, Reward):
        raise Unusable(f"{file} has no Reward named {attribute}; make one as rewards.py shows at its beginning")
    return reward


def self_test(name: str, reward: Reward) -> None:
    """Raises Unusable unless the reward tells right from wrong, as its cases say."""
    if len({case.reward for case in reward.cases}) < 2:
        raise Unusable(f"the reward {name} has no cases of different worth; add a right and a wrong reply")
    for case in reward.cases:
        given = reward.score(case.reply, case.row)
        if not math.isclose(given, case.reward, abs_tol=1e-6):
            short = case.reply if len(case.reply) < 60 else case.reply[:60] + "…"
            raise Unusable(f"the reward {name} gives {short!r} {given}, and should {case.reward}; mend it first")


def for_trl(name: str, reward: Reward) -> Callable[..., list[float]]:
    """As TRL calls it: with lists of completions and of every column of their rows."""

    def scores(completions: list[list[dict[str, str]]], **columns: Any) -> list[float]:
        rows = [
            {key: values[number] for key, values in columns.items() if isinstance(values, list)}
            for number in range(len(completions))
        ]
        replies = [completion[0]["content"] for completion in completions]
        if reward.score is code:  # a process each, which the processors can share
            with ThreadPoolExecutor() as pool:
                return list(pool.map(reward.score, replies, rows))
        return [reward.score(reply, row) for reply, row in zip(replies, rows, strict=True)]

    scores.__name__ = name
    return scores


def main() -> None:
    if "--compare" in sys.argv:
        compare_for_ever()
        return
    for name, reward in REWARDS.items():
        self_test(name, reward)
        print(f"{name}: {len(reward.cases)} cases as they should be")


if __name__ == "__main__":
    main()
