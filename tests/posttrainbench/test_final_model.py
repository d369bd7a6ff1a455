"""The delivered folder: whole at every moment, the base's own files around trained weights, and loaded by others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from postgrad.posttrainbench.base import lay_out, turn_end
from postgrad.posttrainbench.final_model import FinalModel
from shared_memory.errors import PostgradError
from tests.posttrainbench.replica import as_on_the_hub


@pytest.fixture(scope="session")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_on_the_hub(tiny_model, tmp_path_factory.mktemp("hub") / "base")


@pytest.fixture
def final(base: Path, tmp_path: Path) -> FinalModel:
    laid_out = lay_out(base, base / "chat_template.jinja", tmp_path / "laid-out")
    return FinalModel(tmp_path / "final_model", base, laid_out / "generation_config.json")


def trained(base: Path, folder: Path) -> Path:
    """The base after a training, as transformers 5 saves it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.05)
    model.save_pretrained(folder)
    return folder


def test_a_model_that_is_laid_out_stops_where_the_evaluators_template_ends_a_turn(base: Path, tmp_path: Path) -> None:
    laid_out = lay_out(base, base / "chat_template.jinja", tmp_path / "laid-out")
    assert turn_end(laid_out) == 2
    assert json.loads((laid_out / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert (laid_out / "model.safetensors").resolve() == (base / "model.safetensors").resolve(), "weights take no room"


def test_the_files_around_trained_weights_are_the_bases_own(base: Path, final: FinalModel, tmp_path: Path) -> None:
    model = trained(base, tmp_path / "trained")
    (model / "modeling_special.py").write_text("raise SystemExit")
    final.place("e1", model)
    assert {path.name for path in final.folder.iterdir()} == {path.name for path in base.iterdir()}
    for file in base.iterdir():
        same = (final.folder / file.name).read_bytes() == file.read_bytes()
        assert same == (file.name not in ("model.safetensors", "generation_config.json")), file.name
    assert json.loads((final.folder / "generation_config.json").read_text())["eos_token_id"] == [0, 2]


def test_what_cannot_be_delivered_leaves_what_was_there(base: Path, final: FinalModel, tmp_path: Path) -> None:
    final.place("baseline", base)
    before = {path.name: path.read_bytes() for path in final.folder.iterdir()}
    weights = (base / "model.safetensors").read_bytes()
    broken = {
        "is not whole": weights[:-1000],
        "is no safetensors file": b"x" * 100,
        "other tensors than the base": weights.replace(b"model.norm.weight", b"model.mean.weight"),
    }
    for what, content in broken.items():
        folder = tmp_path / what.replace(" ", "-")
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(PostgradError, match=what):
            final.place("e1", folder)
        assert {path.name: path.read_bytes() for path in final.folder.iterdir()} == before
        assert [path.name for path in final.folder.parent.iterdir() if path.name.startswith(".")] == []
    assert final.holds == "baseline"


def test_a_death_between_two_renames_is_mended_by_the_next_process(base: Path, final: FinalModel) -> None:
    final.place("baseline", base)
    final.folder.rename(final.folder.with_name(".final_model.old"))
    FinalModel(final.folder, base, base / "generation_config.json")
    assert (final.folder / "model.safetensors").is_file()


LOOK = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("What net force gives a cart of mass 3 kg an acceleration?", return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = model(ids).logits[0, -1].tolist()
    model.generation_config.save_pretrained(sys.argv[1])  # refuses values that are not valid
    theta = getattr(model.config, "rope_theta", None) or model.config.rope_parameters["rope_theta"]
    told = {"version": transformers.__version__, "ids": ids[0].tolist(), "logits": logits, "rope_theta": theta}
    print(json.dumps(told | {"stops": model.generation_config.eos_token_id}))
"""


def look(python: Path | str, room: Path, *folders: Path) -> list[dict[str, Any]]:
    """What a Python's transformers sees in model folders."""
    ran = subprocess.run([python, "-c", LOOK, room, *folders], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_the_evaluators_transformers_sees_the_model_that_was_trained(
    base: Path, final: FinalModel, tmp_path: Path, evaluators_python: Path
) -> None:
    model = trained(base, tmp_path / "trained")
    final.place("e1", model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, model / name)

    (ours,) = look(sys.executable, tmp_path / "room", final.folder)
    theirs, as_saved = look(evaluators_python, tmp_path / "room", final.folder, model)
    assert (ours["version"], theirs["version"]) == ("5.23.0", "4.57.3")
    assert theirs["rope_theta"] == 500_000.0
    assert theirs["stops"] == [0, 2]
    assert theirs["ids"] == ours["ids"]
    assert theirs["logits"] == pytest.approx(ours["logits"], abs=1e-5)

    assert as_saved["rope_theta"] == 10_000.0, "why the config is the base's: 4.57 overlooks `rope_parameters`"
    assert as_saved["logits"] != pytest.approx(ours["logits"], abs=1e-5)
