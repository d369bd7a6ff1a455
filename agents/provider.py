"""The one place that speaks to LiteLLM: sends a request, tries again where that helps, and says what went wrong."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared_memory.errors import ContextExhausted, PostgradError, Unavailable
from shared_memory.records import MICRO_USD, Record
from shared_memory.redaction import redact, redact_plain

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

RETRIES = 2
"""Times that a request is sent again after a rate limit, a fault of the server or a lost connection."""
TIMEOUT_SECONDS = 300.0
"""For one request: a reasoning model, or a model on a CPU, takes minutes. It is not sent again: it may be billed."""
LONGEST_WAIT = 120.0
"""Seconds of `Retry-After` that are waited for; who is sent away for longer resumes the run later."""
MOST_ANSWER_TOKENS = 8192
"""For one answer, thoughts included; a model's own limit counts where it is lower."""
KEY_OF_THE_ENDPOINT = "POSTGRAD_{section}_KEY"
"""Environment variable with the key for the `api_base` in a table of the goal: POSTGRAD_BRAIN_KEY for [brain]'s. Each
address has its own: the key of one is not sent to another."""

_OPENED: set[tuple[str, str]] = set()
"""Model and address that this process has had an answer from."""
_OPENING = threading.Lock()

Message = Mapping[str, str]
"""`role` and `content`."""


class Answer(Record):
    """What a model said, and what it took."""

    text: str
    tokens: int
    """Of the request and the answer; 0 where the server does not say."""
    prompt_tokens: int = 0
    """Those of the request."""
    truncated: bool = False
    """It met the limit on tokens before it ended by itself."""
    usd_micro: int | None
    """By LiteLLM's price map, rounded up; None where it has no price."""
    model: str = ""
    """That was asked, by its name in the goal."""
    message: dict[str, Any] | None = None
    """The whole of it, as LangChain writes a message down: calls of tools, and thoughts that have to be sent back."""
    booking: str = ""
    """Key under which it is paid for."""


class Refused(Unavailable):
    """The request was turned down, or met no server: nothing was generated, so nothing is billed."""


