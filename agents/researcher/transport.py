"""How one request of the library leaves this machine: to a public address, not too soon, and no more than fits.

httpx-retries stands above it, so every attempt of a request passes here.
"""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx
from httpx_retries import Retry, RetryTransport

from agents.researcher.addresses import PORTS, SERVICES, is_loopback, is_named, is_public, service_at
from shared_memory.errors import BadInput, Unavailable

NOT_KEPT = httpx.Limits(max_keepalive_connections=0)
"""Every request has a connection of its own: one that is kept would be found again by its IP address, though its
certificate was checked for one host only."""
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
LARGEST = 20_000_000
"""Bytes of a page, unpacked."""
LONGEST = 120.0
"""Seconds that one answer may take to come in."""
RETRIES = 3
LONGEST_WAIT = 60.0
"""Seconds of `Retry-After` that are waited for; who is sent away for longer asks again in a later run."""
BUSY = (429, 500, 502, 503, 504)
PACKED = ("", "identity", "gzip", "deflate")
"""Encodings of a body that are unpacked, one at a time: each makes at most a thousand bytes of one. Others, and one
inside another, make millions, all of them at once."""


@dataclass
class _Turn:
    """One host's turn to be asked."""

    wait: float
    """Seconds after it in which nobody asks that host."""


class Door(httpx.BaseTransport):
    """Sends one request once.

    The host's addresses are looked up here and the connection goes to one that was checked, so that a name cannot
    lead elsewhere between the check and the request. Behind a proxy (`HTTPS_PROXY`) the proxy looks the name up; what
    this machine knows of it is checked all the same.
    """

    def __init__(self, folder: Path, pauses: Mapping[str, float]) -> None:
        """folder: where the time of the last request to each host is kept, for all processes of a home."""
        self._folder = folder
        self._pauses = pauses
        self._tls = httpx.create_ssl_context()
        self._direct = httpx.HTTPTransport(verify=self._tls, limits=NOT_KEPT)
        self._proxies: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        with self._turn(url) as turn:
            response = self._send(request, url)
            asked = _asked_wait(response)
            if response.status_code in BUSY and asked <= LONGEST_WAIT:  # whoever comes next waits as well
                turn.wait = max(turn.wait, asked)
            try:
                return _whole(response, url)
            finally:
                response.close()

    def close(self) -> None:
        for transport in (self._direct, *self._proxies.values()):
            transport.close()

    def _send(self, request: httpx.Request, url: str) -> httpx.Response:
        host = request.url.host
        proxy = "" if is_loopback(host) or proxy_bypass(host) else _proxy_for(request.url.scheme)
        addresses = addresses_of(url, needed=not proxy)
        if proxy:
            if proxy not in self._proxies:
                self._proxies[proxy] = self._through(proxy)
            return self._proxies[proxy].handle_request(request)
        failure: httpx.ConnectError | httpx.ConnectTimeout | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                content=request.read(),
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return self._direct.handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError(f"no address of {host}", request=request)

    def _through(self, proxy: str) -> httpx.HTTPTransport:
        try:
            return httpx.HTTPTransport(verify=self._tls, proxy=proxy, limits=NOT_KEPT)
        except (ImportError, ValueError, httpx.InvalidURL) as error:  # SOCKS, or no address
            kind = proxy.partition("://")[0]
            raise Unavailable(
                f"the proxy of the environment cannot be used ({kind}); set HTTPS_PROXY to one of http://"
            ) from error

    @contextmanager
    def _turn(self, url: str) -> Iterator[_Turn]:
        """Waits until a host may be asked again; no other process or thread asks it meanwhile."""
        name, pause = self._pause_of(url)
        turn = _Turn(pause)
        if pause <= 0:
            yield turn
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            try:
                last, wait = map(float, stream.read().split())
            except ValueError:
                last, wait = 0.0, 0.0
            wait = min(max(wait, pause), LONGEST_WAIT)
            time.sleep(min(max(last + wait - time.time(), 0.0), wait))  # no longer, where the clock was set back
            try:
                yield turn
            finally:
                stream.truncate(0)
                stream.write(f"{time.time():.3f} {turn.wait:.3f}")

    def _pause_of(self, url: str) -> tuple[str, float]:
        """Under which name the pauses of an address are kept, and seconds; none for a server on this machine."""
        host = httpx.URL(url).host
        name = service_at(url)
        if host in self._pauses:
            return host, self._pauses[host]
        if not name or is_loopback(host):
            return host, 0.0
        service = SERVICES[name]
        return service.pause_with or name, service.pause


def addresses_of(url: str, needed: bool = True) -> list[str]:
    """The IP addresses of an address's host, in the order to try them.

    Raises BadInput where one of them is private, unless the environment names the address itself; a name that cannot be
    looked up is an httpx.ConnectError, or no address at all where none is `needed`.
    """
    parts = httpx.URL(url)
    try:
        found = socket.getaddrinfo(parts.host, parts.port or PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if not needed:
            return []
        raise httpx.ConnectError(f"{parts.host} is not known here") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not is_named(url) and not all(map(is_public, addresses)):
        raise BadInput(f"{parts.host} is an address of a private network, which is not asked; take a public one")
    return addresses


def _proxy_for(scheme: str) -> str:
    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all") or ""
    return address if "://" in address or not address else f"http://{address}"


def _whole(response: httpx.Response, url: str) -> httpx.Response:
    """The answer with all its body, unpacked; raises Unavailable where it is too long, or takes too long."""
    wait = _asked_wait(response)
    host = httpx.URL(url).host
    if response.status_code in BUSY and wait > LONGEST_WAIT:
        raise Unavailable(f"{host} asks to come again in {wait:.0f} s; run again then")
    if response.headers.get("content-encoding", "").strip().lower() not in PACKED:
        raise Unavailable(f"{host} packs its page in a way that was not asked for, so it is not read; take another")
    body, started = bytearray(), time.monotonic()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST:
            raise Unavailable(f"{url} is longer than {LARGEST // 1_000_000} MB and is not read; take a smaller page")
        if time.monotonic() - started > LONGEST:
            raise Unavailable(f"{host} took longer than {LONGEST:.0f} s for one page; run again later")
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(response.status_code, headers=headers, content=bytes(body))


def _asked_wait(response: httpx.Response) -> float:
    """Seconds of `Retry-After`; 0 where there is none that can be read."""
    try:
        return Retry().parse_retry_after(response.headers.get("retry-after", ""))
    except ValueError:
        return 0.0


def client(folder: Path, pauses: Mapping[str, float], backoff: float, user_agent: str) -> httpx.Client:
    """An httpx client that follows no redirect, sends no cookie and asks again where a server is busy.

    backoff: seconds before the second attempt where the server does not say; it doubles.
    """
    retry = Retry(
        total=RETRIES,
        allowed_methods=("GET",),
        status_forcelist=BUSY,
        backoff_factor=backoff / 2,
        backoff_jitter=0.25,
        max_backoff_wait=LONGEST_WAIT,
        total_timeout=2 * LONGEST_WAIT,
    )
    return httpx.Client(
        transport=RetryTransport(Door(folder, pauses), retry),
        timeout=TIMEOUT,
        headers={"User-Agent": user_agent, "Accept-Encoding": "gzip, deflate"},
        follow_redirects=False,
        trust_env=False,
    )
