"""Scorers whose verdicts come from a language model, in inspect-ai's form: by a rubric, or against a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agents.evaluator.benchmarks.rubrics import KEY, Criterion, earned_points, most_points
from agents.evaluator.scoring.judge import Judge
from agents.evaluator.scoring.repetition import without_repetition
from shared_memory.records import Record

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

BASELINE = "baseline"
"""Key of an item's metadata: the answer that others are compared with."""
STRONG = 3
"""How often a significant difference counts, against once for a slight one or a tie [Arena-Hard-Auto; `evaluate.py` of
PostTrainBench's arenahardwriting, without its style control, which that does not use either]."""


class RubricVerdict(Record):
    """Whether an answer meets a criterion. The reason comes first, so that it is written before the verdict."""

    explanation: str
    met: bool


class PairVerdict(Record):
    """Which of two answers is better."""

    explanation: str
    verdict: Literal["A>>B", "A>B", "A=B", "B>A", "B>>A"]


def answer_to_grade(reply: str) -> str:
    """What a judge is shown of a reply: without the thoughts before it, and without endless repetition.

    As PostTrainBench shows it. Thoughts that never end are all that there is, and are shown.
    """
    answer = reply.strip()
    if answer.startswith("<think>"):
        answer = answer.partition("</think>")[2].strip() or answer
    return without_repetition(answer)


def meets_rubric(judge: Judge | None) -> Scorer:
    """The points that an answer earns, over those that could be earned: each criterion is a question of its own."""
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(metrics=[mean()], name="rubric")
    def by_rubric() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            grader, criteria = _needed(judge), [Criterion.model_validate(each) for each in state.metadata[KEY]]
            answer = answer_to_grade(state.output.completion)
            words = {"conversation": _conversation(state), "answer": answer}
            met = [
                (await grader.verdict(RubricVerdict, "rubric", {**words, "criterion": each.plain()})).met
                for each in criteria
            ]
            grader.done()
            earned, most = earned_points(criteria, met), most_points(criteria)
            return Score(value=earned / most, answer=f"{earned:g} of {most:g} points" if answer else None)

        return score

    made: Scorer = by_rubric()
    return made


def beats_baseline(judge: Judge | None) -> Scorer:
    """How an answer fares against the baseline's, in both orders: 1 where it wins, 0 where it loses, 0.5 for a tie."""
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(metrics=[mean()], name="pairwise")
    def against() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            grader, answer = _needed(judge), answer_to_grade(state.output.completion)

            async def better(first: str, second: str) -> str:
                words = {"question": state.input_text, "A": first, "B": second}
                return (await grader.verdict(PairVerdict, "pairwise", words)).verdict

            baseline = state.metadata[BASELINE]
            first, second = await better(answer, baseline), await better(baseline, answer)
            won, weight = battles(first, second)
            grader.compared += 1
            # The same place wins whichever answer stands there.
            grader.flipped += _winner(first) == _winner(second) != "="
            grader.battles = (grader.battles[0] + won, grader.battles[1] + weight)
            grader.done()
            return Score(value=won / weight, answer=f"first {first}, second {second}" if answer else None)

        return score

    made: Scorer = against()
    return made


def battles(first: str, second: str) -> tuple[float, float]:
    """Points that an answer wins in two verdicts, and how many there were.

    first: the verdict that has the answer as A. second: the one that has it as B.
    """
    won = {"A": 1.0, "=": 0.5, "B": 0.0}
    weights = [STRONG if ">>" in verdict else 1 for verdict in (first, second)]
    shares = [won[_winner(first)], 1 - won[_winner(second)]]
    return sum(share * weight for share, weight in zip(shares, weights, strict=True)), float(sum(weights))


def _winner(verdict: str) -> str:
    return "=" if "=" in verdict else verdict[0]


def _conversation(state: TaskState) -> list[dict[str, str]]:
    """What was asked, turn by turn."""
    asked: Any = state.input
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    return [{"role": message.role, "content": message.text} for message in asked]


def _needed(judge: Judge | None) -> Judge:
    """The judge. Raises ValueError where answers are marked without one: intake asks for it."""
    if judge is None:
        raise ValueError("a language model grades these answers, and none was given")
    return judge
