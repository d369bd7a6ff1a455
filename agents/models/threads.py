"""Threads that wait for servers, and keep no program from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

_WORK: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
_IDLE = threading.Semaphore(0)
"""Counts the threads that have nothing to do."""


def in_a_thread(work: Callable[[], Any]) -> Future[Any]:
    """What comes of `work`, which a thread of this process does at once.

    Not in a ThreadPoolExecutor: Python waits for its threads at its end, and one may wait for a server that says
    nothing for minutes after Ctrl-C.
    """
    future: Future[Any] = Future()
    _WORK.put((future, work))
    if not _IDLE.acquire(blocking=False):
        threading.Thread(target=_serve, name="language-model", daemon=True).start()
    return future


def _serve() -> None:
    while True:
        future, work = _WORK.get()
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  whoever waits for it is told
            future.set_exception(error)
        del future, work  # what came of it lives no longer than whoever asked needs it
        _IDLE.release()
