"""A tool that people have added, whatever it is made of: what a role's model is told of it, and how it is called."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared_memory.redaction import redact

LONGEST_NAME = 64
"""What OpenAI's API, and most others, take for the name of a function."""
LONGEST_DESCRIPTION = 600
"""Characters of a description that are shown: somebody else's words, which a model reads with every request."""
LONGEST_PARAMETERS = 4000
"""Characters of a tool's JSON Schema; a longer one is shown without its descriptions."""
WORDS = ("description", "title", "examples")
"""Keys of a schema that are only words for whoever reads it."""
LONGEST_ANSWER = 200_000
"""Characters of an answer that are taken at all."""


@dataclass(frozen=True)
class Offer:
    """One tool."""

    name: str
    """As the model calls it: `<who offers it>__<tool>`."""
    source: str
    """Where it comes from, in words for a person."""
    description: str
    """Its own words, cut."""
    parameters: dict[str, Any]
    """JSON Schema of its arguments, an object."""
    read_only: bool
    """Whether it says that it changes nothing; what says nothing is taken to have side effects."""
    call: Callable[[Mapping[str, Any], float], str]
    """(arguments, seconds) → what it answers.

    Raises Uncertain where it may have been done or not, and another PostgradError where it was not, or says so.
    """
    unattended: bool = False
    """Whether one that changes something may be called where nobody is asked: its owner has to say so."""
    roles: tuple[str, ...] = ()
    """Who gets it; empty for all."""
    timeout: float = 60.0
    """Seconds that a call may take."""

    def fault_of(self, arguments: Mapping[str, Any]) -> str:
        """What is plainly wrong with the arguments; the rest the tool says itself."""
        known = self.parameters.get("properties", {})
        missing = [name for name in self.parameters.get("required", ()) if name not in arguments]
        if missing:
            return f"{self.name} needs `{missing[0]}`"
        foreign = [name for name in arguments if name not in known]
        if foreign and not self.parameters.get("additionalProperties"):
            return f"{self.name} has no `{foreign[0]}`; it has {', '.join(known) or 'no arguments'}"
        try:
            json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            return f"{self.name} takes JSON, which has no NaN, no Infinity and no half of a character"
        return ""

    def misfit_of(self, arguments: Mapping[str, Any]) -> str:
        """Why they do not fit the schema: for a call that a person is asked about, and whose error nobody could read.

        A call that is made at once the tool may take all the same, as many take `"5"` for a number.
        """
        from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
        from referencing.exceptions import Unresolvable

        validator = _validator_of(self.parameters)
        try:
            wrong = best_match(validator.iter_errors(dict(arguments)))
        except (RecursionError, Unresolvable):  # a schema that points at itself, or out of itself: the tool says it
            return ""
        return f"{self.name}: `{wrong.json_path}`: {described(wrong.message)}" if wrong else ""


def name_of(who: str, tool: str) -> str:
    """What a model calls a tool: only signs that every provider takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{who}__{tool}")[:LONGEST_NAME]


def described(text: str) -> str:
    """A description as it is shown: on one line, without what steers a terminal, and no longer than allowed."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= LONGEST_DESCRIPTION else f"{line[:LONGEST_DESCRIPTION]} …"


def parameters_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of arguments as it is shown. Raises ValueError where it is none, or too long even in short.

    One that a provider would refuse ends the run of whoever is offered it, and not the tool's server.
    """
    from jsonschema.exceptions import SchemaError
    from langchain_core.utils.json_schema import dereference_refs

    if schema.get("type") != "object":
        raise ValueError("its arguments are no JSON object")
    whole = {"properties": {}, **schema}
    shown: dict[str, Any] = _shown(whole, words=len(json.dumps(whole)) <= LONGEST_PARAMETERS)
    if len(json.dumps(shown)) > LONGEST_PARAMETERS:
        raise ValueError(f"the schema of its arguments is longer than {LONGEST_PARAMETERS} characters")
    try:
        _validator_of(shown).check_schema(shown)
        dereference_refs(shown)  # as LangChain does when it offers the tool
    except SchemaError as error:
        raise ValueError(f"the schema of its arguments is none: {described(error.message)}") from error
    except (KeyError, ValueError) as error:
        raise ValueError(f"the schema of its arguments points nowhere: {described(str(error))}") from error
    except (AttributeError, RecursionError, TypeError) as error:  # a `$schema` or an `$id` that is no text, too
        raise ValueError(f"the schema of its arguments is none: {described(str(error))}") from error
    return shown


def _validator_of(schema: dict[str, Any]) -> Any:
    """jsonschema's, of the draft that the schema names; it fetches nothing that the schema points at."""
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]
    from referencing import Registry

    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def _shown(schema: Any, words: bool, named: bool = False) -> Any:
    """A schema with its descriptions cut, or without its words.

    named: whether the keys are names of arguments, which may be called anything.
    """
    if isinstance(schema, list):
        return [_shown(entry, words) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: described(value)
        if key in WORDS and not named and isinstance(value, str)
        else _shown(value, words, named=not named and key in ("properties", "$defs"))
        for key, value in schema.items()
        if named or words or key not in WORDS
    }


def text_of(content: Any) -> str:
    """What a tool gave back, as text, without secrets: blocks that are no text are only named."""
    if not isinstance(content, str):
        blocks = content if isinstance(content, list) else [content]
        content = "\n".join(map(_of_a_block, blocks))
    return redact(content)[:LONGEST_ANSWER].encode(errors="replace").decode()  # a cut secret is not known as one


def _of_a_block(block: Any) -> str:
    if isinstance(block, dict) and isinstance(block.get("resource"), dict):  # as MCP puts a file into an answer
        block = {"type": "text" if "text" in block["resource"] else "file", **block["resource"]}
    if isinstance(block, dict) and block.get("type") == "text":
        return str(block.get("text", ""))
    if isinstance(block, dict) and block.get("type") in ("image", "file", "audio"):
        return f"[{block['type']}, {block.get('mime_type') or block.get('mimeType') or 'of an unnamed kind'}]"
    return block if isinstance(block, str) else json.dumps(block, ensure_ascii=False, default=str)