@lru_cache(maxsize=1)
def load_litellm() -> Any:
    """LiteLLM, imported when first used: it takes seconds."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the prices that it ships with: importing asks no network
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # else it reads a .env file, and with it a stranger's keys and endpoints
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it prints hints to standard output
    return litellm


class Provider:
    """The provider of one model; `api_base` is the address of a server that is not the provider's own."""

    def __init__(self, model: str, api_base: str = "", section: str = "brain") -> None:
        """section: the goal's table that names the model and its address."""
        self.model = model
        self.api_base = api_base
        self._section = section
        self._key_of_the_endpoint = KEY_OF_THE_ENDPOINT.format(section=section.upper())

    def fault_of_its_name(self) -> str:
        """Why LiteLLM would not know whom to ask, with the next move; empty where it does."""
        litellm = load_litellm()
        try:
            litellm.get_llm_provider(self.model, api_base=self.api_base or None)
        except litellm.BadRequestError:
            return (
                f"`{self.model}` begins with no provider that LiteLLM knows; give its LiteLLM name, or for a server of "
                f"your own openai/{self.model} with its api_base"
            )
        return ""

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], name: str, on_lost: Callable[[], None]
    ) -> Answer:
        """The model's answer; `schema` (JSON Schema) binds it where the server can do that.

        `on_lost` is called before a request is sent again that may have been billed already, and may forbid it.
        Raises Refused or ContextExhausted where the request was turned down, and Unavailable where its fate is unknown.
        """
        with self._in_words_of_ours():
            answer = self._structured(messages, schema, name, on_lost)
        return answer.model_copy(update={"text": redact(answer.text)})

    def say(self, messages: Sequence[Message], asked: Mapping[str, Any], on_lost: Callable[[], None]) -> Answer:
        """The model's answer in its own words, to the letter; see `complete`.

        asked: more of the request, as OpenAI's API calls it: `max_tokens`, `temperature`, `tools` and the like.
        """
        with self._in_words_of_ours():
            return self._send(self._chat.bind(**asked), messages, on_lost)

    def reply(
        self,
        messages: Sequence[BaseMessage],
        asked: Mapping[str, Any],
        on_lost: Callable[[], None],
        on_words: Callable[[str], None] | None = None,
    ) -> Answer:
        """The model's turn in a conversation, with the tools that it calls; see `complete`.

        asked: more of the request, as OpenAI's API calls it, `tools` and `tool_choice` among it. `on_words` is given
        the text as it comes, where it is to be streamed.
        """
        more = dict(asked)
        tools, choice = more.pop("tools", None), more.pop("tool_choice", None)
        with self._in_words_of_ours():
            chat = self._chat.bind_tools(tools, tool_choice=choice, **more) if tools else self._chat.bind(**more)
            answer = self._send(chat, messages, on_lost, on_words, whole=True)
        return answer.model_copy(update={"text": redact(answer.text), "message": _redacted(answer.message)})

    @contextmanager
    def _in_words_of_ours(self) -> Iterator[None]:
        """For a request: what LiteLLM raises becomes an error of ours."""
        litellm = load_litellm()
        try:
            with self._alone_at_first():
                yield
        except tuple(litellm.exceptions.LITELLM_EXCEPTION_TYPES) as error:
            raise self._explained(error) from error

    @contextmanager
    def _alone_at_first(self) -> Iterator[None]:
        """Lets the first request of this process go alone, and the others side by side.

        LiteLLM keeps the connections of the first that has ended; others beside it would leave theirs open.
        """
        key = (self.model, self.api_base)
        with _OPENING if key not in _OPENED else nullcontext():
            yield
        _OPENED.add(key)

    def _structured(
        self, messages: Sequence[Message], schema: Mapping[str, Any], name: str, on_lost: Callable[[], None]
    ) -> Answer:
        # A JSON Schema as `response_format` rather than a tool call: vLLM, SGLang, llama.cpp, Ollama and LM Studio bind
        # the decoder by it without a flag at their start, LiteLLM translates it for Anthropic and Gemini, and the
        # answer is plain text either way. A server that refuses it gets the bare request: the prompt has the schema.
        bound = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
        litellm = load_litellm()
        try:
            return self._send(self._chat.bind(response_format=bound), messages, on_lost)
        except (litellm.BadRequestError, litellm.UnprocessableEntityError) as error:
            if isinstance(error, litellm.ContextWindowExceededError) or _status(error) >= 500:
                raise
            return self._send(self._chat, messages, on_lost)

    @cached_property
    def _chat(self) -> Any:
        load_litellm()
        from langchain_litellm import ChatLiteLLM

        return ChatLiteLLM(
            model=self.model,
            api_base=self.api_base or None,
            api_key=self._key(),
            request_timeout=TIMEOUT_SECONDS,
            max_tokens=self.most_answer_tokens,
            # `_send` is the only layer that tries again. LangChain counts attempts. `max_retries` is for the provider's
            # client; `num_retries` would do the same for LiteLLM's wrapper, which is off unless it is set.
            max_retries=1,
            model_kwargs={"max_retries": 0, "drop_params": True},
        )

    def _send(
        self,
        chat: Any,
        messages: Sequence[Message] | Sequence[BaseMessage],
        on_lost: Callable[[], None],
        on_words: Callable[[str], None] | None = None,
        *,
        whole: bool = False,
    ) -> Answer:
        """One request, sent again up to RETRIES times.

        The provider clients' own retries would not do: LiteLLM speaks to Anthropic, vLLM and others without one.
        """
        sent = [dict(message) if isinstance(message, Mapping) else message for message in messages]
        send = chat.invoke if on_words is None else partial(_streamed, chat, on_words)
        # In a thread of its own: in the main one LiteLLM leaves an event loop behind that nobody closes.
        with ThreadPoolExecutor(max_workers=1) as thread:
            for attempt in range(1 + RETRIES):
                try:
                    said = thread.submit(send, sent).result()
                    break
                except IndexError:  # a reply without choices: a filter withheld them
                    return Answer(text="", tokens=0, usd_micro=None, model=self.model)
                except tuple(load_litellm().exceptions.LITELLM_EXCEPTION_TYPES) as error:
                    if attempt == RETRIES or not _is_worth_another_try(error):
                        raise
                    time.sleep(_retry_after(error) or 2.0**attempt)
                    if _is_lost(error):
                        on_lost()
        from langchain_core.messages import message_to_dict

        cost = said.response_metadata.get("response_cost")
        return Answer(
            text=_in_full(said).encode(errors="replace").decode(),  # half of a surrogate pair fits in no file
            tokens=(said.usage_metadata or {}).get("total_tokens", 0),
            prompt_tokens=(said.usage_metadata or {}).get("input_tokens", 0),
            truncated=said.response_metadata.get("finish_reason") == "length",
            usd_micro=None if cost is None else math.ceil(cost * MICRO_USD),
            model=self.model,
            message=message_to_dict(said) if whole else None,
        )

    def _key(self) -> str | None:
        """The key to send; None leaves it to LiteLLM, which takes the provider's own from the environment.

        A key goes to the provider, to an address that the environment names beside it, or to this machine. An
        `api_base` out of a goal file is none of these: whoever wrote the file would be sent the key.
        """
        named = {value for name, value in os.environ.items() if name.endswith(("_API_BASE", "_BASE_URL"))}
        if not self.api_base or self.api_base in named:
            return None
        here = urlsplit(self.api_base).hostname in ("localhost", "127.0.0.1", "::1")
        if os.environ.get(self._key_of_the_endpoint):
            return os.environ[self._key_of_the_endpoint]
        if here and not load_litellm().validate_environment(self.model)["missing_keys"]:
            return None
        return "none"  # most servers of one's own ask for no key, and the client insists on one

    @cached_property
    def _prices(self) -> Mapping[str, Any]:
        """The model's entry in LiteLLM's price map; empty where it has none."""
        known: Mapping[str, Mapping[str, Any]] = load_litellm().model_cost
        return known.get(self.model) or known.get(self.model.partition("/")[2]) or {}

    @cached_property
    def most_answer_tokens(self) -> int:
        return self.within_the_models_own(MOST_ANSWER_TOKENS)

    def within_the_models_own(self, answer_tokens: int) -> int:
        """A limit on an answer, lowered to the model's own where LiteLLM knows that: more is refused by some."""
        return min(answer_tokens, int(self._prices.get("max_output_tokens") or answer_tokens))

    def most_usd_micro(self, request_tokens: int, answer_tokens: int | None = None) -> int | None:
        """The worst case of a request's cost by the price map; None where it has no price.

        answer_tokens: what the answer is limited to; None for `most_answer_tokens`.
        """
        most = self.most_answer_tokens if answer_tokens is None else answer_tokens
        asked, answered = (_dearest(self._prices, way, request_tokens) for way in ("input", "output"))
        if asked is None and answered is None:
            return None
        return math.ceil((request_tokens * (asked or 0) + most * (answered or 0)) * MICRO_USD)

    def _explained(self, error: Any) -> PostgradError:
        """The error as one line with the next move; the provider's own words only where ours cannot do, redacted."""
        litellm, status = load_litellm(), _status(error)
        where = f"`{self.model}`" + (f" at {self.api_base}" if self.api_base else "")
        if isinstance(error, litellm.ContextWindowExceededError):
            return ContextExhausted(
                f"the request is longer than {where} can read; choose a model with a longer context"
            )
        if _no_quota(error):
            return Refused(f"the account of {where} has no quota left; top it up, then resume the run")
        if _no_key(error):
            return Refused(
                f"{where} refuses the key; set {self._name_of_the_key()} to a valid one, then resume the run"
            )
        if status == 404:
            return Refused(
                f"{where} does not exist, or this account may not use it; check [{self._section}], then resume the run"
            )
        if status == 429:
            return Refused(f"{where} is over its rate limit; wait a little, then resume the run")
        if isinstance(error, litellm.Timeout):
            return Unavailable(f"{where} gave no answer within {TIMEOUT_SECONDS:.0f} s; see to it, then resume the run")
        cause = redact(" ".join(str(error).partition("Traceback")[0].split()))[:200]
        if 400 <= status < 500:
            return Refused(f"{where} does not take the request ({cause}); check [{self._section}], then resume the run")
        kind = Refused if _was_never_sent(error) else Unavailable
        return kind(f"{where} is out of reach ({cause}); see that it runs, then resume the run")

    def _name_of_the_key(self) -> str:
        if self._key() is not None:
            return self._key_of_the_endpoint
        provider = self.model.partition("/")[0].upper() if "/" in self.model else "PROVIDER"
        return f"{provider}_API_KEY"


