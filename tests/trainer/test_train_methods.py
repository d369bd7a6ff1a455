"""Every method trains a tiny model for real, and what it is for moves in the right direction."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import make_tiny_model
from tests.trainer.job import PAIRS, ROWS, Warm, job, loaded, updates

SINGLES = [
    {"prompt": pair["prompt"], "completion": pair[name], "label": name == "chosen"}
    for pair in PAIRS
    for name in ("chosen", "rejected")
]
QUESTIONS = [{"prompt": row["prompt"], "answer": "A"} for row in ROWS]
SAMPLES: dict[str, Any] = {
    "lora": None, "rewards": ["vowels.py:vowels"], "batch": 32, "micro_batch": 32, "num_generations": 16,
    "max_completion_length": 12, "max_steps": 10, "learning_rate": 1e-2, "warmup_ratio": 0,
}  # fmt: skip
VOWELS = """
from rewards import Case, Reward

vowels = Reward(
    lambda reply, row: sum(letter in "aeiou" for letter in reply) / 10,
    cases=(Case("aeiou", 0.5), Case("xyz", 0.0), Case("", 0.0)),
)
"""


def sampling(folder: Path, model: Path, **config: Any) -> Path:
    """A job whose model is to write vowels."""
    folder = job(folder, QUESTIONS, model=model, **(SAMPLES | config))
    (folder / "vowels.py").write_text(VOWELS)
    return folder


def test_dpo_makes_the_chosen_text_likelier_than_the_rejected(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    folder = job(tmp_path / "dpo", PAIRS, model=tiny_model, method="dpo", beta=0.1, epochs=6)
    events, result = warm.run(folder)

    losses = updates(events)
    assert losses[0] == pytest.approx(math.log(2), abs=0.05), "untrained, it prefers neither"
    assert losses[-1] < 0.5 * losses[0]
    assert updates(events, "rewards/margins")[-1] > 1
    assert (folder / result["model"] / "adapter_config.json").exists()
    assert not (folder / "out" / "adapter" / "ref").exists()

    again = job(tmp_path / "again", PAIRS, model=tiny_model, method="dpo", epochs=1, adapter=folder / result["model"])
    _, result = warm.run(again)
    assert [path.name for path in (again / result["model"]).glob("*/")] == [], "the reference is not part of the result"


def test_kto_parts_wanted_from_unwanted_replies(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    settings = {"lora": None, "batch": 8, "micro_batch": 4, "learning_rate": 3e-3, "epochs": 6}
    events, result = warm.run(job(tmp_path / "kto", SINGLES, model=tiny_model, method="kto", **settings))
    losses = updates(events)
    assert losses[0] == pytest.approx(0.5, abs=0.01), "untrained, nothing is gained or lost"
    assert losses[-1] < 0.8 * losses[0]
    assert updates(events, "rewards/chosen")[-1] > updates(events, "rewards/rejected")[-1] + 1
    assert result["model"] == "out/model"


def test_kto_mixes_rows_that_come_sorted(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    by_label = sorted(SINGLES, key=lambda row: str(row["label"]))
    events, _ = warm.run(job(tmp_path / "kto", by_label, model=tiny_model, method="kto", max_steps=2, batch=8))
    assert all({"rewards/chosen", "rewards/rejected"} <= event.keys() for event in events if "loss" in event)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_reward_model_scores_what_is_chosen_higher(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    settings = {"method": "reward", "epochs": 6, "center_rewards": 0.01}
    folder = job(tmp_path / "reward", PAIRS, model=tiny_model, **settings)
    events, result = warm.run(folder)
    assert updates(events)[-1] < 0.3 * updates(events)[0]
    assert updates(events, "accuracy")[-1] == 1
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    model = PeftModel.from_pretrained(base, folder / result["model"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for pair in PAIRS:
        chosen, rejected = (
            model(**tokenizer.apply_chat_template(pair["prompt"] + pair[name], return_tensors="pt")).logits.item()
            for name in ("chosen", "rejected")
        )
        assert chosen > rejected + 0.5, "the head that scores is part of the adapter"


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_sampling_methods_raise_the_reward(warm: Warm, tiny_model: Path, tmp_path: Path, method: str) -> None:
    events, result = warm.run(sampling(tmp_path / method, tiny_model, method=method, beta=0.001))
    rewards = updates(events, "reward")
    assert len(rewards) == 10
    assert sum(rewards[-2:]) > 1.5 * sum(rewards[:2])
    told = next(event for event in events if "loss" in event)
    assert {"reward_std", "kl", "entropy", "completions/mean_length", "completions/clipped_ratio"} <= told.keys()
    assert told["rewards/vowels/mean"] == pytest.approx(told["reward"])
    assert result["tokens"] == updates(events, "num_tokens")[-1]
    assert (result["rows"], result["metrics"]["reward"]) == (8, rewards[-1])


def divergence(teacher: Any, student: Any, tokenizer: Any) -> float:
    """KL of the teacher's distributions from the student's, mean over the completions' tokens, in nats."""
    import torch

    found: list[float] = []
    for row in ROWS:
        asked = len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"])
        ids = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            ours, theirs = (
                model(input_ids=ids).logits[0, asked - 1 : -1].log_softmax(-1) for model in (student, teacher)
            )
        found += (theirs.exp() * (theirs - ours)).sum(-1).tolist()
    return math.fsum(found) / len(found)


