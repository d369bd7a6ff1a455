"""Rows as the evaluator asks them, against the evaluator's own libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.data_engineer.checks.chat_template import ChatTemplate, chat_template_of
from agents.data_engineer.formats.rendering import as_text, render
from agents.data_engineer.formats.rows import Message, Row
from shared_memory.errors import BadInput

ODD = Row(
    id="1:1", question="  Leading space, {braces}, {question}, \\alpha, \u2028 and\u0085 a line\n",
    choices=("{x}", " b ", "$c$", "d\n", "fünf"), answer="E", explanation="So it is.",
)  # fmt: skip


def test_the_text_is_what_the_models_own_tokenizer_makes_of_the_messages(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    template = chat_template_of(tiny_model)
    assert template is not None
    row = render(ODD)
    asked, replied = as_text(row, template)
    messages = [message.plain() for message in row.prompt]
    assert asked == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    messages += [message.plain() for message in row.completion]
    assert asked + replied == tokenizer.apply_chat_template(messages, tokenize=False)
    assert replied == "So it is.\n\nANSWER: E<|im_end|>\n"


def test_the_prompt_is_inspects_own_byte_for_byte_for_any_number_of_choices() -> None:
    from inspect_ai.solver._multiple_choice import Choices, MultipleChoiceTemplate, prompt

    for count in (2, 3, 4, 5):
        choices = list(ODD.choices or ())[:count]
        row = render(Row(id="1:1", question=ODD.question, choices=tuple(choices), answer="A"))
        sent = prompt(ODD.question, Choices(choices), str(MultipleChoiceTemplate.SINGLE_ANSWER_COT.value))
        assert row.prompt[0].content.encode() == sent.encode()


def test_a_template_that_refuses_or_rewrites_the_prompt_is_told_by_row() -> None:
    row = Row(id="1:7", question="Hi", prompt=(Message("user", "Hi"),), completion=(Message("assistant", "Hello"),))
    with pytest.raises(BadInput, match=r"row 1:7: the chat template does not render it \(no users\); leave it out"):
        as_text(row, ChatTemplate("{{ raise_exception('no users') }}", {}))
    with pytest.raises(BadInput, match=r"row 1:7: the chat template changes the prompt once there is a reply"):
        as_text(row, ChatTemplate("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", {}))
