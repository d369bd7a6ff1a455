"""A language model that is asked for one typed record at a time: metered, and never asked the same thing twice."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pydantic import ValidationError

from agents.provider import Answer, Message, Provider, Refused
from shared_memory.errors import ContextExhausted, Unavailable
from shared_memory.records import Record, canonical_digest
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import write_atomically

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

ATTEMPTS = 2
"""An answer that is refused is sent back once, with the reason."""
AGAIN = "That answer is refused: {reason}\n\nSend the whole JSON object once more, corrected, and nothing else."

R = TypeVar("R", bound=Record)

Send = Callable[[Callable[[], None]], Answer]
"""Sends a request; it calls what it is given before it sends one again that may have been billed."""


class Meter(Protocol):
    """Where what a request takes is booked, under the request's key."""

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        """Hold the worst case, None where the price is unknown; False where the key is booked, which stays as it is.

        Raises BudgetSpent, and holds nothing.
        """

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        """Replace the hold by what it took; None where the price is unknown. May be called again."""

    def release(self, key: str) -> None:
        """Drop the hold of a request that was turned down."""


class Tally:
    """The meter of a question that belongs to no run: it counts, and knows no cap."""

    def __init__(self) -> None:
        self.tokens = 0
        self.usd_micro: int | None = 0
        """None as soon as one price was unknown."""

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        """Nothing is held."""
        return True

    def settle(self, key: str, tokens: int, usd_micro: int | None) -> None:
        self.tokens += tokens
        self.usd_micro = None if usd_micro is None or self.usd_micro is None else self.usd_micro + usd_micro

    def release(self, key: str) -> None:
        """Nothing was held."""


