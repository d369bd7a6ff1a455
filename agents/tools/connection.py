"""A session with an MCP server on the one event loop of this process, whose callers are threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from agents.tools.offer import described
from shared_memory.errors import Uncertain
from shared_memory.redaction import redact

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from mcp import ClientSession

THREAD = "mcp"
"""Name of the thread of the event loop."""
LOUD = ("", "mcp.client.stdio", "mcp.client.streamable_http", "mcp.client.session")
"""Loggers of the MCP library, which log what a server sent, as it is; the library uses the root's, too."""

_starting = threading.Lock()

T = TypeVar("T")


class Connection:
    """One session, held open by a task of its own: what it opened, only that task may close."""

    def __init__(self, session: Any) -> None:
        """session: opens one."""
        self.session: ClientSession | None = None
        self.tools: dict[str, BaseTool] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leave = asyncio.Event()
        self.lost: BaseException | None = None
        """What ended it, where that was not its leave."""
        self.in_flight_at_its_end = 0
        """Calls that this may have been the fault of."""
        self._calls = 0
        self._retired = False
        self.task = asyncio.ensure_future(self._hold(session))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a call is in flight, on which `retire` waits."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._leave_if_idle()

    def retire(self) -> None:
        """End it when no call is in flight any more: what went wrong with one is not its siblings' error."""
        self._retired = True
        self._leave_if_idle()
        if not self.ready.done():
            self.task.cancel()  # it is still being opened, and waits for something else

    def _leave_if_idle(self) -> None:
        if self._retired and not self._calls:
            self.leave.set()

    async def _hold(self, open_session: Any) -> None:
        from langchain_mcp_adapters.tools import load_mcp_tools

        try:
            async with open_session() as session:
                await session.initialize()
                self.tools = {tool.name: tool for tool in await load_mcp_tools(session)}
                self.session = session
                self.ready.set_result(None)
                await self.leave.wait()
        except Exception as error:  # noqa: BLE001 - the boundary to a server: whoever waits for it gets the cause
            self.lost, self.in_flight_at_its_end = cause_of(error), self._calls
            if not self.ready.done():
                self.ready.set_exception(self.lost)
                self.ready.exception()  # seen, also where nobody waits any more


def cause_of(error: BaseException) -> BaseException:
    """The first of the errors that a group of tasks ended with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def first_line(error: BaseException) -> str:
    cause = cause_of(error)
    return described(redact(str(cause).split("\n")[0])) or type(cause).__name__


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one event loop that all servers of this process live on."""
    loop = asyncio.new_event_loop()
    for name in LOUD:
        logging.getLogger(name).addFilter(_is_not_a_servers)
    threading.Thread(target=loop.run_forever, name=THREAD, daemon=True).start()
    return loop


def _is_not_a_servers(record: logging.LogRecord) -> bool:
    """Whether a record may go on: a server's words may hold a secret, and what went wrong is told without it."""
    return record.threadName != THREAD


def waited_for(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What `work` comes to on that loop; it ends itself within `seconds`, or is given up a little later.

    Raises Uncertain where it was: how far it had come, nobody knows.
    """
    with _starting:  # two threads at once would get a loop each
        loop = _loop()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result(seconds + 5)
    except TimeoutError:
        future.cancel()
        raise Uncertain(f"an MCP server gave no sign within {seconds:g} s; see [mcp] in config.toml") from None
