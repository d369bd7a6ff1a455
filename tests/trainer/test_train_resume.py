"""Checkpoints, and going on from one as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.job import PAIRS, ROWS, Warm, job, updates
from tests.trainer.test_train_methods import sampling


def weights(folder: Path) -> bytes:
    [file] = (folder / "out").glob("[am]*/*model.safetensors")
    return file.read_bytes()


def test_a_resumed_training_ends_as_the_uninterrupted_one_byte_for_byte(
    warm: Warm, tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"model": tiny_model, "max_steps": 6, "save_steps": 2, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}}
    whole = job(tmp_path / "whole", **settings)
    events, result = warm.run(whole)
    kept = {path.name for path in (whole / "out").iterdir()}
    assert kept == {"adapter", "metrics.jsonl", "checkpoint-4", "checkpoint-6"}, "the last two"

    rest = job(tmp_path / "rest", **settings, resume_from="../whole/out/checkpoint-4")
    again, ended = warm.run(rest)
    assert [event["step"] for event in again] == [4, 5, 6]
    assert updates(again) == updates(events)[4:]
    assert (ended["steps"], ended["train_loss"]) == (6, result["train_loss"])
    assert ended["tokens"] < result["tokens"], "those of this process"
    assert weights(rest) == weights(whole)


def test_fewer_rows_at_a_time_after_a_resume_learn_the_same(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    settings = {"model": tiny_model, "max_steps": 3, "save_steps": 2, "precision": "float32"}
    events, _ = warm.run(job(tmp_path / "whole", **settings))
    less = {"micro_batch": 1, "activation_checkpointing": True, "resume_from": "../whole/out/checkpoint-2"}
    again, _ = warm.run(job(tmp_path / "rest", **settings | less))
    assert updates(again) == pytest.approx(updates(events)[2:], rel=1e-4)
    assert updates(again, "grad_norm") == pytest.approx(updates(events, "grad_norm")[2:], rel=1e-3)


@pytest.mark.slow
def test_a_resumed_dpo_keeps_the_reference_it_began_with(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    """It goes on from an adapter, so that the reference is an adapter, too, and part of the checkpoint."""
    warm.run(job(tmp_path / "first", ROWS, model=tiny_model, max_steps=4))
    settings: dict[str, Any] = {
        "model": tiny_model, "method": "dpo", "adapter": "../first/out/adapter", "max_steps": 4, "save_steps": 2,
    }  # fmt: skip
    whole = job(tmp_path / "whole", PAIRS, **settings)
    events, _ = warm.run(whole)
    rest = job(tmp_path / "rest", PAIRS, **settings, resume_from="../whole/out/checkpoint-2")
    again, _ = warm.run(rest)
    assert updates(again) == updates(events)[2:]
    assert weights(rest) == weights(whole)


def test_a_resumed_sampler_draws_what_it_would_have_drawn(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": "grpo", "max_steps": 4, "save_steps": 2, "micro_batch": 16}
    whole = sampling(tmp_path / "whole", tiny_model, **settings)
    events, result = warm.run(whole)
    rest = sampling(tmp_path / "rest", tiny_model, **settings, resume_from="../whole/out/checkpoint-2")
    again, ended = warm.run(rest)
    assert updates(again, "reward") == updates(events, "reward")[2:]
    assert ended["tokens"] < result["tokens"]
    assert weights(rest) == weights(whole)


def test_what_is_no_checkpoint_is_refused(warm: Warm, tiny_model: Path, tmp_path: Path) -> None:
    assert "is no checkpoint" in warm.refusal(job(tmp_path / "job", model=tiny_model, resume_from="."))
