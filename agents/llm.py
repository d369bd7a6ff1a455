"""A language model that is asked for one typed record at a time: metered, and never asked the same thing twice."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from agents.models.meter import Meter, Tally
from agents.models.rates import Rates
from agents.models.records import read_record, strict_schema
from agents.provider import Answer, Between, Message, Provider, Refused, ToolsRefused
from shared_memory.errors import ContextExhausted, Unavailable
from shared_memory.records import Record, canonical_digest
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import write_atomically
from shared_memory.settings import ModelPrice

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = ["AGAIN", "ATTEMPTS", "InvalidAnswer", "LanguageModel", "Meter", "Tally", "read_record", "strict_schema"]

ATTEMPTS = 2
"""An answer that is refused is sent back once, with the reason."""
AGAIN = "That answer is refused: {reason}\n\nSend the whole JSON object once more, corrected, and nothing else."
REST_SECONDS = 300.0
"""A model that could not be used is not asked before another one can for so long: each try waits for its retries."""

R = TypeVar("R", bound=Record)

Send = Callable[[Provider, Between], Answer]
"""Sends a request, and tells what it is given before it sends one again."""

_SYNCING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers-to-disk")


class InvalidAnswer(Unavailable):
    """A model's answer was refused, sent back, and refused again."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key
        """Of the question; the same again after a crash."""


@dataclass
class _Mind:
    """One of the models that may answer."""

    provider: Provider
    meter: Meter
    rests_until: float = 0.0
    """Of time.monotonic; in the past for one that can be asked."""


