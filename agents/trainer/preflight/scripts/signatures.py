"""Tells what callables of this environment take: `{"names": […], "modules": […]}` on standard input, JSON on output.

A name is dotted, from its top-level module on. Of each: its keywords, and whether it takes any other besides (`open`);
null where there is no such thing. Of each module: whether it can be found.
"""

import importlib
import importlib.util
import inspect
import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any


def main() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    asked = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):
        told = {
            "modules": {name: can_be_found(name) for name in asked["modules"]},
            "names": {name: signature(name) for name in asked["names"]},
        }
    json.dump(told, sys.stdout)


def can_be_found(module: str) -> bool:
    try:
        return module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def signature(name: str) -> dict[str, Any] | None:
    try:
        value = lookup(name)
    except (ImportError, AttributeError):
        return None
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # nothing that is called, or written in C
        return {"keywords": [], "open": True}
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {"keywords": named, "open": any(p.kind is p.VAR_KEYWORD for p in parameters)}


def lookup(name: str) -> Any:
    """The longest beginning of `name` that is a module, then attributes. Raises ImportError or AttributeError."""
    module, *rest = name.split(".")
    value = importlib.import_module(module)
    for part in rest:
        if inspect.ismodule(value) and not hasattr(value, part):
            value = importlib.import_module(f"{value.__name__}.{part}")  # a package need not know its modules
        else:
            value = getattr(value, part)
    return value


if __name__ == "__main__":
    main()
