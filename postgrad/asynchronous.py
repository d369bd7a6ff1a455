"""The async twins of `run`, `resume` and `stream`: each run has a thread of its own, the event loop stays free."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar, Unpack

from postgrad import api
from postgrad.decide import AsyncDecide
from postgrad.events import Event
from postgrad.session import Session, Summary, summary
from shared_memory.runs import RunStatus
from shared_memory.settings import Settings, load_settings

A = TypeVar("A")
R = TypeVar("R")


async def arun(
    goal: api.AnyGoal,
    *,
    decide: AsyncDecide | None = None,
    on_event: Callable[[Event], Awaitable[None] | None] | None = None,
    settings: Settings | None = None,
    **overrides: Unpack[api.Overrides],
) -> Summary:
    """As `run`. Cancelling the task parks the run: its jobs go on, and `aresume` takes them up again.

    The callables may be plain functions, which are called in the run's thread (cancelling waits for one to return), or
    return an awaitable, which is awaited in this event loop.
    """
    settings = settings or load_settings()
    run_id = await asyncio.to_thread(_open, goal, settings, overrides)
    async with _driven(settings, run_id, decide, on_event) as driving:
        return await asyncio.shield(driving)


async def aresume(
    run_id: str,
    *,
    decide: AsyncDecide | None = None,
    on_event: Callable[[Event], Awaitable[None] | None] | None = None,
    settings: Settings | None = None,
) -> Summary:
    """As `resume`, with callables and cancellation as in `arun`."""
    settings = settings or load_settings()
    row = await asyncio.to_thread(api.ready_to_go_on, settings, run_id)
    if row.status is RunStatus.SUCCEEDED:
        return await asyncio.to_thread(summary, settings, row.run_id)
    async with _driven(settings, row.run_id, decide, on_event) as driving:
        return await asyncio.shield(driving)


async def astream(
    goal: api.AnyGoal,
    *,
    decide: AsyncDecide | None = None,
    settings: Settings | None = None,
    **overrides: Unpack[api.Overrides],
) -> AsyncGenerator[Event, None]:
    """As `stream`: an async generator of the run's events; `aclose`, or cancelling the task, parks the run."""
    settings = settings or load_settings()
    run_id = await asyncio.to_thread(_open, goal, settings, overrides)
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    async with _driven(settings, run_id, decide, tell) as driving:
        driving.add_done_callback(lambda _: events.put_nowait(None))
        while (event := await events.get()) is not None:
            yield event
        await driving


def _open(goal: api.AnyGoal, settings: Settings, overrides: api.Overrides) -> str:
    return api.open_run(api.as_goal(goal, **overrides), settings)


@asynccontextmanager
async def _driven(
    settings: Settings,
    run_id: str,
    decide: AsyncDecide | None,
    on_event: Callable[[Event], Awaitable[None] | None] | None,
) -> AsyncIterator[asyncio.Future[Summary]]:
    """The run, driven while inside; leaving parks it, and waits until its thread has come to rest."""
    loop = asyncio.get_running_loop()
    bridge = _Bridge(loop)
    session = Session(settings, run_id, bridge.to(decide), bridge.to(on_event))
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgrad")
    driving = loop.run_in_executor(thread, session.drive)
    try:
        yield driving
    finally:
        bridge.close()
        session.park()
        await asyncio.gather(driving, return_exceptions=True)
        thread.shutdown(wait=False)


class _Bridge:
    """Lets the run's thread call functions whose awaitables belong to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: Future[Any] | None = None
        self._closed = False

    def to(self, function: Callable[[A], Awaitable[R] | R] | None) -> Callable[[A], R | None] | None:
        """`function` for the run's thread: it waits for the result, and calls nothing any more once closed."""
        return None if function is None else lambda argument: self._call(function, argument)

    def _call(self, function: Callable[[A], Awaitable[R] | R], argument: A) -> R | None:
        if self._closed:
            return None
        result = function(argument)
        if not inspect.isawaitable(result):
            return result
        waiting: Future[R] = asyncio.run_coroutine_threadsafe(_settled(result), self._loop)
        self._waiting = waiting
        if self._closed:
            waiting.cancel()
        return waiting.result()

    def close(self) -> None:
        """From the loop's thread: what is still awaited is cancelled."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()


async def _settled(result: Awaitable[R]) -> R:
    return await result
