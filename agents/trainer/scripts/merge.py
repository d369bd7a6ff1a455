# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "pydantic==2.14.3",
#   "mergekit==0.1.5",
# ]
# ///
"""Merges models of one base into one: `python merge.py --config config.json` -> out/model.

`method` says how: an `adapter` into its base by PEFT; several models, or adapters of the base, by `linear`, `slerp`,
`ties`, `dare_ties` or `dare_linear`; or a `soup`, the mean of the last checkpoints of one training. The sibling files
merge_adapters.py and merge_models.py lie beside this one. Paths are relative to config.json's folder.

The merged model loads without PEFT. Tokenizer, chat template and generation_config are the base's own files, byte for
byte; only where an adapter has added tokens, the tokenizer is the adapter's. The saved model is loaded again: it must
predict finite values, and with one adapter what base and adapter predict together; otherwise exit status 1. Standard
output has one JSON event a line and ends with `{"result": ...}`. Exit status 2, with one line on standard error, for a
config, base, model or adapter that cannot be used.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from merge_adapters import SENTENCE, Unusable, load, predictions, tokens_of
from merge_models import last_checkpoints, mix, require_same_shapes, whole
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

STARTED = time.monotonic()
MODEL = Path("out") / "model"
TOKENIZER = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
BASE_FILES = (*TOKENIZER, "generation_config.json")
"""What the merged model takes over from its base byte for byte: tokenizer, chat template, decoding policy."""
TOLERANCE = {"torch.float32": 1e-2, "torch.float16": 0.5, "torch.bfloat16": 1.0}
"""Nats by which a next-token probability may change: rounding of merged weights adds up over the layers."""


class Settings(BaseModel):
    """Settings that take no key and no type but their own; these are what all methods have."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    model: str
    """Folder or Hub id of the base."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """What the merged weights are saved in; auto is what the base is saved in."""


class Part(BaseModel):
    """One of several models."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    model: str
    """Folder of a whole model, or of an adapter of the base."""
    weight: float = 1.0


class Adapter(Settings):
    method: Literal["adapter"]
    adapter: str


class Soup(Settings):
    """The mean of the last checkpoints of one training, whole or adapters."""

    method: Literal["soup"]
    checkpoints: str
    """Folder with `checkpoint-N`."""
    last: int = Field(ge=2)


class Linear(Settings):
    """The weighted mean; with equal weights a uniform soup."""

    method: Literal["linear"]
    models: list[Part] = Field(min_length=2)


class Slerp(Settings):
    method: Literal["slerp"]
    models: list[str] = Field(min_length=2, max_length=2)
    t: float = Field(ge=0, le=1)
    """0 is the first model, 1 the second."""


class TaskVectors(Settings):
    """Changes against the base, thinned out and added up."""

    method: Literal["ties", "dare_ties", "dare_linear"]
    models: list[Part] = Field(min_length=1)
    density: float = Field(gt=0, le=1)
    """Share of each change that is kept: the largest with ties, a random one with dare."""
    scale: float = 1.0
    """Of the sum, before it goes onto the base: λ in both papers."""
    seed: int = 0
    """Of what dare keeps."""


