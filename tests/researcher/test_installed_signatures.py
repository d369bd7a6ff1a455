"""What every public object of the pinned libraries takes: read from their files, and as Python itself tells it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import pytest

from agents.researcher.reference import installed, names
from agents.researcher.reference.fields import takes
from agents.researcher.reference.modules import Thing

LIBRARIES = ("trl", "peft", "datasets", "trackio")
OWNERS = {*LIBRARIES, "transformers"}
SIGNS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
OUT_OF_REACH = {"trl.experimental.async_grpo.openenv_harness"}
"""Needs a package that nothing else needs."""


def told(name: str) -> list[tuple[str, bool]]:
    """What a name takes as its file says: name with stars, and whether it has a default."""
    thing = names.find(name)
    assert isinstance(thing, Thing), name
    return [(f"{each.sign}{each.name}", each.default is not None) for each in takes(thing) if not each.through_keywords]


def real(thing: Callable[..., Any], *, bound: bool = False) -> list[tuple[str, bool]]:
    parameters = list(inspect.signature(thing).parameters.values())[1 if bound else 0 :]
    return [(f"{SIGNS.get(each.kind, '')}{each.name}", each.default is not each.empty) for each in parameters]


def is_own(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] in OWNERS


def is_called(thing: Any) -> bool:
    """Whether it is made or called with parameters of its own; a protocol is made by nobody."""
    if inspect.isclass(thing):
        made = any("__init__" in vars(each) or "__new__" in vars(each) for each in thing.__mro__ if is_own(each))
        return made and not issubclass(thing, Enum | Exception | dict) and not getattr(thing, "_is_protocol", False)
    return inspect.isfunction(thing)


def public(module: Any) -> Iterator[tuple[str, Any]]:
    for name in (name for name in dir(module) if not name.startswith("_")):
        thing = getattr(module, name)
        if is_own(thing) and is_called(thing):
            yield name, thing


def methods(made: type) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """Name, function and whether its first parameter is filled in, of the public methods that are one of ours'."""
    own = {name for each in made.__mro__ if is_own(each) for name in vars(each)}  # transformers adds some to torch's
    for name in (name for name in dir(made) if not name.startswith("_") and name in own):
        kept = inspect.getattr_static(made, name)
        function = kept.fget if isinstance(kept, property) else getattr(kept, "__func__", kept)
        if inspect.isfunction(function) and is_own(inspect.unwrap(function)):
            yield name, function, not isinstance(kept, staticmethod)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_public_object_takes_what_python_says_and_can_be_described(library: str) -> None:
    module = importlib.import_module(library)
    compared = 0
    for name, thing in public(module):
        assert sorted(told(f"{library}.{name}")) == sorted(real(thing)), name
        assert installed.describe(f"{library}.{name}")
        assert installed.source(f"{library}.{name}", limit=1)
        compared += 1
    assert compared > 30


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_public_method_takes_what_python_says_in_its_order(library: str) -> None:
    compared = 0
    for name, made in public(importlib.import_module(library)):
        for method, function, bound in methods(made) if inspect.isclass(made) else ():
            assert told(f"{library}.{name}.{method}") == real(function, bound=bound), f"{name}.{method}"
            compared += 1
    assert compared > 30


@pytest.mark.slow
def test_every_object_of_trls_experiments_takes_what_python_says() -> None:
    experimental = importlib.import_module("trl.experimental")
    compared = 0
    for found in pkgutil.walk_packages(experimental.__path__, "trl.experimental."):
        if found.name in OUT_OF_REACH:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(found.name)
        for name, thing in public(module):
            if thing.__module__.startswith("trl."):
                assert sorted(told(f"{found.name}.{name}")) == sorted(real(thing)), f"{found.name}.{name}"
                compared += 1
    assert compared > 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["AutoTokenizer", "GenerationConfig", "Trainer", "BitsAndBytesConfig", "EarlyStoppingCallback", "pipeline",
     "DataCollatorForLanguageModeling", "Qwen3ForCausalLM", "get_scheduler", "TextStreamer", "DynamicCache"],
)  # fmt: skip
def test_what_training_scripts_take_from_transformers_takes_what_python_says(name: str) -> None:
    transformers = importlib.import_module("transformers")
    assert told(f"transformers.{name}") == real(getattr(transformers, name))
    assert "from_pretrained" in installed.describe("transformers.AutoModelForCausalLM.from_pretrained")
