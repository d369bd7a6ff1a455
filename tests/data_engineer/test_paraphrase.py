"""Benchmark questions in other words, and neighbours that only share their words."""

from __future__ import annotations

import socket

import pytest

from agents.data_engineer.contamination import word_vectors
from agents.data_engineer.contamination.decontaminate import BenchmarkText, Detector, screen
from agents.data_engineer.contamination.quantities import quantities
from agents.data_engineer.contamination.word_vectors import CHARACTERS, CharacterVectors
from agents.data_engineer.formats.rows import Message, Row
from agents.data_engineer.words import words

ITEMS = [
    BenchmarkText("b", "hastings", "In which year was the Battle of Hastings fought?", answer="1066"),
    BenchmarkText("b", "austen", "Who wrote the novel Pride and Prejudice?", ("Mary Shelley", "Jane Austen"),
                  "Jane Austen"),
    BenchmarkText("b", "heart", "Which blood vessel carries oxygen-rich blood from the heart to the body?",
                  ("the vena cava", "the aorta"), "the aorta"),
    BenchmarkText("b", "train", "A train covers 185 km in 2.5 hours. What is its average speed?", answer="74 km/h"),
    BenchmarkText("b", "sum", "A clerk adds up the three bills 61.5, 120 and 74.5 euros. What is the total?",
                  answer="256 euros"),
    BenchmarkText("b", "gas", "Which gas do plants absorb from the atmosphere during photosynthesis?",
                  answer="carbon dioxide"),
]  # fmt: skip
PARAPHRASES = {
    "hastings": ("When did the Battle of Hastings take place?", "It took place in 1066."),
    "austen": ("Pride and Prejudice is a novel by which author?", "Its author was Jane Austen."),
    "heart": ("Name the artery through which blood full of oxygen leaves the heart for the body.", "The aorta."),
    "train": ("How fast is a train on average that needs 2.5 hours for 185 kilometres?", "Seventy-four km/h."),
    "sum": ("Bills of 61.5, 120 and 74.5 euros are added by a clerk. Find the total.",
            "Two hundred and fifty-six euros."),
    "gas": ("During photosynthesis, what gas is taken by plants from the air?", "Carbon dioxide."),
}  # fmt: skip
NEIGHBOURS = (
    ("Who commanded the Norman army at the Battle of Hastings?", "William, Duke of Normandy."),
    ("Who is the heroine of the novel Pride and Prejudice?", "Elizabeth Bennet."),
    ("Which blood vessel carries oxygen-poor blood from the heart to the lungs?", "The pulmonary artery."),
    ("How far does a train get in 2.5 hours at an average speed of 185 km/h?", "462.5 km."),
    ("Which gas do plants release into the atmosphere during photosynthesis?", "Oxygen."),
    ("Which sea lies between Sweden and Finland?", "The Gulf of Bothnia."),
)


def chat(question: str, reply: str) -> Row:
    return Row(
        id="r", question=question, prompt=(Message("user", question),), completion=(Message("assistant", reply),)
    )


@pytest.mark.parametrize("item", PARAPHRASES)
def test_the_question_in_other_words_with_the_same_answer_is_found(item: str) -> None:
    (hit,) = Detector(ITEMS).hits([chat(*PARAPHRASES[item])])
    assert (hit.item.id, hit.rule) == (item, "paraphrase")


def test_neighbours_with_another_answer_stay() -> None:
    rows = [chat(question, reply) for question, reply in NEIGHBOURS]
    assert screen(rows, ITEMS)[0] == rows


def test_the_same_question_with_another_answer_or_none_is_no_evidence() -> None:
    question = PARAPHRASES["heart"][0]
    rows = [chat(question, "The vena cava."), Row(id="r", question=question, prompt=(Message("user", question),))]
    assert screen(rows, ITEMS)[0] == rows


def test_the_answer_is_also_found_where_a_letter_names_it() -> None:
    question, choices = PARAPHRASES["austen"][0], ("Emily Brontë", "Jane Austen")
    asked = f"{question}\n\nA) Jane Austen\nB) Emily Brontë"
    right = [chat(asked, "ANSWER: A"), Row(id="r", question=question, choices=choices, answer="B")]
    wrong = [chat(asked, "ANSWER: B"), Row(id="r", question=question, choices=choices, answer="A")]
    assert screen([*right, *wrong], ITEMS)[0] == wrong


def test_numbers_are_read_in_figures_and_in_words() -> None:
    assert quantities(words("6,600 metres are 6.6 km, and 0.80 is 80 percent")) == {"66", "8"}
    assert quantities(words("two hundred and fifty-six, or three quarters of one of them")) == {"256", "3", "75"}


def test_benchmarks_without_answers_or_without_words_are_searched_for_all_the_same() -> None:
    bare = [BenchmarkText("b", "1", "In which year was the Battle of Hastings fought?"), BenchmarkText("b", "2", "…")]
    rows = [chat("In which year was the battle of Hastings fought?", "1066"), chat(*PARAPHRASES["hastings"])]
    kept, evidence = screen(rows, bare)
    assert (kept, evidence.shares) == (rows[1:], {"b": 0.5})


def test_without_wordllama_characters_stand_in_and_the_evidence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "find_spec", lambda name: None)
    kept, evidence = screen([chat(*PARAPHRASES["austen"]), *(chat(*row) for row in NEIGHBOURS)], ITEMS)
    assert (len(kept), evidence.embeddings) == (len(NEIGHBOURS), CHARACTERS)


def test_character_vectors_put_inflections_together_and_other_words_apart() -> None:
    vectors = CharacterVectors([words(item.question) for item in ITEMS])
    plant, plants, battle = vectors(["plant", "plants", "battle"])
    assert plant @ plants > 3 * abs(plant @ battle)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Detector(ITEMS).embeddings.startswith("wordllama ")


def test_the_same_rows_give_the_same_hits_in_one_batch_or_in_many() -> None:
    rows = [chat(*pair) for pair in (*PARAPHRASES.values(), *NEIGHBOURS)]
    together = [(hit.row, hit.item.id) for hit in Detector(ITEMS).hits(rows)]
    detector = Detector(ITEMS)
    assert together == [(n, hit.item.id) for n, row in enumerate(rows) for hit in detector.hits([row])] != []


def test_items_with_many_choices_and_with_none_are_not_mistaken_for_each_other() -> None:
    mixed = [
        BenchmarkText("b", "bare", "Why is the sky blue on a clear day?"),
        BenchmarkText("b", "austen", ITEMS[1].question, ("Mary Shelley", "Jane Austen")),
    ]
    assert [hit.item.id for hit in Detector(mixed).hits([chat(*PARAPHRASES["austen"])])] == ["austen"]