Config = Annotated[Adapter | Soup | Linear | Slerp | TaskVectors, Field(discriminator="method")]
METHODS: dict[str, type[Settings]] = {
    "adapter": Adapter, "soup": Soup, "linear": Linear, "slerp": Slerp,
    "ties": TaskVectors, "dare_ties": TaskVectors, "dare_linear": TaskVectors,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges models of one base into one.")
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config
    config = read_config(path)
    warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell one another
    os.environ |= {"TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        emit({"result": merge(config, path.absolute().parent)})
    except Unusable as error:
        fail(str(error))


def merge(config: Any, beside: Path) -> dict[str, Any]:
    """Merges in float32, saves, and checks what was saved. Returns its folder, parameters and the seconds it took."""
    told(1)
    base = whole_folder(config.model, config.revision, beside)
    sources = sources_of(config, beside)
    os.environ["HF_HUB_OFFLINE"] = "1"  # all is here
    import torch
    import transformers

    saved_in = transformers.AutoConfig.from_pretrained(base).dtype or torch.float32
    dtype = saved_in if config.dtype == "auto" else getattr(torch, config.dtype)
    expected = merge_adapter(base, sources[0], dtype) if isinstance(config, Adapter) else None
    if expected is None:
        merge_several(config, base, sources, str(dtype).removeprefix("torch."))
    told(3)
    merged = reloaded()
    found = predictions(merged, tokenized(MODEL))
    if not torch.isfinite(found).all():
        raise ArithmeticError("the merged model predicts no finite numbers; merge by another method")
    change = 0.0 if expected is None else float((found - expected).abs().max())
    if not change <= TOLERANCE[str(merged.dtype)]:
        raise ArithmeticError(f"merging changed a next-token log-probability by {change:.3g}; deliver the adapter")
    return {"model": str(MODEL), "parameters": merged.num_parameters(), "seconds": time.monotonic() - STARTED}


def sources_of(config: Any, beside: Path) -> list[Path]:
    """The folders of what is merged: whole models and adapters."""
    if isinstance(config, Adapter):
        return [folder_of(config.adapter, beside)]
    if isinstance(config, Soup):
        return last_checkpoints(folder_of(config.checkpoints, beside), config.last)
    names = config.models if isinstance(config, Slerp) else [part.model for part in config.models]
    return [whole_folder(name, None, beside) for name in names]


def merge_adapter(base: Path, adapter: Path, dtype: Any) -> Any:
    """Saves base and adapter as one model; what they predict together."""
    tuned = load(base, adapter)
    grown = tokens_of(adapter) > tokens_of(base)
    expected = predictions(tuned, tokenized(adapter if grown else base))
    told(2)
    tuned.merge_and_unload(safe_merge=True).to(dtype).save_pretrained(MODEL)
    take_over(base, BASE_FILES)
    if grown:
        take_over(adapter, TOKENIZER)
    return expected


def merge_several(config: Any, base: Path, sources: list[Path], dtype: str) -> None:
    """Saves several models as one; adapters among them are put on the base first."""
    with tempfile.TemporaryDirectory(prefix="merging-", dir=".") as room:
        rooms = (Path(room).absolute() / str(number) for number in range(len(sources)))
        folders = [whole(source, base, empty) for source, empty in zip(sources, rooms, strict=True)]
        require_same_shapes([base, *folders])
        told(2)
        if isinstance(config, Slerp):
            mix("slerp", [(folder, {}) for folder in folders], MODEL, base=folders[0], dtype=dtype, t=config.t)
        elif isinstance(config, TaskVectors):
            options = {"density": config.density, "lambda": config.scale, "seed": config.seed}
            mix(config.method, weighted(folders, config.models), MODEL, base=base, dtype=dtype, **options)
        else:
            parts = config.models if isinstance(config, Linear) else [Part(model=str(source)) for source in sources]
            mix("linear", weighted(folders, parts), MODEL, dtype=dtype)
    take_over(base, BASE_FILES)


def weighted(folders: list[Path], parts: list[Part]) -> list[tuple[Path, dict[str, Any]]]:
    return [(folder, {"weight": part.weight}) for folder, part in zip(folders, parts, strict=True)]


def folder_of(name: str, beside: Path) -> Path:
    """A path of the config as a folder. Raises Unusable where there is none."""
    folder = beside / Path(name).expanduser()
    if not folder.is_dir():
        raise Unusable(f"there is no folder {name}", "give the folder of a model or an adapter")
    return folder


def whole_folder(name: str, revision: str | None, beside: Path) -> Path:
    """The folder of a model that is named by its path or its Hub id. Raises Unusable where it is neither."""
    if (beside / Path(name).expanduser()).is_dir() or name.startswith(("/", "~", "./", "../")):
        return folder_of(name, beside)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", *BASE_FILES]))
    except (OSError, ValueError) as error:
        what = str(error).strip().partition("\n")[0]
        raise Unusable(f"{name} cannot be had: {what}", "give a folder, or a Hub id that you may read") from error


def reloaded() -> Any:
    """The saved model, as its own config says what it is."""
    import transformers

    classifies = transformers.AutoConfig.from_pretrained(MODEL).architectures[0].endswith("ForSequenceClassification")
    kind = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
    return kind.from_pretrained(MODEL)


def tokenized(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")


def take_over(folder: Path, patterns: tuple[str, ...]) -> None:
    """Copies the files of a folder that match; one that it lacks is not invented."""
    if "generation_config.json" in patterns:
        (MODEL / "generation_config.json").unlink(missing_ok=True)
    for file in (file for pattern in patterns for file in folder.glob(pattern)):
        shutil.copyfile(file, MODEL / file.name)


def read_config(path: Path) -> Any:
    """The settings. Exits 2 for a file, key, type or value that is wrong."""
    adapter: TypeAdapter[Config] = TypeAdapter(Config)
    try:
        content = path.read_bytes()
        return adapter.validate_json(content)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}; give the path of a JSON file")
    except ValidationError as error:
        first = error.errors()[0]
        method, *keys = first["loc"] or ("",)
        known = METHODS[method].model_fields if method in METHODS else METHODS
        what = f"{'.'.join(map(str, keys))}: {first['msg']}".removeprefix(": ")
        fail(f"{path}: {what}; known {'settings' if method in METHODS else 'methods'} are {', '.join(known)}")


def told(step: int) -> None:
    emit({"step": step, "steps": 3, "seconds": round(time.monotonic() - STARTED, 2)})


def emit(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def fail(what: str) -> NoReturn:
    print(f"error: {what}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
