"""What people have added to a home: the tools of their packages and of their MCP servers, for the roles of one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agents.tools.offer import Offer, name_of
from agents.tools.plugins import plugins
from agents.tools.servers import server_of
from shared_memory.actions import ActionRequest, Actions
from shared_memory.errors import BadInput, PostgradError
from shared_memory.redaction import redact_plain
from shared_memory.settings import Settings

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

AGAIN_SECONDS = 300.0
"""After which a server that could not be reached is looked for again."""
ASKED = "It is asked for as action {id}, and not done yet: a person decides. What comes of it, a later brief tells you."
EXTRA = "MCP servers need langchain-mcp-adapters; pip install 'postgrad[mcp]'"

Listed = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""(server, how to find out) → `{"tools": …}`, found out once a run: the tools of a run stay what they were."""

_unreachable: dict[tuple[str, str], tuple[float, PostgradError]] = {}
"""(Run, server) → when it was last looked for in vain, and what came of that."""


class People:
    """Of one run."""

    def __init__(self, run_id: str, settings: Settings, listed: Listed, tell_fault: Callable[[str], None]) -> None:
        """tell_fault: takes a line on what cannot be used, each time."""
        self._run_id = run_id
        self._settings = settings
        self._listed = listed
        self._tell_fault = tell_fault

    def offers(self) -> dict[str, Offer]:
        """All their tools, by name; what cannot be used is told, and left out."""
        found, faults = plugins()
        offers = {offer.name: offer for offer in found}
        for name in self._settings.mcp:
            try:
                served = self._offers_of(name)
            except PostgradError as error:
                faults = [*faults, str(error)]
                continue
            for offer in served:
                if offer.name in offers:
                    faults = [
                        *faults,
                        f"there are two tools called {offer.name}; the one of {offer.source} is left out",
                    ]
                offers.setdefault(offer.name, offer)
        for fault in faults:
            self._tell_fault(fault)
        return offers

    def tools(self, role: str, actions: Actions) -> tuple[BaseTool, ...]:
        """What a role's model can call: what only reads is called, all else is filed in `actions`."""
        offers = [offer for offer in self.offers().values() if not offer.roles or role in offer.roles]
        return tuple(_reading(offer) if offer.read_only else _asking(offer, role, actions) for offer in offers)

    def call(self, request: ActionRequest) -> str:
        """Do what was asked for. Raises what `Offer.call` raises, and PostgradError where there is no such tool."""
        offer = self.offers().get(request.tool)
        if offer is None or offer.source != request.source:
            what = f"`{request.tool}` of {request.source}"
            raise PostgradError(f"there is no tool {what} any more; see `postgrad doctor`")
        return offer.call(request.arguments, request.seconds)

    def _offers_of(self, name: str) -> Sequence[Offer]:
        config = self._settings.mcp[name]
        server = server_of(self._run_id, name, config, self._settings.home)

        def find_out() -> dict[str, Any]:
            key = (self._run_id, name)
            when, error = _unreachable.get(key, (-math.inf, PostgradError()))
            if time.monotonic() - when < AGAIN_SECONDS:
                raise error
            try:
                return {"tools": _with_the_extra(server.listing)}
            except PostgradError as found:
                _unreachable[key] = (time.monotonic(), found)
                raise

        return [
            Offer(
                name=name_of(name, listed["tool"]),
                source=f"the MCP server {name}",
                description=listed["description"],
                parameters=listed["parameters"],
                read_only=listed["read_only"],
                call=partial(_with_the_extra, server.call, listed["tool"]),
                unattended=config.unattended,
                roles=config.roles,
                timeout=config.timeout,
            )
            for listed in self._listed(name, find_out)["tools"]
            if not config.tools or listed["tool"] in config.tools  # a person may have taken one away since
        ]


def _with_the_extra(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives back. Raises BadInput where the extra `mcp` is not installed."""
    try:
        return function(*arguments)
    except ModuleNotFoundError as error:
        raise BadInput(EXTRA) from error


def _reading(offer: Offer) -> BaseTool:
    from agents.tools.calling import calling

    def call(arguments: Mapping[str, Any]) -> str:
        if fault := offer.fault_of(arguments):
            raise BadInput(fault)
        return offer.call(redact_plain(arguments), offer.timeout)

    described = f"{offer.description} (A tool of {offer.source}, in its own words.)"
    return calling(offer.name, described, offer.parameters, call)


def _asking(offer: Offer, role: str, actions: Actions) -> BaseTool:
    """A tool that is not called: the graph does that, once a person has said yes to these arguments."""
    from agents.tools.calling import calling

    def ask(arguments: Mapping[str, Any]) -> str:
        if fault := offer.fault_of(arguments) or offer.misfit_of(arguments):
            raise BadInput(fault)
        request = actions.ask(
            role=role,
            tool=offer.name,
            source=offer.source,
            arguments=redact_plain(dict(arguments)),
            seconds=offer.timeout,
            unattended=offer.unattended,
        )
        return ASKED.format(id=request.id)

    described = (
        f"{offer.description} (A tool of {offer.source}, in its own words. It changes something outside, so a call "
        "only asks for it.)"
    )
    return calling(offer.name, described, offer.parameters, ask)