def _redacted(message: dict[str, Any] | None) -> dict[str, Any] | None:
    """A message as it was written down, without secrets but in its thoughts: these are signed, and shown to nobody."""
    if message is None:
        return None
    data = message["data"]
    shown = {key: redact_plain(data[key]) for key in ("content", "tool_calls", "invalid_tool_calls") if key in data}
    return {**message, "data": {**data, **shown}}


def _streamed(chat: Any, on_words: Callable[[str], None], messages: Any) -> Any:
    """What a model says, told as it comes."""
    from langchain_core.messages import message_chunk_to_message

    whole: Any = None
    for chunk in chat.stream(messages):
        whole = chunk if whole is None else whole + chunk
        if chunk.text:
            on_words(chunk.text)
    return message_chunk_to_message(whole)


def _in_full(said: Any) -> str:
    """What a reply says, with the calls of tools that a server has taken out of the text put behind it again.

    In the form that Hermes and Qwen models write them in [NousResearch/Hermes-Function-Calling].
    """
    calls = [json.dumps({"name": call["name"], "arguments": call["args"]}) for call in said.tool_calls]
    return "\n".join(filter(None, [said.text, *(f"<tool_call>\n{call}\n</tool_call>" for call in calls)]))


def _dearest(prices: Mapping[str, Any], way: str, request_tokens: int) -> float | None:
    """Dollars per token of the dearest tier that a request can reach; None where there is no price.

    LiteLLM writes tiers as keys (`input_cost_per_token_above_200k_tokens`) or as a list with ranges of tokens.
    """
    tiers = [tier for tier in prices.get("tiered_pricing") or () if tier["range"][0] < request_tokens]
    key = re.compile(rf"{way}_cost_per_(?:reasoning_)?token(?:_above_(\d+)k_tokens)?")
    prices_of = [(key.fullmatch(name), price) for table in (prices, *tiers) for name, price in table.items()]
    reached = [price for tier, price in prices_of if tier and int(tier[1] or 0) * 1000 < request_tokens]
    return max((float(price) for price in reached if price is not None), default=None)


