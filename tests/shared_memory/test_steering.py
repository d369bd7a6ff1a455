"""What a person's words ask for, read by plain rules: names in a run, for or against, or the end."""

from __future__ import annotations

import pytest

from shared_memory.steering import Names, Steer, Wish, bears_out, read_steer

NAMES = Names(recipes=("lora-small", "dpo-mild"), experiments=("e1", "e2", "e12"))


def told(steer: Steer | None) -> str:
    """`stop +method:dpo -experiment:e2`; `-` for a question, `words` where nothing is named."""
    if steer is None:
        return "-"
    words = ["stop"] if steer.stop else []
    words += [f"+{wish.about}:{wish.name}" for wish in steer.prefer]
    words += [f"-{wish.about}:{wish.name}" for wish in steer.avoid]
    return " ".join(words) or "words"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prefer DPO next", "+method:dpo"),
        ("stop after this experiment", "stop"),
        ("Please stop.", "stop"),
        ("no more experiments, deliver what you have", "stop"),
        ("could you please stop after this experiment?", "stop"),
        ("can you use DPO next?", "+method:dpo"),
        ("do not try higher learning rates", "words"),
        ("keep the batch small", "words"),
        ("try another recipe, not e2", "+move:draft -experiment:e2"),
        ("use dpo-mild instead of SFT", "+recipe:dpo-mild -method:sft"),
        ("don't ablate, improve e1", "+experiment:e1 +move:improve -move:ablate"),
        ("no more ablations", "-move:ablate"),
        ("stop trying kto", "-method:kto"),
        ("I'd rather see an ablation next", "+move:ablate"),
        ("improve e12", "+experiment:e12 +move:improve"),
        ("why was e2 discarded?", "-"),
        ("Why did e2 stop?", "-"),
        ("what did dpo-mild cost", "-"),
        ("can you tell me why e1 failed?", "-"),
        ("hello", "-"),
        ("stop training", "stop"),
        ("stop after e2", "stop"),
        ("stop the ablations", "-move:ablate"),
        ("stop improving e1, try another recipe", "+move:draft -experiment:e1 -move:improve"),
        ("enough ablations", "-move:ablate"),
        ("finish e2 first", "+experiment:e2"),
        ("do not stop after this", "words"),
        ("please don't stop the search", "words"),
        ("go on", "words"),
        ("use anything except dpo", "-method:dpo"),
        ("why was e2 discarded? Try DPO next.", "+method:dpo"),
        ("I want to know why e1 was discarded and what comes next", "-"),
        ("don\u2019t use DPO", "-method:dpo"),
        ("that\u2019s enough", "stop"),
        ("no DPO please", "-method:dpo"),
        ("No problem. DPO is fine", "-"),
        ("use SFT not DPO", "+method:sft -method:dpo"),
        ("try e1, e2 and not e12", "+experiment:e1 +experiment:e2 -experiment:e12"),
        ("stop trying DPO and use SFT", "+method:sft -method:dpo"),
        ("instead of SFT, use DPO", "+method:dpo -method:sft"),
        ("use anything but DPO", "-method:dpo"),
        ("finish e2 and stop", "stop +experiment:e2"),
        ("don't continue with e2", "-experiment:e2"),
        ("don't skip e2", "+experiment:e2"),
        ("stop training and deliver e2", "stop"),
        ("just stop", "stop"),
        ("do not go on", "stop"),
        ("you can stop now", "stop"),
        ("stop the whole search", "stop"),
        ("stop worrying about cost", "words"),
        ("stop sequences are wrong", "words"),
        ("finish reason is length", "words"),
        ("don't stop training early", "words"),
        ("never mind", "words"),
    ],
)
def test_common_forms_are_understood_and_a_question_steers_nothing(text: str, expected: str) -> None:
    assert told(read_steer(text, NAMES)) == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Steer(words="w", prefer=(Wish(about="method", name="dpo"),)), ""),
        (Steer(words="w", prefer=(Wish(about="recipe", name="gone"),)), "there is no recipe `gone`"),
        (Steer(words="w", avoid=(Wish(about="experiment", name="e1"),)), "does not name the experiment `e1`"),
        (Steer(words="w", stop=True), "does not ask to stop"),
    ],
)
def test_what_a_model_reads_out_of_words_must_stand_in_them(said: Steer, reason: str) -> None:
    found = bears_out("let us see dpo next", said, NAMES)
    assert (reason in found) if reason else not found


@pytest.mark.parametrize("words", ["why did e2 stop?", "don't stop", "is the search done?"])
def test_a_model_cannot_end_the_search_by_words_that_do_not_ask_for_it(words: str) -> None:
    assert "does not ask to stop" in bears_out(words, Steer(words=words, stop=True), NAMES)


def test_a_model_may_end_the_search_by_words_that_do() -> None:
    for words in ("could you please stop?", "stop after e2", "Why e2? Then stop.", "do not go on"):
        assert not bears_out(words, Steer(words=words, stop=True), NAMES)


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [("continue", True), ("I don't want to stop", True), ("no need to stop", True), ("don\u2019t stop", True),
     ("don't go on with e2", False), ("do not continue", False), ("no more ablations", False)],
)  # fmt: skip
def test_a_wish_to_go_on_is_told_from_one_not_to(words: str, goes_on: bool) -> None:
    steer = read_steer(words, NAMES)
    assert steer is not None
    assert steer.goes_on is goes_on
