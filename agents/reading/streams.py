"""Opens files of anyone's making: plain or compressed, in bounded memory, and nothing but regular files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from shared_memory.errors import BadInput

LINE_LIMIT = 32 * 2**20
"""Bytes of the longest line, or cell, that is read: what is longer is no row of text but a file gone wrong."""
READ_ANYWAY = 256 * 2**20
"""Bytes that a compressed file may expand to, however small it is."""
EXPANDS_AT_MOST = 200
"""How many times its size a compressed file may hold beyond that. Text compresses 3 to 30 times, a bomb 1,000."""
XZ_MEMORY = 256 * 2**20
"""Bytes that unpacking .xz may take; the file itself asks for them."""
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_CHUNK = 2**20
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)
"""What the decompressors raise on damaged files; pyarrow's errors are ValueError and OSError."""


class Damaged(Exception):
    """A file that was read up to here, and goes on as something that cannot be read."""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked where its name says that it is packed.

    Raises BadInput where it is missing, no regular file (a pipe would hang, a device never end), not permitted,
    expands beyond bounds, or is written to while it is read. Reading it raises `Damaged` where it is cut or scrambled.
    """
    with ExitStack() as stack:
        file = stack.enter_context(regular_file(path))
        before = os.fstat(file.fileno())
        compression = path.suffix.lower()
        stream = file
        if compression in COMPRESSIONS:
            inner = _unpacking(file, compression)
            stack.callback(inner.close)
            stream = io.BufferedReader(_Expanded(inner, path, before.st_size), _CHUNK)
        yield stream
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BadInput(f"{path} changed while it was read; read it again when nothing writes to it")


def regular_file(path: Path) -> io.BufferedReader:
    """The file, opened without waiting for whoever would write to a pipe. Raises BadInput where it is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path} cannot be read ({why or error}); check its path and permissions") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is not a file; check the path, and save what a pipe or device gives as a file first")
    return io.BufferedReader(io.FileIO(descriptor), _CHUNK)


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Each line with its end; None for one that is longer than LINE_LIMIT, which is skipped."""
    while line := stream.readline(LINE_LIMIT + 1):
        if len(line) <= LINE_LIMIT or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
        yield None


def skip_byte_order_mark(stream: io.BufferedReader, path: Path) -> None:
    """Past UTF-8's mark. Raises BadInput for UTF-16 and UTF-32, marked or not, with the command that mends it."""
    start = stream.peek(4)[:4]
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if marked or (b"\x00" in start and start.strip(b"\x00")):
        raise BadInput(
            f"{path} is UTF-16 or binary, not UTF-8 text; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8 OLD > NEW`)"
        )
    if start.startswith(b"\xef\xbb\xbf"):
        stream.read(3)


class _Expanded(io.RawIOBase):
    """What a packed file holds, as long as it stays within bounds."""

    def __init__(self, inner: Any, path: Path, size: int) -> None:
        self._inner, self._path, self._read = inner, path, 0
        self._limit = max(READ_ANYWAY, EXPANDS_AT_MOST * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read1(min(len(buffer), _CHUNK))  # what there is, before what is cut off
        except _DAMAGE as error:
            raise Damaged(f"the compressed file is cut or scrambled ({first_line(error)})") from error
        self._read += len(data)
        if self._read > self._limit:
            raise BadInput(
                f"{self._path} expands to more than {self._limit // 2**20:,} MiB, {EXPANDS_AT_MOST} times its size; "
                "unpack it yourself if you trust it"
            )
        buffer[: len(data)] = data
        return len(data)


def _unpacking(file: BinaryIO, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=file)
    if compression == ".bz2":
        return bz2.BZ2File(file)
    if compression == ".xz":
        return _Xz(file)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


class _Xz:
    """`lzma.LZMAFile` with a bound on the memory that a file may ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpack = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        self._packed = b""

    def read1(self, size: int) -> bytes:
        while True:
            if self._unpack.eof:
                self._packed = (self._unpack.unused_data or self._file.read(_CHUNK)).lstrip(b"\x00")  # padding
                if not self._packed:
                    return b""
                self._unpack = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            elif self._unpack.needs_input:
                self._packed = self._file.read(_CHUNK)
                if not self._packed:
                    raise EOFError("it ends before its end mark")
            if data := self._unpack.decompress(self._packed, size):
                self._packed = b""
                return data
            self._packed = b""

    def close(self) -> None:
        """Nothing of its own to close."""


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
