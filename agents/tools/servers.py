"""MCP servers as tools: started when first needed, given none of our tokens, and stopped with the run.

A program gets a search path, a home of its own under ours, and what its `env` in config.toml names (the MCP library
adds LOGNAME, USER, SHELL and TERM); an address gets the headers that the config names, on its own origin only (the
client follows no redirect that leaves it). A program runs as the person who runs postgrad: it is kept from our
environment, not from the machine.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import string
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.tools.connection import Connection, first_line, waited_for
from agents.tools.offer import described, parameters_of, text_of
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.redaction import REDACTED, redact
from shared_memory.tool_servers import ToolServer

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from mcp import ClientSession

START_SECONDS = 20.0
"""In which a server has to be there, and to say what tools it has."""
STOP_SECONDS = 8.0
"""In which it has to go; its input is closed, then it is asked to, then it is killed."""
MOST_TOOLS = 64
"""Tools of one server; `tools` in its table chooses among more."""
LONGEST_LOG = 2**20
"""Bytes of what a server prints on standard error, after which its log begins anew with its next call."""
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|AUTH", re.IGNORECASE)
"""Names in a table whose values are secrets even where they are written out in it."""
SHORTEST_SECRET = 8
CONNECTION_CLOSED, TIMED_OUT = -32000, 408
"""Codes of the MCP library's own errors, after which nobody knows what the server did."""


class Server:
    """One server of one run, called from any thread."""

    def __init__(self, name: str, config: ToolServer, folder: Path) -> None:
        """folder: the home of a program, and beside it the log of what it prints."""
        self.name = name
        self._config = config
        self._folder = folder
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
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
        return waited_for(self._call(tool, dict(arguments), seconds), START_SECONDS + seconds)

    def stop(self) -> None:
        """End it; a later call starts it again."""
        with suppress(Unavailable):
            waited_for(self._end(), STOP_SECONDS)

    async def _listing(self) -> list[dict[str, Any]]:
        tools = (await self._connected()).tools
        chosen = self._config.tools
        if absent := [name for name in chosen if name not in tools]:
            raise BadInput(f"the MCP server `{self.name}` has no tool `{absent[0]}`; it has {', '.join(tools)}")
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
        except ValueError as error:
            raise BadInput(
                f"the tool `{described(tool.name)}` of the MCP server `{self.name}` cannot be used ({error}); choose "
                f"others by `tools` in [mcp.{self.name}]"
            ) from error
        read_only = (tool.metadata or {}).get("readOnlyHint") is True
        described_as = described(self._without_its_own(redact(tool.description)))
        return {"tool": tool.name, "description": described_as, "parameters": parameters, "read_only": read_only}

    async def _connected(self) -> Connection:
        """Its connection, opened where there is none."""
        async with self._opening:
            if self._connection is None or self._connection.task.done():
                self._connection = Connection(self._session)
            connection = self._connection
            try:
                async with asyncio.timeout(START_SECONDS):
                    await asyncio.shield(connection.ready)
            except TimeoutError:
                self._drop()
                raise Unavailable(self._fault(f"said nothing within {START_SECONDS:g} s")) from None
            except PostgradError:
                self._connection = None
                raise
            except Exception as error:
                self._connection = None
                raise Unavailable(self._fault(f"could not be reached: {self._cause(error)}")) from error
            return connection

    async def _call(self, name: str, arguments: dict[str, Any], seconds: float) -> str:
        from langchain_core.tools import ToolException
        from mcp import McpError

        connection = await self._connected()
        self._shorten_log()
        tool = connection.tools.get(name)
        if tool is None:
            raise PostgradError(f"the MCP server `{self.name}` has no tool `{name}` any more")
        # Not through LangChain's own call: an argument may have a name that is LangChain's.
        calling = asyncio.ensure_future(tool.coroutine(**arguments))  # type: ignore[attr-defined]
        await asyncio.wait({calling, connection.task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            calling.cancel()
            died = connection.task.done()
            self._drop()
            what = "ended while it was called" if died else f"gave no answer within {seconds:g} s"
            raise Uncertain(self._fault(what))
        try:
            content, artifact = calling.result()
        except ToolException as error:
            raise PostgradError(self._without_its_own(text_of(str(error)))) from error
        except McpError as error:
            if error.error.code not in (CONNECTION_CLOSED, TIMED_OUT):
                raise PostgradError(self._without_its_own(text_of(str(error)))) from error
            self._drop()
            raise Uncertain(self._fault("ended while it was called")) from error
        except Exception as error:
            self._drop()
            raise Uncertain(self._fault(f"was lost while it was called: {self._cause(error)}")) from error
        return self._without_its_own(text_of(content or (artifact or {}).get("structured_content", "")))

    def _cause(self, error: Exception) -> str:
        return self._without_its_own(first_line(error))

    def _without_its_own(self, text: str) -> str:
        """A text without the secrets that only this server was given; the rest of its address may be one."""
        if self._config.url:
            text = text.replace(self._config.url, f"{'/'.join(self._config.url.split('/')[:3])}/…")
        for key, value in (self._config.env | self._config.headers).items():
            named = [os.environ.get(name, "") for name in re.findall(r"\$\{?([A-Za-z_]\w*)", value)]
            written = value.split()[-1:] if SECRET.search(key) and not named else []
            for secret in (*named, *written):
                text = text.replace(secret, REDACTED) if len(secret) >= SHORTEST_SECRET else text
        return text

    def _drop(self) -> None:
        """Leave the connection, without waiting for its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave.set()
            if not connection.ready.done():
                connection.task.cancel()  # it is still being opened, and waits for something else
            self._leaving.add(connection.task)
            connection.task.add_done_callback(self._leaving.discard)

    async def _end(self) -> None:
        self._drop()
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=STOP_SECONDS - 2)
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
        from langchain_mcp_adapters.sessions import create_session
        from mcp import ClientSession, StdioServerParameters
        from mcp.client.stdio import stdio_client

        if self._config.url:
            headers = self._filled(self._config.headers, "headers")
            async with create_session(
                {"transport": "streamable_http", "url": self._config.url, "headers": headers}
            ) as session:
                yield session
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        program = StdioServerParameters(
            command=self._config.command,
            args=list(self._config.args),
            env=self._environment(),
            cwd=self._folder,
        )
        self._shorten_log()
        with self._log.open("a", encoding="utf-8") as log:
            self._log_begins = log.seek(0, os.SEEK_END)
            async with stdio_client(program, errlog=log) as (read, write), ClientSession(read, write) as session:
                yield session

    def _environment(self) -> dict[str, str]:
        own = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),  # the person's has the Hub's token in it
            "LANG": "C.UTF-8",
        }
        return own | self._filled(self._config.env, "env")

    def _filled(self, values: Mapping[str, str], what: str) -> dict[str, str]:
        """The values with `$NAME` replaced by that variable: one by one, by name, as the person wrote it."""
        filled = {}
        for key, value in values.items():
            try:
                filled[key] = string.Template(value).substitute(os.environ)
            except KeyError as unset:
                raise BadInput(
                    f"[mcp.{self.name}] `{what}` needs {unset.args[0]}, which is not set; export it"
                ) from None
            except ValueError:
                raise BadInput(
                    f"[mcp.{self.name}] `{what}`: `{key}` has a $ that begins no name; write $$ for the sign itself"
                ) from None
        return filled


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
    for server in servers:
        server.stop()


atexit.register(stop_servers)
