"""MCP servers as tools: started when first needed, called from any thread, and stopped with the run."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.tools.connection import Connection, first_line, waited_for
from agents.tools.offer import described, parameters_of, text_of
from agents.tools.sessions import with_address, with_program, without_secrets_of
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.redaction import redact, redact_plain
from shared_memory.tool_servers import ToolServer

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from mcp import ClientSession
    from mcp.types import CallToolResult

START_SECONDS = 20.0
"""In which a server has to be there, and to say what tools it has."""
STOP_SECONDS = 8.0
"""In which it has to go; its input is closed, then it is asked to, then it is killed."""
MOST_TOOLS = 64
"""Tools of one server; `tools` in its table chooses among more."""
LONGEST_LOG = 2**20
"""Bytes of what a server prints on standard error, after which its log begins anew with its next call."""
CONNECTION_CLOSED = (-32000, "Connection closed")
"""Code and message of the MCP library's own error, after which nobody knows what the server did; servers use the code
for errors of theirs."""
SESSION_FORGOTTEN = 32600
"""The library's code, which no server uses, for a 404: the server began anew, or has waited too long for us."""


class _Unheard(Unavailable):
    """A call that did not reach its server."""


class Server:
    """One server of one run, called from any thread."""

    def __init__(self, name: str, config: ToolServer, folder: Path) -> None:
        """folder: the home of a program, and beside it the log of what it prints."""
        self.name = name
        self._config = config
        self._folder = folder
        self._connection: Connection | None = None
        self._leaving: set[Connection] = set()
        """Connections on their way to their end."""
        self._log_begins = 0
        """Byte of the log at which the latest start begins."""

    def listing(self) -> list[dict[str, Any]]:
        """Its tools: `tool`, `description`, `parameters`, `read_only`; what it says of them is cut.

        Raises Unavailable where it cannot be reached, BadInput where its table in config.toml has to change.
        """
        return waited_for(self._listing(), START_SECONDS)

    def call(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> str:
        """A tool's answer.

        Raises Uncertain where the server died or said nothing for `seconds`; Unavailable where it was not reached, and
        PostgradError where it says that it could not do it: then nothing was done.
        """
        return waited_for(self._call(tool, dict(arguments), seconds), 2 * START_SECONDS + seconds)

    def stop(self) -> None:
        """End it; a later call starts it again."""
        _stop([self])

    async def _listing(self) -> list[dict[str, Any]]:
        tools = (await self._connected()).tools
        chosen = self._config.tools
        if absent := [name for name in chosen if name not in tools]:
            raise BadInput(
                f"the MCP server `{self.name}` has no tool `{absent[0]}`; it has {described(', '.join(tools))}"
            )
        kept = [tool for name, tool in tools.items() if not chosen or name in chosen]
        if len(kept) > MOST_TOOLS:
            raise BadInput(
                f"the MCP server `{self.name}` has {len(kept)} tools, more than {MOST_TOOLS}; choose some by "
                f"`tools` in [mcp.{self.name}]"
            )
        return [self._listed(tool) for tool in kept]

    def _listed(self, tool: BaseTool) -> dict[str, Any]:
        try:
            parameters = parameters_of(tool.args_schema if isinstance(tool.args_schema, dict) else {})
            shown = json.loads(self._without_its_own(json.dumps(redact_plain(parameters), ensure_ascii=False)))
        except ValueError as error:
            raise BadInput(
                f"the tool `{described(tool.name)}` of the MCP server `{self.name}` cannot be used "
                f"({self._cause(error)}); choose others by `tools` in [mcp.{self.name}]"
            ) from error
        read_only = (tool.metadata or {}).get("readOnlyHint") is True
        described_as = described(self._without_its_own(redact(tool.description)))
        return {"tool": tool.name, "description": described_as, "parameters": shown, "read_only": read_only}

    async def _connected(self) -> Connection:
        """Its connection, opened where there is none; whoever asks meanwhile waits for the same one."""
        if self._connection is None or self._connection.task.done():
            self._connection = Connection(self._session)
        connection = self._connection
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(connection.ready)
        except TimeoutError:
            self._drop(connection)
            raise Unavailable(self._fault(f"said nothing within {START_SECONDS:g} s")) from None
        except PostgradError:
            raise
        except Exception as error:
            raise Unavailable(self._fault(f"could not be reached: {self._cause(error)}")) from error
        return connection

    async def _call(self, name: str, arguments: dict[str, Any], seconds: float) -> str:
        """One call; again where the server had ended, or forgotten the session, before it heard of the first."""
        try:
            return await self._called(name, arguments, seconds)
        except _Unheard:
            return await self._called(name, arguments, seconds)

    async def _called(self, name: str, arguments: dict[str, Any], seconds: float) -> str:
        connection = await self._connected()
        self._shorten_log()
        if connection.session is None or name not in connection.tools:
            raise PostgradError(f"the MCP server `{self.name}` has no tool `{name}` any more")
        with connection.in_use():
            # Not through the adapter's tool, which takes an argument called `runtime` for its own.
            calling = asyncio.ensure_future(connection.session.call_tool(name, arguments))
            try:
                await asyncio.wait({calling, connection.task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if calling.done():
                    return self._answer(calling, connection)
                self._drop(connection)
                raise self._lost(connection) or Uncertain(self._fault(f"gave no answer within {seconds:g} s"))
            finally:
                calling.cancel()

    def _answer(self, calling: asyncio.Future[CallToolResult], connection: Connection) -> str:
        """What an ended call came to. Raises what `call` does, and _Unheard."""
        from anyio import BrokenResourceError, ClosedResourceError
        from mcp import McpError

        try:
            result = calling.result()
        except (BrokenResourceError, ClosedResourceError) as error:
            self._drop(connection)
            raise _Unheard(self._fault("has ended")) from error
        except McpError as error:
            if error.error.code == SESSION_FORGOTTEN:
                self._drop(connection)
                raise _Unheard(self._fault("has forgotten the session")) from error
            if (error.error.code, error.error.message) == CONNECTION_CLOSED:
                self._drop(connection)
                raise self._lost(connection) or Uncertain(self._fault("ended while it was called")) from error
            raise PostgradError(self._without_its_own(text_of(str(error)))) from error
        except Exception as error:  # the boundary to what a server may answer: it was called, and is there still
            raise Uncertain(self._fault(f"gave an answer that is none: {self._cause(error)}")) from error
        said = [block.model_dump(mode="json", exclude_none=True) for block in result.content]
        text = self._without_its_own(text_of(said or result.structuredContent or ""))
        if result.isError:
            raise PostgradError(text or f"the MCP server `{self.name}` says that it failed, and not why")
        return text

    def _lost(self, connection: Connection) -> PostgradError | None:
        """What the end of a connection says of the call that was waited for; None where it has not ended.

        What became of one of several calls says nothing of the others.
        """
        from httpx import ConnectError, ConnectTimeout, HTTPStatusError

        if not connection.task.done():
            return None
        error, alone = connection.lost, connection.in_flight_at_its_end == 1
        if alone and isinstance(error, ConnectError | ConnectTimeout):
            return _Unheard(self._fault(f"could not be reached: {self._cause(error)}"))
        if alone and isinstance(error, HTTPStatusError) and error.response.is_client_error:
            return Unavailable(self._fault(f"refused the call: {self._cause(error)}"))
        why = f": {self._cause(error)}" if error else ""
        return Uncertain(self._fault(f"ended while it was called{why}"))

    def _cause(self, error: BaseException) -> str:
        return self._without_its_own(first_line(error))

    def _without_its_own(self, text: str) -> str:
        return without_secrets_of(self._config, text)

    def _drop(self, connection: Connection | None) -> None:
        """Leave a connection, without waiting for its end; another one, opened meanwhile, stays."""
        if connection is None:
            return
        if self._connection is connection:
            self._connection = None
        self._leaving.add(connection)
        connection.task.add_done_callback(lambda task: self._leaving.discard(connection))
        connection.retire()

    async def end(self) -> None:
        """Leave its connections, whatever is in flight, and wait until they are gone."""
        self._drop(self._connection)
        for connection in self._leaving:
            connection.leave.set()
        if ending := [connection.task for connection in self._leaving]:
            _, late = await asyncio.wait(ending, timeout=STOP_SECONDS - 2)
            for task in late:
                task.cancel()  # a program is killed then
            if late:
                await asyncio.wait(late, timeout=2)

    def _fault(self, what: str) -> str:
        """For a person: what is wrong with the server, its last words, and what to do."""
        words = ""
        with suppress(OSError):
            with self._log.open("rb") as log:
                log.seek(self._log_begins)
                lines = log.read().decode(errors="replace").split("\n") if self._config.command else []
            last = next((line for line in reversed(lines) if line.strip()), "")
            words = described(self._without_its_own(redact(last)))
        said = f" (its last words: {words})" if words else ""
        return f"the MCP server `{self.name}` {what}{said}; see [mcp.{self.name}] in config.toml"

    def _shorten_log(self) -> None:
        """Empty it where it is too long; what the server prints next is still put at its end."""
        with suppress(FileNotFoundError):
            if self._log.stat().st_size > LONGEST_LOG:
                os.truncate(self._log, 0)
                self._log_begins = 0

    @property
    def _log(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}.log")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientSession]:
        """A session with the server, as its library has it: opened and closed by one task."""
        if self._config.url:
            async with with_address(self.name, self._config) as session:
                yield session
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shorten_log()
        with self._log.open("a", encoding="utf-8") as log:
            self._log_begins = log.seek(0, os.SEEK_END)
            async with with_program(self.name, self._config, self._folder, log) as session:
                yield session


_servers: dict[tuple[str, str], Server] = {}
"""(Run, name) → the server, while the process lives."""
_known = threading.Lock()


def server_of(run_id: str, name: str, config: ToolServer, home: Path) -> Server:
    """A run's server, started when it is first asked for something. home: the folder of our own."""
    with _known:
        return _servers.setdefault((run_id, name), Server(name, config, home / "mcp" / name))


def stop_servers(run_id: str | None = None) -> None:
    """End the servers of a run, or all."""
    with _known:
        ending = [key for key in _servers if run_id in (None, key[0])]
        servers = [_servers.pop(key) for key in ending]
    if servers:
        _stop(servers)


def _stop(servers: Sequence[Server]) -> None:
    """End them side by side: one that hears nothing takes long."""

    async def end() -> None:
        await asyncio.gather(*(server.end() for server in servers))

    with suppress(Unavailable):
        waited_for(end(), STOP_SECONDS)


atexit.register(stop_servers)