@pytest.mark.slow
def test_distillation_brings_the_model_to_its_teacher(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    teacher = make_tiny_model(tmp_path / "teacher", seed=1)
    settings = {"method": "distill", "teacher": teacher, "lora": None, "epochs": 20, "learning_rate": 3e-3}
    folder = job(tmp_path / "job", model=tiny_model, **settings)
    events, result = warm.run(folder)
    assert updates(events)[-1] < 0.5 * updates(events)[0]
    (before, tokenizer), (after, _), (goal, _) = map(loaded, (tiny_model, folder / result["model"], teacher))
    assert divergence(goal, after, tokenizer) < 0.5 * divergence(goal, before, tokenizer)
    ends = [len(tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"]) - 1 for row in ROWS]
    assert result["tokens"] == 20 * sum(ends), (
        "to the end of the turn, and not the line end that templates write after it"
    )


def test_a_distilled_model_may_write_a_share_of_the_completions(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    teacher = make_tiny_model(tmp_path / "teacher", seed=1)
    settings = {"method": "distill", "teacher": teacher, "on_policy": 0.5, "max_completion_length": 40}
    events, _ = warm.run(job(tmp_path / "job", model=tiny_model, max_steps=4, **settings))
    lengths = updates(events, "completions/mean_length")
    assert [length > 20 for length in lengths] == [False, True, False, True]


def test_a_teacher_of_another_vocabulary_is_refused(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    """Also one of the same size, where a token of the one is another word of the other."""
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_model, teacher)
    tokenizer = json.loads((teacher / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["Ġthe"], words["Ġof"] = words["Ġof"], words["Ġthe"]
    (teacher / "tokenizer.json").write_text(json.dumps(tokenizer))
    line = warm.refusal(job(tmp_path / "job", model=tiny_model, method="distill", teacher=teacher))
    assert "another vocabulary" in line


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora": {"r": 8, "base": "nf4"}}, "nf4 needs a GPU"),
        ({"max_length": 8}, "leaves anything to learn"),
    ],
)
def test_what_cannot_be_trained_here_is_refused(
    warm: Warm, tiny_model: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    assert words in warm.refusal(job(tmp_path / "job", PAIRS, model=tiny_model, method="reward", **settings))


def test_prompts_without_room_for_an_answer_are_left_out_and_counted(
    warm: Warm, tiny_model: Path, tmp_path: Path
) -> None:
    long = [{"prompt": [{"role": "user", "content": "word " * 100}], "answer": "A"}] * 6
    folder = sampling(tmp_path / "job", tiny_model, method="grpo", max_length=100, max_steps=1)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*long, *QUESTIONS]))
    _, result = warm.run(folder)
    assert (result["rows"], result["left_out"]) == (8, 6)
    few = sampling(tmp_path / "few", tiny_model, method="grpo", max_length=100, max_steps=1)
    (few / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*long, *QUESTIONS[:1]]))
    assert "1 rows have prompts of at most 88 tokens, and a weight update takes 2" in warm.refusal(few)
