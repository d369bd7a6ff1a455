"""What a request has beside its messages, by what the provider takes; and what a server has refused of it before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.models.keys import HUGGING_FACE, provider_of
from agents.models.lite import load_litellm

CACHE_POINTS = ({"location": "message", "role": "system"}, {"location": "message", "index": -1})
"""What is put into the provider's cache: the system message, and all up to the last one, for the next turn."""
_CLAUDE_HOSTS = ("azure_ai", "bedrock", "databricks", "openrouter", "vertex_ai")
"""Providers that have Claude among others. It alone wants to be told what to cache: OpenAI, Gemini, DeepSeek and the
servers of one's own cache by themselves [LiteLLM's page on prompt caching]."""
_PASS_ON = ("lm_studio", "llamafile", HUGGING_FACE)
"""Providers of many models that LiteLLM would not tell of the effort: they get it as it is."""

_REFUSED: set[tuple[str, str, str]] = set()
"""Model, address and the part of a request that its server has refused in this process."""


def remember_refusal(model: str, api_base: str, part: str) -> None:
    _REFUSED.add((model, api_base, part))


def is_refused(model: str, api_base: str, part: str) -> bool:
    return (model, api_base, part) in _REFUSED


def accepted(model: str, api_base: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """More of a request without what the server has refused before."""
    kept = {part: value for part, value in asked.items() if not is_refused(model, api_base, part) or part == "tools"}
    if "tool_choice" in asked and "tool_choice" not in kept:
        kept["tool_choice"] = "auto"
    return kept


def effort(model: str, wanted: str, listed: Mapping[str, Any]) -> dict[str, Any]:
    """How long to think, for a model that may know such a thing. listed: what LiteLLM knows of the model."""
    litellm = load_litellm()
    known = litellm.supports_reasoning(model) or listed.get("supports_reasoning")
    if not wanted or (listed and not known):
        return {}
    name, provider, _, _ = litellm.get_llm_provider(model)
    passed = "reasoning_effort" in (litellm.get_supported_openai_params(name, provider) or ())
    if passed or provider not in _PASS_ON:
        return {"reasoning_effort": wanted}
    return {"reasoning_effort": wanted, "allowed_openai_params": ["reasoning_effort"]}


def cache_points(model: str) -> dict[str, Any]:
    """What a provider is told to cache, where it wants to be told."""
    provider = provider_of(model) or ("anthropic" if model.startswith("claude") else "")
    if provider == "anthropic" or (provider in _CLAUDE_HOSTS and "claude" in model):
        return {"cache_control_injection_points": [dict(point) for point in CACHE_POINTS]}
    return {}
