"""Leaks of benchmark items in every disguise that changes no word, and neighbours that are none."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from agents.data_engineer.contamination.decontaminate import BenchmarkText, Detector, Rule, screen, step_of
from agents.data_engineer.formats.rows import Message, Row
from agents.data_engineer.tokens import hashed_words
from shared_memory.errors import BadInput
from shared_memory.records import ContaminationEvidence
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
    return BenchmarkText(
        "quick", f"{TEMPLATES.index(template)}-{m}-{a}", template.format(m=m, a=a), ("1 N", "2 N"), f"{m * a} N"
    )


ITEMS = [item(template, m, a) for template in TEMPLATES for m in range(40, 46) for a in (3, 7)] + [
    BenchmarkText("plain", str(n), question, ("the strong force", "because it is less dense"))
    for n, question in enumerate(PLAIN)
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(ITEMS)


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
    as_row: Callable[[str], Row], disguise: Callable[[str], str], detector: Detector
) -> None:
    hits = detector.hits([as_row(disguise(benchmark.question)) for benchmark in ITEMS])
    found = {(hit.row, hit.item) for hit in hits}
    assert [item.question for row, item in enumerate(ITEMS) if (row, item) not in found] == []


def test_a_leak_in_the_reply_or_with_a_few_words_changed_is_found() -> None:
    reply = Row(id="r", question="Write an exam question.", prompt=(Message("user", "Write an exam question."),),
                completion=(Message("assistant", ITEMS[0].question),))  # fmt: skip
    question = ITEMS[0].question.replace("the net force", "the total force")
    changed = Row(id="r", question=question, choices=("9 N", "120 N"), answer="B")
    assert screen([reply, changed], ITEMS)[0] == []


def test_a_question_split_over_messages_is_put_together_again(detector: Detector) -> None:
    for benchmark in ITEMS:
        words = benchmark.question.split()
        halves = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
        turns = Message("user", halves[0]), Message("assistant", "Go on."), Message("user", halves[1])
        row = Row(id="r", question=halves[1], prompt=turns, completion=(Message("assistant", "I see."),))
        assert detector.hits([row]), benchmark.question


LONG_ONE = BenchmarkText(
    "law", "1", "Under which doctrine may a court of one country decline to hear a case because the courts of another "
    "country are clearly the more suitable place in which to try it, and which factors does it weigh up?",
    answer="Forum non conveniens; it weighs up the private interests of the parties and the interests of the public",
    passage="The claimant, a resident of the island, was injured on a ship that was owned by a company of the mainland "
    "and that sailed under the flag of a third country at the time.",
)  # fmt: skip


def test_an_edited_question_counts_with_its_answer_and_an_answer_or_a_passage_alone_is_nothing() -> None:
    edited = LONG_ONE.question.replace("suitable", "fitting")
    rules: tuple[Rule, ...] = ("question", "overlap")
    rows = [chat(edited), Row(id="r", question="", prompt=(Message("user", f"{edited} {LONG_ONE.answer}"),))]
    assert screen(rows, [LONG_ONE], rules=rules)[0] == rows[:1]
    alone = [Row(id="r", question="", passage=text) for text in (LONG_ONE.answer, LONG_ONE.passage)]
    assert screen(alone, [LONG_ONE], rules=rules)[0] == alone


@pytest.mark.parametrize(("rule", "found"), [("13-gram", True), ("8-gram", True), ("question", False)])
def test_the_other_rules_find_a_part_of_a_question(rule: Rule, found: bool) -> None:
    row = Row(id="r", question="", passage=f"It was asked {' '.join(LONG_ONE.question.split()[3:24])} back then.")
    evidence = screen([row], [LONG_ONE], rules=(rule,))[1]
    assert evidence.benchmarks["law"].rules == ({rule: 1} if found else {})


def test_hashed_words_that_are_there_already_find_the_same() -> None:
    rows = [chat(benchmark.question) for benchmark in ITEMS[:5]]
    detector = Detector(ITEMS, rules=("question", "overlap"))
    assert detector.hits(rows, hashed_words([row.text for row in rows])) == detector.hits(rows) != []


def test_a_rule_that_there_is_not_is_named_with_those_that_there_are() -> None:
    unknown: list[Rule] = ["7-gram"]  # type: ignore[list-item]
    with pytest.raises(BadInput, match=r"^no rule 7-gram; choose from question, overlap, "):
        Detector(ITEMS, rules=unknown)


def test_the_evidence_names_rows_items_and_rules_and_never_quotes_an_item() -> None:
    rows = [Row(id=f"1:{n}", question=PLAIN[0], passage="") for n in range(30)] + [chat("Who are you?")]
    kept, evidence = screen(rows, ITEMS)
    assert kept == rows[30:]
    assert (evidence.rows_checked, evidence.rows_flagged, evidence.shares) == (31, 30, {"quick": 0.0, "plain": 0.5})
    found = evidence.benchmarks["plain"]
    assert (found.items, found.items_found, found.rows_flagged, found.rules) == (2, 1, 30, {"question": 30})
    assert [example.row for example in found.examples] == [f"1:{n}" for n in range(20)]
    text = evidence.model_dump_json()
    assert not [word for word in ("quarks", "proton", "crate") if word in text]
    assert ContaminationEvidence.model_validate_json(text) == evidence
    other = screen(rows, [*ITEMS[:-1], BenchmarkText("plain", "1", "Why does ice sink?")])[1]
    assert other.items_digest != evidence.items_digest


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
    kept, evidence = screen(rows, ITEMS)
    assert [row.question for row in rows if row not in kept] == []
    assert evidence.shares == {"quick": 0.0, "plain": 0.0}
    assert (step_of(evidence).rows_in, step_of(evidence).rows_out) == (len(rows), len(rows))


SUMS = [
    BenchmarkText("sums", question, question)
    for question in ("What is 12 * 7?", "What do a * b and c make?", "How warm is -40 °C?", "Is 9 < 4?", "9 + 4")
]


@pytest.mark.parametrize(
    ("question", "item"),
    [
        ("what is 12 × 7 = …", "What is 12 * 7?"),
        ("What is 12 7", "What is 12 * 7?"),
        ("What is 12 + 7?", ""),
        ("What is 12 * -7?", ""),
        ("What is 12 * 7 + 100 - 3?", ""),
        ("What do a·b and c make", "What do a * b and c make?"),
        ("What do a + b and c make?", ""),
        ("How warm is −40 °C?", "How warm is -40 °C?"),
        ("How warm is 40 °C?", ""),
        ("is 9 ＜ 4", "Is 9 < 4?"),
        ("Is 9 > 4?", ""),
        ("9+4", "9 + 4"),
        ("9 - 4", ""),
    ],
)
def test_another_operator_or_sign_is_another_question(question: str, item: str) -> None:
    assert [hit.item.id for hit in Detector(SUMS).hits([multiple_choice(question)])] == [item] * bool(item)


def test_a_brief_question_is_not_found_in_a_longer_one() -> None:
    asked = "Why does ice float"
    brief = [BenchmarkText("b", question, question, answer="It is less dense") for question in ("苹果", asked)]
    longer = [chat("苹果树"), chat("大苹果"), chat(f"{asked} on milk?")]
    assert screen(longer, brief)[0] == longer
    assert screen([chat("苹果"), chat(f"{asked}?"), chat(f"Q: {asked.upper()}!")], brief)[0] == []


def test_other_questions_that_share_a_stem_stay() -> None:
    stem = BenchmarkText("plain", "stem", "Which is right?", ("mass is energy", "time is money"))
    near = [chat("Which is right? Pick a law of thermodynamics."), chat("Why does ice melt in summer?")]
    assert screen(near, [*ITEMS, stem])[0] == near
    assert screen([multiple_choice("which is RIGHT")], [stem])[0] == []


def test_the_share_of_items_hit_is_counted_per_benchmark_and_once_an_item() -> None:
    rows = [multiple_choice(PLAIN[0]), chat(PLAIN[0]), multiple_choice("What is the boiling point of neon?")]
    kept, evidence = screen(rows, ITEMS)
    assert kept == rows[2:]
    assert evidence.shares == {"quick": 0.0, "plain": 0.5}
    assert step_of(evidence).note.startswith(
        "quick: 0 of 60 items found; plain: 1 of 2 items found; by question, overlap, paraphr"
    )


def test_without_a_benchmark_the_step_says_so() -> None:
    kept, evidence = screen([chat("Anything?")], [])
    assert (len(kept), step_of(evidence).note, evidence.shares) == (1, "no benchmark to check against", {})
