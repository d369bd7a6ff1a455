"""Runs jobs in forks of one process that has paid for the heavy imports; everything else about them is real.

`warm_jobs.py serve SOCKET` is that process. `warm_jobs.py SOCKET SCRIPT ARGUMENT …` stands in for the interpreter: it
hands over its folder, variables and output, waits, and ends with the exit status of the script.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def ask(address: str, arguments: list[str]) -> int:
    """What a job's process does: the exit status of the script that was run in its place."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        order = json.dumps([str(Path.cwd()), dict(os.environ), arguments]).encode()
        socket.send_fds(line, [len(order).to_bytes(4, "big")], [1, 2])
        line.sendall(order)
        return int(line.recv(16) or b"1")


def serve(address: str) -> None:
    """Answers until it is killed, each job in a process of its own."""
    import datasets  # noqa: F401
    import inspect_ai.scorer
    import inspect_ai.solver  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import trl

    for name in ("SFT", "DPO", "KTO", "Reward", "GRPO", "RLOO", "Distillation"):
        getattr(trl, f"{name}Trainer")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            line, _ = listening.accept()
            if not os.fork():
                answer(line)
            line.close()


def answer(line: socket.socket) -> None:
    """Runs the script in one more process, and tells how that one ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, outputs, *_ = socket.recv_fds(line, 4, 2)
    order = b""
    while len(order) < int.from_bytes(size, "big"):
        order += line.recv(2**16)
    child = os.fork()
    if child:
        line.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    for number, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, number)
    os._exit(run(*json.loads(order)))


def run(folder: str, variables: dict[str, str], arguments: list[str]) -> int:
    """The script as `python SCRIPT ARGUMENT …` would have run it."""
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv, sys.path[0] = arguments, folder
    status = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would have
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


@contextmanager
def warm_interpreter(folder: Path) -> Iterator[list[str]]:
    """The command that takes the place of `python`."""
    address = folder / "jobs"
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    server = subprocess.Popen([sys.executable, __file__, "serve", str(address)], env=os.environ | quiet)
    try:
        while not address.exists() and server.poll() is None:
            time.sleep(0.1)
        yield [sys.executable, "-I", "-S", __file__, str(address)]
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        raise SystemExit(ask(sys.argv[1], sys.argv[2:]))
