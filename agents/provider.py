"""A language model's provider: sends a request, tries again where that helps, and says what went wrong."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from agents.models.answer import Answer, Between, Message, Refused, ToolsRefused, in_full, redacted
from agents.models.complaints import (
    TIMEOUT_SECONDS,
    cause_of,
    explained,
    is_lost,
    is_worth_another_try,
    overflows,
    refused_part,
    retry_after,
    status,
)
from agents.models.extras import accepted, cache_points, effort, is_refused, remember_refusal
from agents.models.keys import HUGGING_FACE, key_for, name_of_the_key, provider_of
from agents.models.lite import BrokeOff, Client, load_litellm, streamed
from agents.models.prices import Prices
from agents.models.threads import in_a_thread
from agents.models.windows import window_of_server
from shared_memory.redaction import redact
from shared_memory.settings import ModelPrice

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["Answer", "Between", "Message", "Provider", "Refused", "ToolsRefused", "load_litellm"]

RETRIES = 2
"""Times that a request is sent again after a rate limit, a fault of the server or a lost connection."""
MOST_ANSWER_TOKENS = 8192
"""For one answer, thoughts included; a model's own limit counts where it is lower."""
SHARE_OF_THE_WINDOW = 4
"""A model's answer takes no more than its window divided by this: servers of one's own have small ones, and refuse a
request that has no room for the longest answer."""

_OPENED: set[tuple[str, str]] = set()
"""Provider and address to which a request of this process has ended."""
_OPENING: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
"""Provider and address → who sends the first one."""


