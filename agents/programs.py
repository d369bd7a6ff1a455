"""Programs that a language model wrote: what can be said against one before anybody is asked about it."""

from __future__ import annotations

import ast

from agents import sandbox

WRITTEN = "written.py"
"""Name of such a program in a job's folder."""


def fault(source: str) -> str:
    """Why a program cannot be run; empty if it can. Nothing of it is run here.

    It runs in the sandbox of this machine, and nowhere else: a container of HF Jobs holds the token that brings home
    what it makes, which a program in it could read, and has a network.
    """
    if sandbox.fault_of_this_machine():
        return "there is no sandbox on this machine for a program that a model wrote; do without it"
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"the program is no Python: {error.msg}, line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the program is no Python: {error}"
    return "" if tree.body else "the program has nothing in it"
