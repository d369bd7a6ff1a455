"""Tools from Python packages that people installed: LangChain tools behind the entry point `postgrad.tools`.

They run in this process, as any package does; whoever installs one has chosen to trust it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from agents.brain import Role
from agents.tools.offer import Offer, described, name_of, parameters_of, text_of
from shared_memory.errors import PostgradError, Uncertain
from shared_memory.redaction import redact

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

GROUP = "postgrad.tools"
READ_ONLY, UNATTENDED, ROLES = "read_only", "unattended", "roles"
"""What a tool says of itself, in its `metadata` or its `extras`."""

_loading = threading.Lock()


def plugins() -> tuple[list[Offer], list[str]]:
    """All tools of all packages, and a line on each that cannot be used."""
    with _loading:  # side by side, they would put back each other's stdout
        return _plugins(tuple(sys.path))


@lru_cache(maxsize=4)
def _plugins(path: tuple[str, ...]) -> tuple[list[Offer], list[str]]:
    """As they are on this search path; looked for once a process."""
    offers: dict[str, Offer] = {}
    faults = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        package = point.dist.name if point.dist else point.value
        try:
            for offer in _offered(point, package):
                if offer.name in offers:
                    raise ValueError(f"there are two tools called {offer.name}")
                offers[offer.name] = offer
        # The boundary to a stranger's package: whatever it raises, an exit too, it is out.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            line = described(redact(f"{type(error).__name__}: {error}"))
            faults.append(f"the tools `{point.name}` of {package} cannot be used ({line}); mend or uninstall it")
    return list(offers.values()), faults


def _offered(point: EntryPoint, package: str) -> list[Offer]:
    with redirect_stdout(sys.stderr):  # with --json, stdout is one document of ours
        return [_offer(point.name, package, tool) for tool in _tools_in(point.load())]


def _tools_in(found: Any, called: bool = False) -> Iterator[BaseTool]:
    """The tools that an entry point stands for: one, some, or a callable that gives them."""
    from langchain_core.tools import BaseTool

    if isinstance(found, BaseTool):
        yield found
    elif isinstance(found, list | tuple):
        for each in found:
            yield from _tools_in(each, called)
    elif callable(found) and not called:
        yield from _tools_in(found(), called=True)
    else:
        raise TypeError(f"it has {found!r}, which is no LangChain tool")


def _offer(who: str, package: str, tool: BaseTool) -> Offer:
    from langchain_core.utils.function_calling import convert_to_openai_tool

    said: Mapping[str, Any] = {**(tool.extras or {}), **(tool.metadata or {})}
    roles = said.get(ROLES, ())
    roles = (roles,) if isinstance(roles, str) else tuple(roles)
    if foreign := [role for role in roles if role not in list(Role)]:
        raise ValueError(f"there is no role {foreign[0]!r}; there are {', '.join(Role)}")
    parameters = parameters_of(convert_to_openai_tool(tool)["function"].get("parameters") or {"type": "object"})
    if injected := _required_by(tool) - parameters["properties"].keys():
        raise ValueError(f"{tool.name} needs `{min(injected)}` injected, which only a graph of its own could do")
    return Offer(
        name=name_of(who, tool.name),
        source=f"the package {package}",
        description=described(tool.description),
        parameters=parameters,
        read_only=said.get(READ_ONLY) is True,
        unattended=said.get(UNATTENDED) is True,
        call=partial(_call, tool),
        roles=roles,
    )


def _required_by(tool: BaseTool) -> set[str]:
    """Names of the arguments that a call cannot do without, those that no model is told of included."""
    if isinstance(tool.args_schema, dict):
        return set()
    fields = getattr(tool.get_input_schema(), "model_fields", {})
    return {field.alias or name for name, field in fields.items() if field.is_required()}


def _call(tool: BaseTool, arguments: Mapping[str, Any], seconds: float) -> str:
    """The tool's answer. It has a thread of its own: nothing else can be waited for no longer than `seconds`.

    Only a ToolException says that nothing was done; any other error may have come after.
    """
    from langchain_core.tools import ToolException

    outcome: list[Any] = []
    thread = threading.Thread(target=_run, args=(tool, dict(arguments), outcome), name=tool.name, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise Uncertain(f"{tool.name} gave no answer within {seconds:g} s, and may go on; look at what it works on")
    error = outcome[0]
    if not isinstance(error, BaseException):
        return text_of(error)
    kind = PostgradError if isinstance(error, ToolException) else Uncertain
    raise kind(described(redact(f"{type(error).__name__}: {error}"))) from error


def _run(tool: BaseTool, arguments: dict[str, Any], outcome: list[Any]) -> None:
    import asyncio

    try:
        only_async = getattr(tool, "func", tool) is None
        outcome.append(asyncio.run(tool.ainvoke(arguments)) if only_async else tool.invoke(arguments))
    except BaseException as error:  # noqa: BLE001 - whatever it is, an exit too, whoever waits gets it
        outcome.append(error)