class Provider:
    """The provider of one model; `api_base` is the address of a server that is not the provider's own."""

    def __init__(
        self,
        model: str,
        api_base: str = "",
        section: str = "brain",
        *,
        reasoning_effort: str = "",
        window: int | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
    ) -> None:
        """section: the goal's table that names the model and its address.

        `reasoning_effort` is for models that know such a thing. window: tokens that the model can read; None finds it
        out. prices: a person's own, by model; None takes those of the home.
        """
        self.model = model
        self.api_base = api_base
        self._section = section
        self._effort = reasoning_effort
        self._window = window
        self._prices = Prices(model, prices)

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

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], name: str, between: Between) -> Answer:
        """The model's answer; `schema` (JSON Schema) binds it where the server can do that.

        Raises what `between` does, Refused or ContextExhausted where the request was turned down, and Unavailable where
        its fate is unknown.
        """
        # A JSON Schema as `response_format` rather than a tool call: vLLM, SGLang, llama.cpp, Ollama and LM Studio bind
        # the decoder by it without a flag at their start, LiteLLM translates it for Anthropic and Gemini, and the
        # answer is plain text either way. A server that refuses it gets the bare request: the prompt has the schema.
        bound = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
        litellm = load_litellm()
        with self._in_words_of_ours():
            try:
                answer = self._send_in_part({**self._extras, "response_format": bound}, messages, between)
            except (litellm.BadRequestError, litellm.UnprocessableEntityError) as error:
                if overflows(error) or status(error) >= 500:
                    raise
                answer = self._send_in_part(self._extras, messages, between)
        return answer.model_copy(update={"text": redact(answer.text)})

    def say(self, messages: Sequence[Message], asked: Mapping[str, Any], between: Between) -> Answer:
        """The model's answer in its own words, to the letter; see `complete`.

        asked: more of the request, as OpenAI's API calls it: `max_tokens`, `temperature`, `tools` and the like.
        """
        with self._in_words_of_ours():
            return self._send(self._chat.bind(**asked), messages, between)

    def reply(
        self,
        messages: Sequence[BaseMessage],
        asked: Mapping[str, Any],
        between: Between,
        on_words: Callable[[str], None] | None = None,
    ) -> Answer:
        """The model's turn in a conversation, with the tools that it calls; see `complete`.

        asked: more of the request, as OpenAI's API calls it, `tools` and `tool_choice` among it. `on_words` is given
        the text as it comes, where it is to be streamed; after a lost stream it comes again from its beginning. Raises
        ToolsRefused where the server knows no tools.
        """
        with self._in_words_of_ours():
            answer = self._send_in_part({**self._extras, **asked}, messages, between, on_words, whole=True)
        return redacted(answer)

    @property
    def window(self) -> int | None:
        """Tokens that the model can read, the answer among them; None where nobody says."""
        if self._window or self._said_window:
            return self._window or self._said_window
        listed = self._prices.listed
        known = listed.get("max_input_tokens") or listed.get("max_tokens")
        return int(known) if known else None

    @cached_property
    def _said_window(self) -> int | None:
        return window_of_server(self.model, self.api_base, self._key())

    @cached_property
    def most_answer_tokens(self) -> int:
        """Tokens that an answer may take; for one that is sent now, see `room_for_an_answer`."""
        return self.within_the_models_own(MOST_ANSWER_TOKENS)

    @cached_property
    def room_for_an_answer(self) -> int:
        """Tokens that an answer may take beside a long request: less than `most_answer_tokens` in a small window."""
        known = self._window or self._said_window
        return min(self.most_answer_tokens, max(256, known // SHARE_OF_THE_WINDOW) if known else MOST_ANSWER_TOKENS)

    def within_the_models_own(self, answer_tokens: int) -> int:
        """A limit on an answer, lowered to the model's own where LiteLLM knows that: more is refused by some."""
        return min(answer_tokens, int(self._prices.listed.get("max_output_tokens") or answer_tokens))

    def most_usd_micro(self, request_tokens: int, answer_tokens: int | None = None) -> int | None:
        """The worst case of a request's cost by the home's prices or LiteLLM's map; None where neither has one.

        answer_tokens: what the answer is limited to; None for `most_answer_tokens`.
        """
        most = self.most_answer_tokens if answer_tokens is None else answer_tokens
        return self._prices.most_usd_micro(request_tokens, most)

    @cached_property
    def _extras(self) -> dict[str, Any]:
        more = {**effort(self.model, self._effort, self._prices.listed), **cache_points(self.model)}
        return {"max_tokens": self.room_for_an_answer, **more}

    @contextmanager
    def _in_words_of_ours(self) -> Iterator[None]:
        """For a request: what LiteLLM raises becomes an error of ours."""
        litellm = load_litellm()
        try:
            yield
        except (BrokeOff, *litellm.exceptions.LITELLM_EXCEPTION_TYPES) as error:
            name = name_of_the_key(self.model, self.api_base, self._section)
            raise explained(cause_of(error), self._where, self._section, name) from error

    @contextmanager
    def _alone_at_first(self) -> Iterator[None]:
        """Lets the first request to an address go alone, and the others side by side once it has ended.

        LiteLLM keeps the client of the last of them that has opened one; the others' connections would stay open.
        """
        key = (provider_of(self.model), self.api_base)
        if key not in _OPENED:
            with _OPENING[key]:
                if key not in _OPENED:
                    try:
                        yield
                    finally:
                        _OPENED.add(key)
                    return
        yield

    def _send_in_part(
        self,
        asked: Mapping[str, Any],
        messages: Sequence[Message] | Sequence[BaseMessage],
        between: Between,
        on_words: Callable[[str], None] | None = None,
        *,
        whole: bool = False,
    ) -> Answer:
        """One request; what its server does not know is left out of the next one, and of all later ones."""
        where = self.model, self.api_base
        while True:
            more = accepted(*where, asked)
            if more.get("tools") and is_refused(*where, "tools"):
                raise self._without_tools()
            tools, choice = more.pop("tools", None), more.pop("tool_choice", None)
            chat = self._chat.bind_tools(tools, tool_choice=choice, **more) if tools else self._chat.bind(**more)
            try:
                return self._send(chat, messages, between, on_words, whole=whole)
            except tuple(load_litellm().exceptions.LITELLM_EXCEPTION_TYPES) as error:
                part = refused_part(cause_of(error), {**more, "tools": tools, "tool_choice": choice or "auto"})
                if not part:
                    raise
                remember_refusal(*where, part)

    @cached_property
    def _chat(self) -> Any:
        load_litellm()
        from langchain_litellm import ChatLiteLLM

        # Ollama's own protocol, which knows tools; `ollama/` puts them into the prompt, for all that come after it.
        provider, _, name = self.model.partition("/")
        ollama = provider in ("ollama", "ollama_chat")
        chat = ChatLiteLLM(
            model=f"ollama_chat/{name}" if ollama else self.model,
            api_base=self.api_base or None,
            api_key=self._key(),
            request_timeout=TIMEOUT_SECONDS,
            num_ctx=self.window if ollama else None,
            # `_send` is the only layer that tries again. LangChain counts attempts. `max_retries` is for the provider's
            # client; `num_retries` would do the same for LiteLLM's wrapper, which is off unless it is set.
            max_retries=1,
            # LiteLLM says on standard error that it ignores it for Hugging Face.
            model_kwargs={"drop_params": True} | ({} if provider == HUGGING_FACE else {"max_retries": 0}),
        )
        chat.client = Client()
        return chat

    def _send(
        self,
        chat: Any,
        messages: Sequence[Message] | Sequence[BaseMessage],
        between: Between,
        on_words: Callable[[str], None] | None = None,
        *,
        whole: bool = False,
    ) -> Answer:
        """One request, sent again up to RETRIES times.

        The provider clients' own retries would not do: LiteLLM speaks to Anthropic, vLLM and others without one.
        """
        sent = [dict(message) if isinstance(message, Mapping) else message for message in messages]
        send = chat.invoke if on_words is None else partial(streamed, chat, on_words)
        # In a thread: in the main one LiteLLM leaves an event loop behind that nobody closes.
        for attempt in range(1 + RETRIES):
            try:
                with self._alone_at_first():
                    said = in_a_thread(partial(send, sent)).result()
                break
            except IndexError:  # a reply without choices: a filter withheld them
                return Answer(text="", tokens=0, usd_micro=None, model=self.model)
            except (BrokeOff, *load_litellm().exceptions.LITELLM_EXCEPTION_TYPES) as error:
                cause = cause_of(error)
                if attempt == RETRIES or not is_worth_another_try(cause):
                    raise
                if is_lost(cause):
                    between.lost()
                _wait(retry_after(cause) or 2.0**attempt, between.heed)
        return self._answer(said, whole=whole)

    def _answer(self, said: Any, *, whole: bool) -> Answer:
        from langchain_core.messages import message_to_dict

        usage = said.usage_metadata or {}
        asked, answered = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        counted = min(asked, answered) >= 0  # a server that counts fewer than none does not count
        return Answer(
            text=in_full(said).encode(errors="replace").decode(),  # half of a surrogate pair fits in no file
            tokens=max(usage.get("total_tokens", 0), asked + answered) if counted else 0,
            prompt_tokens=asked,
            cached_tokens=usage.get("input_token_details", {}).get("cache_read", 0),
            truncated=said.response_metadata.get("finish_reason") == "length",
            usd_micro=self._prices.usd_micro(asked, answered, said.response_metadata.get("response_cost")),
            model=self.model,
            message=message_to_dict(said) if whole else None,
        )

    def _key(self) -> str | None:
        return key_for(self.model, self.api_base, self._section)

    @property
    def _where(self) -> str:
        return f"`{self.model}`" + (f" at {self.api_base}" if self.api_base else "")

    def _without_tools(self) -> ToolsRefused:
        return ToolsRefused(
            f"{self._where} takes no tools; choose a model that does, or start its server so that it can, "
            "then resume the run"
        )


def _wait(seconds: float, heed: Callable[[], None]) -> None:
    """Lets time pass, with a look every second at whether there is still something to wait for."""
    while seconds > 0:
        time.sleep(min(seconds, 1.0))
        heed()
        seconds -= 1.0
