"""Leaks of benchmark items in every disguise that changes no word, and neighbours that are none."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from agents.data_engineer.decontaminate import BenchmarkText, decontaminate
from agents.data_engineer.formats import Message, Row
from tests.data_engineer.rows import FORCE

TEMPLATES = (
    FORCE,
    "Convert {m} km and {a} m to metres.",
    "How long does light need for {m} million km if it covers 0.3 million km in each second, and {a} s are lost?",
    "A crane lifts a load of {m} kg through a height of {a} m. Ignore friction and take the acceleration due to "
    "gravity to be 9.8 metres per second squared. What work does the crane do on the load?",
    "What is {m} / {a}?",
)
PLAIN = (
    "Which of the four fundamental forces holds the quarks inside a proton together at short distances?",
    "Why does ice float on liquid water?",
)


def item(template: str, m: int, a: int) -> BenchmarkText:
    return BenchmarkText("quick", f"{TEMPLATES.index(template)}-{m}-{a}", template.format(m=m, a=a), ("1 N", "2 N"))


ITEMS = [item(template, m, a) for template in TEMPLATES for m in range(40, 46) for a in (3, 7)] + [
    BenchmarkText("plain", str(n), question, ("the strong force", "because it is less dense"))
    for n, question in enumerate(PLAIN)
]


def multiple_choice(question: str) -> Row:
    return Row(id="r", question=question, choices=("9 N", "8 N", "7 N", "6 N"), answer="A", explanation="It is 9 N.")


def chat(question: str) -> Row:
    prompt = f"Answer the question below.\n\n{question}\n\nA) 9 N\nB) 8 N"
    return Row(id="r", question=prompt, prompt=(Message("user", prompt),),
               completion=(Message("assistant", "It is less dense: 9 N."),))  # fmt: skip


def repunctuated(text: str) -> str:
    """Other marks between the words; the point of a decimal number stays."""
    return re.sub(r"[.?](?=\s|$)", " !", text).replace(",", " ;").replace(" of ", " (of) ")


def respaced(text: str) -> str:
    return "\n".join(text.split()).replace(" km", "km")


@pytest.mark.parametrize("as_row", [multiple_choice, chat])
@pytest.mark.parametrize("disguise", [str, str.upper, repunctuated, respaced])
def test_every_item_is_found_verbatim_recased_and_repunctuated(
    as_row: Callable[[str], Row], disguise: Callable[[str], str]
) -> None:
    for benchmark in ITEMS:
        kept, _, contamination = decontaminate([as_row(disguise(benchmark.question))], ITEMS)
        assert kept == [], benchmark.question
        assert contamination[benchmark.benchmark] > 0


def test_a_leak_in_the_reply_or_with_a_few_words_changed_is_found() -> None:
    reply = Row(id="r", question="Write an exam question.", prompt=(Message("user", "Write an exam question."),),
                completion=(Message("assistant", ITEMS[0].question),))  # fmt: skip
    changed = multiple_choice(ITEMS[0].question.replace("the net force", "the total force"))
    part = chat(PLAIN[0].removesuffix(" at short distances?"))
    assert decontaminate([reply, changed, part], ITEMS)[0] == []


@pytest.mark.parametrize("as_row", [multiple_choice, chat])
def test_the_same_templates_with_other_numbers_all_stay(as_row: Callable[[str], Row]) -> None:
    rng = random.Random(0)
    rows = [
        as_row(template.format(m=m, a=a))
        for template in TEMPLATES
        for m, a in ((rng.randrange(50, 90), rng.randrange(2, 30)) for _ in range(200))
    ]
    rows += [as_row(template.format(m=m, a=5)) for template in TEMPLATES for m in range(40, 46)]
    rows += [as_row(template.format(m=a, a=m)) for template in TEMPLATES for m in range(40, 46) for a in (3, 7)]
    kept, step, contamination = decontaminate(rows, ITEMS)
    assert [row.question for row in rows if row not in kept] == []
    assert contamination == {"quick": 0.0, "plain": 0.0}
    assert (step.rows_in, step.rows_out) == (len(rows), len(rows))


def test_other_questions_that_share_a_stem_stay() -> None:
    stem = BenchmarkText("plain", "stem", "Which is right?", ("mass is energy", "time is money"))
    near = [chat("Which is right? Pick a law of thermodynamics."), chat("Why does ice melt in summer?")]
    assert decontaminate(near, [*ITEMS, stem])[0] == near
    assert decontaminate([multiple_choice("which is RIGHT")], [stem])[0] == []


def test_the_share_of_items_hit_is_counted_per_benchmark_and_once_an_item() -> None:
    rows = [multiple_choice(PLAIN[0]), chat(PLAIN[0]), multiple_choice("What is the boiling point of neon?")]
    kept, step, contamination = decontaminate(rows, ITEMS)
    assert kept == rows[2:]
    assert contamination == {"quick": 0.0, "plain": 0.5}
    assert step.note == "quick: 0 of 60 items found; plain: 1 of 2 items found"


def test_without_a_benchmark_the_step_says_so() -> None:
    kept, step, contamination = decontaminate([chat("Anything?")], [])
    assert (len(kept), step.note, contamination) == (1, "no benchmark to check against", {})
