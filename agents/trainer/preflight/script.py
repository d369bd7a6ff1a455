"""A job's script as it stands in the text: imports, calls with their keywords, constants, and its PEP 723 header.

Nothing is run. What cannot be seen without running it is left out, never guessed.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$")
"""The block of inline metadata, as PEP 723 gives it."""
DEEPEST = 8
"""Names and calls that are followed from a `**dict` to the keys in it."""


class Keyword(NamedTuple):
    name: str
    line: int


class Constant(NamedTuple):
    value: Any
    line: int


class Script:
    """The text of a Python script, parsed once."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.error = ""
        """Why it is no Python, with the line; empty where it is."""
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            self.error = f"{name}{f', line {line}' if line else ''}: {getattr(error, 'msg', None) or error}"
            self.tree = ast.Module(body=[], type_ignores=[])
        self._scope: dict[ast.AST, ast.AST] = {}
        for owner in ast.walk(self.tree):
            for child in ast.iter_child_nodes(owner):
                inside = isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module)
                self._scope[child] = owner if inside else self._scope.get(owner, self.tree)

    @cached_property
    def header(self) -> dict[str, Any]:
        """The inline metadata; empty without any. Raises ValueError where it is no TOML."""
        found = HEADER.search(self.text)
        if found is None:
            return {}
        lines = found["content"].splitlines(keepends=True)
        return tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))

    @cached_property
    def imports(self) -> dict[str, str]:
        """Local name → what it stands for: `SFTConfig` → `trl.SFTConfig`."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return names

    @cached_property
    def modules(self) -> dict[str, int]:
        """Top-level modules that it cannot do without → the line of the import. Not those that a `try` guards."""
        guarded = {
            inner
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
            for statement in node.body
            for inner in ast.walk(statement)
        }
        found: dict[str, int] = {}
        for node in ast.walk(self.tree):
            if node in guarded:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found.setdefault(alias.name.partition(".")[0], node.lineno)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.setdefault(node.module.partition(".")[0], node.lineno)
        return found

    @cached_property
    def calls(self) -> tuple[ast.Call, ...]:
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def dotted(self, node: ast.AST) -> str:
        """`trl.SFTConfig` for what stands for it; of a method of some value `.name`; empty for anything else."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = node
            while isinstance(owner.value, ast.Attribute):
                owner = owner.value
            if isinstance(owner.value, ast.Name) and owner.value.id in self.imports:
                return f"{self.dotted(node.value)}.{node.attr}"
            return f".{node.attr}"
        return ""

    def called(self, *names: str) -> Iterator[ast.Call]:
        """Calls whose last name is one of these, whatever they are methods of."""
        for call in self.calls:
            if self.dotted(call.func).rpartition(".")[2] in names:
                yield call

    def keywords_of(self, call: ast.Call) -> list[Keyword]:
        """The keywords of a call, those in a `**dict` included where its keys can be read."""
        found = [Keyword(keyword.arg, keyword.value.lineno) for keyword in call.keywords if keyword.arg]
        for keyword in call.keywords:
            if keyword.arg is None:
                found += self._keys(keyword.value, DEEPEST)
        return list(dict.fromkeys(found))

    def constants(self, name: str) -> Iterator[Constant]:
        """The constants that `name` is given as a keyword of a call or a key of a dict."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.keyword) and node.arg == name:
                values = [node.value]
            elif isinstance(node, ast.Dict):
                values = [v for k, v in zip(node.keys, node.values, strict=True) if _text(k) == name]
            elif isinstance(node, ast.Assign) and any(_is_field(target, name) for target in node.targets):
                values = [node.value]
            else:
                continue
            yield from (Constant(value.value, value.lineno) for value in values if isinstance(value, ast.Constant))

    @cached_property
    def strings(self) -> tuple[Constant, ...]:
        """The text constants, docstrings left out."""
        prose = {
            node.value for node in ast.walk(self.tree) if isinstance(node, ast.Expr)
        }  # a text that stands by itself does nothing
        return tuple(
            Constant(node.value, node.lineno)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose
        )

    def _keys(self, node: ast.AST, depth: int) -> list[Keyword]:
        """The keys of what is a dict as far as the text tells."""
        if depth == 0:
            return []
        if isinstance(node, ast.Dict):
            found = [Keyword(text, key.lineno) for key in node.keys if key is not None and (text := _text(key))]
            nested = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
            return found + [key for value in nested for key in self._keys(value, depth - 1)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._keys(node.left, depth - 1) + self._keys(node.right, depth - 1)
        if isinstance(node, ast.IfExp):
            return self._keys(node.body, depth - 1) + self._keys(node.orelse, depth - 1)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "dict":
                unpacked = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg is None)]
                named = [Keyword(keyword.arg, keyword.value.lineno) for keyword in node.keywords if keyword.arg]
                return named + [key for value in unpacked for key in self._keys(value, depth - 1)]
            return [key for value in self._returned(node.func.id) for key in self._keys(value, depth - 1)]
        return self._keys_of_name(node.id, node, depth) if isinstance(node, ast.Name) else []

    def _returned(self, function: str) -> Iterator[ast.expr]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Return) and node.value is not None:
                scope = self._scope[node]
                if isinstance(scope, ast.FunctionDef) and scope.name == function:
                    yield node.value

    def _keys_of_name(self, name: str, used: ast.AST, depth: int) -> list[Keyword]:
        """The keys that a variable gets where it is set and changed, less those that are taken out of it."""
        scope = self._scope.get(used, self.tree)
        found: list[Keyword] = []
        lost: set[str] = set()
        for place in dict.fromkeys((scope, self.tree)):
            for node in ast.walk(place):
                if self._scope.get(node) is not place:
                    continue
                if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for target in targets:
                        if isinstance(target, ast.Name) and target.id == name and node.value is not None:
                            found += self._keys(node.value, depth - 1)
                        elif isinstance(target, ast.Subscript) and _is_name(target.value, name):
                            found += [Keyword(text, node.lineno)] if (text := _text(target.slice)) else []
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    if not _is_name(node.func.value, name):
                        continue
                    if node.func.attr == "update":
                        as_dict = ast.Call(ast.Name("dict"), node.args, node.keywords)
                        found += self._keys(as_dict, depth - 1)
                    elif node.func.attr == "pop" and node.args:
                        lost.add(_text(node.args[0]))
                elif isinstance(node, ast.Delete):
                    lost |= {_text(t.slice) for t in node.targets if isinstance(t, ast.Subscript)}
            if found:
                break
        return [key for key in found if key.name not in lost]


def _text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_field(node: ast.AST, name: str) -> bool:
    """Whether it is `something.name`."""
    return isinstance(node, ast.Attribute) and node.attr == name