def _status(error: Any) -> int:
    """HTTP status; 0 where there was no answer."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else 0


def _no_quota(error: Any) -> bool:
    """Whether money is what is missing, in the words of OpenAI, Anthropic and those who answer with 402."""
    words = f"{error} {getattr(error, 'body', '')}".lower()
    asked = ("insufficient_quota", "exceeded your current quota", "credit balance")
    return _status(error) == 402 or any(word in words for word in asked)


def _no_key(error: Any) -> bool:
    """Whether the key is missing or not accepted; OpenAI's client says the former without an answer of the server."""
    return _status(error) in (401, 403) or "missing credentials" in str(error).lower()


def _is_lost(error: BaseException) -> bool:
    """Whether a request went out and no answer came back: it may be billed all the same."""
    return not getattr(error, "litellm_response_headers", None) and not _was_never_sent(error)


def _was_never_sent(error: BaseException | None) -> bool:
    """Whether there was no connection to send it over."""
    import httpx

    while error is not None and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_worth_another_try(error: BaseException) -> bool:
    if isinstance(error, load_litellm().Timeout) or _no_quota(error) or _no_key(error):
        return False
    return (_status(error) == 429 or _status(error) >= 500) and _retry_after(error) <= LONGEST_WAIT


def _retry_after(error: Any) -> float:
    """Seconds that the server asks to wait; 0 where it does not say, in seconds."""
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
