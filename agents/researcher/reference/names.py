"""What a dotted name stands for among the installed libraries; for one that stands for nothing, what is near."""

from __future__ import annotations

import ast
import difflib
import importlib.metadata
import re

from agents.researcher.reference.fields import Field, takes
from agents.researcher.reference.lookup import lineage, member, members
from agents.researcher.reference.modules import Module, Thing, load, version_of
from shared_memory.errors import BadInput, Unavailable


def find(name: str) -> Thing | Field:
    """What a dotted name stands for; a parameter may follow what takes it, as in `trl.SFTTrainer.args`."""
    top, *rest = name.strip().removesuffix("()").split(".")
    module = load(top) if top.isidentifier() and version_of(top) else None
    if module is None:
        raise _not_installed(top)
    thing = Thing(top, module)
    for position, part in enumerate(rest):
        inner = member(thing, part)
        last = position == len(rest) - 1
        if last and (inner is None or isinstance(inner.node, ast.AnnAssign)):
            fields = {field.name: field for field in takes(thing)}
            if part in fields:
                return fields[part]
        if inner is None:
            raise _unknown(".".join([top, *rest[:position]]), thing, part)
        thing = inner
    return thing


def _not_installed(top: str) -> Unavailable | BadInput:
    normal = re.sub(r"[-_.]+", "-", top).lower()
    try:
        requirements = importlib.metadata.requires("postgrad") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    for each in requirements:
        named = re.match(r"[\w.-]+", each)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", each)
        if named and extra and re.sub(r"[-_.]+", "-", named[0]).lower() == normal:
            return Unavailable(f"{top} is not installed; pip install 'postgrad[{extra[1]}]'")
    if version_of(top):
        return BadInput(f"{top} is installed, but not as Python source that can be read; read its documentation")
    return BadInput(f"no library `{top}` is installed; check the name of the module, or read its documentation")


def _unknown(inside: str, thing: Thing, part: str) -> BadInput:
    known = f"`{inside}` of {thing.top} {version_of(thing.top)} has no `{part}`"
    near = difflib.get_close_matches(part, sorted({*_names(thing)} - {part}), 3, 0.6)
    return BadInput(f"{known}; nearest: {', '.join(near)}" if near else f"{known}; search {thing.top} for it")


def _names(thing: Thing) -> list[str]:
    """What may follow a thing and a dot."""
    if thing.node is None:
        return [*thing.module.bound, *thing.module.deferred, *submodules(thing.module)]
    if isinstance(thing.node, ast.ClassDef):
        fields = [field.name for field in takes(thing)]
        return [*fields, *(name for each in lineage(thing) for name in members(each))]
    return [field.name for field in takes(thing)]


def submodules(module: Module) -> list[str]:
    """The public modules and packages in a package, without its tests."""
    if not module.is_package:
        return []
    files = [path.stem for path in module.path.parent.glob("*.py") if not path.stem.startswith("_")]
    folders = [path.parent.name for path in module.path.parent.glob("*/__init__.py")]
    return sorted({*files, *folders} - {"tests"})
