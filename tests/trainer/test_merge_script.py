"""The merge job, run as a runner would run it: a folder, a config, a process."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "agents" / "trainer" / "scripts" / "merge.py"
BASE_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
needs_mergekit = pytest.mark.skipif(find_spec("mergekit") is None, reason="pip install 'postgrad[merge]'")

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="module")
def make_adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """Makes adapters whose random weights change every logit."""

    def make(seed: int = 1, tokens: int = 0, embeddings: bool = True, **options: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

        torch.manual_seed(seed)
        lora = LoraConfig(
            **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options,
            init_lora_weights=False,
        )
        scores = lora.task_type == "SEQ_CLS"
        kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.add_tokens([f"<new{number}>" for number in range(tokens)])
        folder = tmp_path_factory.mktemp("adapter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT asks transformers under a name that is going away
            base = kind.from_pretrained(tiny_model, **({"num_labels": 1} if scores else {}))
            if tokens:
                base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            model = get_peft_model(base, lora)
            model.save_pretrained(str(folder), save_embedding_layers=embeddings and (True if tokens else "auto"))
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def adapter(make_adapter: MakeAdapter) -> Path:
    return make_adapter()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shape."""
    return make_tiny_model(tmp_path_factory.mktemp("other") / "tiny", seed=1)


def merge(folder: Path, **config: Any) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, default=str))
    command = [sys.executable, str(SCRIPT), "--config", "config.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder, env=environment)


def merged(folder: Path, **config: Any) -> Path:
    done = merge(folder, **config)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["result"]["model"] == "out/model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "out"]
    return folder / "out" / "model"


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(3, 60)[None]).logits


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-6) -> None:
    import torch

    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=tolerance, rtol=0)


