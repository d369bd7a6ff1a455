"""The libraries as they are installed: signatures, documentation and source of their objects, never imported."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence

from agents.researcher.reference.docstrings import brief
from agents.researcher.reference.fields import Field, documentation, set_later, takes
from agents.researcher.reference.lookup import lineage, member, members
from agents.researcher.reference.matches import Match, matches, near_names
from agents.researcher.reference.modules import Function, Import, Module, Thing, version_of
from agents.researcher.reference.names import find, submodules
from agents.researcher.reference.pages import Piece, numbered
from shared_memory.errors import BadInput

MANY = 40
"""Fields; each is told in fewer words where there are more."""
MOST_NAMES = 400
"""Of a module that are listed."""
NEAREST = 5
"""Matches of a near name that are shown."""
LONGEST_VALUE = 600
"""Characters of a constant."""


def describe(name: str) -> str:
    """Signature, parameters with types, defaults and help, version and place of a dotted name such as `trl.SFTConfig`.

    A class lists its fields and methods, a field or method its documentation in full, a package or module its public
    names. Raises BadInput for a name that is not there, with the nearest ones, and Unavailable for a library that is
    not installed.
    """
    thing = find(name)
    if isinstance(thing, Field):
        return _of_field(name, thing)
    if thing.node is None:
        return _of_module(name, thing)
    if isinstance(thing.node, ast.ClassDef):
        return _of_class(name, thing)
    if isinstance(thing.node, Function):
        return _of_function(name, thing)
    value = ast.get_source_segment(thing.module.text, thing.node) or ""
    more = "" if len(value) <= LONGEST_VALUE else f" … ({len(value)} characters; the source has the rest)"
    return f"{_head(name, 'value of', thing)}\n\n{value[:LONGEST_VALUE]}{more}"


def source(name: str, offset: int = 0, limit: int = 200) -> Piece:
    """Up to `limit` lines of an object's source, from its line `offset` on (0 is its first), numbered as in the file.

    Raises what `describe` raises.
    """
    thing = find(name)
    if isinstance(thing, Field):
        thing = member(thing.owner, thing.name) or thing.owner
    start = thing.first_line + max(offset, 0)
    if start > thing.last_line:
        raise BadInput(f"`{name}` has {thing.last_line - thing.first_line + 1} lines; give a smaller offset")
    shown, end = numbered(thing.module.lines, start, min(thing.last_line, start + max(limit, 1) - 1))
    left = thing.last_line - end
    more = f"\n… {left} more lines: offset {end + 1 - thing.first_line}" if left else ""
    return Piece(f"{_head(name, 'source in', thing)}\n\n{shown}{more}", shown.own)


def search(scope: str, words: str, limit: int = 20) -> str:
    """Objects, fields and parameters of a library, module or class that `words` name or that speak of them.

    scope: `trl`, `transformers.Trainer`. Best first, one a line; where no name has the words, the nearest names.
    Raises what `describe` raises.
    """
    thing = find(scope)
    tokens = re.findall(r"\w+", words.lower())
    if isinstance(thing, Field) or not tokens:
        raise BadInput("give a library, module or class as scope, and at least one word to search for")
    found = matches(thing, tokens)
    named = [match for match in found if match.by_name]
    lines = [_of_match(match) for match in found[:limit]]
    if len(found) > limit:
        lines.append(f"… and {len(found) - limit} more; narrow the scope or the words")
    heading = f"{scope} {version_of(thing.top)}: {len(found)} match `{words}`, {len(named)} by name"
    if not named and (near := near_names(thing, words)):
        lines.insert(0, f"no name has `{words}`; nearest: {', '.join(f'`{each}`' for each in near)}")
        if not found:
            lines += [_of_match(match) for name in near[:2] for match in matches(thing, [name.lower()])[:NEAREST]]
    return "\n".join([heading, *lines])


def _head(name: str, kind: str, thing: Thing) -> str:
    place = thing.module.path.parts[-len(thing.module.name.split(".")) - thing.module.is_package :]
    return f"{name}: {kind} {thing.top} {version_of(thing.top)}, {'/'.join(place)} line {thing.first_line}"


def _of_field(name: str, field: Field) -> str:
    is_own = isinstance(field.owner.node, ast.ClassDef)
    place = (member(field.owner, field.name) if is_own else None) or field.owner
    kind = f"{'field' if is_own else 'parameter'} of {field.owner.name} in"
    lines = [_head(name, kind, place), "", field.signature]
    if field.replaces:
        lines.append(f"It replaces another default: {field.replaces}")
    if field.choices:
        lines.append(f"Choices: {', '.join(field.choices)}")
    return "\n".join([*lines, "", field.help or "Nothing is said of it; read the source."])


def _of_module(name: str, thing: Thing) -> str:
    names = thing.module.exported or {
        key
        for key, node in thing.module.bound.items()
        if not key.startswith("_") and not (isinstance(node, Import) and not _is_passed_on(thing.module, node))
    }
    listed = sorted({*names, *thing.module.deferred})
    more = f" … and {len(listed) - MOST_NAMES} more; search for what you need" if len(listed) > MOST_NAMES else ""
    parts = [_head(name, "package of" if thing.module.is_package else "module of", thing), documentation(thing).intro]
    parts.append(f"Names: {', '.join(listed[:MOST_NAMES])}{more}" if listed else "It has no public names of its own.")
    if modules := submodules(thing.module):
        parts.append(f"Modules: {', '.join(modules)}")
    return "\n\n".join(filter(None, parts))


def _is_passed_on(module: Module, node: Import) -> bool:
    """Whether a package hands out what it imports: it does with what is its own."""
    return module.is_package and bool(node.name) and node.module.partition(".")[0] == module.name.partition(".")[0]


def _of_class(name: str, thing: Thing) -> str:
    classes = lineage(thing)
    told = documentation(thing)
    parts = [_head(name, "class of", thing), told.intro, told.rest]
    if len(classes) > 1:
        parts.insert(1, f"Inherits from {', '.join(each.name for each in classes[1:])}")
    fields = takes(thing)
    is_made = [field for field in fields if isinstance(field.owner.node, Function)]
    if is_made:
        parts += [f"{thing.short}({_arguments(fields)})", _listed("Parameters", fields)]
    elif fields:
        parts += _grouped(thing, fields)
        if later := set_later(thing):
            parts.append(f"Set anew when it has been made (`__post_init__`): {', '.join(later)}")
    if constants := _constants(thing, {field.name for field in fields}):
        parts.append(constants)
    parts += _methods(classes)
    return "\n\n".join(filter(None, parts))


def _arguments(fields: Iterable[Field]) -> str:
    return ", ".join(field.signature for field in fields if not field.through_keywords)


def _grouped(thing: Thing, fields: Sequence[Field]) -> list[str]:
    """Own fields with what is said of them, those that are inherited by their defaults."""
    own = [field for field in fields if field.owner is thing]
    parts = [_listed("Fields", own)]
    owners = dict.fromkeys(field.owner for field in fields if field.owner is not thing)
    for owner in owners:
        inherited = [field for field in fields if field.owner is owner]
        written = (f"{field.name}={field.default}" if field.default is not None else field.name for field in inherited)
        parts.append(f"Fields of {owner.name} ({len(inherited)}): {', '.join(written)}")
    return [*parts, f"What is said of one in full: describe `{thing.short}.FIELD`"]


def _listed(title: str, fields: Iterable[Field]) -> str:
    fields = list(fields)
    most = 200 if len(fields) <= MANY else 110
    lines = []
    for field in fields:
        other = f" [{field.replaces}]" if field.replaces else ""
        said = brief(field.help, most)
        lines.append(f"- {field.signature}{other}{f' — {said}' if said else ''}")
    return "\n".join([f"{title}:", *lines]) if lines else ""


def _constants(thing: Thing, known: set[str]) -> str:
    """Values in the body of a class: the members of an enumeration, above all."""
    values = [
        ast.unparse(node)
        for name, node in members(thing).items()
        if isinstance(node, ast.Assign) and not name.startswith("_") and name not in known
    ]
    return f"Values: {', '.join(value for value in values if len(value) <= 100)}" if values else ""


def _methods(classes: Sequence[Thing]) -> list[str]:
    parts = []
    known: set[str] = set()
    for each in classes:
        if each.top in sys.stdlib_module_names and each is not classes[0]:
            continue
        own = {name: node for name, node in members(each).items() if isinstance(node, Function)}
        public = [name for name in own if not name.startswith("_") and name not in known]
        known |= set(public)
        if public and each is classes[0]:
            lines = []
            for name in public:
                method = Thing(f"{each.name}.{name}", each.module, own[name], each)
                said = brief(documentation(method).intro, 110)
                lines.append(f"- {name}{f' — {said}' if said else ''}")
            parts.append("\n".join(["Methods:", *lines]))
        elif public:
            parts.append(f"Methods of {each.name}: {', '.join(public)}")
    return parts


def _of_function(name: str, thing: Thing) -> str:
    told = documentation(thing)
    fields = takes(thing)
    marks = "".join(f"@{ast.unparse(each)}\n" for each in thing.decorators)
    given_back = thing.node.returns if isinstance(thing.node, Function) else None
    returns = f" -> {ast.unparse(given_back)}" if given_back else ""
    kind = "method of" if thing.owner else "function of"
    parts = [
        _head(name, kind, thing),
        f"{marks}{thing.short}({_arguments(fields)}){returns}",
        told.intro,
        "\n".join(f"- {field.signature}\n{_inset(field.help)}" for field in fields if field.help),
        *(f"{title.capitalize()}: {text}" for title, text in told.sections.items()),
        told.rest,
    ]
    return "\n\n".join(filter(None, parts))


def _inset(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())


def _of_match(match: Match) -> str:
    said = brief(match.said, 140)
    return f"- {match.name}{match.shown}{f' — {said}' if said else ''}"
