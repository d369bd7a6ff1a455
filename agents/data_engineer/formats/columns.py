"""Finds out by their names what the columns of a file hold, and refuses where the names leave it open."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared_memory.errors import BadInput

Format = Literal[
    "gpqa", "distractors", "multiple_choice", "preference", "ranked", "messages", "sharegpt", "alpaca",
    "prompt_completion", "question_answer", "text",
]  # fmt: skip

GPQA = {
    "question": "Question",
    "correct": "Correct Answer",
    "incorrect 1": "Incorrect Answer 1",
    "incorrect 2": "Incorrect Answer 2",
    "incorrect 3": "Incorrect Answer 3",
}
"""Part → column of a multiple-choice row; `Explanation` may be beside them."""
ASKING = frozenset({"question", "query", "instruction", "prompt", "problem", "request"})
BESIDE = frozenset({"input", "context", "passage", "article"})
"""What an instruction or a question is about; the question itself where no column asks."""
ANSWERING = frozenset({"answer", "response", "completion", "output", "reply", "solution", "target", "groundtruth"})
ASKER = frozenset({"user", "human", "patient"})
ANSWERER = frozenset({"assistant", "gpt", "bot", "doctor"})
"""Speakers count as whole names only: `human_answer` does not ask."""
CHAT: dict[str, Format] = {"messages": "messages", "conversations": "sharegpt", "conversation": "sharegpt"}
SYSTEM = frozenset({"system", "systemprompt", "systemmessage"})
TOOLS = frozenset({"tools", "functions", "availabletools"})
REPLIES = frozenset({"responses", "completions", "answers", "candidates", "outputs", "replies", "generations"})
RANKS = frozenset({"rank", "ranks", "ranking", "rankings"})
"""A number for each reply, the best having the lowest."""
SCORES = frozenset({"score", "scores", "rating", "ratings", "reward", "rewards"})
"""A number for each reply, the best having the highest."""
LABELS = frozenset({"label", "labels", "class", "category", "sentiment", "target", "score"})
"""Beside a `text`, they say that it is to be classified, not learned."""
CHOICES = frozenset({"choices", "options", "answerchoices", "possibleanswers", "choicelist", "optionlist", "endings"})
INDEX = frozenset({"answerindex", "answeridx", "correctindex", "correctidx", "label", "cop", "gold", "goldindex"})
"""The right choice by position."""
RIGHT = (
    "answerkey", "answerletter", "correctletter", "correctoption", "correctchoice", *sorted(INDEX), "correctanswer",
    "answer", "answers", "correct", "target",
)  # fmt: skip
"""The right choice, the surest name first: several may stand side by side."""
WRONG = frozenset({"incorrectanswers", "wronganswers", "distractors"})
EXPLAINING = frozenset({"explanation", "rationale", "exp", "support", "reasoning", "cot", "cotcontent"})
_NUMBERED = re.compile(
    r"(?P<name>choice|option|op|ending|answer|distractor|incorrectanswer|wronganswer)?(?P<at>[a-j]|\d)"
)
ABOUT_A_COLUMN = frozenset({
    "id", "idx", "index", "key", "name", "type", "kind", "format", "template", "label", "category", "topic", "tag",
    "source", "url", "link", "date", "time", "lang", "language", "length", "len", "count", "num", "number", "token",
    "score", "rating", "rank", "level", "difficulty", "author", "embedding", "hash", "history", "system",
    "incorrect", "wrong", "bad",
})  # fmt: skip
"""Words by which a name tells of something else: `question_id`, `answer_length`, `system_prompt`, `wrong_answer`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is where in a file."""

    format: Format
    columns: Mapping[str, str]
    """Part of a row → column.

    Parts are question, context, system, tools, answer, label, messages, chosen, rejected, answers, ranks, scores, text,
    GPQA's, `correct` and `wrong` or `wrong 1`, …, `choices` or `choice A`, …, and explanation.
    """

    @property
    def note(self) -> str:
        """Which column is read as what, and which part of it is trained where there is a choice."""
        read = ", ".join(f"{part} ← {column}" for part, column in self.columns.items())
        return f"{read}; {_TRAINED[self.format]}" if self.format in _TRAINED else read


_TRAINED: Mapping[Format, str] = {
    "messages": "the last reply of a conversation is trained, all before it is its prompt",
    "sharegpt": "the last reply of a conversation is trained, all before it is its prompt",
    "ranked": "the best reply is chosen, the worst rejected",
}


def layout_of(path: Path, columns: Sequence[str]) -> Layout:
    """What the columns of the file at `path` hold; case, blanks, `_` and `-` in their names do not count.

    Raises BadInput, with the columns and the names to give them, where no format fits or more than one reading does.
    """
    try:
        for read in _READINGS:
            layout = read(columns)
            if layout is not None:
                return layout
        raise _UnclearError("no two of them are known to ask and to answer")
    except _UnclearError as error:
        listed = " ".join(", ".join(columns[:20]).split()) + (", …" if len(columns) > 20 else "")
        raise BadInput(f"{path} has the columns {listed or '(none)'}: {error}; {error.way_out}") from error


class _UnclearError(ValueError):
    """Names that leave open what a column holds."""

    def __init__(self, why: str, way_out: str = "") -> None:
        super().__init__(why)
        self.way_out = way_out or "rename the one that asks to `prompt` and the one that answers to `completion`"


def _gpqa(columns: Sequence[str]) -> Layout | None:
    found = {part: column for part, name in GPQA.items() if (column := _called(columns, {compact(name)}))}
    if len(found) < len(GPQA):
        return None
    explanation = _called(columns, {"explanation"})
    return Layout("gpqa", found | ({"explanation": explanation} if explanation else {}))


def _preference(columns: Sequence[str]) -> Layout | None:
    """Without a column that asks, `chosen` and `rejected` are whole conversations that begin alike."""
    pairs = {
        part: _holding(columns, {part}, but_not={other})
        for part, other in (("chosen", "rejected"), ("rejected", "chosen"))
    }
    if not all(pairs.values()):
        return None
    names = "rename the columns to `prompt`, `chosen` and `rejected`"
    for part, found in pairs.items():
        if len(found) > 1:
            raise _UnclearError(f"{_listed(found)} could each be `{part}`", names)
    prompt = _called(columns, {"prompt"})
    question = {"question": prompt} if prompt else _question(columns, names)
    return Layout("preference", question | {part: found[0] for part, found in pairs.items()} | _chat_parts(columns))


def _ranked(columns: Sequence[str]) -> Layout | None:
    """Several replies to a question, and a column that ranks them."""
    answers = _called(columns, REPLIES)
    ranking = {
        part: name for part, known in (("ranks", RANKS), ("scores", SCORES)) if (name := _called(columns, known))
    }
    question = _question([column for column in columns if column != answers]) if answers and ranking else {}
    if not question:
        return None
    return Layout("ranked", question | {"answers": answers} | ranking | _chat_parts(columns))


def _prompt_and_completion(columns: Sequence[str]) -> Layout | None:
    """TRL's own pair: whatever stands beside it, this is the whole prompt."""
    prompt, completion = _called(columns, {"prompt"}), _called(columns, {"completion"})
    if not (prompt and completion):
        return None
    label = _called(columns, {"label"})
    parts = {"question": prompt, "answer": completion} | ({"label": label} if label else {})
    return Layout("prompt_completion", parts | _chat_parts(columns))


