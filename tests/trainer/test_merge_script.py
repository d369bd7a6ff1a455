"""The merge job, run as a runner would run it: a folder, a config, a process."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "agents" / "trainer" / "scripts" / "merge.py"


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose random weights change every logit."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers under a name that is going away
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return folder


def merge(folder: Path, **config: Any) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, default=str))
    command = [sys.executable, str(SCRIPT), "--config", "config.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder, env=environment)


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(3, 60)[None]).logits


def test_the_merged_model_is_base_and_adapter_with_the_bases_own_files(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = merge(tmp_path / "job", model=tiny_model, adapter=adapter)
    assert done.returncode == 0, done.stderr
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["step"], event["steps"]) for event in events] == [(1, 3), (2, 3), (3, 3)]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "out" / "model")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert last["result"].keys() == {"model", "parameters", "seconds"}
    assert (last["result"]["model"], last["result"]["parameters"]) == ("out/model", base.num_parameters())
    untouched = logits(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        expected = logits(PeftModel.from_pretrained(base, str(adapter)))
    assert merged.dtype == torch.float32
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    assert (expected - untouched).abs().max() > 0.1
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "job" / "out" / "model" / name).read_bytes() == (tiny_model / name).read_bytes()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"base": "m"}, "config.json: base: Extra inputs are not permitted"),
        ({"dtype": "int4"}, "config.json: dtype"),
        ({"adapter": "/nowhere"}, "/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    config: dict[str, Any], words: str, tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    done = merge(tmp_path / "job", **({"model": tiny_model, "adapter": adapter} | config))
    assert (done.returncode, "result" in done.stdout) == (2, False)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "; " in line
