"""The one client for what lies outside: every page of every source of the researcher comes through it, and is kept.

The pages are files of our own, not hishel's cache: that one follows RFC 9111, so it does not keep what a server marks
`no-store` and does not serve what is stale without a network; and it keeps a request's headers, tokens included.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakValueDictionary

from agents.researcher.addresses import check, origin
from agents.researcher.keys import headers_for
from shared_memory.errors import BadInput, Unavailable
from shared_memory.run_paths import write_atomically

if TYPE_CHECKING:
    import httpx

DAY = 86_400.0
"""Seconds."""
REDIRECTS = 5
"""That are followed for one page."""
USER_AGENT = "postgrad (a research assistant; asks seldom and keeps what it gets)"
GONE = (404, 410)
ABSENT = 3600.0
"""Seconds for which one library does not ask again for what was not there: a paper that has no HTML has none for every
section of it."""
KEPT = "what was fetched is kept"
T = TypeVar("T")

_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_locks_guard = threading.Lock()


def is_offline() -> bool:
    """Whether the environment forbids to ask anybody (`POSTGRAD_OFFLINE=1`)."""
    return os.environ.get("POSTGRAD_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


class NotFound(BadInput):
    """The server is there, the page is not (404, 410)."""


@dataclass(frozen=True)
class Page:
    """What a server gave back."""

    url: str
    """Where it was found in the end; without its query where a redirect led to another host."""
    content: bytes
    media_type: str
    """Without parameters: `text/html`."""
    fetched: float
    """When, in seconds since the epoch."""

    @property
    def text(self) -> str:
        return self.content.decode("utf-8-sig", errors="replace")

    def json(self) -> Any:
        """The value that the content is; raises Unavailable where it is no JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:  # lists within lists without end are JSON that nobody reads
            raise Unavailable(f"{self.url} answers with something that is no JSON; try again later") from error


