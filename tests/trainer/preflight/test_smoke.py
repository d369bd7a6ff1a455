"""The free smoke run: a job's own script, for real, with a random model of two tiny layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.trainer.methods import SCRIPTS
from agents.trainer.preflight import Preflight
from agents.trainer.preflight.shrink import shrunken
from agents.trainer.preflight.smoke import fault_of_result
from tests.trainer.preflight.a_job import ROWS, found, look, troubles
from tests.trainer.preflight.scripts_that_train import CACHED, FLAWED, SOUND

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "tie_word_embeddings": True, "rope_parameters": {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_theta": 500000.0,
    },
}  # fmt: skip
QWEN2: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
    "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "max_window_layers": 21, "use_sliding_window": False, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2048, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip
SMOLLM3: dict[str, Any] = {
    "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
    "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "layer_types": ["full_attention"] * 36,
    "pad_token_id": 128004, "eos_token_id": 128001, "bos_token_id": 128000,
}  # fmt: skip
GEMMA3: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 256,
    "image_token_index": 262144, "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
        "sliding_window": 1024, "query_pre_attn_scalar": 256,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 896, "patch_size": 14,
    },
}  # fmt: skip
PAIRS = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": [{"role": "assistant", "content": "No idea."}]}
    for row in ROWS
]
METHODS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sft": ({}, ROWS),
    "sft of all weights": ({"lora": None, "save_steps": 50, "activation_checkpointing": True}, ROWS),
    "sft, packed": ({"packing": True}, ROWS),
    "dpo": ({"method": "dpo", "beta": 0.1}, PAIRS),
    "kto": ({"method": "kto"}, [{**row, "label": number != 11} for number, row in enumerate(ROWS)]),
    "reward": ({"method": "reward"}, PAIRS),
    "grpo": (
        {"method": "grpo", "beta": 0.0, "num_generations": 8, "max_completion_length": 64, "rewards": ["exact_match"]},
        [{"prompt": row["prompt"], "answer": "7 kg of hay."} for row in ROWS],
    ),
    "distill": ({"method": "distill", "max_completion_length": 64}, ROWS),
    "rloo": (
        {"method": "rloo", "beta": 0.05, "num_generations": 8, "max_completion_length": 64, "rewards": ["exact_match"]},
        [{"prompt": row["prompt"], "answer": "7 kg of hay."} for row in ROWS],
    ),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shared, because importing TRL takes seconds; a smoke run is one of its own where script, config or rows are."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
def test_a_run_shows_what_no_reading_of_the_script_does(cache: str, tiny_model: Path, tmp_path: Path) -> None:
    """Five faults that cost a whole run each, seen in two updates of one script."""
    facts = {"model_folder": str(tiny_model), "max_tokens": 256, "cache_folder": cache}
    config = {"model": str(tiny_model)}
    template = (tiny_model / "chat_template.jinja").read_text()
    asked = {**facts, "evaluator_template": template}
    preflight = look(tmp_path, script=FLAWED, config=config, facts=asked, smoke=True)
    assert preflight.smoke.startswith("passed in "), preflight.smoke
    assert troubles(preflight).keys() == {
        "template_matches", "loss_mask", "pad_is_not_stop", "stop_token_learned", "new_tokens_trained",
    }  # fmt: skip
    assert "'model" in found(preflight, "template_matches").message
    assert "tokens of the prompt are in the loss" in found(preflight, "loss_mask").message
    assert found(preflight, "new_tokens_trained").message.startswith("3 tokens are new")
    assert not list(tmp_path.glob("out")), "nothing is left beside the job"

    again = look(
        tmp_path, script=FLAWED, facts=asked, smoke=True,
        config=config | {"learning_rate": 5e-4, "batch": 64, "epochs": 9},
    )  # fmt: skip
    assert again.smoke == "passed before, with the same script and the like of rows"
    assert troubles(again) == troubles(preflight)


def test_a_run_that_cannot_be_made_says_why(tiny_model: Path, tmp_path: Path) -> None:
    nowhere = look(tmp_path, config={"model": "anna/model"}, smoke=True)
    assert nowhere.smoke == "skipped (the model's config and tokenizer are not on this machine)"
    known = look(tmp_path, script="def", config={"model": str(tiny_model)}, smoke=True)
    assert known.smoke == "skipped (a fault is known already)"
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 10}')
    strange = look(tmp_path, facts={"model_folder": str(tmp_path)}, smoke=True)
    assert strange.smoke == "skipped (the model cannot be shrunk: its config.json has no hidden_size)"


@pytest.mark.parametrize("config", [LLAMA, QWEN2, QWEN3, SMOLLM3, GEMMA3], ids=lambda config: str(config["model_type"]))
def test_an_architecture_is_shrunk_to_what_it_is(config: dict[str, Any], tmp_path: Path) -> None:
    """Attention, ties and vocabulary are the real model's; two layers and a few channels are left of the rest."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    (tmp_path / "config.json").write_text(json.dumps(shrunken(config)))
    real, small = config.get("text_config", config), AutoConfig.from_pretrained(tmp_path)
    text = small.get_text_config()
    assert text.num_hidden_layers == 2
    assert text.vocab_size == real["vocab_size"]
    assert text.hidden_size < 256
    heads = real["num_attention_heads"] / real["num_key_value_heads"]
    assert text.num_attention_heads / text.num_key_value_heads == heads
    model = AutoModelForCausalLM.from_config(small)
    assert type(model).__name__ == config["architectures"][0]
    assert model(input_ids=torch.arange(8)[None]).logits.shape[:2] == (1, 8)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("done", "its last line is not"),
        ('{"result": {"tokens": 3}}', "names no `model` folder"),
        ('{"result": {"model": "../model"}}', "not there under out/"),
        ('{"result": {"model": "out/empty"}}', "holds neither config.json nor adapter_config.json"),
        ('{"result": {"model": "out/bare"}}', "holds no safetensors weights"),
    ],
)
def test_the_contract_of_the_last_line_is_checked(last: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "out" / "empty").mkdir(parents=True)
    (tmp_path / "out" / "bare").mkdir()
    (tmp_path / "out" / "bare" / "config.json").write_text("{}")
    assert words in fault_of_result(f'{{"step": 1}}\n{last}\n', tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_our_own_script_passes_with_every_method(method: str, cache: str, tiny_model: Path, tmp_path: Path) -> None:
    config, rows = METHODS[method]
    config = config | ({"teacher": str(tiny_model)} if method == "distill" else {})
    template = (tiny_model / "chat_template.jinja").read_text()
    preflight = look(
        tmp_path, script=SCRIPTS, rows=rows, config={"model": str(tiny_model), **config}, custom=False, smoke=True,
        facts={"max_tokens": 256, "cache_folder": cache, "evaluator_template": template},
    )  # fmt: skip
    assert preflight.smoke.startswith("passed in "), preflight.smoke
    assert troubles(preflight) == {}


@pytest.mark.slow
def test_a_sound_script_of_a_persons_own_passes(cache: str, tiny_model: Path, tmp_path: Path) -> None:
    facts = {"model_folder": str(tiny_model), "max_tokens": 256, "cache_folder": cache}
    preflight = look(tmp_path, script=SOUND, config={"model": str(tiny_model)}, facts=facts, smoke=True)
    assert preflight.smoke.startswith("passed in "), preflight.smoke
    assert troubles(preflight) == {}


@pytest.mark.slow
def test_packed_rows_that_see_one_another_through_a_cache_are_found(
    cache: str, tiny_model: Path, tmp_path: Path
) -> None:
    facts, config = {"cache_folder": cache}, {"model": str(tiny_model)}
    preflight = look(tmp_path, script=CACHED, config=config, facts=facts, smoke=True)
    check = found(preflight, "packing_keeps_rows_apart")
    assert check.status == "fault"
    assert "use_cache is on" in check.message


@pytest.mark.slow
def test_a_script_that_fails_is_named_with_its_line_and_one_that_asks_for_the_network_is_not(
    cache: str, tiny_model: Path, tmp_path: Path
) -> None:
    def tried(script: str) -> Preflight:
        facts, config = {"cache_folder": cache}, {"model": str(tiny_model)}
        return look(tmp_path, script=script, config=config, facts=facts, smoke=True)

    broken = tried(SOUND.replace('config["data"]', 'config["rows"]'))
    assert broken.smoke == "failed: train.py, line 14: KeyError: 'rows'"
    assert broken.fault.startswith("the smoke run failed: ")
    hub = SOUND.replace('from_pretrained(config["model"])', 'from_pretrained("nobody/nothing")')
    assert tried(hub).smoke.startswith("skipped (it asks for the network")
