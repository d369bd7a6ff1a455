"""Where a name leads in installed modules: through imports, stars, tables of what is loaded later, and base classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import lru_cache

from agents.researcher.reference.modules import Definition, Import, Module, Thing, bound, file_of, load

MOST_TABLES = 16
"""Of names that packages take from all their modules."""
_ALL = re.compile(r"(?m)^__all__\s*(?:\+?=|\.extend\()\s*[\[(]([^\])]*)")
_STRING = re.compile(r"[\"'](\w+)[\"']")


def member(thing: Thing, name: str, seen: set[tuple[str, str]] | None = None) -> Thing | None:
    """What a module or a class has under a name, its own or passed on to it."""
    if thing.node is None:
        return _of_module(thing.module, name, set() if seen is None else seen)
    if not isinstance(thing.node, ast.ClassDef):
        return None
    for each in lineage(thing):
        node = bound(each.body, each.module).get(name)
        if isinstance(node, Import):  # in the body of a class: functions of another module that are its methods
            found = _imported(node, set())
            if found is not None:
                return Thing(f"{each.name}.{name}", found.module, found.node, each)
        elif node is not None:
            return Thing(f"{each.name}.{name}", each.module, node, each)
    return None


def members(thing: Thing) -> dict[str, Definition]:
    """What the body of a class itself defines."""
    return {name: node for name, node in bound(thing.body, thing.module).items() if not isinstance(node, Import)}


def _of_module(module: Module, name: str, seen: set[tuple[str, str]]) -> Thing | None:
    if (module.name, name) in seen:
        return None
    seen.add((module.name, name))
    node = module.bound.get(name)
    if isinstance(node, Import):
        return _imported(node, seen)
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute):
        return resolve(module, node.value, seen) or Thing(f"{module.name}.{name}", module, node)
    if node is not None:
        return Thing(f"{module.name}.{name}", module, node)
    if name in module.deferred:
        return _imported(Import(module.deferred[name], name), seen)
    return _through_stars(module, name, seen) or _imported(Import(f"{module.name}.{name}"), seen)


def _imported(what: Import, seen: set[tuple[str, str]]) -> Thing | None:
    module = load(what.module)
    if module is None:
        return None
    if not what.name:
        return Thing(module.name, module)
    found = _of_module(module, what.name, seen)
    if found is None and (inner := load(f"{what.module}.{what.name}")):  # a package that imports its own module
        return Thing(inner.name, inner)
    return found


def _through_stars(module: Module, name: str, seen: set[tuple[str, str]]) -> Thing | None:
    star = _starred(module.name).get(name) if module.stars else None
    target = load(star) if star else None
    return _of_module(target, name, seen) if target else None


@lru_cache(maxsize=MOST_TABLES)
def _starred(name: str) -> Mapping[str, str]:
    """Name → the module that it is had from, of all that `from … import *` brings to a module."""
    table: dict[str, str] = {}
    _collect_stars(name, table, {name})
    return table


def _collect_stars(name: str, table: dict[str, str], seen: set[str]) -> None:
    module = load(name)
    for star in module.stars if module else ():
        path = file_of(star)
        if path is None or star in seen:
            continue
        seen.add(star)
        if listed := _ALL.findall(path.read_text(encoding="utf-8", errors="replace")):  # far cheaper than to parse it
            names = [each for part in listed for each in _STRING.findall(part)]
        else:
            target = load(star)
            names = [each for each in target.bound if not each.startswith("_")] if target else []
            _collect_stars(star, table, seen)
        for each in names:
            table.setdefault(each, star)


def resolve(module: Module, node: ast.expr, seen: set[tuple[str, str]] | None = None) -> Thing | None:
    """What an expression of names and dots stands for in a module; parameters of a generic class are left out."""
    seen = set() if seen is None else seen
    if isinstance(node, ast.Subscript):
        return resolve(module, node.value, seen)
    if isinstance(node, ast.Name):
        return _of_module(module, node.id, seen)
    if isinstance(node, ast.Attribute):
        inner = resolve(module, node.value, seen)
        return member(inner, node.attr, seen) if inner else None
    return None


def lineage(thing: Thing) -> tuple[Thing, ...]:
    """A class and all that it inherits from, as far as they are Python, in the order in which names are looked up."""
    return _lineage(thing, ())


def _lineage(thing: Thing, below: tuple[str, ...]) -> tuple[Thing, ...]:
    found = [thing]
    for base in thing.bases:
        parent = resolve(thing.module, base)
        if parent and isinstance(parent.node, ast.ClassDef) and parent.name not in below:
            found += _lineage(parent, (*below, thing.name))
    last = {each.name: index for index, each in enumerate(found)}  # what several share comes after all of them
    return tuple(each for index, each in enumerate(found) if last[each.name] == index)
