"""Serves the graphs with `langgraph dev`, which LangGraph Studio connects to."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys

from shared_memory.errors import Conflict, Unavailable
from shared_memory.settings import Settings

GRAPHS = {
    "postgrad": {
        "path": "graph.build:graph",
        "description": "The whole team: from a goal to a better model, with the evidence.",
    },
    "researcher": {
        "path": "graph.alone:researcher",
        "description": "The researcher alone: findings, and recipes that fit the model.",
    },
    "data_engineer": {
        "path": "graph.alone:data_engineer",
        "description": "The data engineer alone: a data set from the goal's files or generator.",
    },
    "trainer": {
        "path": "graph.alone:trainer",
        "description": "The trainer alone: recipes and data as far as it needs them, and one training job.",
    },
    "evaluator": {
        "path": "graph.alone:evaluator",
        "description": "The evaluator alone: the base model's scores, on rows held out if need be.",
    },
}
"""What `langgraph.json` says, too."""

RUNS_AT_ONCE = 4
"""Runs that the server drives side by side; their jobs still queue for the devices of this machine."""
STOP_SECONDS = 10.0
"""How long the server may take to end. It waits for steps that are under way, which may be watching a job."""
QUIET = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGSMITH_TRACING": "false",
}
"""Nothing leaves the machine unasked: the server traces to LangSmith as soon as it finds a key in the environment."""


def serve(settings: Settings, port: int, browser: bool) -> int:
    """Run the server until it is stopped; returns 0. Its threads are kept in the home.

    Raises Unavailable where the `studio` extra is not installed or the server ends by itself, Conflict for a port that
    is taken.
    """
    if importlib.util.find_spec("langgraph_api") is None:
        raise Unavailable("the server is not installed; pip install 'postgrad[studio]'")
    _refuse_a_taken_port(port)
    folder = settings.home / "studio"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": GRAPHS}), encoding="utf-8")
    # -P: the folder that one stands in may hold packages called `agents` or `graph`, too.
    command = [sys.executable, "-P", "-m", "langgraph_cli", "dev", "--config", str(config), "--port", str(port)]
    command += ["--no-reload", "--n-jobs-per-worker", str(RUNS_AT_ONCE), *([] if browser else ["--no-browser"])]
    environment = {**QUIET, **os.environ, "POSTGRAD_HOME": str(settings.home)}
    # SIGINT too: a shell has it ignored in what runs in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # A session of its own: Ctrl-C comes here alone, for a server that hears it twice drops what it has not saved.
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            _stop(server)
            code = 0
    if code:
        how = f"was killed (signal {-code})" if code < 0 else f"ended with {code}"
        raise Unavailable(f"the server {how}, see its lines above; jobs go on, and `postgrad studio` finds them again")
    return 0


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.kill()


def _refuse_a_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Conflict(
                f"port {port} cannot be used ({error.strerror}); try `postgrad studio --port {port + 1}`"
            ) from error
