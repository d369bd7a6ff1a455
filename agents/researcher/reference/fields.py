"""What a class or a function takes: each name with its type, its default and what is said of it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from agents.researcher.reference.docstrings import Docstring, parse
from agents.researcher.reference.lookup import lineage, member
from agents.researcher.reference.modules import Function, Thing, bound, load, strings

_MAKERS = ("dataclass", "strict", "define")
"""How the names of decorators begin that make a record of a class."""
_BASES = ("BaseModel", "TypedDict", "NamedTuple")
_STANDARD = ("ConfigArgs", "ModelArgs", "ImageProcessorArgs", "ProcessorArgs")
"""Where transformers keeps what its decorator `auto_docstring` says of parameters that many classes share."""
_AUTOMATIC = "_BaseAutoModelClass"
_GIVEN_LATER = {"from_pretrained": "FROM_PRETRAINED_TORCH_DOCSTRING", "from_config": "FROM_CONFIG_DOCSTRING"}
"""Where it keeps what the methods of its automatic classes say: they are given it when they are imported."""


@dataclass(frozen=True)
class Field:
    """A field of a record, or a parameter of a function."""

    name: str
    type: str
    """As it is written; empty where it is not."""
    default: str | None
    """As it is written; None where there is none, and it has to be given."""
    help: str
    owner: Thing
    """The class, or function, that has it."""
    choices: tuple[str, ...] = ()
    replaces: str = ""
    """The default of the class that it is inherited from, where that is another."""
    sign: str = ""
    """`*` or `**` before a name that takes what is left."""
    through_keywords: bool = False
    """Whether it is one of those that `**` takes; its type is as the documentation says it, with the default."""

    @property
    def signature(self) -> str:
        name = f"{self.sign}{self.name}"
        if self.default is None:
            return f"{name}: {self.type}" if self.type else name
        return f"{name}: {self.type} = {self.default}" if self.type else f"{name}={self.default}"


@cache
def documentation(thing: Thing) -> Docstring:
    """The docstring of a thing itself."""
    node = thing.module.tree if thing.node is None else thing.node
    text = ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | Function) else None
    if not text and thing.owner:  # what is written anew often leaves the words to what it replaces
        above = (member_of(each, thing.short) for each in lineage(thing.owner)[1:])
        inherited = next((told for told in map(documentation, filter(None, above)) if told.intro), None)
        return inherited or parse(_given_later(thing.owner, thing.short))
    return parse(text)


def _given_later(owner: Thing, name: str) -> str:
    automatic = next((each for each in lineage(owner) if each.short == _AUTOMATIC), None)
    if automatic is None or name not in _GIVEN_LATER:
        return ""
    kept = member(Thing(automatic.module.name, automatic.module), _GIVEN_LATER[name])
    return text_of(kept.node.value) if kept and isinstance(kept.node, ast.Assign) else ""


def takes(thing: Thing) -> list[Field]:
    """What a class is made with or a function is called with, in its order; nothing for any other thing.

    The fields of a record come own ones first, then class by class as they are inherited.
    """
    if isinstance(thing.node, Function):
        return parameters(thing)
    if not isinstance(thing.node, ast.ClassDef):
        return []
    classes = lineage(thing)
    if any(each.name == "enum.Enum" for each in classes):
        return []
    for each in classes:
        maker = member_of(each, "__init__") or member_of(each, "__new__")
        if maker is not None:
            return parameters(maker, [each, *classes])
        if is_record(each):
            return _fields([other for other in classes if is_record(other)])
    return []


def member_of(thing: Thing, name: str) -> Thing | None:
    """A method that a class itself has."""
    node = bound(thing.body, thing.module).get(name)
    return Thing(f"{thing.name}.{name}", thing.module, node, thing) if isinstance(node, Function) else None


def is_record(thing: Thing) -> bool:
    """Whether the annotated names of a class are what it is made with."""
    marks = [each.func if isinstance(each, ast.Call) else each for each in thing.decorators]
    if any(ast.unparse(mark).rpartition(".")[2].startswith(_MAKERS) for mark in marks):
        return True
    return any(ast.unparse(base).rpartition(".")[2] in _BASES for each in lineage(thing) for base in each.bases)


def parameters(function: Thing, documented: Sequence[Thing] = ()) -> list[Field]:
    """Of a function; the docstrings of `documented` fill in what its own does not say."""
    if not isinstance(function.node, Function):
        return []
    arguments = function.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    listed = [("", *pair) for pair in zip(positional, defaults, strict=True)]
    if function.owner is not None and listed and not _is_static(function):
        listed = listed[1:]
    if arguments.vararg:
        listed.append(("*", arguments.vararg, None))
    listed += [("", *pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        listed.append(("**", arguments.kwarg, None))
    told = [documentation(each) for each in (function, *documented)]
    shared = _standard(function)
    named = [
        Field(
            name=each.arg,
            type=_type(each.annotation) or next((text.types[each.arg] for text in told if each.arg in text.types), ""),
            default=None if default is None else ast.unparse(default),
            help=next((text.parameters[each.arg] for text in told if text.parameters.get(each.arg)), "")
            or shared.get(each.arg, ""),
            owner=function,
            sign=sign,
        )
        for sign, each, default in listed
    ]
    return [*named, *(_through_keywords(function, named, told) if arguments.kwarg else ())]


def _through_keywords(function: Thing, named: Sequence[Field], told: Sequence[Docstring]) -> list[Field]:
    """Keywords that the documentation names, and the signature does not."""
    known = {field.name for field in named}
    texts = {name: (text.types[name], said) for text in told for name, said in text.parameters.items()}
    return [
        Field(name, kind, None, said, function, through_keywords=True)
        for name, (kind, said) in texts.items()
        if name not in known
    ]


def _is_static(function: Thing) -> bool:
    return any(ast.unparse(each) == "staticmethod" for each in function.decorators)


def _fields(classes: Sequence[Thing]) -> list[Field]:
    found: dict[str, Field] = {}
    for each in classes:
        for field in own_fields(each):
            if field.name not in found:
                found[field.name] = field
            elif found[field.name].default != field.default and not found[field.name].replaces:
                now = found[field.name]
                found[field.name] = Field(
                    now.name, now.type, now.default, now.help or field.help, now.owner, now.choices,
                    f"{field.owner.short}: {field.default}",
                )  # fmt: skip
    return list(found.values())


def own_fields(thing: Thing) -> list[Field]:
    """The annotated names in the body of a class."""
    told = documentation(thing).parameters
    shared = _standard(thing)
    found = []
    for position, node in enumerate(thing.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation) or node.target.id.startswith("_") or _is_set_later(node.value):
            continue
        following = thing.body[position + 1] if position + 1 < len(thing.body) else None
        below = _constant(following.value) if isinstance(following, ast.Expr) else ""
        default, told_there, choices = _default(node.value)
        name = node.target.id
        help = told.get(name) or told_there or below or shared.get(name, "")
        found.append(Field(name, _type(node.annotation), default, help, thing, choices))
    return found


def _is_set_later(value: ast.expr | None) -> bool:
    """Whether a field is none that the class is made with."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return any(each.arg == "init" and ast.unparse(each.value) == "False" for each in keywords)


