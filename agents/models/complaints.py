"""What a server complains of: by the status of its answer, and by its words where the status does not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agents.models.answer import Refused
from agents.models.lite import BrokeOff, load_litellm
from shared_memory.errors import ContextExhausted, PostgradError, Unavailable
from shared_memory.redaction import redact

TIMEOUT_SECONDS = 300.0
"""That a server may say nothing, before its first word or after another: a reasoning model, or a model on a CPU, takes
minutes. A request without a first word is not sent again: it may be billed."""
LONGEST_WAIT = 120.0
"""Seconds of `Retry-After` that are waited for; who is sent away for longer resumes the run later."""

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (?:size|length|window) (?:has been |was |is )?exceeded"
    r"|exceeds? (?:the |this |its )?(?:model's )?(?:available |maximum )?context|maximum context (?:length|limit)"
    r"|longer than the (?:maximum )?model(?:'s)? (?:context )?length"
    r"|context (?:the )?overflows|loaded with (?:a )?context length of only"  # LM Studio
    r"|(?:prompt|input) is too long"  # Anthropic, Bedrock
    r"|`inputs` tokens \+ `max_new_tokens`"  # TGI
    r"|too large for model with"  # Mistral
    r"|reduce the length of the (?:input|messages|prompt)"  # Groq
    r"|exceeds the maximum number of tokens allowed",  # Gemini
    re.IGNORECASE,
)
"""How servers say that a request is longer than the model can read; LiteLLM knows some of these."""
_NO_TOOLS = re.compile(
    r"(?:not|n't|that) support (?:the )?(?:use of )?['\"`]?(?:tools?\b|tool use|function call)"
    r"|(?:\btools?|tool[ _]calls?|tool[ _]calling|tool use|function[ _]calling)['\"`]? (?:param(?:eter)? )?"
    r"(?:(?:is |are )?(?:not (?:supported|available|enabled|implemented)|unsupported|disabled)|requires)"
    r"|(?:unsupported|unknown|unrecognized) (?:request )?(?:param\w*|arguments?|fields?)[\w ]*:? ?['\"`]?tools\b"
    r"|--enable-auto-tool-choice",
    re.IGNORECASE,
)
_NO_TOOL_CHOICE = re.compile(r"tool[_ ]choice", re.IGNORECASE)
_NO_EFFORT = re.compile(r"reasoning|thinking|\bthink\b", re.IGNORECASE)


def explained(error: Any, where: str, section: str, key: str) -> PostgradError:
    """The error as one line with the next move; the provider's own words only where ours cannot do, redacted.

    where: the model and its address. section: the goal's table that names them. key: the variable that has the key.
    """
    number = status(error)
    if isinstance(error, BrokeOff):
        return Unavailable(f"{where} broke off in the middle of its answer; see that it runs, then resume the run")
    if overflows(error):
        return ContextExhausted(f"the request is longer than {where} can read; choose a model with a longer context")
    if no_quota(error):
        return Refused(f"the account of {where} has no quota left; top it up, then resume the run")
    if no_key(error):
        return Refused(f"{where} refuses the key; set {key} to a valid one, then resume the run")
    if number == 404:
        return Refused(
            f"{where} does not exist, or this account may not use it; check [{section}], then resume the run"
        )
    if number == 429:
        return Refused(f"{where} is over its rate limit; wait a little, then resume the run")
    if isinstance(error, load_litellm().Timeout):
        return Unavailable(f"{where} gave no answer in time; see to it, then resume the run")
    cause = redact(" ".join(str(error).partition("Traceback")[0].split()))[:200]
    if 300 <= number < 500:
        return Refused(f"{where} does not take the request ({cause}); check [{section}], then resume the run")
    kind = Refused if was_never_sent(error) else Unavailable
    return kind(f"{where} is out of reach ({cause}); see that it runs, then resume the run")


def cause_of(error: Any) -> Any:
    """What LiteLLM met in a stream, which it wraps for a router of its own."""
    return getattr(error, "original_exception", None) or error


def status(error: Any) -> int:
    """HTTP status; 0 where there was no answer."""
    number = getattr(error, "status_code", None)
    return number if isinstance(number, int) else 0


def overflows(error: Any) -> bool:
    """Whether the request is longer than the model can read."""
    if isinstance(error, load_litellm().ContextWindowExceededError):
        return True
    return (status(error) in (400, 413, 422) or status(error) >= 500) and bool(_TOO_LONG.search(_words(error)))


def refused_part(error: Any, asked: Mapping[str, Any]) -> str:
    """The part of a request that the server does not know: `reasoning_effort`, `tool_choice` or `tools`; else empty."""
    if status(error) not in (400, 404, 405, 422) and status(error) < 500:
        return ""
    words = _words(error)
    if status(error) < 500:
        if asked.get("reasoning_effort") and _NO_EFFORT.search(words):
            return "reasoning_effort"
        if asked.get("tool_choice", "auto") != "auto" and _NO_TOOL_CHOICE.search(words):
            return "tool_choice"
    return "tools" if asked.get("tools") and _NO_TOOLS.search(words) else ""


def no_quota(error: Any) -> bool:
    """Whether money is what is missing, in the words of OpenAI, Anthropic and those who answer with 402."""
    asked = ("insufficient_quota", "exceeded your current quota", "credit balance")
    return status(error) == 402 or any(word in _words(error).lower() for word in asked)


def no_key(error: Any) -> bool:
    """Whether the key is missing or not accepted; OpenAI's client says the former without an answer of the server."""
    return status(error) in (401, 403) or "missing credentials" in str(error).lower()


def is_lost(error: BaseException) -> bool:
    """Whether a request went out and no answer came back: it may be billed all the same."""
    return not getattr(error, "litellm_response_headers", None) and not was_never_sent(error)


def was_never_sent(error: BaseException | None) -> bool:
    """Whether there was no connection to send it over."""
    import httpx

    while error is not None and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        error = error.__cause__ or error.__context__
    return error is not None


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same request may be answered a little later."""
    if isinstance(error, BrokeOff):
        return True
    if isinstance(error, load_litellm().Timeout) or no_quota(error) or no_key(error):
        return False
    if overflows(error) or _NO_TOOLS.search(_words(error)):
        return False
    return (status(error) == 429 or status(error) >= 500) and retry_after(error) <= LONGEST_WAIT


def retry_after(error: Any) -> float:
    """Seconds that the server asks to wait, be it until a date; 0 where it does not say."""
    headers = getattr(error, "litellm_response_headers", None) or {}
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _words(error: Any) -> str:
    return f"{error} {getattr(error, 'body', '')}"
