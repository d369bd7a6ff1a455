"""Names and docstrings of an installed library that fit some words, and names that are near to a wrong one."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.researcher.reference.fields import documentation, takes
from agents.researcher.reference.lookup import lineage, member, members
from agents.researcher.reference.modules import Function, Module, Thing, file_of, load

MOST_PARSED = 60
"""Files that are read in full for one search; the ones that speak most of the words."""
ASIDE = ("tests", "testing_utils", "conversion", "_vendor", "vendor")
FAR = ("experimental", "examples", "scripts", "models", "legacy", "deprecated")
"""Parts of a library that come after the rest: they have many names, and few people mean them."""
_DEFINES = r"(?m)^\s*(?:class|def|async\s+def)\s+(\w+)|^\s{{4,8}}(\w*(?:{tokens})\w*)\s*:\s"
_NAMES = re.compile(r"(?m)^\s*(?:class|def|async def)\s+(\w+)|^\s{4,8}(\w+)\s*:\s[^\n]*[,=(]")
NEAR = 6
"""Names."""
PASSED_ON = 6.0
"""What it is worth that a package hands a thing out under a shorter name."""
PRIVATE = 30.0
"""What it costs that a name begins with an underscore."""
SHORTENED = 60
"""Matches for which it is looked up whether they have a shorter name."""


@dataclass(frozen=True)
class Match:
    name: str
    """Dotted, as short as it can be imported."""
    shown: str
    """Type and default, or what it is called with."""
    said: str
    score: float
    by_name: bool
    """Whether its own name has the words, all of them."""


def matches(scope: Thing, tokens: Sequence[str]) -> list[Match]:
    """What fits under a library, module or class, best first."""
    if scope.node is None:
        modules = _candidates(scope.module, tokens)
        found = [match for module in modules for match in _in_module(module, tokens)]
    elif isinstance(scope.node, ast.ClassDef):
        found = list(_in_class(scope, tokens, inherited=True))
    else:
        found = list(_in_fields(scope, scope.name, tokens))
    unique = {match.name: match for match in sorted(found, key=lambda match: match.score)}
    best = sorted(unique.values(), key=_order)
    return sorted([*map(_public, best[:SHORTENED]), *best[SHORTENED:]], key=_order)


def _order(match: Match) -> tuple[float, int, str]:
    return (-match.score, len(match.name), match.name)


def near_names(scope: Thing, words: str) -> list[str]:
    """Names of the scope that are spelled much like `words`."""
    wanted = re.sub(r"\W+", "_", words.strip())
    if scope.node is None:
        names = {
            found[1] or found[2]
            for path in _files(scope.module)
            if not set(path.parts) & {"models"}
            for found in _NAMES.finditer(path.read_text(encoding="utf-8", errors="replace"))
        }
    else:
        names = {field.name for field in takes(scope)}
        if isinstance(scope.node, ast.ClassDef):
            names |= {name for each in lineage(scope) for name in members(each)}
    public = sorted(name for name in names if not name.startswith("_"))
    return difflib.get_close_matches(wanted, public, NEAR, 0.6)


def _files(module: Module) -> Iterator[Path]:
    if not module.is_package:
        yield module.path
        return
    for path in sorted(module.path.parent.rglob("*.py")):
        parts = path.relative_to(module.path.parent).with_suffix("").parts
        if not set(parts) & set(ASIDE) and not path.name.startswith("modular_"):  # from which others are generated
            yield path


def _candidates(module: Module, tokens: Sequence[str]) -> list[Module]:
    """The modules that have all the words, those first that define something of that name."""
    defines = re.compile(_DEFINES.format(tokens="|".join(map(re.escape, tokens))))
    ranked: list[tuple[float, str]] = []
    for path in _files(module):
        low = path.read_bytes().lower()
        if not all(token.encode() in low for token in tokens):
            continue
        named = [found[1] or found[2] for found in defines.finditer(low.decode(errors="replace"))]
        by_name = sum(all(token in name for token in tokens) for name in named)
        name = _name_of(module, path)
        far = len(set(name.split(".")[1:]) & set(FAR))
        ranked.append(
            (far - 2 * bool(by_name) - min(sum(low.count(token.encode()) for token in tokens), 99) / 100, name)
        )
    loaded = (load(name) for _, name in sorted(ranked)[:MOST_PARSED])
    return [each for each in loaded if each is not None]


def _name_of(module: Module, path: Path) -> str:
    if not module.is_package:
        return module.name
    parts = path.relative_to(module.path.parent).with_suffix("").parts
    return ".".join([module.name, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _in_module(module: Module, tokens: Sequence[str]) -> Iterator[Match]:
    for name, node in module.bound.items():
        thing = Thing(f"{module.name}.{name}", module, node) if isinstance(node, ast.ClassDef | Function) else None
        if thing is None or name.startswith("__"):
            continue
        yield from _of(thing, tokens)
        if isinstance(node, ast.ClassDef):
            yield from _in_class(thing, tokens, inherited=False)
        else:
            yield from _in_fields(thing, thing.name, tokens)


def _in_class(thing: Thing, tokens: Sequence[str], *, inherited: bool) -> Iterator[Match]:
    yield from _in_fields(thing, thing.name, tokens, inherited=inherited)
    for each in lineage(thing) if inherited else [thing]:
        for name, node in members(each).items():
            if isinstance(node, Function) and not name.startswith("_"):
                method = Thing(f"{thing.name}.{name}", each.module, node, each)
                yield from _of(method, tokens)
                yield from _in_fields(method, method.name, tokens)


def _in_fields(thing: Thing, name: str, tokens: Sequence[str], *, inherited: bool = True) -> Iterator[Match]:
    for field in takes(thing):
        if isinstance(field.owner.node, ast.ClassDef) and field.owner is not thing and not inherited:
            continue
        score, by_name = _score(field.name, field.help, tokens)
        if score:
            shown = field.signature.removeprefix(field.sign).removeprefix(field.name)
            yield Match(f"{name}.{field.name}", shown, field.help, score - _distance(name), by_name)


def _of(thing: Thing, tokens: Sequence[str]) -> Iterator[Match]:
    told = documentation(thing)
    score, by_name = _score(thing.short, told.intro, tokens)
    if score:
        shown = "" if isinstance(thing.node, ast.ClassDef) else "()"
        yield Match(thing.name, shown, told.intro, score - _distance(thing.name), by_name)


def _distance(name: str) -> float:
    parts = name.split(".")
    private = PRIVATE if any(part.startswith("_") for part in parts) else 0
    return 8 * len(set(parts[1:-1]) & set(FAR)) + len(parts) / 10 + private


def _score(name: str, said: str, tokens: Sequence[str]) -> tuple[float, bool]:
    """How well a name and what is said of it fit, 0 for not at all; and whether the name alone has all the words."""
    low, told = name.lower(), said.lower()
    if low == "_".join(tokens) or low == "".join(tokens):
        return 100.0, True
    if all(token in low for token in tokens):
        return 80.0 - min(len(low) - sum(map(len, tokens)), 30), True
    if not all(token in low or token in told for token in tokens):
        return 0.0, False
    return 20.0 + 10 * sum(token in low for token in tokens), False


def _public(match: Match) -> Match:
    """By the shortest name under which its class or function can be imported."""
    parts = match.name.split(".")
    depth = next((index for index in range(len(parts), 0, -1) if file_of(".".join(parts[:index]))), 1)
    if depth == len(parts):
        return match
    for above in range(1, depth):
        package = load(".".join(parts[:above]))
        if package is None or not (parts[depth] in package.text or (above == 1 and _is_starred(parts, depth))):
            continue
        found = member(Thing(package.name, package), parts[depth])
        if found and found.name == ".".join(parts[: depth + 1]):
            name = ".".join([*parts[:above], *parts[depth:]])
            return Match(name, match.shown, match.said, match.score + PASSED_ON, match.by_name)
    return match


def _is_starred(parts: Sequence[str], depth: int) -> bool:
    """Whether a module lists a name for those that take all it has."""
    module = load(".".join(parts[:depth]))
    return module is not None and module.exported is not None and parts[depth] in module.exported
