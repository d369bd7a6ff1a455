"""What tools give back: whole on disk, cut and fenced for the model, and replayed by a loop that runs again."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_memory.records import Record, canonical_digest
from shared_memory.redaction import redact_plain

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

READ_ON = "read_output"
"""The tool that shows more of a result."""
FENCE = "<untrusted {mark}>\n{text}\n</untrusted {mark}>"
"""Around words from outside. Nobody can write the digest of a text into that text, so nothing inside closes it."""
MORE = '\n[characters {start:,} to {end:,} of {total:,}; {tool}(handle="{handle}", offset={end}) reads on]'
REST = "\n[characters {start:,} to {end:,} of {total:,}]"
NO_HANDLE = "there is no output {handle!r}: take a handle as an earlier result names it"

_UNSEEN = dict.fromkeys(
    [
        *(code for code in range(0x20) if chr(code) not in "\n\t"),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xE0000, 0xE0080),
    ]
)
"""Signs that a person does not see and a terminal or a model obeys: control, direction of writing, and Unicode tags."""


class ToolFault(Exception):
    """A tool cannot do what it was asked; its words, one line, become that call's error, and the loop goes on."""


class Output(Record):
    """What one call of a tool gave back."""

    tool: str
    arguments: dict[str, Any]
    text: str
    """Without secrets, in full."""
    failed: bool = False


class ToolOutputs:
    """The outputs of a role's tools, a file each, by the handle that the model reads on with."""

    def __init__(self, folder: Path, longest: int) -> None:
        """longest: bytes that are shown at once."""
        self.longest = longest
        self._folder = folder

    def kept(self, handle: str) -> Output | None:
        """The output of a call, None where it is not on disk, or not whole after a power cut."""
        if not handle.isalnum():
            return None
        try:
            return Output.model_validate_json((self._folder / f"{handle}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def keep(self, handle: str, output: Output) -> None:
        """Put an output on disk. It is there for a process that is killed; a power cut may cost the call again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{handle}.{threading.get_native_id()}.part"
        part.write_bytes(output.model_dump_json().encode())
        part.replace(self._folder / f"{handle}.json")

    def shown(self, handle: str, output: Output, offset: int = 0) -> str:
        """A piece of an output, fenced, with how to read on where there is more."""
        text, start = output.text, min(max(0, offset), len(output.text))
        end = _end_of_a_piece(text, start, self.longest)
        piece = {"start": start, "end": end, "total": len(text)}
        if end < len(text):
            return fenced(text[start:end]) + MORE.format(**piece, tool=READ_ON, handle=handle)
        return fenced(text[start:end]) + (REST.format(**piece) if start else "")

    def reader(self) -> BaseTool:
        """The tool that reads on."""
        from langchain_core.tools import tool

        @tool(READ_ON)
        def read_output(handle: str, offset: int = 0) -> str:
            """More of an earlier tool result, from the character `offset` on."""
            output = self.kept(handle)
            return NO_HANDLE.format(handle=handle[:40]) if output is None else self.shown(handle, output, offset)

        return read_output


def handle_of(request: str, call: Any) -> str:
    """The key of a call of a tool: the same for a loop that runs again, and for nothing else.

    request: digest of the request that the call came from, which is all that was said before it.
    """
    return canonical_digest([request, call["id"], call["name"], call["args"]])[:16]


def output_of(call: Any, text: str, *, failed: bool = False) -> Output:
    """What a call gave back, as it is kept and shown: without secrets, and without what only machines see."""
    seen = text if text.isascii() and text.isprintable() else text.translate(_UNSEEN)
    arguments, shown = redact_plain([call["args"], seen.encode(errors="replace").decode()])
    return Output(tool=call["name"], arguments=arguments, text=shown, failed=failed)


def fenced(text: str) -> str:
    """Words from outside between two marks that nothing inside can write."""
    return FENCE.format(mark=hashlib.sha256(text.encode()).hexdigest()[:16], text=text)


def _end_of_a_piece(text: str, start: int, longest: int) -> int:
    """Where to cut so that so many bytes are left: at the end of a line, where one is near."""
    piece = text[start : start + longest].encode()[:longest]
    end = start + len(piece.decode(errors="ignore"))
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", end - longest // 5, end)
    return line + 1 if line > start else end