def _default(value: ast.expr | None) -> tuple[str | None, str, tuple[str, ...]]:
    """Default as written, help and choices of a field."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func).rpartition(".")[2] not in {"field", "Field"}:
        return None if value is None else ast.unparse(value), "", ()
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    factory = given.get("default_factory")
    default = given.get("default") or (value.args[0] if value.args else None)
    written = None if default is None else ast.unparse(default)
    if factory is not None:
        made = factory.body if isinstance(factory, ast.Lambda) else None
        written = ast.unparse(made) if made else f"{ast.unparse(factory)}()"
    metadata = given.get("metadata")
    entries = _entries(metadata) if isinstance(metadata, ast.Dict) else {}
    help = entries.get("'help'") or given.get("description")
    return written, text_of(help), tuple(strings(entries.get("'choices'", ast.Constant(None))))


def text_of(node: ast.expr | None) -> str:
    """A string as it is written in the source; what only a running program knows stands in braces."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) for each in node.values)
    return f"{{{ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)}}}"


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _type(annotation: ast.expr | None) -> str:
    return "" if annotation is None else _constant(annotation) or ast.unparse(annotation)


def _standard(thing: Thing) -> dict[str, str]:
    marked = [thing, *([thing.owner] if thing.owner and thing.short == "__init__" else [])]
    marks = [ast.unparse(mark) for each in marked for mark in each.decorators]
    return _shared_texts(thing.top) if any("auto_docstring" in mark for mark in marks) else {}


@cache
def _shared_texts(top: str) -> dict[str, str]:
    module = load(f"{top}.utils.auto_docstring")
    found = [member(Thing(module.name, module), name) for name in _STANDARD] if module else []
    texts: dict[str, str] = {}
    for group in filter(None, found):
        for name, node in bound(group.body, group.module).items():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                said = _entries(node.value).get("'description'")
                texts.setdefault(name, " ".join(text_of(said).split()))
    return texts


def _entries(node: ast.Dict) -> dict[str, ast.expr]:
    return {ast.unparse(key): value for key, value in zip(node.keys, node.values, strict=True) if key}


def set_later(thing: Thing) -> list[str]:
    """Fields of a record that are given another value when it has been made."""
    names: dict[str, None] = {}
    known = {field.name for field in takes(thing)}
    for each in lineage(thing):
        after = member_of(each, "__post_init__")
        for node in ast.walk(after.node) if after and after.node else ():
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self" and target.attr in known:
                    names[target.attr] = None
    return list(names)
