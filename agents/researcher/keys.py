"""Whose token goes where: the one rule that puts a secret into a request, and never into another host's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from agents.researcher.addresses import origin, origins_of
from shared_memory.errors import BadInput


@dataclass(frozen=True)
class Key:
    """A token that a service knows people by."""

    variables: tuple[str, ...]
    """Of the environment, the first that is set wins."""
    services: tuple[str, ...]
    """That it goes to: at their own places and where the environment has moved them, and nowhere else."""
    header: str = "Authorization"
    prefix: str = "Bearer "


KEYS = (
    Key(("HF_TOKEN",), ("hub", "viewer")),
    Key(("S2_API_KEY", "SEMANTIC_SCHOLAR_API_KEY"), ("semantic_scholar",), "x-api-key", ""),
    Key(("GITHUB_TOKEN",), ("github_api", "github_raw")),
)


def headers_for(url: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The header that carries a token to this very origin; empty for every other, and where no token is set.

    Raises BadInput for a token that no header can carry.
    """
    place = origin(url)
    for key in KEYS:
        if any(place in origins_of(name, environ) for name in key.services):
            variable = next((name for name in key.variables if environ.get(name)), "")
            token = environ.get(variable, "").strip()
            if not token.isascii() or not token.isprintable():
                raise BadInput(f"{variable} has a character that no token has; copy it again")
            return {key.header: f"{key.prefix}{token}"} if token else {}
    return {}
