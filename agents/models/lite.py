"""LiteLLM as postgrad uses it: without the network at its import, silent, and told when a stream broke off."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


@lru_cache(maxsize=1)
def load_litellm() -> Any:
    """LiteLLM, imported when first used: it takes seconds."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the prices that it ships with: importing asks no network
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # else it reads a .env file, and with it a stranger's keys and endpoints
    import litellm

    with warnings.catch_warnings():  # pydantic's, of how LiteLLM writes a type: it comes with the first of each
        warnings.simplefilter("ignore")
        for kind in (litellm.types.utils.Delta, litellm.types.utils.Message):
            kind()
    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it prints hints to standard output
    litellm.disable_streaming_logging = True  # a task for every word
    _keep_at_home(litellm)
    return litellm


def _keep_at_home(litellm: Any) -> None:
    """Makes the clients that LiteLLM opens follow no redirect to another host.

    httpx takes `Authorization` out of a request that is sent on, but no other header that holds a key (Anthropic's
    `x-api-key`), and the conversation would go there, too.
    """
    from litellm.llms.custom_httpx.http_handler import HTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    open_one, open_openais = HTTPHandler.create_client, BaseOpenAILLM._get_sync_http_client
    HTTPHandler.create_client = lambda handler: _staying(open_one(handler))
    BaseOpenAILLM._get_sync_http_client = staticmethod(lambda: _staying(open_openais()))


def _staying(client: httpx.Client) -> httpx.Client:
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "response": [*hooks["response"], _forget_another_host]}
    return client


def _forget_another_host(response: httpx.Response) -> None:
    """A redirect to another host becomes the error that a redirect to nowhere is; one to its own, or to TLS, stays."""
    here, there = response.url, response.url.join(response.headers.get("location", ""))
    if there.host != here.host or (there.scheme, there.port) not in ((here.scheme, here.port), ("https", None)):
        del response.headers["location"]


FAULTS = ("error", "network_error")
"""Reasons for the end of an answer that make it none, as OpenRouter and Zhipu say it."""


class BrokeOff(Exception):
    """An answer ended before the model did: its words are none."""


class Client:
    """What ChatLiteLLM sends its requests with: LiteLLM, but for what it makes of a stream.

    LiteLLM takes the end of a stream, and the fault that ended an answer, for the end of an answer; it counts the words
    of a stream itself where the server does not, and tells no price of it.
    """

    def completion(self, **asked: Any) -> Any:
        """See litellm.completion; may raise BrokeOff."""
        answer = load_litellm().completion(**asked)
        if asked.get("stream"):
            return _watched(answer, asked["model"])
        for choice in answer.choices:
            said = getattr(choice, "provider_specific_fields", None) or {}
            if said.get("native_finish_reason") in FAULTS:  # LiteLLM makes a "stop" of them
                raise BrokeOff(f"the answer of `{asked['model']}` broke off")
        return answer


def _watched(stream: Any, model: str) -> Iterator[Any]:
    try:
        for chunk in stream:
            # The last chunk is LiteLLM's own: it says "stop" whatever came before it.
            ended = bool(chunk.choices) and chunk.choices[0].finish_reason is not None
            if ended and not (stream.received_finish_reason or stream.intermittent_finish_reason):
                raise BrokeOff(f"the answer of `{model}` broke off")
            usage = getattr(chunk, "usage", None)
            if usage is not None:
                if not any(map(_counted, stream.chunks)):
                    continue
                usage.cost = _cost_of(chunk, usage, model, stream.custom_llm_provider)
            yield chunk
    finally:
        # What is left to the garbage collector may be closed by it while this thread has the lock of the connections.
        words = getattr(stream.completion_stream, "streaming_response", stream.completion_stream)
        if hasattr(words, "close"):
            words.close()


def _counted(chunk: Any) -> bool:
    """Whether the server says on this chunk how many tokens there were."""
    usage = getattr(chunk, "usage", None)
    return usage is not None and bool(usage.prompt_tokens or usage.completion_tokens)


def _cost_of(chunk: Any, usage: Any, model: str, provider: str | None) -> float | None:
    """Dollars, as LiteLLM says them of an answer that is not streamed; None where it knows no price."""
    if getattr(usage, "cost", None) is not None:
        return float(usage.cost)
    litellm = load_litellm()
    answer = litellm.ModelResponse(model=chunk.model, usage=usage)
    try:
        return float(litellm.completion_cost(answer, model=model, custom_llm_provider=provider))
    except Exception:  # noqa: BLE001  LiteLLM raises a bare one where it has no price
        return None


def streamed(chat: Any, on_words: Callable[[str], None], messages: Sequence[Any]) -> Any:
    """What a model says, told as it comes: an AIMessage. Raises BrokeOff where there is no end to it."""
    from langchain_core.messages import message_chunk_to_message
    from langchain_core.messages.ai import add_ai_message_chunks

    chunks = []
    for chunk in chat.stream(messages):
        chunks.append(chunk)
        if chunk.text:
            on_words(chunk.text)
    if not chunks or not any("finish_reason" in chunk.response_metadata for chunk in chunks):
        raise BrokeOff("the answer ended before it began")
    whole = add_ai_message_chunks(*chunks)  # at once: one by one, it would read the calls of tools as often
    said: Any = message_chunk_to_message(whole)
    said.tool_calls, said.invalid_tool_calls = _calls_in(whole.tool_call_chunks)
    said.additional_kwargs.pop("tool_calls", None)  # the same in pieces
    return said


def _calls_in(chunks: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The calls of tools in a stream, and those whose arguments are no JSON; LangChain would mend what was cut off."""
    calls, invalid = [], []
    for chunk in chunks:
        try:
            arguments = json.loads(chunk["args"] or "{}")
        except ValueError:
            arguments = None
        named = {"name": chunk["name"] or "", "id": chunk["id"] or ""}
        if isinstance(arguments, dict):
            calls.append({**named, "args": arguments, "type": "tool_call"})
        else:
            invalid.append({**named, "args": chunk["args"], "error": None, "type": "invalid_tool_call"})
    return calls, invalid
