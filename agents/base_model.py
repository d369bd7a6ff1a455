"""The base model on disk: found in a folder, or brought from the Hub once, at a pinned revision."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared_memory.errors import BadInput
from shared_memory.records import Record

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
SAMPLED, BLOCKS = 64 * 2**20, 64
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
)


class BaseModel(Record):
    """What the roles need to know of the model that is trained."""

    name: str
    """As the goal names it."""
    folder: str
    """Empty for a model that others serve."""
    revision: str = ""
    """Commit on the Hub; empty for a plain folder."""
    parameters: int
    """Weights in all, counted from the safetensors headers."""
    architecture: str
    config: dict[str, Any]
    """config.json."""


def find_base_model(name: str, revision: str = "") -> BaseModel:
    """The base model called `name`, a folder or a Hub id; a Hub id is downloaded unless the cache has it.

    Raises BadInput for an unknown, gated or incomplete model, or a Hub that is out of reach.
    """
    if not name:
        raise BadInput("the goal names no base model; set base_model to a folder or a Hub id")
    folder = Path(name)
    if folder.is_absolute():
        if not folder.is_dir():
            raise BadInput(f"base model folder {folder} does not exist; check base_model")
        return _read(name, folder, "")
    folder = _from_hub(name, revision, ("README.md", "*.json", "*.jinja", "*.safetensors", *TOKENIZER_FILES))
    return _read(name, folder, folder.name)


def served_model(name: str) -> BaseModel:
    """A model that others serve: its name is all that is known of it.

    Raises BadInput where there is none, and for a folder of this machine.
    """
    if not name or Path(name).is_absolute():
        raise BadInput(
            f'on = "api" asks a served model, and base_model is {name or "empty"}; give its LiteLLM name '
            "(openai/gpt-5-mini; for a server of your own, openai/ and what it calls the model, with its api_base)"
        )
    return BaseModel(name=name, folder="", parameters=0, architecture="", config={})


def read_config(name: str, revision: str = "") -> tuple[Path, dict[str, Any]]:
    """A model's folder and its config.json; of a model on the Hub, no other file is fetched.

    Raises BadInput as `find_base_model` does.
    """
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        if name.startswith(("~", "/", "./", "../")) or not name:
            raise BadInput(f"model folder {name or '(empty)'} does not exist; give a folder or a Hub id")
        folder = _from_hub(name, revision, ("config.json",))
    return folder, _json(folder / "config.json")


def find_tokenizer(name: str, revision: str = "") -> Path:
    """A model's folder with its tokenizer's files; of a model on the Hub, no other file is fetched.

    Raises BadInput as `find_base_model` does, and where there is no tokenizer.
    """
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        if name.startswith(("~", "/", "./", "../")) or not name:
            raise BadInput(f"model folder {name or '(empty)'} does not exist; give a folder or a Hub id")
        folder = _from_hub(name, revision, TOKENIZER_FILES)
    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BadInput(f"{name} holds no tokenizer; copy the tokenizer's files into it, or name its base model")
    return folder


@lru_cache(maxsize=8)
def _read(name: str, folder: Path, revision: str) -> BaseModel:
    config = _json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder} holds no safetensors weights; convert the model with save_pretrained first")
    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BadInput(f"{folder} holds no tokenizer; copy the tokenizer's files into it")
    return BaseModel(
        name=name,
        folder=str(folder),
        revision=revision,
        parameters=parameters_of(folder),
        architecture=next(iter(config.get("architectures") or []), config.get("model_type", "unknown")),
        config=config,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path.parent} is no model folder: it has no {path.name}; check base_model") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not readable JSON ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} does not hold a JSON object; fetch the model again")
    return value


def fingerprint(folder: Path) -> str:
    """sha256 over a model folder's weights, config and tokenizer: another model, or the same one trained on, differs.

    Of a file above SAMPLED bytes only its size and BLOCKS pieces, spread evenly, are read.
    """
    return _digest(folder, {"config.json", "generation_config.json", *TOKENIZER_FILES}).hexdigest()


def weights_digest(folder: Path) -> str:
    """The same over what a training or a merge makes: weights, their config and the adapter's, and the decoding policy.

    Where a delivered model differs from what was trained: its tokenizer, and by what path an adapter names its base.
    """
    digest = _digest(folder, {"config.json", "generation_config.json"})
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        config = {key: value for key, value in _json(adapter).items() if key != "base_model_name_or_path"}
        digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()


def _digest(folder: Path, names: Collection[str]) -> hashlib._Hash:
    """Of a folder's weights and the files called `names`."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.name in names or path.suffix == ".safetensors"):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        pieces = [(0, size)] if size <= SAMPLED else [(size * i // BLOCKS, SAMPLED // BLOCKS) for i in range(BLOCKS)]
        with file.open("rb") as stream:
            for start, length in pieces:
                stream.seek(start)
                digest.update(stream.read(length))
    return digest


def parameters_of(folder: Path) -> int:
    """Weights of a model folder, counted from its safetensors headers; 0 without any."""
    return sum(map(_parameters, sorted(folder.glob("*.safetensors"))))


def _parameters(file: Path) -> int:
    """Elements of all tensors in a safetensors file, from its header alone (8 bytes of length, then JSON)."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
        return sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError) as error:
        raise BadInput(f"{file} is not a safetensors file ({error}); fetch the model again") from error


def _from_hub(name: str, revision: str, files: tuple[str, ...]) -> Path:
    """The snapshot of a model in the local cache, with the files that match."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(files)))
    except HFValidationError as error:
        raise BadInput(f"`{name}` is neither a folder nor a Hub id; check base_model") from error
    except GatedRepoError as error:
        raise BadInput(
            f"{name} is gated; accept its terms on its Hub page, then set HF_TOKEN to a token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise BadInput(f"{name} has no revision `{revision}`; leave it out for the newest") from error
    except RepositoryNotFoundError as error:
        raise BadInput(f"the Hub has no model `{name}`, or it is private; check base_model, or set HF_TOKEN") from error
    except LocalEntryNotFoundError as error:
        raise BadInput(
            f"{name} is not in the local cache and the Hub is out of reach; go online, or give base_model as a folder"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise BadInput(
            f"{name} could not be fetched ({str(error).splitlines()[0]}); try again, or give a folder"
        ) from error
