"""The folder that PostTrainBench takes: at every moment a whole model, the best one so far."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

from agents.trainer.delivery import link_or_copy
from agents.trainer.preflight.tokens import invalid_value
from postgrad.posttrainbench.base import POLICY
from shared_memory.errors import PostgradError

_TAKEN = (".json", ".jinja", ".txt", ".model")
"""What of the base lies beside the weights: config, tokenizer, template, processor. No code, no other weights."""
_AT_FDCWD, _EXCHANGE = -100, 2
"""renameat2(2)."""


class FinalModel:
    """`final_model`. A new one is built beside it and takes its place in one step; what fails leaves the old one.

    Of a trained model only the weights are taken. Config and tokenizer are the base's own files, byte for byte: the
    evaluator's transformers 4.57 reads them, while those that version 5 writes have `rope_parameters`, which 4.57
    overlooks without a word, and a tokenizer class that it does not know. So the tensors have to be the base's, by
    name and shape.
    """

    def __init__(self, folder: Path, original: Path, policy: Path) -> None:
        """original: the base model's folder. policy: a generation_config.json, for what a model's own one lacks."""
        self.folder = folder
        self.holds = ""
        """The experiment that is in it; empty where this process has put none there."""
        self._original, self._policy = original, policy
        if _aside(folder).exists() and not folder.exists():
            _aside(folder).rename(folder)  # an earlier process was killed between two renames

    def place(self, name: str, weights: Path) -> None:
        """Put the model with the weights of a folder there. Raises PostgradError where that cannot be done."""
        part = self.folder.with_name(f".{self.folder.name}.part")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            self._fill(part, weights)
            _take_the_place(part, self.folder)
        except OSError as error:
            raise PostgradError(
                f"{name} could not be put into {self.folder.name} ({error.strerror or error}), which stays as it was; "
                "make room, then run again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self.holds = name

    def _fill(self, part: Path, weights: Path) -> None:
        found, expected = shapes_of(weights), shapes_of(self._original)
        tied = json.loads((self._original / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings", True)
        other = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
        if other := {name for name in other if not (tied and name.endswith("lm_head.weight"))}:
            raise PostgradError(
                f"{weights} has other tensors than the base ({sorted(other)[0]} and {len(other) - 1} more); the base's "
                "config would not describe it, so it is not delivered"
            )
        for file in weights.iterdir():
            if file.suffix == ".safetensors" or file.name.endswith(".safetensors.index.json"):
                link_or_copy(str(file.resolve()), str(part / file.name))
        for file in self._original.iterdir():
            index = file.name.endswith(".safetensors.index.json")
            if file.is_file() and file.suffix in _TAKEN and not index and file.name != POLICY:
                shutil.copyfile(file, part / file.name)
        policy = _policy_of(weights / POLICY, json.loads(self._policy.read_text(encoding="utf-8")))
        (part / POLICY).write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")


def _policy_of(file: Path, usual: dict[str, Any]) -> dict[str, Any]:
    """A model's own decoding policy, stopping at least where the usual one does, which stands in for a bad one."""
    try:
        own = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return usual
    if not isinstance(own, dict) or invalid_value(own):
        return usual
    stops = [*_as_list(own.get("eos_token_id")), *_as_list(usual.get("eos_token_id"))]
    return {**own, "eos_token_id": list(dict.fromkeys(stops))} if stops else own


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor → shape, of the safetensors files of a folder. Raises PostgradError for one that is cut off."""
    shapes: dict[str, tuple[int, ...]] = {}
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        header, begins = _header(file)
        ends = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if file.stat().st_size != begins + ends:
            raise PostgradError(f"{file} is not whole; it is not delivered")
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items()}
    if not files:
        raise PostgradError(f"{folder} holds no weights; it is not delivered")
    return shapes


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensor → its entry, and where the data begins [safetensors: 8 bytes of length, then JSON]."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
    except (ValueError, struct.error) as error:
        raise PostgradError(f"{file} is no safetensors file ({error}); it is not delivered") from error
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, 8 + length


def _take_the_place(new: Path, old: Path) -> None:
    """`new` under the name of `old`, in one step where the file system can exchange two names."""
    if not old.exists():
        new.rename(old)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(new), os.fsencode(old)
    exchange = getattr(libc, "renameat2", None)
    if exchange is not None and exchange(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0:
        return  # the old one now lies under the new one's name, and is removed
    aside = _aside(old)
    shutil.rmtree(aside, ignore_errors=True)
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
