"""Whether a language model is somebody else's: what it is shown leaves this machine then."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

HOSTED, OWN = "hosted", "own"
"""Flavors of a job that asks a language model: what a hosted one is shown leaves this machine."""
AT_HOME = ("ollama", "ollama_chat")
"""Providers whose models are on this machine unless an address says otherwise."""
ADDRESSES = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "hosted_vllm": ("HOSTED_VLLM_API_BASE",),
    "llamafile": ("LLAMAFILE_API_BASE",),
    "lm_studio": ("LM_STUDIO_API_BASE",),
    "ollama": ("OLLAMA_API_BASE",),
    "ollama_chat": ("OLLAMA_API_BASE",),
}
"""Provider → the variables that LiteLLM takes its address from, in its order (`get_llm_provider`, `main.py`). These
speak to servers of one's own, and to no other address than they are given."""
OLLAMA_CLOUD = "cloud"
"""How the tags of models end that Ollama's server on this machine has run at its maker's."""


def is_hosted(model: str, api_base: str = "", environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a model runs at somebody else's: not on this machine, and not at an address of a private network.

    The address is `api_base`, or what LiteLLM finds in the environment for the model's provider. A provider that is not
    in ADDRESSES, a name without one included, counts as hosted wherever its address is: it may read another one. A name
    is never looked up: what it leads to may change.
    """
    provider, _, name = model.partition("/")
    if provider not in ADDRESSES or (provider in AT_HOME and name.endswith(OLLAMA_CLOUD)):
        return True
    address = api_base or next(filter(None, (environ.get(variable, "") for variable in ADDRESSES[provider])), "")
    if not address:
        return provider not in AT_HOME
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return False
    try:
        at = ipaddress.ip_address(host)
    except ValueError:
        return True
    return not (at.is_loopback or at.is_private)


def moved_out(model: str, api_base: str, flavor: str) -> str:
    """Why a model that was to answer on this machine or network may not be asked; empty where it still does."""
    if flavor == HOSTED or not is_hosted(model, api_base):
        return ""
    return (
        f"`{model}` was asked about as a model on this machine and is at another address now; "
        "set the environment as it was, then resume the run"
    )
