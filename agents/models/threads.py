"""Threads that wait for servers, and keep no program from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def in_a_thread(work: Callable[[], Any]) -> Future[Any]:
    """What comes of `work`, which a thread of its own does at once.

    Not in a ThreadPoolExecutor: Python waits for its threads at its end, and one may wait for a server that says
    nothing for minutes after Ctrl-C.
    """
    future: Future[Any] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  whoever waits for it is told
            future.set_exception(error)

    threading.Thread(target=do, name="language-model", daemon=True).start()
    return future
