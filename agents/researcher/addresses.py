"""Where each service of the researcher is: one table, overridden by the environment for mirrors and tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote, urlsplit

from shared_memory.errors import BadInput


@dataclass(frozen=True)
class Service:
    """One that answers over HTTP."""

    base: str
    """Its address, where the environment says nothing."""
    variables: tuple[str, ...]
    """Of the environment, the first that is set wins: a base address to use instead."""
    pause: float = 0.0
    """Seconds between two requests, that it asks for or that are polite."""
    pause_with: str = ""
    """The service whose pauses it shares; empty for its own."""


SERVICES: Mapping[str, Service] = {
    # One request every three seconds and one connection at a time, over all of arXiv's interfaces (its terms of use).
    "arxiv": Service("https://arxiv.org", ("POSTGRAD_ARXIV",), pause=3.0),
    "arxiv_api": Service(
        "https://export.arxiv.org", ("POSTGRAD_ARXIV_API", "POSTGRAD_ARXIV"), pause=3.0, pause_with="arxiv"
    ),
    "ar5iv": Service("https://ar5iv.labs.arxiv.org", ("POSTGRAD_AR5IV",), pause=1.0),
    # One request a second is what a new key may; without one, all the world shares a pool.
    "semantic_scholar": Service("https://api.semanticscholar.org", ("POSTGRAD_SEMANTIC_SCHOLAR",), pause=1.0),
    "hub": Service("https://huggingface.co", ("HF_ENDPOINT",)),
    "viewer": Service("https://datasets-server.huggingface.co", ("POSTGRAD_DATASETS_SERVER",)),
    "github_api": Service("https://api.github.com", ("POSTGRAD_GITHUB_API",)),
    "github_raw": Service("https://raw.githubusercontent.com", ("POSTGRAD_GITHUB_RAW",)),
}
"""Name → service. What is here may be asked without being allowed by the person."""

PORTS = {"https": 443, "http": 80}
NAT64 = IPv6Network("64:ff9b::/96")
"""Where a network without IPv4 reaches it: the last 32 bits are the address."""


def base(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The address of a service, without a slash at its end."""
    service = SERVICES[name]
    return next((environ[key] for key in service.variables if environ.get(key)), service.base).rstrip("/")


def origin(url: str) -> str:
    """`scheme://host:port` of an address, in lower case; raises BadInput where there is no host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"`{url}` is no address; write it as https://host/path") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadInput(f"`{url}` is no web address; write it as https://host/path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.rstrip(".")
    return f"{parts.scheme}://{host}:{port or PORTS[parts.scheme]}"


def origins_of(name: str, environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Where a service may be: its own place, and where the environment has moved it."""
    return frozenset({origin(SERVICES[name].base), origin(base(name, environ))})


def service_at(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """The name of the service that an address belongs to; empty for none."""
    place = origin(url)
    return next((name for name in SERVICES if place in origins_of(name, environ)), "")


def is_named(url: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment itself names this address's origin: only such a one may be on a private network."""
    place = origin(url)
    named = (environ[key] for service in SERVICES.values() for key in service.variables if environ.get(key))
    return any(origin(address) == place for address in named)


def check(url: str, allowed: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> None:
    """Raises BadInput for an address that must not be asked: by its scheme, its host, its port or its path.

    allowed: hosts that the person has added; `*.example.org` is every host below it.
    """
    place = urlsplit(origin(url))
    host, named = place.hostname or "", is_named(url, environ)
    if urlsplit(url).username is not None:
        raise BadInput(f"an address with a user name is not asked ({host}); leave the part before the @ out")
    if place.scheme != "https" and not (named and is_loopback(host)):
        raise BadInput(f"{host} is asked over https only; write https:// in `{url}`")
    if ".." in unquote(urlsplit(url).path).replace("\\", "/").split("/"):
        raise BadInput(f"`{url}` goes up in its path, and would lead elsewhere than it says; write where it leads")
    if named or service_at(url, environ):
        return
    if not any(_matches(host, entry) for entry in allowed):
        raise BadInput(f"{host} is not among the sources that may be read; add it to `allowed_hosts` in config.toml")
    if place.port != PORTS["https"]:
        raise BadInput(f"{host} is asked at port 443 only; leave the port out of `{url}`")


def _matches(host: str, entry: str) -> bool:
    entry = entry.strip().lower().removeprefix("https://").rstrip("/.")
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name; nothing is looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet: not private, loopback, link-local, reserved or multicast.

    An IPv6 address that carries an IPv4 one is as public as that.
    """
    at = ip_address(address.partition("%")[0])
    if isinstance(at, IPv6Address):
        if at.teredo is not None:
            return False
        carried = at.ipv4_mapped or at.sixtofour or (IPv4Address(int(at) & 0xFFFFFFFF) if at in NAT64 else None)
        if carried is not None:
            return is_public(str(carried))
    return at.is_global and not at.is_multicast and not at.is_reserved
