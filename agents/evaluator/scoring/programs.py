"""Programs that a model wrote as answers, run with their tests in the sandbox, or not at all."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING

from agents import sandbox

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

LIMITS = sandbox.Limits(seconds=30, processes=8)
"""For a program and its tests; 30 s as inspect-evals gives HumanEval."""


def passes_its_tests() -> Scorer:
    """inspect-evals' scorer of HumanEval in our sandbox: the code of the reply, the tests of the item's metadata.

    The program has to reach its last line: one that ends early with exit code 0 has passed nothing, which is stricter
    than inspect-evals. Raises Unavailable where nothing can be isolated: a model's program never runs without.
    """
    from anyio import to_thread
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer
    from inspect_evals.humaneval.humaneval import find_code

    @scorer(metrics=[accuracy()], name="code")
    def verify() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            code, item = find_code(state.output.completion), state.metadata
            program = f"{item['prompt']}{code}\n{item['test']}\ncheck({item['entry_point']})"
            passed = await to_thread.run_sync(reaches_its_end, program)
            return Score(value=CORRECT if passed else INCORRECT, answer=code)

        return score

    made: Scorer = verify()
    return made


def reaches_its_end(program: str) -> bool:
    """Whether a Python program runs to its last line in the sandbox. Raises Unavailable where there is none."""
    word = secrets.token_hex(16)
    files = {"program.py": f"{program}\nprint()\nprint({word!r})\n".encode(errors="replace")}
    result = sandbox.run([sys.executable, "-I", "program.py"], files, LIMITS)
    return result.ok and result.stdout.rstrip().endswith(word)