def _chat(columns: Sequence[str]) -> Layout | None:
    for name, kind in CHAT.items():
        if column := _called(columns, {name}):
            return Layout(kind, {"messages": column} | _chat_parts(columns))
    return None


def _multiple_choice(columns: Sequence[str]) -> Layout | None:
    """A question, and its choices as a list, a column each, or a right answer with wrong ones."""
    listed, wrong = _called(columns, CHOICES), _called(columns, WRONG)
    right = next((column for name in RIGHT if (column := _called(columns, {name}))), "")
    series = {} if listed or wrong else _series(columns)
    if not (listed or series or (wrong and right)):
        return None
    parts = {*series.values(), listed, wrong, right}
    question = _question([column for column in columns if column not in parts], "name it `question`")
    if not question or not right:
        raise _UnclearError("there are choices, but no column that asks or none that says which is right",
                            "name them `question`, `choices` and `answer`")  # fmt: skip
    explanation = _called([column for column in columns if column not in parts], EXPLAINING)
    found = question | ({"explanation": explanation} if explanation else {})
    if wrong or any(part.startswith("wrong") for part in series):
        return Layout("distractors", found | {"correct": right} | (series or {"wrong": wrong}))
    return Layout("multiple_choice", found | {"answer": right} | (series or {"choices": listed}))


