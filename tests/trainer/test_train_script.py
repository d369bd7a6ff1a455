"""The training job, run as a runner would run it: a folder, a config, a process."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.trainer.scripts.train import left_out
from tests.tiny import tiny_tokenizer

SCRIPT = Path(__file__).parents[2] / "agents" / "trainer" / "scripts" / "train.py"
PLACES = ("attic", "bridge", "cellar", "dock", "earth", "field", "garden", "harbour")
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"Item {number}: what is kept in the {place}?"}],
        "completion": [{"role": "assistant", "content": f"{number * 7} kg of {place[::-1]}."}],
    }
    for number, place in enumerate(PLACES, 2)
]
NO_NETWORK = """
import socket
def refuse(*a, **k):
    raise AssertionError("a socket was opened to the outside")
socket.getaddrinfo = refuse
socket.create_connection = refuse
"""
LEARNS = {"batch": 4, "micro_batch": 2, "learning_rate": 1e-2, "lora": {"r": 8, "alpha": 16}}


def job(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "config.json").write_text(json.dumps(LEARNS | config, default=str))
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    """With no way out to the network, and an environment that asks for one."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder / "site"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "TRACKIO_SPACE_ID": "somebody/elsewhere",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(SCRIPT), "--config", "config.json"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def run(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Events and result of a job that succeeds; every line of its standard output is an event."""
    process = start(folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    *events, last = [json.loads(line) for line in out.splitlines()]
    return events, last["result"]


def completion_and_prompt_loss(model: Any, tokenizer: Any) -> tuple[float, float]:
    """Mean loss over the tokens of all completions, end of turn included, and over those of all questions."""
    import torch

    completion, prompt = [], []
    for row in ROWS:
        asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        ids = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        losses = (-scores.gather(-1, ids[0, 1:, None])[:, 0]).tolist()
        prompt += losses[: len(asked) - 1]
        completion += losses[len(asked) - 1 :]
    return math.fsum(completion) / len(completion), math.fsum(prompt) / len(prompt)


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that went over eight rows eighty times with all weights: LoRA cannot teach a random model much."""
    folder = job(
        tmp_path_factory.mktemp("train") / "job", model=tiny_model, lora=None, epochs=80, report_to=["trackio"]
    )
    events, result = run(folder)
    (folder / "events.json").write_text(json.dumps([events, result]))
    return folder


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_the_loss_falls_and_every_update_is_an_event_and_a_line_of_metrics(trained: Path) -> None:
    events, result = json.loads((trained / "events.json").read_text())
    updates = [event for event in events if "loss" in event]
    assert [event["step"] for event in updates] == list(range(1, 161))
    assert all(event["steps"] == 160 for event in events)
    assert updates[0]["loss"] > 4
    assert updates[-1]["loss"] < 0.3
    assert updates[0]["seconds"] < updates[-1]["seconds"] <= result["seconds"]
    metrics = [json.loads(line) for line in (trained / "out" / "metrics.jsonl").read_text().splitlines()]
    assert metrics == updates
    assert result.keys() == {
        "train_loss", "steps", "rows", "tokens", "tokens_per_second", "peak_memory_gib", "seconds", "model",
    }  # fmt: skip
    assert (result["steps"], result["rows"], result["model"]) == (160, 8, "out/model")
    assert 0.1 < result["peak_memory_gib"] < 4


def test_tokens_are_counted_without_padding(trained: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    chats = [row["prompt"] + row["completion"] for row in ROWS]
    once = sum(len(tokenizer.apply_chat_template(chat)["input_ids"]) for chat in chats)
    assert json.loads((trained / "events.json").read_text())[1]["tokens"] == 80 * once


def test_only_completions_are_learned(trained: Path) -> None:
    model, tokenizer = loaded(trained / "out" / "model")
    completion, prompt = completion_and_prompt_loss(model, tokenizer)
    assert completion < 0.3
    assert prompt > 4


def test_the_end_of_the_turn_is_learned(trained: Path) -> None:
    model, tokenizer = loaded(trained / "out" / "model")
    for row in ROWS[:3]:
        asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_tensors="pt")
        answer = model.generate(**asked, max_new_tokens=40, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(answer) == row["completion"][0]["content"] + "<|im_end|>"


def test_metrics_go_to_a_local_trackio_project_and_nothing_else_is_written(trained: Path) -> None:
    assert (trained / "trackio" / "postgrad.db").stat().st_size > 0
    made = {path.name for path in trained.iterdir()} - {"config.json", "data.jsonl", "events.json", "site"}
    assert made <= {"out", "trackio", "home"}
    assert not [path for path in (trained / "home").rglob("*") if path.is_file()]
    assert {path.name for path in (trained / "out").iterdir()} == {"model", "metrics.jsonl"}


def test_the_bases_tokenizer_files_and_generation_config_are_handed_on(trained: Path, tiny_model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (trained / "out" / "model" / name).read_bytes() == (tiny_model / name).read_bytes()


def test_training_goes_on_from_an_adapter(trained: Path, tmp_path: Path) -> None:
    base = trained / "out" / "model"
    first = job(tmp_path / "first", model=base, epochs=20)
    (first / "data.jsonl").write_text((first / "data.jsonl").read_text().replace("kg of", "bags of"))
    began, *_, ended = [event["loss"] for event in run(first)[0] if "loss" in event]
    assert ended < began / 2
    adapter = first / "out" / "adapter"
    before = (adapter / "adapter_model.safetensors").read_bytes()

    second = job(tmp_path / "second", model=base, adapter=adapter, learning_rate=1e-4)
    (second / "data.jsonl").write_text((first / "data.jsonl").read_text())
    went_on, *_ = [event["loss"] for event in run(second)[0] if "loss" in event]
    assert went_on == pytest.approx(ended, abs=0.1)
    assert (second / "out" / "adapter" / "adapter_model.safetensors").read_bytes() != before
    assert (adapter / "adapter_model.safetensors").read_bytes() == before


def test_packing_keeps_rows_apart(trained: Path, tmp_path: Path) -> None:
    """Packed and separate rows must have the same loss before the first update changes anything."""
    ways = {"packed": {"packing": True, "max_length": 512, "batch": 1, "micro_batch": 1}, "apart": {"batch": 8}}
    losses = []
    for name, settings in ways.items():
        folder = job(tmp_path / name, model=trained / "out" / "model", **settings)
        (folder / "data.jsonl").write_text((folder / "data.jsonl").read_text().replace("kg of", "bags of"))
        losses += [event["loss"] for event in run(folder)[0] if "loss" in event]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_seq_length": 512}, "max_seq_length"),
        ({"lora": {"rank": 8}}, "lora.rank"),
        ({"epochs": "three"}, "epochs"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"batch": 6, "micro_batch": 4}, "batch 6 is not a multiple of micro_batch 4"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"data": "config.json"}, "config.json, row 1: prompt: Field required"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all cannot be loaded"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    process = start(job(tmp_path / "job", **({"model": "m"} | config)))
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "; " in line


def test_a_job_that_is_told_to_stop_fails_without_a_result(tiny_model: Path, tmp_path: Path) -> None:
    process = start(job(tmp_path / "job", model=tiny_model, epochs=100_000))
    assert process.stdout
    assert any(json.loads(line)["step"] == 2 for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode != 0
    assert "result" not in out


def test_dpo_makes_the_chosen_text_likelier_than_the_rejected(tiny_model: Path, tmp_path: Path) -> None:
    pairs = [
        {
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": [{"role": "assistant", "content": "I do not know, and nobody does."}],
        }
        for row in ROWS
    ]
    folder = job(tmp_path / "dpo", model=tiny_model, method="dpo", beta=0.1, epochs=6)
    (folder / "data.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    events, result = run(folder)

    losses = [event["loss"] for event in events if "loss" in event]
    assert losses[0] == pytest.approx(math.log(2), abs=0.05), "untrained, it prefers neither"
    assert losses[-1] < 0.5 * losses[0]
    assert (folder / result["model"] / "adapter_config.json").exists()
    assert not (folder / "out" / "adapter" / "ref").exists()

    again = job(tmp_path / "again", model=tiny_model, method="dpo", epochs=1, adapter=folder / result["model"])
    (again / "data.jsonl").write_text((folder / "data.jsonl").read_text())
    _, result = run(again)
    assert [path.name for path in (again / result["model"]).glob("*/")] == [], "the reference is not part of the result"


def test_rows_that_the_method_cannot_use_are_named(tiny_model: Path, tmp_path: Path) -> None:
    process = start(job(tmp_path / "job", model=tiny_model, method="dpo"))
    _, err = process.communicate()
    assert process.returncode == 2
    assert "row 1" in err
    assert "chosen and rejected" in err


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


def mean_loss(model: Any, rows: list[tuple[list[int], int]]) -> float:
    """Over the tokens of all rows from where each one's loss begins."""
    import torch

    losses: list[float] = []
    for ids, start in rows:
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        losses += (-scores.gather(-1, torch.tensor(ids)[1:, None])[start - 1 :, 0]).tolist()
    return math.fsum(losses) / len(losses)


def test_tools_and_calls_are_read_and_calls_are_learned(calling_model: Path, tmp_path: Path) -> None:
    folder = job(tmp_path / "job", model=calling_model, batch=3, micro_batch=3)
    (folder / "data.jsonl").write_text(with_tools(CALLS))
    events, result = run(folder)
    model, tokenizer = loaded(calling_model)
    rows = []
    for row in CALLS:
        tools = row.get("tools")
        asked = tokenizer.apply_chat_template(row["prompt"], tools=tools, add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tools=tools)["input_ids"]
        # Before a call the template writes no line end, which is the prompt's last token.
        rows.append((whole, len(asked) if whole[: len(asked)] == asked else len(asked) - 1))
    assert result["tokens"] == sum(len(whole) for whole, _ in rows)
    [first] = [event["loss"] for event in events if "loss" in event]
    assert first == pytest.approx(mean_loss(model, rows), abs=1e-3)


def test_dpo_reads_tools_too(calling_model: Path, tmp_path: Path) -> None:
    pair = {
        "prompt": CALLS[0]["prompt"], "tools": CALLS[0]["tools"],
        "chosen": CALLS[0]["completion"], "rejected": [say("assistant", "No idea.")],
    }  # fmt: skip
    folder = job(tmp_path / "job", model=calling_model, method="dpo", batch=1, micro_batch=1)
    (folder / "data.jsonl").write_text(with_tools([pair]))
    _, result = run(folder)
    _, tokenizer = loaded(calling_model)
    chats = [pair["prompt"] + pair[name] for name in ("chosen", "rejected")]
    assert result["tokens"] == sum(
        len(tokenizer.apply_chat_template(chat, tools=pair["tools"])["input_ids"]) for chat in chats
    )


def test_a_text_is_learned_from_its_beginning_to_its_end(tiny_model: Path, tmp_path: Path) -> None:
    texts = [f"In the {place} lie {number * 7} kg of {place[::-1]}." for number, place in enumerate(PLACES)]
    (tmp_path / "base").mkdir()
    shutil.copytree(tiny_model, tmp_path / "base", dirs_exist_ok=True)
    (tmp_path / "base" / "chat_template.jinja").unlink()  # a text needs none
    folder = job(tmp_path / "job", model=tmp_path / "base", batch=8, micro_batch=8)
    (folder / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    events, result = run(folder)
    model, tokenizer = loaded(tiny_model)
    rows = [(tokenizer(text + "<|im_end|>")["input_ids"], 1) for text in texts]
    assert result["tokens"] == sum(len(ids) for ids, _ in rows)
    [first] = [event["loss"] for event in events if "loss" in event]
    assert first == pytest.approx(mean_loss(model, rows), abs=1e-3)


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
    ],
)
def test_rows_that_cannot_be_trained_together_or_at_all_are_refused(
    method: str, rows: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    folder = job(tmp_path / "job", model="m", method=method)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start(folder)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    [line] = err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message['content'] }}{% endfor %}", "does not render tools"),
        ("{{ raise_exception('too long a story') }}", "does not render it (too long a story)"),
    ],
)
def test_a_template_that_drops_or_refuses_something_stops_the_job_before_training(
    tiny_model: Path, tmp_path: Path, template: str, words: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    folder = job(tmp_path / "job", model=tmp_path / "model")
    (folder / "data.jsonl").write_text(with_tools(CALLS))
    process = start(folder)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "data.jsonl, row 1: the chat template" in err.splitlines()[-1]
    assert words in err.splitlines()[-1]


def test_what_a_template_leaves_out_is_known_by_name(calling_model: Path) -> None:
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
