"""Language models of the tests of `agents.llm` and `agents.provider`: over real HTTP, with answers in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.llm import LanguageModel, Tally
from tests.servers.openai_chat import ChatServer

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    },
}
"""A tool, as OpenAI's API is told of it."""
WIRES = ("openai/gpt-4o", "hosted_vllm/llama", "lm_studio/llama", "anthropic/claude-sonnet-4-5", "ollama/llama3",
         "huggingface/novita/org/llama")  # fmt: skip
"""One model for each way that LiteLLM has to send a request."""


def address(server: ChatServer, name: str) -> str:
    """The `api_base` of a model on a server."""
    return server.root if name.startswith(("anthropic/", "ollama/")) else server.base_url


class Models:
    """Makes language models whose answers share a folder; their meter counts, and knows no cap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meter = Tally()

    def __call__(self, server: ChatServer | str, name: str = "openai/gpt-4o", **changes: Any) -> LanguageModel:
        api_base = server if isinstance(server, str) else address(server, name)
        return LanguageModel(name, **({"api_base": api_base, "cache": self.folder, "meter": self.meter} | changes))