def test_the_merged_model_is_base_and_adapter_with_the_bases_own_files(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = merge(tmp_path / "job", method="adapter", model=tiny_model, adapter=adapter)
    assert done.returncode == 0, done.stderr
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["step"], event["steps"]) for event in events] == [(1, 3), (2, 3), (3, 3)]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "out" / "model")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert last["result"].keys() == {"model", "parameters", "seconds"}
    assert (last["result"]["model"], last["result"]["parameters"]) == ("out/model", base.num_parameters())
    untouched = logits(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        expected = logits(PeftModel.from_pretrained(base, str(adapter)))
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
    assert (expected - untouched).abs().max() > 0.1
    for name in BASE_FILES:
        assert (tmp_path / "job" / "out" / "model" / name).read_bytes() == (tiny_model / name).read_bytes()


def test_an_adapter_without_its_resized_embeddings_is_refused(
    tiny_model: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    bare = make_adapter(tokens=3, embeddings=False)
    done = merge(tmp_path / "bare", method="adapter", model=tiny_model, adapter=bare)
    assert (done.returncode, "result" in done.stdout) == (2, False)
    assert "saved without its resized embeddings: its tokenizer knows 403 tokens, and the base has 400" in done.stderr
    assert "; train again with the embeddings in modules_to_save, or without new tokens" in done.stderr


@pytest.mark.parametrize("options", [{}, {"embeddings": False, "trainable_token_indices": [400, 401, 402]}])
def test_an_adapter_that_brings_its_new_tokens_keeps_them(
    tiny_model: Path, make_adapter: MakeAdapter, tmp_path: Path, options: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    grown = make_adapter(tokens=3, **options)
    folder = merged(tmp_path / "grown", method="adapter", model=tiny_model, adapter=grown)
    assert AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().num_embeddings == 403
    assert (folder / "tokenizer.json").read_bytes() == (grown / "tokenizer.json").read_bytes()


def test_a_reward_models_adapter_brings_its_head(tiny_model: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    reward = make_adapter(task_type="SEQ_CLS", modules_to_save=["score"])
    folder = merged(tmp_path / "job", method="adapter", model=tiny_model, adapter=reward)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.score.weight.shape == (1, 64)


@needs_mergekit
def test_equal_weights_give_the_mean(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    pair = [{"model": tiny_model}, {"model": other}]
    folder = merged(tmp_path / "mean", method="linear", model=tiny_model, models=pair)
    a, b = weights(tiny_model), weights(other)
    assert_same(weights(folder), {name: (a[name] + b[name]) / 2 for name in a})
    for name in BASE_FILES:
        assert (folder / name).read_bytes() == (tiny_model / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*BASE_FILES, "config.json", "model.safetensors"])


@needs_mergekit
def test_a_soup_of_one_model_is_that_model(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    for step in (8, 9, 10):
        shutil.copytree(tiny_model if step > 8 else other, tmp_path / "run" / f"checkpoint-{step}")
    job = {"method": "soup", "model": tiny_model, "checkpoints": "../run", "last": 2}
    assert_same(weights(merged(tmp_path / "same", **job)), weights(tiny_model))
    done = merge(tmp_path / "few", **(job | {"last": 4}))
    assert (done.returncode, "run holds 3 checkpoints and not 4; set save_steps" in done.stderr) == (2, True)


@needs_mergekit
def test_a_soup_of_adapters_is_the_mean_of_what_they_make_of_the_base(
    tiny_model: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    single = []
    for step, seed in ((5, 1), (10, 2)):
        shutil.copytree(make_adapter(seed), tmp_path / "run" / f"checkpoint-{step}")
        adapter = tmp_path / "run" / f"checkpoint-{step}"
        single.append(weights(merged(tmp_path / f"one-{step}", method="adapter", model=tiny_model, adapter=adapter)))
    soup = merged(tmp_path / "soup", method="soup", model=tiny_model, checkpoints=tmp_path / "run", last=2)
    assert_same(weights(soup), {name: (single[0][name] + single[1][name]) / 2 for name in single[0]})


@needs_mergekit
def test_slerp_and_ties_follow_their_papers(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    import torch

    base, a, b = weights(tiny_model), weights(other), weights(make_tiny_model(tmp_path / "third", seed=2))
    name = "model.layers.1.mlp.up_proj.weight"
    pair = [{"model": other}, {"model": tmp_path / "third"}]

    half = weights(
        merged(tmp_path / "slerp", method="slerp", model=tiny_model, models=[other, tmp_path / "third"], t=0.3)
    )
    angle = torch.arccos(torch.nn.functional.cosine_similarity(a[name].flatten(), b[name].flatten(), dim=0))
    mixed = (torch.sin(0.7 * angle) * a[name] + torch.sin(0.3 * angle) * b[name]) / torch.sin(angle)
    torch.testing.assert_close(half[name], mixed, atol=1e-4, rtol=0)

    def trimmed(change: Any) -> Any:
        threshold = change.abs().flatten().sort(descending=True).values[int(0.2 * change.numel()) - 1]
        return torch.where(change.abs() >= threshold, change, 0)

    ties = weights(merged(tmp_path / "ties", method="ties", model=tiny_model, models=pair, density=0.2))
    changes = torch.stack([trimmed(tensor[name] - base[name]) for tensor in (a, b)])
    agrees = (changes.sign() == torch.where(changes.sum(0) >= 0, 1.0, -1.0)) & (changes != 0)
    expected = base[name] + (changes * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    torch.testing.assert_close(ties[name], expected, atol=1e-5, rtol=0)


@needs_mergekit
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_keeps_a_random_share_of_the_changes_and_scales_it_up(
    tiny_model: Path, other: Path, tmp_path: Path, method: str
) -> None:
    import torch

    base, a = weights(tiny_model), weights(other)
    name = "model.layers.1.mlp.up_proj.weight"
    job = {"method": method, "model": tiny_model, "models": [{"model": other}], "density": 0.5}
    first, same, another = (
        weights(merged(tmp_path / f"{number}", seed=seed, **job)) for number, seed in enumerate((0, 0, 1))
    )
    assert_same(first, same, 0)
    kept = first[name] != base[name]
    assert 0.45 < kept.float().mean() < 0.55
    assert (kept != (another[name] != base[name])).any()
    ratio = (first[name] - base[name])[kept] / (a[name] - base[name])[kept]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0), atol=0.2, rtol=0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"base": "m"}, "config.json: base: Extra inputs are not permitted; known settings are model"),
        ({"dtype": "int4"}, "config.json: dtype"),
        ({"method": "stew"}, "known methods are adapter, soup, linear, slerp"),
        ({"adapter": "/nowhere"}, "there is no folder /nowhere"),
        ({"adapter": "{base}"}, "cannot be loaded"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    config: dict[str, Any], words: str, tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    given = {key: value.format(base=tiny_model) for key, value in config.items()}
    done = merge(tmp_path / "job", **({"method": "adapter", "model": tiny_model, "adapter": adapter} | given))
    assert (done.returncode, "result" in done.stdout) == (2, False)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "; " in line


def test_models_of_different_bases_are_not_merged(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(tiny_model, intermediate_size=96)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "slim")
    pair = [{"model": tiny_model}, {"model": tmp_path / "slim"}]
    done = merge(tmp_path / "job", method="linear", model=tiny_model, models=pair)
    assert done.returncode == 2
    assert "slim does not fit" in done.stderr
    assert done.stderr.endswith("; merge models of one base\n")
    assert not (tmp_path / "job" / "out").exists()
