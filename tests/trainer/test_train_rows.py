"""What rows may hold, and what of them is learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_tokenizer
from tests.trainer.job import PLACES, ROWS, Warm, job, loaded, mean_loss, updates


def say(role: str, content: str = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | more


def call(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "arguments": arguments}}]


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


# No two rows have the same keys: what must never happen is that one gets those of the others.
CALLS: list[dict[str, Any]] = [
    {
        "prompt": [say("user", "What is kept in the attic?")],
        "completion": [say("assistant", tool_calls=call("look", place="attic"))],
        "tools": [tool("look", place={"type": "string"}), tool("weigh", kg={"type": "number", "minimum": 0})],
    },
    {
        "prompt": [
            say("user", "How heavy is it?"),
            say("assistant", tool_calls=call("weigh", kg=7, exact=True)),
            say("tool", "7 kg", name="weigh"),
        ],
        "completion": [say("assistant", "It weighs 7 kg.")],
        "tools": [tool("weigh", kg={"type": "number"})],
    },
    {"prompt": [say("user", "And without tools?")], "completion": [say("assistant", "Nobody knows.")]},
]


def with_tools(rows: list[dict[str, Any]]) -> str:
    """As a data set holds them: tools as a JSON text."""
    return "".join(
        json.dumps(row | ({"tools": json.dumps(row["tools"])} if "tools" in row else {})) + "\n" for row in rows
    )


@pytest.fixture(scope="module")
def calling_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template that knows tools."""
    import trl

    folder = tmp_path_factory.mktemp("models") / "calling"
    shutil.copytree(tiny_model, folder)
    shutil.copy(Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja", folder / "chat_template.jinja")
    return folder


def test_tools_and_calls_are_read_and_calls_are_learned(warm: Warm, calling_model: Path, tmp_path: Path) -> None:
    folder = job(tmp_path / "job", model=calling_model, batch=3, micro_batch=3)
    (folder / "data.jsonl").write_text(with_tools(CALLS))
    events, result = warm.run(folder)
    model, tokenizer = loaded(calling_model)
    rows = []
    for row in CALLS:
        tools = row.get("tools")
        asked = tokenizer.apply_chat_template(row["prompt"], tools=tools, add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tools=tools)["input_ids"]
        # Before a call the template writes no line end, which is the prompt's last token.
        rows.append((whole, len(asked) if whole[: len(asked)] == asked else len(asked) - 1))
    assert result["tokens"] == sum(len(whole) for whole, _ in rows)
    [first] = updates(events)
    assert first == pytest.approx(mean_loss(model, rows), abs=1e-3)


def test_dpo_reads_tools_too(warm: Warm, calling_model: Path, tmp_path: Path) -> None:
    pair = {
        "prompt": CALLS[0]["prompt"], "tools": CALLS[0]["tools"],
        "chosen": CALLS[0]["completion"], "rejected": [say("assistant", "No idea.")],
    }  # fmt: skip
    folder = job(tmp_path / "job", model=calling_model, method="dpo", batch=1, micro_batch=1)
    (folder / "data.jsonl").write_text(with_tools([pair]))
    _, result = warm.run(folder)
    _, tokenizer = loaded(calling_model)
    chats = [pair["prompt"] + pair[name] for name in ("chosen", "rejected")]
    assert result["tokens"] == sum(
        len(tokenizer.apply_chat_template(chat, tools=pair["tools"])["input_ids"]) for chat in chats
    )


def test_a_text_is_learned_from_its_beginning_to_its_end(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    texts = [f"In the {place} lie {number * 7} kg of {place[::-1]}." for number, place in enumerate(PLACES)]
    (tmp_path / "base").mkdir()
    shutil.copytree(tiny_model, tmp_path / "base", dirs_exist_ok=True)
    (tmp_path / "base" / "chat_template.jinja").unlink()  # a text needs none
    folder = job(tmp_path / "job", model=tmp_path / "base", batch=8, micro_batch=8)
    (folder / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    events, result = warm.run(folder)
    model, tokenizer = loaded(tiny_model)
    rows = [(tokenizer(text + "<|im_end|>")["input_ids"], 1) for text in texts]
    assert result["tokens"] == sum(len(ids) for ids, _ in rows)
    [first] = updates(events)
    assert first == pytest.approx(mean_loss(model, rows), abs=1e-3)


@pytest.mark.parametrize("padding", ["<|im_end|>", None])
def test_the_end_of_a_turn_is_in_the_loss_where_padding_is_the_same_token_or_has_none(
    warm: Warm, tiny_model: Path, tmp_path: Path, padding: str | None
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    for name, key in (("tokenizer_config.json", "pad_token"), ("config.json", "pad_token_id")):
        settings = json.loads((tmp_path / "base" / name).read_text())
        settings[key] = padding if key == "pad_token" else None
        (tmp_path / "base" / name).write_text(json.dumps(settings))
    folder = job(tmp_path / "job", model=tmp_path / "base", batch=8, micro_batch=8, precision="float32")
    events, _ = warm.run(folder)
    model, tokenizer = loaded(tiny_model)
    whole = [tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"] for row in ROWS]
    asked = [tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"] for row in ROWS]
    assert all(ids[-2] == tokenizer.eos_token_id for ids in whole)
    expected = mean_loss(model, [(ids, len(prompt)) for ids, prompt in zip(whole, asked, strict=True)])
    assert updates(events) == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(
    ("method", "rows", "words"),
    [
        ("sft", [{"text": "x"}, ROWS[0]], "row 2: texts and conversations are mixed"),
        ("sft", [ROWS[0], {"text": "x"}], "row 2: texts and conversations are mixed"),
        ("sft", [{"text": "x"} | ROWS[0]], "row 1: prompt: Extra inputs"),
        ("sft", [{"text": " "}], "row 1: text: "),
        ("sft", [ROWS[0] | {"tools": "look(place)"}], "row 1: tools: Invalid JSON"),
        ("sft", [ROWS[0] | {"prompt": []}], "row 1: prompt: "),
        ("dpo", [{"text": "x"}], "give rows of prompt and chosen and rejected, lists of messages"),
        ("dpo", ROWS, "row 1: chosen: Field required"),
        ("kto", ROWS, "give rows of prompt and completion and label"),
        ("grpo", [{"prompt": ROWS[0]["prompt"]}], "row 1 has no `answer`, which the reward exact_match needs"),
        ("grpo", [ROWS[0] | {"answer": "x", "tools": "[{}]"}], "nothing that could answer a call"),
    ],
)
def test_rows_that_cannot_be_trained_together_or_at_all_are_refused(
    warm: Warm, method: str, rows: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    assert words in warm.refusal(job(tmp_path / "job", rows, model="m", method=method, batch=8))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message['content'] }}{% endfor %}", "does not render tools"),
        ("{{ raise_exception('too long a story') }}", "does not render it (too long a story)"),
    ],
)
def test_a_template_that_drops_or_refuses_something_stops_the_job_before_training(
    warm: Warm, tiny_model: Path, tmp_path: Path, template: str, words: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    folder = job(tmp_path / "job", model=tmp_path / "model")
    (folder / "data.jsonl").write_text(with_tools(CALLS))
    line = warm.refusal(folder)
    assert "data.jsonl, row 1: the chat template" in line
    assert words in line


def test_what_a_template_leaves_out_is_known_by_name(calling_model: Path) -> None:
    from chats import left_out

    plain, knowing = tiny_tokenizer(), loaded(calling_model)[1]
    prompt, reply = [say("user", "x")], [say("assistant", "y")]
    calls = [say("assistant", tool_calls=call("look"))]
    thinks = [say("assistant", "y", reasoning_content="hm")]
    answered = [*prompt, *calls, say("tool", "z")]
    silent = tiny_tokenizer()
    silent.chat_template = "{% for m in messages if m.role != 'tool' %}{{ m }}{% endfor %}"
    assert list(left_out(prompt, reply, None, plain)) == []
    assert list(left_out(prompt, reply, CALLS[0]["tools"], plain)) == ["tools"]
    assert list(left_out(prompt, calls, None, plain)) == ["tool_calls"]
    assert list(left_out(answered, reply, CALLS[0]["tools"], knowing)) == []
    assert list(left_out(answered, reply, None, silent)) == ["what tools answer"]
    assert list(left_out(prompt, thinks, None, knowing)) == ["reasoning_content"]
    assert list(left_out([*thinks, *prompt], reply, None, knowing)) == [], "thoughts before earlier turns may go"
