"""The training job, run as a runner would run it: a folder, a config, a process."""

from __future__ import annotations

import json
import math
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.job import ROWS, Warm, job, loaded, run, start
from tests.trainer.job import updates as figures


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
        "train_loss", "steps", "rows", "left_out", "tokens", "tokens_per_second", "peak_memory_gib", "seconds", "model",
        "metrics",
    }  # fmt: skip
    assert (result["steps"], result["rows"], result["left_out"], result["model"]) == (160, 8, 0, "out/model")
    assert result["metrics"].items() <= updates[-1].items()
    assert result["train_loss"] == pytest.approx(sum(update["loss"] for update in updates) / 160)
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


def test_training_goes_on_from_an_adapter(warm: Warm, trained: Path, tmp_path: Path) -> None:
    base = trained / "out" / "model"
    first = job(tmp_path / "first", model=base, epochs=20)
    (first / "data.jsonl").write_text((first / "data.jsonl").read_text().replace("kg of", "bags of"))
    began, *_, ended = [event["loss"] for event in warm.run(first)[0] if "loss" in event]
    assert ended < began / 2
    adapter = first / "out" / "adapter"
    before = (adapter / "adapter_model.safetensors").read_bytes()

    second = job(tmp_path / "second", model=base, adapter=adapter, learning_rate=1e-4)
    (second / "data.jsonl").write_text((first / "data.jsonl").read_text())
    went_on, *_ = [event["loss"] for event in warm.run(second)[0] if "loss" in event]
    assert went_on == pytest.approx(ended, abs=0.1)
    assert (second / "out" / "adapter" / "adapter_model.safetensors").read_bytes() != before
    assert (adapter / "adapter_model.safetensors").read_bytes() == before


def test_packing_keeps_rows_apart(warm: Warm, trained: Path, tmp_path: Path) -> None:
    """Packed and separate rows must have the same loss before the first update changes anything."""
    ways = {"packed": {"packing": True, "max_length": 512, "batch": 1, "micro_batch": 1}, "apart": {"batch": 8}}
    losses = []
    for name, settings in ways.items():
        folder = job(tmp_path / name, model=trained / "out" / "model", **settings)
        (folder / "data.jsonl").write_text((folder / "data.jsonl").read_text().replace("kg of", "bags of"))
        losses += [event["loss"] for event in warm.run(folder)[0] if "loss" in event]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_seq_length": 512}, "max_seq_length"),
        ({"max_seq_length": 512}, "known settings of sft are model, batch, "),
        ({"beta": 0.1}, "beta: Extra inputs are not permitted"),
        ({"method": "grpo", "packing": True}, "packing: Extra inputs are not permitted"),
        ({"lora": {"rank": 8}}, "lora.rank"),
        ({"epochs": "three"}, "epochs"),
        ({"method": "magic"}, "unknown method 'magic'; choose one of sft, dpo, kto, reward, grpo, rloo, distill"),
        ({"batch": 6, "micro_batch": 4}, "batch 6 is not a multiple of micro_batch 4"),
        ({"method": "grpo", "num_generations": 3}, "batch 4 is not a multiple of num_generations 3"),
        ({"method": "grpo", "batch": 8, "max_length": 256}, "max_completion_length 256 leaves no room"),
        ({"method": "kto", "micro_batch": 1}, "micro_batch 1 leaves KTO nothing to compare"),
        ({"push_to_hub": True}, "push_to_hub has no hub_model_id"),
        ({"report_to": ["wandb"]}, "report_to names wandb, which is not installed"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"data": "config.json"}, "config.json, row 1: prompt: Field required"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all cannot be loaded"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    warm: Warm, config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert words in warm.refusal(job(tmp_path / "job", **({"model": "m"} | config)))


def test_a_refusal_is_all_that_a_job_says(tmp_path: Path) -> None:
    """Here of a launcher that would have each process save a part of the weights."""
    process = start(job(tmp_path / "job", model="m"), ACCELERATE_USE_FSDP="true")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith("error: weights that are split over devices")


