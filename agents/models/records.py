"""A record as a language model is asked for it, and as it is read from what the model says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from shared_memory.records import Record

R = TypeVar("R", bound=Record)


def strict_schema(kind: type[Record]) -> dict[str, Any]:
    """The JSON Schema of `kind` as OpenAI's strict mode takes it.

    Every property is required, none has a default, and references are written out.
    """
    from langchain_core.utils.function_calling import convert_to_openai_function

    schema: dict[str, Any] = convert_to_openai_function(kind, strict=True)["parameters"]
    return _without_defaults(schema)


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key not in ("default", "title")}
    if "properties" in schema:
        kept["properties"] = {name: _without_defaults(value) for name, value in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _without_defaults(schema["items"])
    if "anyOf" in schema:
        kept["anyOf"] = [_without_defaults(value) for value in schema["anyOf"]]
    return kept


def read_record(said: str | Mapping[str, Any], kind: type[R], fault: Callable[[R], str]) -> R | str:
    """The record in an answer, be it text or the arguments of a call; or what is wrong with it."""
    try:
        record = kind.model_validate(_printable(_json_in(said) if isinstance(said, str) else said))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:5]
        places = (".".join(map(str, entry["loc"])) or "the object" for entry in faults)
        return "; ".join(f"`{place}`: {entry['msg']}" for place, entry in zip(places, faults, strict=True))
    except ValueError as error:
        return str(error)
    if not _finite(record.model_dump()):
        return "every number must be finite"
    return fault(record) or record


def _json_in(text: str) -> Any:
    """The JSON object that a text is; else the last one in it: unbound models put words or thoughts around it."""
    decoder, stripped = json.JSONDecoder(), text.strip()
    found, position = None, text.find("{")
    try:
        if stripped.startswith("{"):
            return decoder.raw_decode(stripped)[0]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no complete JSON object ({str(error)[:100]})") from error
    while position >= 0:
        try:
            found, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        position = text.find("{", end)
    if found is None:
        raise ValueError("there is no complete JSON object in it")
    return found


def _printable(value: Any) -> Any:
    """Plain data without control characters, which a terminal would obey."""
    if isinstance(value, str):
        return "".join(character for character in value if character.isprintable() or character == "\n")
    if isinstance(value, dict):
        return {key: _printable(entry) for key, entry in value.items()}
    return [_printable(entry) for entry in value] if isinstance(value, list) else value


def _finite(value: Any) -> bool:
    """Whether plain data has no NaN and no infinity in it, which most bounds let pass."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