class LanguageModel:
    """One model, with its answers on disk: a node that runs again after a crash sends no request twice."""

    def __init__(
        self,
        model: str,
        *,
        api_base: str = "",
        section: str = "brain",
        cache: Path,
        meter: Meter,
        heed: Callable[[], None] = lambda: None,
        on_words: Callable[[str], None] | None = None,
        fallbacks: Sequence[str] = (),
        meter_of: Callable[[str], Meter] | None = None,
        on_fallback: Callable[[str, str], None] = lambda name, reason: None,
        reasoning_effort: str = "",
        window: int | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
    ) -> None:
        """section: the goal's table that names the model, whose `api_base` has a key of its own.

        `heed` is called before every request that is sent, and ends it all by raising. `on_words` is given what the
        model says in a conversation as it comes.

        fallbacks: models that are asked, in this order and at their provider's own address, where the one before
        cannot be used; each books with `meter_of` its name, or else with `meter`. `on_fallback` is told which one is
        asked now, and why. For `reasoning_effort`, `window` and `prices` see Provider.
        """
        self.name = model
        self.api_base = api_base
        more: Any = {"reasoning_effort": reasoning_effort, "prices": prices}
        self._provider = Provider(model, api_base, section, window=window, **more)
        others = (name for name in fallbacks if name != model)
        self._minds = [
            _Mind(self._provider, meter),
            *(_Mind(Provider(name, **more), meter_of(name) if meter_of else meter) for name in others),
        ]
        self._cache = cache
        self._rates = Rates(cache)
        self._heed = heed
        self._on_words = on_words
        self._on_fallback = on_fallback
        self._syncing: Future[None] | None = None
        """Of the last answer that is on its way to the disk."""

    @property
    def window(self) -> int | None:
        """Tokens that the model can read, its answer among them; None where nobody says."""
        return self._provider.window

    @property
    def room_for_an_answer(self) -> int:
        """Tokens of the window that are kept free for an answer."""
        return self._provider.room_for_an_answer

    def ask(
        self,
        kind: type[R],
        messages: Sequence[Message],
        fault: Callable[[R], str] = lambda record: "",
        on_answer: Callable[[str, Answer, bool], None] = lambda request, answer, kept: None,
    ) -> R:
        """A record of `kind`. `fault` says in a sentence what is wrong with one that is well-formed; empty accepts it.

        `on_answer` is told of every answer: its request's digest, and whether it was on disk already.
        Secrets are removed from the messages. Raises InvalidAnswer after the second refusal, BudgetSpent where a cap
        leaves no room for a request, and Unavailable or ContextExhausted where the model cannot be used.
        """
        conversation = list(messages)
        asked: list[str] = []
        reason = ""
        for _ in range(ATTEMPTS):
            answer, kept = self._answer(conversation, kind, asked)
            on_answer(asked[-1], answer, kept)
            read = read_record(answer.text, kind, fault)
            if not isinstance(read, str):
                return read
            reason = read
            conversation.append({"role": "assistant", "content": answer.text})
            conversation.append({"role": "user", "content": AGAIN.format(reason=reason)})
        raise InvalidAnswer(f"`{self.name}` gave no usable {kind.__name__}: {reason}", "+".join(asked))

    def say(self, messages: Sequence[Message], asked: Mapping[str, Any], sample: int = 1) -> Answer:
        """What the model says to `messages`, to the letter; `asked` is more of the request, `max_tokens` at least.

        sample: of several answers to the same, which one. Secrets are removed from the messages. Raises what `ask` does
        but InvalidAnswer.
        """
        messages = redact_plain(messages)
        request = {"model": self.name, "api_base": self.api_base, "messages": messages, "asked": asked}
        digest = canonical_digest({**request, "sample": sample})[:32]
        return self._kept(
            digest,
            f"llm:{digest}:0",
            [messages, asked],
            lambda provider, between: provider.say(messages, asked, between),
            answer_tokens=asked["max_tokens"],
        )

    def reply(self, messages: Sequence[BaseMessage], asked: Mapping[str, Any]) -> AIMessage:
        """The model's turn in a conversation, `asked` is more of the request: `tools` and the like.

        Its `response_metadata` has the key by which `forget` knows the answer (`request`), whether it is `kept` from an
        earlier time, and what it took (`model`, `tokens`, `usd_micro`). Secrets are removed from what
        is sent and from what comes back. Raises what `ask` does but InvalidAnswer, and ToolsRefused where the model
        takes no tools.
        """
        from langchain_core.messages import AIMessage, convert_to_openai_messages, messages_from_dict

        messages = _redacted(messages)
        request = {"model": self.name, "messages": convert_to_openai_messages(messages), "asked": asked}
        digest = canonical_digest(request)[:32]
        kept = self._file(digest).exists()
        answer = self._kept(
            digest,
            f"llm:{digest}:{self._times_refused(digest)}",
            request,
            lambda provider, between: provider.reply(messages, asked, between, self._on_words),
            wait_for_the_disk=False,
        )
        (said,) = [AIMessage(answer.text)] if answer.message is None else messages_from_dict([answer.message])
        took = {"request": digest, "kept": kept, **answer.model_dump(include={"model", "tokens", "usd_micro"})}
        said.response_metadata.update(took)
        return cast(AIMessage, said)

    def forget(self, error: InvalidAnswer) -> None:
        """Put the refused answers aside, so that the question is asked anew."""
        for digest in error.key.split("+"):
            file = self._file(digest)
            if file.exists():
                file.replace(self._refused(digest, self._times_refused(digest)))

    def _answer(self, conversation: Sequence[Message], kind: type[Record], asked: list[str]) -> tuple[Answer, bool]:
        """The answer to a conversation, and whether it comes from the disk; notes the request's digest in `asked`."""
        messages = redact_plain(conversation)
        schema = strict_schema(kind)
        digest = canonical_digest({"model": self.name, "messages": messages, "schema": schema})[:32]
        asked.append(digest)
        kept = self._file(digest).exists()
        answer = self._kept(
            digest,
            # What was refused and put aside is paid for: the question asked anew is another booking.
            f"llm:{digest}:{self._times_refused(digest)}",
            [messages, schema],
            lambda provider, between: provider.complete(messages, schema, kind.__name__, between),
        )
        return answer, kept

    def _kept(
        self,
        digest: str,
        key: str,
        request: Any,
        send: Send,
        answer_tokens: int | None = None,
        *,
        wait_for_the_disk: bool = True,
    ) -> Answer:
        """The answer on disk, else the one that `send` brings, which is put there; booked under `key`."""
        answer = self._on_disk(digest)
        if answer is None:
            # No tokenizer makes more tokens of a text than it has bytes; a chat template adds less than that saves.
            answer = self._from_who_can(send, key, len(json.dumps(request).encode()), answer_tokens)
            self._rates.note(answer)
            self._keep(digest, answer.model_dump_json().encode(), wait=wait_for_the_disk)
        meter = next((mind.meter for mind in self._minds if mind.provider.model == answer.model), self._minds[0].meter)
        meter.settle(answer.booking or key, answer.tokens, answer.usd_micro)
        return answer

    def _on_disk(self, digest: str) -> Answer | None:
        """The answer that is kept; None also where the machine lost its power before all of it was written."""
        try:
            content = self._file(digest).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Answer.model_validate_json(content)
        except ValidationError:
            return None

    def _keep(self, digest: str, content: bytes, *, wait: bool) -> None:
        """Put an answer where a run that is killed the next moment finds it.

        The disk may take its time while the caller works on and the next answer comes: who loses the power of the
        machine loses the last two answers at most.
        """
        self._cache.mkdir(parents=True, exist_ok=True)
        if wait:
            write_atomically(self._file(digest), content)
            return
        part = self._cache / f".{digest}.{os.getpid()}.{threading.get_native_id()}.part"
        part.write_bytes(content)
        file = part.replace(self._file(digest))
        before, self._syncing = self._syncing, _SYNCING.submit(_sync, file)
        if before is not None:
            before.result()

    def _from_who_can(self, send: Send, key: str, request_tokens: int, answer_tokens: int | None) -> Answer:
        """The answer of the first model that can be used, the ones that could not a little ago tried last.

        One that stands in may read less than the first: where none reads all of it, that is why there is no answer.
        """
        now = time.monotonic()
        able = sorted(self._minds, key=lambda mind: mind.rests_until > now)
        refusals: list[Unavailable | ContextExhausted] = []
        for mind, following in itertools.zip_longest(able, able[1:]):
            self._heed()
            named = key if mind is self._minds[0] else f"{key}:{mind.provider.model}"
            try:
                return self._sent(mind, send, named, request_tokens, answer_tokens)
            except ToolsRefused:
                raise
            except (Unavailable, ContextExhausted) as error:
                if isinstance(error, Unavailable):
                    refusals.append(error)
                    mind.rests_until = time.monotonic() + REST_SECONDS
                elif mind is self._minds[0]:
                    raise
                else:
                    refusals.insert(0, error)
                if following is not None:
                    self._on_fallback(following.provider.model, str(error))
        raise refusals[0]

    def _sent(self, mind: _Mind, send: Send, key: str, request_tokens: int, answer_tokens: int | None) -> Answer:
        answer_tokens = answer_tokens or mind.provider.room_for_an_answer
        most = request_tokens + answer_tokens
        usd_micro = self._most_usd_micro(mind.provider, request_tokens, answer_tokens)
        # What is booked without an answer on disk may have been billed: it stays, and the next send has its own key.
        keys = itertools.chain([key], (f"{key}:send{send}" for send in itertools.count(2)))

        def reserve() -> str:
            return next(each for each in keys if mind.meter.reserve(each, most, usd_micro))

        booked = [reserve()]

        def heed() -> None:
            try:
                self._heed()
            except BaseException:  # the run ends, and the next request is not sent
                mind.meter.release(booked[-1])
                raise

        try:
            answer = send(mind.provider, Between(lost=lambda: booked.append(reserve()), heed=heed))
        except (Refused, ContextExhausted):
            mind.meter.release(booked[-1])
            raise
        if answer.tokens:
            return answer.model_copy(update={"booking": booked[-1]})
        # A server that does not count has its worst case booked: a cap that nothing counts against is none.
        return answer.model_copy(update={"tokens": most, "usd_micro": usd_micro, "booking": booked[-1]})

    def _most_usd_micro(self, provider: Provider, request_tokens: int, answer_tokens: int) -> int | None:
        """The worst case of a request's cost: by its price, or by the dearest answer so far where that is more."""
        seen = math.ceil((request_tokens + answer_tokens) * self._rates.dearest(provider.model))
        mapped = provider.most_usd_micro(request_tokens, answer_tokens)
        return max(seen, mapped or 0) or mapped

    def _file(self, digest: str) -> Path:
        return self._cache / f"{digest}.json"

    def _refused(self, digest: str, times: int) -> Path:
        return self._cache / f"{digest}.refused{times}.json"

    def _times_refused(self, digest: str) -> int:
        return next(times for times in itertools.count() if not self._refused(digest, times).exists())


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _redacted(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Messages without secrets; a model's own stay as they are: it has seen none, and its thoughts are signed."""
    contents = redact_plain([None if message.type == "ai" else message.content for message in messages])
    return [
        message if content in (None, message.content) else message.model_copy(update={"content": content})
        for message, content in zip(messages, contents, strict=True)
    ]