class InvalidAnswer(Unavailable):
    """A model's answer was refused, sent back, and refused again."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key
        """Of the question; the same again after a crash."""


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
    ) -> None:
        """section: the goal's table that names the model, whose `api_base` has a key of its own.

        `heed` is called before every request that is sent, and ends it all by raising. `on_words` is given what the
        model says in a conversation as it comes.
        """
        self.name = model
        self.api_base = api_base
        self._provider = Provider(model, api_base, section)
        self._cache = cache
        self._meter = meter
        self._heed = heed
        self._on_words = on_words
        self._dearest: float | None = None
        """Micro-dollars of the dearest token so far; None until it was looked for."""

    def ask(self, kind: type[R], messages: Sequence[Message], fault: Callable[[R], str] = lambda record: "") -> R:
        """A record of `kind`. `fault` says in a sentence what is wrong with one that is well-formed; empty accepts it.

        Secrets are removed from the messages. Raises InvalidAnswer after the second refusal, BudgetSpent where a cap
        leaves no room for a request, and Unavailable or ContextExhausted where the model cannot be used.
        """
        conversation = list(messages)
        asked: list[str] = []
        reason = ""
        for _ in range(ATTEMPTS):
            answer = self._answer(conversation, kind, asked)
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
            asked["max_tokens"],
            lambda on_lost: self._provider.say(messages, asked, on_lost),
        )

    def reply(self, messages: Sequence[BaseMessage], asked: Mapping[str, Any]) -> AIMessage:
        """The model's turn in a conversation, `asked` is more of the request: `tools` and the like.

        Its `response_metadata["request"]` is the key by which `forget` knows the answer. Secrets are removed from what
        is sent and from what comes back. Raises what `ask` does but InvalidAnswer.
        """
        from langchain_core.messages import AIMessage, convert_to_openai_messages, messages_from_dict

        messages = [_redacted(message) for message in messages]
        request = {"model": self.name, "messages": convert_to_openai_messages(messages), "asked": asked}
        digest = canonical_digest(request)[:32]
        answer = self._kept(
            digest,
            f"llm:{digest}:{self._times_refused(digest)}",
            request,
            self._provider.most_answer_tokens,
            lambda on_lost: self._provider.reply(messages, asked, on_lost, self._on_words),
        )
        if answer.message is None:
            return AIMessage(answer.text, response_metadata={"request": digest})
        (said,) = messages_from_dict([answer.message])
        said.response_metadata["request"] = digest
        return cast(AIMessage, said)

    def forget(self, error: InvalidAnswer) -> None:
        """Put the refused answers aside, so that the question is asked anew."""
        for digest in error.key.split("+"):
            file = self._file(digest)
            if file.exists():
                file.replace(self._cache / f"{digest}.refused{self._times_refused(digest)}.json")

    def _answer(self, conversation: Sequence[Message], kind: type[Record], asked: list[str]) -> Answer:
        """The answer to a conversation, from the cache or the model; notes the request's digest in `asked`."""
        messages = redact_plain(conversation)
        schema = strict_schema(kind)
        digest = canonical_digest({"model": self.name, "messages": messages, "schema": schema})[:32]
        asked.append(digest)
        return self._kept(
            digest,
            # What was refused and put aside is paid for: the question asked anew is another booking.
            f"llm:{digest}:{self._times_refused(digest)}",
            [messages, schema],
            self._provider.most_answer_tokens,
            lambda on_lost: self._provider.complete(messages, schema, kind.__name__, on_lost),
        )

    def _kept(self, digest: str, key: str, request: Any, answer_tokens: int, send: Send) -> Answer:
        """The answer on disk, else the one that `send` brings, which is put there; booked under `key`."""
        file = self._file(digest)
        if file.exists():
            answer = Answer.model_validate_json(file.read_text(encoding="utf-8"))
        else:
            self._heed()
            # No tokenizer makes more tokens of a text than it has bytes; a chat template adds less than that saves.
            answer = self._sent(send, key, len(json.dumps(request).encode()), answer_tokens)
            self._dearest = max(self._dearest or 0.0, _rate(answer))
            self._cache.mkdir(parents=True, exist_ok=True)
            write_atomically(file, answer.model_dump_json().encode())
        self._meter.settle(answer.booking or key, answer.tokens, answer.usd_micro)
        return answer

    def _sent(self, send: Send, key: str, request_tokens: int, answer_tokens: int) -> Answer:
        most = request_tokens + answer_tokens
        usd_micro = self._most_usd_micro(request_tokens, answer_tokens)
        # What is booked without an answer on disk may have been billed: it stays, and the next send has its own key.
        keys = itertools.chain([key], (f"{key}:send{send}" for send in itertools.count(2)))

        def reserve() -> str:
            return next(each for each in keys if self._meter.reserve(each, most, usd_micro))

        booked = [reserve()]
        try:
            answer = send(lambda: booked.append(reserve()))
        except (Refused, ContextExhausted):
            self._meter.release(booked[-1])
            raise
        # A server that does not count has its worst case booked: a cap that nothing counts against is none.
        return answer.model_copy(update={"tokens": answer.tokens or most, "booking": booked[-1]})

    def _most_usd_micro(self, request_tokens: int, answer_tokens: int) -> int | None:
        """The worst case of a request's cost: by the price map, or by the dearest answer so far where that is more.

        An answer may be priced by the name that the server gave back, which the map may know better than the goal's.
        """
        if self._dearest is None:
            answers = (Answer.model_validate_json(file.read_text("utf-8")) for file in self._cache.glob("*.json"))
            self._dearest = max((_rate(answer) for answer in answers if answer.model == self.name), default=0.0)
        seen = math.ceil((request_tokens + answer_tokens) * self._dearest)
        mapped = self._provider.most_usd_micro(request_tokens, answer_tokens)
        return max(seen, mapped or 0) or mapped

    def _file(self, digest: str) -> Path:
        return self._cache / f"{digest}.json"

    def _times_refused(self, digest: str) -> int:
        return len(list(self._cache.glob(f"{digest}.refused*.json")))


def _redacted(message: BaseMessage) -> BaseMessage:
    """A message without secrets; a model's own stays as it is: it has seen none, and its thoughts are signed."""
    return message if message.type == "ai" else message.model_copy(update={"content": redact_plain(message.content)})


def _rate(answer: Answer) -> float:
    """Micro-dollars a token of an answer; 0 where its price or its tokens are unknown."""
    return (answer.usd_micro or 0) / answer.tokens if answer.tokens else 0.0


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
