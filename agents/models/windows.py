"""How many tokens a model on a server of one's own can read, as the server says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agents.hosting import ADDRESSES, AT_HOME
from agents.models.keys import provider_of

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 2.0
"""For one question to a server that has them all at hand."""
OLLAMA = "http://localhost:11434"
OLLAMA_WINDOW = 16_384
"""Tokens that Ollama is asked for where nobody says how many: by default it reads 4,096 [docs.ollama.com,
context-length], and cuts off what is longer without a word."""

_SAID: dict[tuple[str, str], int] = {}
"""Model and address → what its server has said in this process."""


def window_of_server(model: str, api_base: str, key: str | None) -> int | None:
    """What the server of `model` says; None where it is somebody else's, does not answer, or does not say.

    key: sent like with a chat.
    """
    address = _address(model, api_base)
    if not address:
        return None
    if (model, address) not in _SAID:
        said = next(_said(model, address.rstrip("/"), key), None)
        if said is None:
            return None
        _SAID[model, address] = said
    return _SAID[model, address]


def _address(model: str, api_base: str) -> str:
    provider = provider_of(model)
    named = next(filter(None, map(os.environ.get, ADDRESSES.get(provider, ()))), "")
    return api_base or named or (OLLAMA if provider in AT_HOME else "")


def _said(model: str, address: str, key: str | None) -> Iterator[int]:
    """What the server says, by the way that is surest for its kind first."""
    import httpx

    provider, _, name = model.partition("/")
    key = key or os.environ.get(f"{provider.upper()}_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    root = address.removesuffix("/v1")
    plain = address.startswith("http://")  # without TLS there is nothing to verify, and no time to spend on it
    with httpx.Client(timeout=TIMEOUT_SECONDS, headers=headers, verify=not plain) as client:
        try:
            if provider in AT_HOME:
                yield from _ollama(client, root, name)
                return
            listed = _entry(_asked(client, f"{address}/models").get("data"), "id", name)
            yield from _positive(listed, "max_model_len", "context_length", "context_window")  # vLLM, SGLang; others
            settings = _asked(client, f"{root}/props").get("default_generation_settings")  # llama.cpp: of one slot
            yield from _positive(settings, "n_ctx")
            studio = _entry(_asked(client, f"{root}/api/v0/models").get("data"), "id", name)  # LM Studio
            yield from _positive(studio, "loaded_context_length", "max_context_length")
        except httpx.HTTPError:
            return  # nobody there: the chat will say so


def _ollama(client: httpx.Client, root: str, name: str) -> Iterator[int]:
    """The window of the model that runs, or its own, or as much as we ask for."""
    running = _asked(client, f"{root}/api/ps").get("models")
    yield from _positive(_entry(running, "name", name) or _entry(running, "name", f"{name}:latest"), "context_length")
    shown = _asked(client, f"{root}/api/show", {"model": name})
    own = re.search(r"^num_ctx\s+(\d+)", str(shown.get("parameters", "")), re.MULTILINE)
    if own:
        yield int(own[1])
    about = shown.get("model_info")
    for field in about if isinstance(about, Mapping) else ():
        if field.endswith(".context_length"):
            yield from (min(most, OLLAMA_WINDOW) for most in _positive(about, field))


def _asked(client: httpx.Client, url: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The JSON object at `url`; empty where there is none."""
    response = client.get(url) if body is None else client.post(url, json=body)
    try:
        told = response.json() if response.status_code == 200 else {}
    except ValueError:
        return {}
    return told if isinstance(told, Mapping) else {}


def _entry(entries: Any, field: str, name: str) -> Any:
    """Of several models the one that is called `name`; the only one where a server has no more."""
    known = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    return next((entry for entry in known if entry.get(field) == name), known[0] if len(known) == 1 else None)


def _positive(entry: Any, *fields: str) -> Iterator[int]:
    values = [entry.get(field) for field in fields] if isinstance(entry, Mapping) else []
    yield from (value for value in values if isinstance(value, int) and value > 0)
