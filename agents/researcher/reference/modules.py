"""Installed modules read as text: what each defines, imports and passes on. None of their code is run."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function | ast.Assign | ast.AnnAssign

_PARSING = threading.Lock()  # what warnings are ignored is a matter of the whole process
MOST_MODULES = 256
"""That are kept parsed."""
KEPT_BODIES = ("__post_init__",)
"""Functions whose statements are looked at: they change what a record was made with."""


@dataclass(frozen=True)
class Import:
    """A name that is another module's, or another module itself."""

    module: str
    name: str = ""


@dataclass(frozen=True, eq=False)
class Module:
    """One file of an installed package."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def bound(self) -> Mapping[str, Definition | Import]:
        """Names at its top level, those that a type checker sees included."""
        return bound(self.tree.body, self)

    @cached_property
    def stars(self) -> tuple[str, ...]:
        """Modules whose public names it has all."""
        return tuple(
            self.absolute(each)
            for each in statements(self.tree.body)
            if isinstance(each, ast.ImportFrom) and each.names[0].name == "*"
        )

    @cached_property
    def exported(self) -> frozenset[str] | None:
        """What `__all__` lists; None where there is no such list that can be read."""
        named: set[str] = set()
        for each in statements(self.tree.body):
            target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)
            if isinstance(target, ast.Name) and target.id == "__all__" and isinstance(each, ast.Assign | ast.AugAssign):
                named |= set(strings(each.value))
        return frozenset(named) or None

    @cached_property
    def deferred(self) -> Mapping[str, str]:
        """Name → module, of those that a table at the top level hands out on demand."""
        table: dict[str, str] = {}
        for each in statements(self.tree.body):
            for key, value in _filled_in(each):
                if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                    continue
                table |= dict.fromkeys(strings(value), f"{self.name}.{key.value}")
                if isinstance(value, ast.Constant) and str(value.value).startswith(f"{self.name}."):
                    table[key.value] = str(value.value)
        return table

    def absolute(self, statement: ast.ImportFrom) -> str:
        """The module that a `from` names."""
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        kept = len(parts) - statement.level + self.is_package
        return ".".join([*parts[:kept], *([statement.module] if statement.module else [])])


@dataclass(frozen=True, eq=False)
class Thing:
    """A module, class, function, field or constant, where it is defined."""

    name: str
    """Dotted."""
    module: Module
    node: Definition | None = None
    """None for a module itself."""
    owner: Thing | None = None
    """The class in whose body it stands."""

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def top(self) -> str:
        return self.module.name.partition(".")[0]

    @property
    def decorators(self) -> list[ast.expr]:
        return self.node.decorator_list if isinstance(self.node, ast.ClassDef | Function) else []

    @property
    def bases(self) -> list[ast.expr]:
        """Of a class, as they are written."""
        return self.node.bases if isinstance(self.node, ast.ClassDef) else []

    @property
    def body(self) -> list[ast.stmt]:
        """Of a class; of nothing else is it kept whole."""
        return self.node.body if isinstance(self.node, ast.ClassDef) else []

    @property
    def first_line(self) -> int:
        if self.node is None:
            return 1
        return min([self.node.lineno, *(each.lineno for each in self.decorators)])

    @property
    def last_line(self) -> int:
        return len(self.module.lines) if self.node is None else self.node.end_lineno or self.node.lineno


def _filled_in(statement: ast.stmt) -> list[tuple[ast.expr | None, ast.expr]]:
    """Keys and values that a statement writes into a table, or adds to what is in it."""
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
        return list(zip(statement.value.keys, statement.value.values, strict=True))
    target: ast.expr | None = None
    value: ast.expr | None = getattr(statement, "value", None)
    if isinstance(statement, ast.Assign | ast.AugAssign):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "extend":
        target, value = value.func.value, value.args[0] if value.args else None
    return [(target.slice, value)] if isinstance(target, ast.Subscript) and value is not None else []


def strings(node: ast.expr) -> list[str]:
    """Those that a list, tuple or set is written with."""
    entries = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else []
    return [each.value for each in entries if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Of a body, and of what stands in it under a condition."""
    for each in body:
        if isinstance(each, ast.If):
            yield from statements([*each.body, *each.orelse])
        elif isinstance(each, ast.Try):
            yield from statements([*each.body, *each.orelse])
            yield from statements(handled for handler in each.handlers for handled in handler.body)
        elif isinstance(each, ast.With):
            yield from statements(each.body)
        else:
            yield each


def bound(body: Iterable[ast.stmt], module: Module) -> dict[str, Definition | Import]:
    """Name → what it stands for; the first of several, and a definition rather than an import or a value."""
    names: dict[str, Definition | Import] = {}
    for each in statements(body):
        if isinstance(each, ast.ClassDef | Function):
            if not _is_another_face(each) and not isinstance(names.get(each.name), ast.ClassDef | Function):
                names[each.name] = each
        elif isinstance(each, ast.Import):
            for alias in each.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                names.setdefault(alias.asname or whole, Import(whole))
        elif isinstance(each, ast.ImportFrom):
            for alias in each.names:
                names.setdefault(alias.asname or alias.name, Import(module.absolute(each), alias.name))
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            names.setdefault(each.target.id, each)
        elif isinstance(each, ast.Assign):
            for target in each.targets:
                if isinstance(target, ast.Name):
                    names.setdefault(target.id, each)
    names.pop("*", None)
    return names


def _is_another_face(node: ast.ClassDef | Function) -> bool:
    """Whether it is an overload, or what sets or deletes a property."""
    marks = [ast.unparse(each).rpartition(".")[2] for each in node.decorator_list]
    return any(mark in {"overload", "setter", "deleter"} for mark in marks)


@cache
def _root(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def version_of(top: str) -> str:
    """Of the distribution that brought a package; Python's own for its library; empty for anything else."""
    if top in sys.stdlib_module_names:
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return importlib.metadata.version(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        names = importlib.metadata.packages_distributions().get(top, [""])
        return importlib.metadata.version(names[0]) if names[0] else ""


def file_of(name: str) -> Path | None:
    """The file of a dotted module; None where there is none that is Python."""
    top, *rest = name.split(".")
    root = _root(top)
    if root is None or not all(part.isidentifier() for part in rest):
        return None
    if not rest:
        return root
    stem = root.parent.joinpath(*rest)
    found = [path for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if path.is_file()]
    return found[0] if found and root.name == "__init__.py" else None


@lru_cache(maxsize=MOST_MODULES)
def load(name: str) -> Module | None:
    """A module, parsed; None where there is no such file, or it is no Python of this interpreter."""
    path = file_of(name)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        with _PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    _forget_bodies(tree.body)
    return Module(name, path, text, tree)


def _forget_bodies(body: Iterable[ast.stmt]) -> None:
    """Leaves only the docstrings of functions, in a tenth of the memory; the source has the rest."""
    for each in statements(body):
        if isinstance(each, ast.ClassDef):
            _forget_bodies(each.body)
        elif isinstance(each, Function) and each.name not in KEPT_BODIES:
            each.body = each.body[:1] if ast.get_docstring(each, clean=False) is not None else []