def test_a_job_that_is_told_to_stop_fails_without_a_result(tiny_model: Path, tmp_path: Path) -> None:
    process = start(job(tmp_path / "job", model=tiny_model, epochs=100_000))
    assert process.stdout
    assert any(json.loads(line)["step"] == 2 for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode != 0
    assert "result" not in out


def test_a_job_may_run_elsewhere_than_its_files_lie(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    """Remote jobs mount their folder read-only: paths are relative to the config, output to the working directory."""
    folder = job(tmp_path / "job", model=tiny_model, data="rows/data.jsonl", max_steps=1)
    (folder / "rows").mkdir()
    (folder / "data.jsonl").rename(folder / "rows" / "data.jsonl")
    (tmp_path / "elsewhere").mkdir()
    before = sorted(folder.rglob("*"))
    _, result = warm.run(tmp_path / "elsewhere", config=folder / "config.json")
    assert (tmp_path / "elsewhere" / result["model"] / "adapter_config.json").is_file()
    assert sorted(folder.rglob("*")) == before


def test_precision_is_as_asked_for(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    settings = {"model": tiny_model, "batch": 8, "micro_batch": 8, "lora": None, "save_steps": 1}
    losses, sizes = [], []
    for name in ("float32", "bfloat16"):
        folder = job(tmp_path / name, **settings, precision=name)
        losses += figures(warm.run(folder)[0])
        sizes.append((folder / "out" / "checkpoint-1" / "model.safetensors").stat().st_size)
    assert losses[1] == pytest.approx(losses[0], abs=0.1)
    assert losses[1] != losses[0]
    assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.1), "bytes of a weight while it is trained"


def test_trouble_is_told_once_with_its_figure_and_what_to_do(warm: Warm, trained: Path, tmp_path: Path) -> None:
    """What is known already has a loss near 0 from the start, as has a completion that is not in the loss."""
    folder = job(
        tmp_path / "job",
        model=trained / "out" / "model",
        lora=None,
        learning_rate=1e-9,
        epochs=2,
        report_to=["trackio"],
    )
    events, _ = warm.run(folder)
    [alert] = [event["alert"] for event in events if "alert" in event]
    assert alert.startswith("loss is 0.0")
    assert "after 3 updates: almost nothing is left to learn: check that completions are in the loss" in alert
    with closing(sqlite3.connect(warm.trackio / "postgrad.db")) as board:
        assert board.execute("SELECT title, text, level FROM alerts").fetchall() == [
            (alert.partition(":")[0], alert, "warn")
        ]


def test_a_loss_that_is_no_number_stops_the_job(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    settings = {"lora": None, "learning_rate": 1e20, "lr_scheduler": "constant", "epochs": 20}
    events, err = warm.crash(job(tmp_path / "job", model=tiny_model, **settings))
    assert not math.isfinite(events[-1]["loss"])
    assert "lower the learning rate" in events[-1]["alert"]
    assert "FloatingPointError: the loss is" in err


@pytest.mark.slow
def test_two_processes_train_as_one(tiny_model: Path, tmp_path: Path) -> None:
    settings = {"model": tiny_model, "batch": 8, "epochs": 3, "precision": "float32"}
    alone, _ = run(job(tmp_path / "alone", **settings))
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together, result = run(job(tmp_path / "together", **settings, save_steps=2), *launcher, PYTHONPATH="")
    assert [event["step"] for event in together] == [0, 1, 2, 3], "told by the first process only"
    assert figures(together) == pytest.approx(figures(alone), rel=1e-3)
    assert figures(together, "num_tokens") == figures(alone, "num_tokens")
    assert (result["steps"], result["rows"]) == (3, 8)
    made = {path.name for path in (tmp_path / "together" / "out").iterdir()}
    assert made == {"adapter", "metrics.jsonl", "checkpoint-2", "checkpoint-3"}


@pytest.mark.slow
def test_two_processes_that_resume_take_the_rows_that_their_epoch_has_left(tiny_model: Path, tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    settings: dict[str, Any] = {"model": tiny_model, "micro_batch": 1, "epochs": 3, "save_steps": 3}
    whole, _ = run(job(tmp_path / "whole", **settings), *launcher, PYTHONPATH="")
    settings["resume_from"] = "../whole/out/checkpoint-3"
    rest, _ = run(job(tmp_path / "rest", **settings), *launcher, PYTHONPATH="")
    assert figures(rest) == pytest.approx(figures(whole)[3:], rel=1e-3)
