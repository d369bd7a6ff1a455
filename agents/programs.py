"""Programs that a language model wrote: what can be said against one before anybody is asked about it."""

from __future__ import annotations

import ast
import warnings

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's doubts about a program that runs all the same
            tree = ast.parse(source)
            compile(tree, WRITTEN, "exec", dont_inherit=True)  # finds more than the parser, as a stray `return`
    except SyntaxError as error:
        return f"the program is no Python: {error.msg}, line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the program is no Python: {error}"
    return "the program has nothing in it" if all(map(_does_nothing, tree.body)) else ""


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether it is a text, such as a docstring, or `pass`."""
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Pass)
