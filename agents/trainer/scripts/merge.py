# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "pydantic==2.14.3"]
# ///
"""Merges a LoRA adapter into its base: `python merge.py --config config.json` -> out/model.

The merged model loads without PEFT. Tokenizer, chat template and generation_config are the base's own files, byte for
byte. The saved model is loaded again and must predict what base and adapter predict together; otherwise exit status 1.
Standard output has one JSON event a line and ends with `{"result": ...}`. Exit status 2, with one line on standard
error, for a config, base or adapter that cannot be used.
"""

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

STARTED = time.monotonic()
MODEL = Path("out") / "model"
BASE_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*", "generation_config.json")
"""What the merged model takes over from its base byte for byte: tokenizer, chat template, decoding policy."""
SENTENCE = "A force of 3 N acts on a mass of 2 kg. The acceleration is 1.5 m/s²."
TOLERANCE = {"torch.float32": 1e-2, "torch.float16": 0.5, "torch.bfloat16": 1.0}
"""Nats by which a next-token probability may change: rounding of merged weights adds up over the layers."""


class Config(BaseModel):
    """Settings that take no key and no type but their own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    model: str
    """Folder or Hub id of the base."""
    adapter: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """What the merged weights are saved in; auto is what the base is saved in."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges a LoRA adapter into its base.")
    parser.add_argument("--config", type=Path, required=True)
    config = read_config(parser.parse_args().config)
    warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell one another
    os.environ |= {"TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "passive"}
    if Path(config.model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
    emit({"result": merge(config)})


def merge(config: Config) -> dict[str, Any]:
    """Merges in float32, saves, and checks what was saved. Returns its folder, parameters and the seconds it took."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    told(1)
    tuned = load(config)
    tokens = AutoTokenizer.from_pretrained(config.model, revision=config.revision)(SENTENCE, return_tensors="pt")
    expected = next_tokens(tuned, tokens)
    told(2)
    saved_in = AutoConfig.from_pretrained(config.model, revision=config.revision).dtype
    dtype = (saved_in or torch.float32) if config.dtype == "auto" else getattr(torch, config.dtype)
    tuned.merge_and_unload(safe_merge=True).to(dtype).save_pretrained(MODEL)
    take_over_base_files(config)
    told(3)
    merged: Any = AutoModelForCausalLM.from_pretrained(MODEL)
    change = float((next_tokens(merged, tokens) - expected).abs().max())
    if not change <= TOLERANCE[str(merged.dtype)]:
        raise ArithmeticError(f"merging changed a next-token log-probability by {change:.3g}; deliver the adapter")
    return {"model": str(MODEL), "parameters": merged.num_parameters(), "seconds": time.monotonic() - STARTED}


def load(config: Config) -> Any:
    """The base in float32 with the adapter on it. Exits 2 when one of them cannot be loaded."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        base: Any = AutoModelForCausalLM.from_pretrained(config.model, revision=config.revision, dtype=torch.float32)
        return PeftModel.from_pretrained(base, config.adapter)
    except (OSError, ValueError) as error:
        what = str(error).strip().partition("\n")[0]
        fail(f"{config.adapter} on {config.model} cannot be loaded: {what}", "give the base and its adapter's folder")


def next_tokens(model: Any, tokens: Any) -> Any:
    """Log-probability of each next token of the sentence: (tokens - 1,), float32."""
    import torch

    ids = tokens["input_ids"]
    with torch.inference_mode():
        scores = model.eval()(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    return scores.gather(-1, ids[0, 1:, None])[:, 0]


def take_over_base_files(config: Config) -> None:
    """Copies the base's tokenizer files and generation_config; one that the base lacks is not invented."""
    base = Path(config.model)
    if not base.is_dir():
        from huggingface_hub import snapshot_download

        base = Path(snapshot_download(config.model, revision=config.revision, allow_patterns=list(BASE_FILES)))
    (MODEL / "generation_config.json").unlink(missing_ok=True)
    for file in (file for pattern in BASE_FILES for file in base.glob(pattern)):
        shutil.copyfile(file, MODEL / file.name)


def read_config(path: Path) -> Config:
    """The settings. Exits 2 for a file, key, type or value that is wrong."""
    try:
        return Config.model_validate_json(path.read_bytes())
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", "give the path of a JSON file")
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        fail(f"{path}: {what}", f"known settings are {', '.join(Config.model_fields)}")


def told(step: int) -> None:
    emit({"step": step, "steps": 3, "seconds": round(time.monotonic() - STARTED, 2)})


def emit(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def fail(what: str, next_move: str) -> NoReturn:
    print(f"error: {what}; {next_move}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
