"""What descends from a base, and what is only said to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evaluator.integrity.lineage import RELATED, Training, lineage
from agents.evaluator.integrity.tensors import Weights
from shared_memory.errors import BadInput
from tests.evaluator.model_folders import adapter_of, merged, model_like, tensors_of, trained, write_tensors
from tests.tiny import make_tiny_model
from tests.trainer.job import job

SCRIPTS = Path(__file__).parents[2] / "agents" / "trainer" / "scripts"


@pytest.fixture(scope="module")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer, from another random start."""
    return make_tiny_model(tmp_path_factory.mktemp("other") / "tiny-llama", seed=1)


def record(updates: int, learning_rate: float, **more: Any) -> Training:
    return Training(updates=updates, travel=updates * learning_rate, **more)


def test_a_fine_tune_of_all_weights_passes_and_says_how_far_it_went(tiny_model: Path, tmp_path: Path) -> None:
    tuned = model_like(tiny_model, tmp_path / "tuned", trained(tensors_of(tiny_model), 20, 1e-3))

    found = lineage(tiny_model, tuned, training=record(20, 1e-3))

    assert (found.faults, found.doubts) == ((), ())
    assert found.tensors == 20
    assert found.unchanged == 0
    # A random walk of 20 steps comes √20 steps far.
    assert found.travelled == pytest.approx(1 / np.sqrt(20), rel=0.1)
    assert 0.1 < found.distance < 0.4


def test_a_fine_tune_in_bfloat16_is_not_taken_for_more_than_it_was(tiny_model: Path, tmp_path: Path) -> None:
    tuned = model_like(tiny_model, tmp_path / "tuned", trained(tensors_of(tiny_model), 4, 1e-6), "BF16")

    found = lineage(tiny_model, tuned, training=record(4, 1e-6))

    assert (found.faults, found.doubts) == ((), ()), "rounding moved the weights a hundred times as far"


def test_another_model_of_the_same_architecture_is_unrelated(tiny_model: Path, other_base: Path) -> None:
    found = lineage(tiny_model, other_base)

    assert found.faults == ("15 of 15 matrices are unrelated to the base's: it is another model",)


def test_even_a_training_that_could_explain_the_distance_does_not_make_another_model_related(
    tiny_model: Path, other_base: Path
) -> None:
    assert lineage(tiny_model, other_base, training=record(1000, 1.0)).faults


def test_weights_that_moved_by_more_than_their_own_size_are_related_all_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    far = model_like(tiny_model, tmp_path / "far", trained(tensors_of(tiny_model), 9, 0.03))

    found = lineage(tiny_model, far, training=record(9, 0.03))

    assert found.distance > 3
    assert not found.faults


def test_an_instruct_model_in_the_place_of_a_short_fine_tune_is_caught(tiny_model: Path, tmp_path: Path) -> None:
    instruct = model_like(tiny_model, tmp_path / "instruct", trained(tensors_of(tiny_model), 40, 4e-3))

    (fault,) = lineage(tiny_model, instruct, training=record(20, 1e-4)).faults

    assert "times as far as the 20 updates of its training go" in fault


def test_what_a_script_of_ones_own_moved_too_far_is_doubted_for_it_may_have_another_optimizer(
    tiny_model: Path, tmp_path: Path
) -> None:
    far = model_like(tiny_model, tmp_path / "far", trained(tensors_of(tiny_model), 40, 4e-3))

    found = lineage(tiny_model, far, training=record(20, 1e-4, ours=False))

    assert not found.faults
    assert len(found.doubts) == 1


def test_a_model_on_the_way_from_a_known_other_one_is_caught_without_any_record(
    tiny_model: Path, tmp_path: Path
) -> None:
    at = tensors_of(tiny_model)
    instruct = model_like(tiny_model, tmp_path / "instruct", trained(at, 30, 1e-3, seed=1))
    passed_off = model_like(tiny_model, tmp_path / "it", trained(tensors_of(instruct), 10, 1e-3, seed=2))
    honest = model_like(tiny_model, tmp_path / "honest", trained(at, 10, 1e-3, seed=3))

    assert not lineage(tiny_model, passed_off).faults, "its distance alone tells nothing"
    (fault,) = lineage(tiny_model, passed_off, others={"the instruct model": instruct}).faults
    assert "nearer to the instruct model than to the base" in fault
    assert not lineage(tiny_model, honest, others={"the instruct model": instruct}).faults