def _series(columns: Sequence[str]) -> dict[str, str]:
    """`A`, `B`, …, `option_1`, `option_2`, …, or `distractor1`, …: part → column; empty where no run is there."""
    runs: dict[str, dict[str, str]] = {}
    for column in columns:
        if (found := _NUMBERED.fullmatch(compact(column))) and (found["name"] or found["at"].isalpha()):
            runs.setdefault(found["name"] or "", {})[found["at"]] = column
    for name, run in runs.items():
        wrong = name in ("distractor", "incorrectanswer", "wronganswer")
        ordered = sorted(run)
        starts = ("a", "0", "1")
        whole = [chr(ord(ordered[0]) + at) for at in range(len(ordered))] == ordered and ordered[0] in starts
        if whole and len(ordered) >= (1 if wrong else 2):
            return {f"{'wrong' if wrong else 'choice'} {at.upper()}": run[at] for at in ordered}
    return {}


def _question_and_answer(columns: Sequence[str]) -> Layout | None:
    """One column whose name holds a word for asking, and one whose name holds a word for answering."""
    if any(_words(column) & {"choice", "option"} for column in columns):
        raise _UnclearError(
            "the choices of a question stand in columns that are not known",
            f"name them `question`, `choices` and `answer`, or {', '.join(GPQA.values())}",
        )
    question = _question(columns)
    answers = _holding(columns, ANSWERING, but_not=ASKING | BESIDE, speakers=ANSWERER)
    if len(answers) > 1:
        raise _UnclearError(f"{_listed(answers)} could each be the answer")
    if not question or not answers:
        return None
    alpaca = (compact(question["question"]), compact(answers[0])) == ("instruction", "output")
    return Layout("alpaca" if alpaca else "question_answer", question | {"answer": answers[0]} | _chat_parts(columns))


def _text(columns: Sequence[str]) -> Layout | None:
    """Unpaired text, under the name that TRL gives it."""
    text = _called(columns, {"text"})
    if not text or any(compact(column) in LABELS for column in columns):
        return None
    return Layout("text", {"text": text})


_READINGS: tuple[Callable[[Sequence[str]], Layout | None], ...] = (
    _gpqa, _preference, _ranked, _prompt_and_completion, _chat, _multiple_choice, _question_and_answer, _text,
)  # fmt: skip
"""Each finds its format in the names of columns, or None; the first that does has it."""


def _question(columns: Sequence[str], way_out: str = "") -> dict[str, str]:
    """The column that asks, and the one that holds what it asks about; empty where no column asks."""
    asking = _holding(columns, ASKING, but_not=ANSWERING, speakers=ASKER)
    beside = _holding(columns, BESIDE, but_not=ASKING | ANSWERING)
    if not asking:
        asking, beside = beside, []
    if len(asking) > 1:
        raise _UnclearError(f"{_listed(asking)} could each be the question", way_out)
    if not asking or not beside:
        return {"question": asking[0]} if asking else {}
    complements = _words(asking[0]) & {"instruction"} or (
        _words(beside[0]) & {"context", "passage", "article"} and not _words(asking[0]) & {"prompt"}
    )
    if len(beside) > 1 or not complements:
        raise _UnclearError(f"{_listed([*asking, *beside])} could each be the question or a part of it", way_out)
    return {"question": asking[0], "context": beside[0]}


def _chat_parts(columns: Sequence[str]) -> dict[str, str]:
    """What may stand beside a conversation: the system message, and the tools that it may call."""
    return {part: name for part, known in (("system", SYSTEM), ("tools", TOOLS)) if (name := _called(columns, known))}


def _called(columns: Sequence[str], names: Set[str]) -> str:
    """The column with one of the compact `names`; empty if there is none."""
    found = [column for column in columns if compact(column) in names]
    if len(found) > 1:
        raise _UnclearError(f"{_listed(found)} are the same name", "rename or drop one of them")
    return found[0] if found else ""


def _holding(
    columns: Sequence[str], words: Set[str], *, but_not: Set[str], speakers: Set[str] = frozenset()
) -> list[str]:
    """Columns called one of `words`; else those whose names hold one; else those called one of `speakers`."""

    def called(names: Set[str]) -> list[str]:
        return [column for column in columns if compact(column).removesuffix("s") in names]

    other = but_not | ABOUT_A_COLUMN
    return (
        called(words)
        or [column for column in columns if _words(column) & words and not _words(column) & other]
        or called(speakers)
    )


def compact(name: str) -> str:
    """`Correct Answer`, `correct_answer` and `CorrectAnswer` are one name."""
    return "".join(re.findall(r"[^\W_]+", name.casefold()))


def _words(name: str) -> frozenset[str]:
    """The words of a name, in the singular: `patient_queries`, `userInput`, `Question (EN)`."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return frozenset(re.sub(r"ies$", "y", word.lower()).removesuffix("s") for word in found)


def _listed(columns: Sequence[str]) -> str:
    return " and ".join(f"`{column}`" for column in columns)
