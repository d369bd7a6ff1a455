"""The weights in a model folder, read without torch: what its safetensors files hold, and some rows as numbers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared_memory.errors import BadInput

Floats = NDArray[np.float32]
_STORED: dict[str, tuple[str, float]] = {
    "F64": ("<f8", 2.0**-53),
    "F32": ("<f4", 2.0**-24),
    "F16": ("<f2", 2.0**-11),
    "BF16": ("<u2", 2.0**-9),
}
"""Name in a header → numpy's, and the largest relative error of rounding to it: half of a unit in the last place."""
_LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
_WRAPPERS = {"model", "language_model", "transformer"}
"""Parts of a tensor's name that only say how the model was wrapped when it was saved."""


def plain_name(name: str) -> str:
    """A tensor's name without them: the same in a language model and in one that also sees."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


class Weights:
    """The tensors of a folder, of one file or of shards. Raises BadInput for what is no safetensors file."""

    def __init__(self, folder: Path, kind: Literal["model", "adapter"] = "model") -> None:
        self._places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for file in _files(folder, "adapter_model" if kind == "adapter" else "model"):
            start, header = _header(file)
            for name, entry in header.items():
                self._places[name] = (file, start, entry)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(entry["shape"]) for name, (_, _, entry) in self._places.items()}

    def can_be_read(self, name: str) -> bool:
        """Whether its numbers are stored as such; quantised ones are not."""
        return name in self._places and self._places[name][2]["dtype"] in _STORED

    def rounding(self, name: str) -> float:
        """The largest relative error of a number that is stored as this tensor's are."""
        return _STORED[self._places[name][2]["dtype"]][1]

    def rows(self, name: str, chosen: NDArray[np.intp] | None = None) -> Floats:
        """Some rows, or all, of a tensor that is laid out as (rows, last dimension); one dimension is one row.

        Only what is asked for is read from the disk.
        """
        file, start, entry = self._places[name]
        dtype = np.dtype(_STORED[entry["dtype"]][0])
        begin, end = entry["data_offsets"]
        columns = entry["shape"][-1] if entry["shape"] else 1
        width = columns * dtype.itemsize
        try:
            with file.open("rb", buffering=0) as stream:
                if chosen is None or len(chosen) * width >= end - begin:
                    stream.seek(start + begin)
                    data = b"".join(_pieces(stream, end - begin))
                else:
                    places = (start + begin + int(row) * width for row in chosen)
                    data = b"".join(os.pread(stream.fileno(), width, place) for place in places)
            taken = np.frombuffer(data, dtype).reshape(-1, max(1, columns))
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} cannot be read at {name} ({error}); fetch the model again") from error
        if len(data) < (end - begin if chosen is None else len(chosen) * width):
            raise BadInput(f"{file} is cut short at {name}; fetch the model again")
        if entry["dtype"] == "BF16":  # the upper half of a float32
            return (taken.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return taken.astype(np.float32)


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """So many bytes of a file, or what is left: a system call reads no more than 2 GiB."""
    while size and (piece := stream.read(size)):
        size -= len(piece)
        yield piece


def _files(folder: Path, stem: str) -> list[Path]:
    """The files with the weights: as the index names them, or the one file, or whatever shards there are."""
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise BadInput(f"{index} is no index of weights ({error}); fetch the model again") from error
        return [folder / Path(name).name for name in names]
    one = folder / f"{stem}.safetensors"
    return [one] if one.is_file() else sorted(folder.glob(f"{stem}*.safetensors"))


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Where a file's numbers begin, and name → `{dtype, shape, data_offsets}` (8 bytes of length, then JSON)."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        header.pop("__metadata__", None)
        for entry in header.values():
            entry["dtype"], entry["shape"], entry["data_offsets"]
        return 8 + length, header
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file} is not a safetensors file ({error}); fetch the model again") from error