def test_a_soup_of_fine_tunes_passes(tiny_model: Path, tmp_path: Path) -> None:
    at = tensors_of(tiny_model)
    parts = [trained(at, 20, 1e-3, seed) for seed in (1, 2)]
    soup = model_like(tiny_model, tmp_path / "soup", {name: (parts[0][name] + parts[1][name]) / 2 for name in at})

    assert not lineage(tiny_model, soup, training=record(20, 1e-3)).faults


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_merged_adapter_is_all_of_the_difference(dtype: str, tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapter_of(tiny_model, tmp_path / "adapter")
    model = merged(tiny_model, adapter, tmp_path / "merged", dtype)

    found = lineage(tiny_model, model, training=record(10, 1e-2, rank=4), adapter=adapter)

    assert (found.faults, found.doubts) == ((), ())
    assert found.unchanged == (6 if dtype == "F32" else found.unchanged)


def test_a_merge_with_anything_else_in_it_is_caught(tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapter_of(tiny_model, tmp_path / "adapter")
    tensors = tensors_of(merged(tiny_model, adapter, tmp_path / "merged"))
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.01
    tensors["model.norm.weight"] *= 1.001
    model = model_like(tiny_model, tmp_path / "other", tensors)

    (fault,) = lineage(tiny_model, model, training=record(10, 1e-2, rank=4), adapter=adapter).faults

    assert fault == (
        "2 of 20 tensors are not the base with its adapter added (layers.1.mlp.up_proj.weight, norm.weight)"
    )


def test_an_adapter_is_of_its_base_by_making(tiny_model: Path, tmp_path: Path) -> None:
    found = lineage(tiny_model, adapter_of(tiny_model, tmp_path / "a", size=0.01), training=record(10, 1e-2, rank=4))

    assert (found.model, found.faults, found.doubts) == ("adapter", (), ())
    assert found.travelled == pytest.approx(0.1, rel=0.3)


def test_adapters_of_another_base_rank_shape_or_size_are_caught(tiny_model: Path, tmp_path: Path) -> None:
    other = adapter_of(tiny_model, tmp_path / "other", named="org/another-model")
    assert "an adapter of another-model" in lineage(tiny_model, other).faults[0]
    assert not lineage(tiny_model, other, names=("org/another-model",)).faults

    found = lineage(tiny_model, adapter_of(tiny_model, tmp_path / "big", rank=8), training=record(10, 1e-2, rank=4))
    assert found.faults == ("it has rank 8, and 4 was trained",)

    found = lineage(tiny_model, adapter_of(tiny_model, tmp_path / "far", size=9), training=record(10, 1e-2, rank=4))
    assert "times as far" in found.faults[0]

    adapter = adapter_of(tiny_model, tmp_path / "misfit")
    pairs = Weights(adapter, "adapter")
    write_tensors(adapter / "adapter_model.safetensors", {name: pairs.rows(name)[:, :3] for name in pairs})
    assert "do not fit" in lineage(tiny_model, adapter).faults[0]


def test_another_architecture_or_vocabulary_is_caught_and_new_tokens_are_not(tiny_model: Path, tmp_path: Path) -> None:
    at = tensors_of(tiny_model)
    at["model.embed_tokens.weight"] = np.vstack([at["model.embed_tokens.weight"], np.ones((2, 64))])
    grown = model_like(tiny_model, tmp_path / "grown", at)
    tokenizer = json.loads((grown / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 400, "content": "<think>"})
    (grown / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert not lineage(tiny_model, grown).faults

    tokenizer["model"]["vocab"] = {token: 399 - id for token, id in tokenizer["model"]["vocab"].items()}
    (grown / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer is another one" in lineage(tiny_model, grown).faults[0]

    config = json.loads((grown / "config.json").read_text())
    (grown / "config.json").write_text(json.dumps(config | {"hidden_size": 128, "auto_map": {"AutoModel": "x.X"}}))
    faults = " ".join(lineage(tiny_model, grown).faults)
    assert "hidden_size 128, not 64" in faults
    assert "auto_map" in faults


def test_sharded_weights_are_read_by_their_index(tiny_model: Path, tmp_path: Path) -> None:
    at = tensors_of(tiny_model)
    model = model_like(tiny_model, tmp_path / "sharded", {})
    (model / "model.safetensors").unlink()
    halves = list(at)[:9], list(at)[9:]
    for number, names in enumerate(halves):
        write_tensors(model / f"model-{number}.safetensors", {name: at[name] for name in names})
    index = {name: f"model-{number}.safetensors" for number, names in enumerate(halves) for name in names}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    assert lineage(tiny_model, model).unchanged == 20


def test_what_is_no_model_is_refused_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no config\.json"):
        lineage(tiny_model, tmp_path)
    broken = model_like(tiny_model, tmp_path / "broken", tensors_of(tiny_model))
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-50_000])
    with pytest.raises(BadInput, match=r"cut short|cannot be read"):
        lineage(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"PK")
    with pytest.raises(BadInput, match="not a safetensors file"):
        lineage(tiny_model, broken)


@pytest.mark.slow
def test_real_trainings_pass_by_what_is_on_record_of_them(tiny_model: Path, tmp_path: Path) -> None:
    """One of all weights at a learning rate that rewrites them, and one of an adapter, merged and not."""
    full = {"lora": None, "learning_rate": 1e-2, "epochs": 15, "model": str(tiny_model)}
    _run("train.py", job(tmp_path / "sft", **full))
    _run("train.py", job(tmp_path / "lora", **(full | {"lora": {"r": 8, "alpha": 16}})))
    travel = Training(updates=30, travel=1e-2 * (0.5 * 30 + 1))

    found = lineage(tiny_model, tmp_path / "sft" / "out" / "model", training=travel)
    assert (found.faults, found.doubts) == ((), ()), found.found
    assert found.distance > 1
    assert found.travelled is not None
    assert 0.2 < found.travelled < 1

    adapter = tmp_path / "lora" / "out" / "adapter"
    by_adapter = Training(updates=30, travel=travel.travel, rank=8)
    assert not lineage(tiny_model, adapter, training=by_adapter).faults
    (tmp_path / "merge").mkdir()
    settings = {"method": "adapter", "model": str(tiny_model), "adapter": str(adapter)}
    (tmp_path / "merge" / "config.json").write_text(json.dumps(settings))
    _run("merge.py", tmp_path / "merge")
    model = tmp_path / "merge" / "out" / "model"
    found = lineage(tiny_model, model, training=by_adapter, adapter=adapter)
    assert (found.faults, found.doubts) == ((), ()), found.found
    assert lineage(tiny_model, tmp_path / "sft" / "out" / "model", training=by_adapter, adapter=adapter).faults


def _run(script: str, folder: Path) -> None:
    command = [sys.executable, str(SCRIPTS / script), "--config", "config.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_bar_for_unrelated_matrices_is_what_a_normal_tail_gives(tiny_model: Path) -> None:
    """A thousand pairs of matrices that have nothing in common: none is taken for related, none lies far below 0."""
    from agents.evaluator.integrity.distances import relation

    draw = np.random.default_rng(0)
    found = [
        relation(draw.standard_normal((64, 96), dtype=np.float32), draw.standard_normal((64, 96), dtype=np.float32))
        for _ in range(1000)
    ]
    values = np.array([value for value in found if value is not None])
    assert abs(values.mean()) < 0.1
    assert 0.9 < values.std() < 1.1
    assert values.max() < RELATED
