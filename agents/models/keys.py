"""Which key goes to which address: a provider's own to the provider, and to nobody else."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from agents.models.lite import load_litellm

KEY_OF_THE_ENDPOINT = "POSTGRAD_{section}_KEY"
"""Environment variable with the key for the `api_base` in a table of the goal: POSTGRAD_BRAIN_KEY for [brain]'s. Each
address has its own: the key of one is not sent to another."""
HUGGING_FACE = "huggingface"
_HUB_KEYS = ("HF_TOKEN", "HUGGINGFACE_API_KEY")
"""Variables that LiteLLM takes the key of Hugging Face's providers from, in its order."""
NO_KEY = "none"
"""Most servers of one's own ask for no key, and the clients insist on one."""


def key_for(model: str, api_base: str, section: str) -> str | None:
    """The key to send; None leaves it to LiteLLM, which takes the provider's own from the environment.

    A key goes to the provider, to an address that the environment names for it, or to this machine. An `api_base` out
    of a goal file is none of these: whoever wrote the file would be sent the key.
    """
    if not api_base or api_base in _named_addresses(model):
        return _saved_token(model)
    own = os.environ.get(KEY_OF_THE_ENDPOINT.format(section=section.upper()))
    if own:
        return own
    if urlsplit(api_base).hostname in ("localhost", "127.0.0.1", "::1"):
        if provider_of(model) == HUGGING_FACE:
            return _hub_token() or NO_KEY
        if not load_litellm().validate_environment(model)["missing_keys"]:
            return None
    return NO_KEY


def name_of_the_key(model: str, api_base: str, section: str) -> str:
    """The variable that a person sets to another key."""
    if api_base and key_for(model, api_base, section) is not None:
        return KEY_OF_THE_ENDPOINT.format(section=section.upper())
    provider = provider_of(model)
    return "HF_TOKEN" if provider == HUGGING_FACE else f"{(provider or 'provider').upper()}_API_KEY"


def provider_of(model: str) -> str:
    """What the name of a model begins with; empty where it says no provider."""
    return model.partition("/")[0] if "/" in model else ""


def _named_addresses(model: str) -> set[str]:
    """Where the environment says that the models of a provider are; another one's address is not among them."""
    litellm, provider = load_litellm(), provider_of(model)
    if not provider:
        try:
            provider = litellm.get_llm_provider(model)[1]
        except litellm.BadRequestError:
            return set()
    owners = ("HF", provider.upper()) if provider == HUGGING_FACE else (provider.upper(),)
    variables = (re.fullmatch("(.+)(?:_API_BASE|_BASE_URL)", name) for name in os.environ)
    return {os.environ[name[0]] for name in variables if name and any(owner.startswith(name[1]) for owner in owners)}


def _saved_token(model: str) -> str | None:
    """The token that `hf auth login` has saved, for a model of Hugging Face where the environment has none."""
    if provider_of(model) != HUGGING_FACE or any(map(os.environ.get, _HUB_KEYS)):
        return None
    return _hub_token()


def _hub_token() -> str | None:
    from huggingface_hub import get_token

    return get_token() or os.environ.get("HUGGINGFACE_API_KEY")
