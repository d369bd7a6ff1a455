"""`run_python`: a scratch interpreter for every role, in a sandbox without a network, and with the facts at hand.

Nobody is asked before such a program runs, so it does in the sandbox or not at all, whatever a goal allows scripts.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import sandbox
from agents.brain import Brief
from agents.workbench import Workbench
from shared_memory.errors import BadInput
from shared_memory.record import canonical_digest
from shared_memory.redaction import redact

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

FACTS, CODE = "facts.json", "program.py"
"""Not `code.py`: that would stand in for the library's module, which its debugger imports."""
LIMITS = sandbox.Limits(seconds=60.0, memory=2 * sandbox.GIB, disk=256 * sandbox.MIB, output=256 * 1024)
"""Of one call; the folder is that of all calls of one proposal together."""
LONGEST_CODE = 100_000
"""Characters of a program."""
MOST_FILES = 20
"""Names of files that are told."""
DESCRIPTION = (
    "Run a Python program for a calculation or a look at the training data, and see what it prints. It has numpy and "
    f"polars, no network, {LIMITS.seconds:g} s and a folder of its own, whose files stay for your next call; {FACTS} "
    "in it holds the facts of your brief."
)

_one_at_a_time = threading.Lock()


def run_python(brief: Brief, bench: Workbench, facts_json: str) -> BaseTool:
    """The tool, for one proposal. Its folder is named after the facts: a loop that runs again finds its files."""
    from agents.tools.calling import calling

    folder = bench.outputs / "scratch" / canonical_digest(facts_json)[:16]
    for other in set(folder.parent.glob("*")) - {folder}:  # of proposals that were handed in
        shutil.rmtree(other, ignore_errors=True)
    data = [Path(dataset.path) for dataset in brief.datasets.values() if Path(dataset.path).is_file()]
    seen = f" The run's data sets can be read: {', '.join(map(str, data))}." if data else ""

    def call(arguments: Mapping[str, Any]) -> str:
        code = arguments.get("code")
        if not isinstance(code, str) or len(code) > LONGEST_CODE:
            raise BadInput(f"`code` is the text of a program, up to {LONGEST_CODE} characters")
        with _one_at_a_time:
            for name in (CODE, FACTS):
                if (folder / name).is_dir():  # the last program's idea
                    shutil.rmtree(folder / name)
            result = sandbox.run(
                [sys.executable, CODE],
                {CODE: code.encode(errors="replace"), FACTS: facts_json},
                LIMITS,
                folder=folder,
                readable=data,
            )
        return redact(_told(result))

    parameters = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "the whole program; print what you want to see"}},
        "required": ["code"],
        "additionalProperties": False,
    }
    return calling("run_python", DESCRIPTION + seen, parameters, call)


def _told(result: sandbox.Result) -> str:
    """What a program printed, how it ended where that was not well, and the files that it left."""
    parts = [result.stdout.rstrip()]
    if not result.ok:
        parts += [result.stderr.rstrip(), f"error: {result.error or f'it ended with exit code {result.exit_code}'}"]
    elif result.stderr.strip():
        parts.append(f"on standard error: {result.stderr.rstrip()}")
    left = [name for name in result.files if name not in (CODE, FACTS) and "__pycache__" not in name]
    if left:
        more = f" and {len(left) - MOST_FILES} more" if len(left) > MOST_FILES else ""
        parts.append(f"files in the folder: {', '.join(left[:MOST_FILES])}{more}")
    return "\n".join(filter(None, parts)) or "it printed nothing"
