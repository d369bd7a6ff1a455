"""What the jobs that read or answer do with what they are given, and with where they run."""

import difflib
import json
import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""auto: the checkpoint's own on an accelerator; on a CPU bfloat16 where it calculates in it, else float32."""
OUT = Path("out")

C = TypeVar("C")


class JobError(Exception):
    """The job cannot be done as it was given; the message ends with the next move."""


def read_settings(path: Path, kind: type[C], choices: Mapping[str, Iterable[str]]) -> C:
    """The settings in a JSON file, as this dataclass has them; `choices`: name -> the values that it may take.

    Raises JobError for anything that is not exactly the documented settings.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the config {path}: {e}; give a JSON file") from e
    if not isinstance(given, dict):
        raise JobError(f"{path} is not a JSON object; see the example at the top of this script")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in given.keys() - known.keys():
        near = difflib.get_close_matches(key, known, 1)
        raise JobError(f"unknown key {key!r} in {path}; " + (f"did you mean {near[0]!r}?" if near else "remove it"))
    missing = [name for name, field in known.items() if field.default is MISSING and name not in given]
    if missing:
        raise JobError(f"{path} lacks {', '.join(missing)}; add it")
    types = typing.get_type_hints(kind)
    for key, value in given.items():
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise JobError(f"{key} is {value!r} in {path}; give a value of type {known[key].type}")
    for name, allowed in choices.items():
        if name in given and given[name] not in allowed:
            raise JobError(f"{name} is {given[name]!r}; choose {' or '.join(allowed)}")
    return kind(**given)


def be_there(*folders: str | None) -> None:
    """Raises JobError where a folder is named, and is not there; any other name is a Hub id."""
    for folder in folders:
        if folder and Path(folder).is_absolute() and not Path(folder).is_dir():
            raise JobError(f"there is no folder {folder}; correct its name, or give a Hub id")


def be_positive(config: Any, *names: str) -> None:
    """Raises JobError where one of these settings is under 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise JobError(f"{name} is {getattr(config, name)}; give at least 1")


def prepare_environment(model: str, adapter: str | None) -> None:
    """Must come before the heavy imports: keeps libraries from the network and from writing outside `out`."""
    OUT.mkdir(exist_ok=True)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin slow down whatever else uses the cores
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if Path(model).is_dir() and (not adapter or Path(adapter).is_dir()):
        os.environ["HF_HUB_OFFLINE"] = "1"


def placed(model: Any, dtype: str) -> Any:
    """A model on the device of this machine, in one of DTYPES, ready to answer."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if dtype != "auto":
        model.to(getattr(torch, dtype))
    elif device == "cpu":
        model.to(torch.bfloat16 if native else torch.float32)
    return model.to(device).eval()
