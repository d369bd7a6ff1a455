"""The Hub's own client as jobs use it: it never waits for ever, and its errors are of the house."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from agents.hub_client import LONGEST_WAIT, reason_of, retry_after
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SILENCE = 300.0
"""Seconds without a byte after which a connection counts as broken; the client itself would wait for ever."""
TRIES = 4
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

T = TypeVar("T")


class Passing(Unavailable):
    """The Hub is out of reach or busy: asked again a little later, it may well answer."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds that the Hub asks to be left alone."""


def hub_api() -> HfApi:
    """The client, with the person's token and endpoint."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    get_session().timeout = SILENCE
    return HfApi()


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns what the client raises while it does `what` into errors of the house.

    Raises BadInput for what the person can mend in the goal or on the Hub, Passing for what may be over soon, and
    Unavailable for the rest.
    """
    from huggingface_hub import errors

    try:
        yield
    except PostgradError:
        raise
    except errors.HfHubHTTPError as error:
        raise _of_status(what, error) from error
    except errors.LocalTokenNotFoundError as error:
        raise BadInput(f"HF Jobs has to know who you are; {LOG_IN}, then resume") from error
    except errors.OfflineModeIsEnabled as error:
        raise BadInput(f"{what} needs the Hub, and HF_HUB_OFFLINE is set; unset it, then resume") from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx's or httpx2's, as the client has it
        raise Passing(f"{what}: the connection to the Hub broke ({type(error).__name__}); resume later") from error
    except errors.LocalEntryNotFoundError as error:
        with hub_errors(what):
            raise error.__cause__ or OSError(str(error)) from error
    except RuntimeError as error:  # what the client makes of an upload that failed
        with hub_errors(what):
            raise error.__cause__ or OSError(str(error)) from error
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise Unavailable(f"{what} failed ({reason}); mend that, then resume") from error


@contextmanager
def ambiguous(what: str) -> Iterator[None]:
    """Around a submission: raises Uncertain where the Hub may have carried it out before its answer got lost."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500:
            raise Uncertain(f"{what}: the Hub answers {error.response.status_code}, and may have the job") from error
        raise
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        if type(error).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"):
            raise  # nothing was sent
        raise Uncertain(
            f"{what}: the connection broke ({type(error).__name__}), and the Hub may have the job"
        ) from error


def patiently(call: Callable[[], T], what: str) -> T:
    """What `call` returns; a Hub that is busy or out of reach is asked again, up to TRIES times.

    Only for what may be done twice. Raises as `hub_errors` does.
    """
    for attempt in range(TRIES):
        try:
            with hub_errors(what):
                return call()
        except Passing as error:
            wait = error.wait or 0.5 * 2**attempt
            if attempt == TRIES - 1 or wait > LONGEST_WAIT:
                raise
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def owner_of(api: HfApi, namespace: str = "") -> str:
    """The namespace, or the token's own user where it is empty."""
    return namespace or str(patiently(api.whoami, "asking the Hub who you are")["name"])


def status_of(error: BaseException | None) -> int:
    """The HTTP status behind an error of the house, 0 where there is none."""
    response: Any = getattr(error.__cause__, "response", None) if error else None
    return int(response.status_code) if response is not None else 0


def _of_status(what: str, error: Any) -> PostgradError:
    status, reason = error.response.status_code, reason_of(error)
    if status == 401:
        return BadInput(f"{what}: the Hub does not accept the token, it may have expired; {LOG_IN}, then resume")
    if status == 402:
        return Unavailable(f"{what}: there is no credit left; add some in the Hub's billing settings, then resume")
    if status == 403:
        return BadInput(f"{what}: the token may not do this ({reason}); {LOG_IN} with one that may, then resume")
    if status == 404:
        return BadInput(f"{what}: the Hub does not find it ({reason}); check namespace and flavor, then resume")
    if status == 429:
        seconds = retry_after(error, 0.0)
        when = f"in {seconds:g} s" if seconds else "in a few minutes"
        return Passing(f"{what}: the Hub has had too many requests; resume {when}", seconds)
    if status in (408, 409, 412) or status >= 500:
        return Passing(f"{what}: the Hub answers {status} ({reason}); resume later")
    return BadInput(f"{what}: the Hub refuses it ({reason}); mend that, then resume")