class Library:
    """Fetched pages, on disk; a page that is there is not asked for again, and is there without a network.

    Safe for many threads, and for many processes over one folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        offline: bool = False,
        allowed: Sequence[str] = (),
        pauses: Mapping[str, float] | None = None,
        backoff: float = 1.0,
    ) -> None:
        """offline: never ask; `POSTGRAD_OFFLINE=1` does the same. allowed: hosts that may be asked beside the services
        of agents.researcher.addresses (`*.example.org`: all below it). pauses: host → seconds between requests, instead
        of that table's. backoff: seconds before a busy server that does not say when is asked again.
        """
        self._folder = folder
        self._offline = offline
        self._allowed = tuple(allowed)
        self._pauses = dict(pauses or {})
        self._backoff = backoff
        self._tokens = True
        self._absent: dict[Path, float] = {}
        """Page → until when, by the monotonic clock, it counts as not there."""
        self._client: httpx.Client | None = None
        self._guard = threading.Lock()

    @property
    def offline(self) -> bool:
        return self._offline or is_offline()

    def get(
        self, url: str, params: Mapping[str, str] | None = None, *, accept: str = "", fresh_for: float | None = None
    ) -> Page:
        """The page at an address.

        fresh_for: seconds after which a kept page is asked for again; an older one is still given where the server
        cannot be reached. None keeps it for good.

        Raises BadInput for an address that may not be asked, NotFound where the page is not there, and Unavailable
        where the service is not, or the page is not kept and there is no network.
        """
        params = params or {}
        check(url, self._allowed)
        file = self._file(url, params, accept)
        with _lock_of(file):
            page = _read(file)
            if page is not None and (self.offline or _is_fresh(page, fresh_for)):
                return page
            if time.monotonic() < self._absent.get(file, 0.0):
                raise NotFound(f"{_short(url)} is not there; check the name")
            if self.offline:
                raise Unavailable(f"{_short(url)} is not in the library; ask for it once without POSTGRAD_OFFLINE")
            try:
                fetched = self._fetch(url, params, accept)
            except NotFound:
                self._absent[file] = time.monotonic() + ABSENT
                raise
            except Unavailable:
                if page is None:
                    raise
                return page
            _write(file, fetched)
            return fetched

    def understood(
        self,
        read: Callable[[Page], T],
        url: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = "",
        fresh_for: float | None = None,
    ) -> T:
        """What `read` makes of the page at an address: the boundary to what services answer.

        An answer in a shape that `read` does not know is Unavailable, and is not kept: it may be a notice that the
        service is being mended. Raises what `get` and `read` raise, too.
        """
        page = self.get(url, params, accept=accept, fresh_for=fresh_for)
        try:
            return read(page)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, Unavailable) as error:
            with suppress(OSError):
                if not self.offline:  # where it could not be had again, another release may still read it
                    self._file(url, params or {}, accept).unlink(missing_ok=True)
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(
                f"{_short(url)} answers in a shape that is not known; try again later, or look for a newer postgrad"
            ) from error

    def without_tokens(self) -> Self:
        """This library, asking as nobody: for an address that somebody else may have chosen, since what a service shows
        to the owner of a token only is no business of theirs.
        """
        self._connected()
        nobody = copy(self)
        nobody._tokens, nobody._absent = False, {}
        return nobody

    def close(self) -> None:
        """Ends the connections; the next request opens new ones."""
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _file(self, url: str, params: Mapping[str, str], accept: str) -> Path:
        asked = json.dumps([url, sorted(params.items()), accept])
        key = hashlib.sha256(asked.encode()).hexdigest()[:40]
        return self._folder / "pages" / key[:2] / key

    def _fetch(self, url: str, params: Mapping[str, str], accept: str) -> Page:
        """Asks, and follows redirects by hand: each address is checked, and gets the token of its own host only."""
        import httpx

        try:
            at = httpx.URL(url).copy_merge_params(dict(params)) if params else httpx.URL(url)
        except httpx.InvalidURL as error:
            raise BadInput(f"`{url}` is no address; write it as https://host/path") from error
        asked = origin(str(at))
        for _ in range(REDIRECTS + 1):
            check(str(at), self._allowed)
            response = self._send(at, accept)
            if not response.has_redirect_location:
                return _page_of(response, at, same_host=origin(str(at)) == asked)
            try:
                at = at.join(response.headers["location"])
            except httpx.InvalidURL as error:
                raise Unavailable(
                    f"{_short(url)} leads to something that is no address; take another source"
                ) from error
        raise Unavailable(f"{_short(url)} leads from one address to the next without end; take another source")

    def _send(self, url: httpx.URL, accept: str) -> httpx.Response:
        import httpx

        headers = headers_for(str(url)) if self._tokens else {}
        if accept:
            headers["Accept"] = accept
        try:
            return self._connected().get(url, headers=headers)
        except httpx.HTTPError as error:
            reason = type(error).__name__
            raise Unavailable(f"{url.host} is out of reach ({reason}); run again when it is not, {KEPT}") from error
        except OSError as error:  # of this machine: the file of the pauses, or the certificates
            reason, place = error.strerror or type(error).__name__, error.filename or self._folder
            raise Unavailable(f"{url.host} was not asked ({reason}: {place}); mend that and run again") from error

    def _connected(self) -> httpx.Client:
        with self._guard:
            if self._client is None:
                from agents.researcher.transport import client

                self._client = client(self._folder / "pauses", self._pauses, self._backoff, USER_AGENT)
            return self._client


def _page_of(response: httpx.Response, url: httpx.URL, same_host: bool) -> Page:
    status, host = response.status_code, url.host
    if status in GONE:
        raise NotFound(f"{_short(str(url))} is not there; check the name")
    if status == 429 or (status == 403 and _is_limit(response)):
        raise Unavailable(f"{host} is asked too often for now; run again later, {KEPT}")
    if status in (401, 403):
        raise BadInput(f"{host} refuses {url.path} ({status}); check the token of that service in the environment")
    if 400 <= status < 500 and status != 408:
        raise BadInput(f"{host} does not take the request for {url.path} ({status}); write it otherwise")
    if not response.is_success:
        raise Unavailable(f"{host} answers {status} for {url.path}; run again later, {KEPT}")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    place = url if same_host else url.copy_with(query=None)
    return Page(str(place.copy_with(fragment=None)), _in_utf8(response, media_type), media_type, time.time())


def _is_limit(response: httpx.Response) -> bool:
    """Whether a 403 is one of GitHub's limits: that of an hour, or of too many at a time."""
    return response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers


def _in_utf8(response: httpx.Response, media_type: str) -> bytes:
    """The body; text that is not in UTF-8 is made so, with a mark that outweighs what a page says of itself."""
    content, named = response.content, response.charset_encoding or ""
    if not named or not media_type.startswith("text/"):
        return content
    try:
        content.decode()
    except UnicodeDecodeError:
        with suppress(LookupError, ValueError):  # an encoding that nobody knows
            return content.decode(named, errors="replace").encode("utf-8-sig")
    return content


def _short(url: str) -> str:
    return url.partition("?")[0]


def _is_fresh(page: Page, fresh_for: float | None) -> bool:
    """A page from the future is not: the clock was wrong when it came."""
    return fresh_for is None or 0 <= time.time() - page.fetched < fresh_for


def _lock_of(file: Path) -> threading.Lock:
    """One for every page: who wants a page that another thread fetches waits for it."""
    with _locks_guard:
        return _locks.setdefault(str(file), threading.Lock())


def _read(file: Path) -> Page | None:
    """A kept page: a line of JSON, then the content. One that cannot be read counts as none."""
    try:
        head, _, content = file.read_bytes().partition(b"\n")
        fields = json.loads(head)
        if len(content) != fields.get("size", len(content)):
            return None
        return Page(fields["url"], content, fields["media_type"], float(fields["fetched"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, page: Page) -> None:
    fields = {"url": page.url, "media_type": page.media_type, "fetched": page.fetched, "size": len(page.content)}
    head = json.dumps(fields, ensure_ascii=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, head.encode() + b"\n" + page.content)
    except OSError as error:
        raise Unavailable(f"a page could not be kept ({error.strerror}); make room in {file.parents[2]}") from error
