"""Serves the graph with `langgraph dev`, which LangGraph Studio connects to."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

from shared_memory.errors import Unavailable
from shared_memory.settings import Settings


def serve(settings: Settings, port: int, browser: bool) -> int:
    """Run the server in the foreground until it is stopped; returns its exit code. Its threads are kept in the home.

    Raises Unavailable where the `studio` extra is not installed.
    """
    if importlib.util.find_spec("langgraph_api") is None:
        raise Unavailable("the server is not installed; pip install 'postgrad[studio]'")
    import graph.build

    folder = settings.home / "studio"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"postgrad": f"{graph.build.__file__}:graph"}}))
    command = [
        sys.executable,
        "-P",
        "-m",
        "langgraph_cli",
        "dev",
        "--config",
        str(config),
        "--port",
        str(port),
        "--no-reload",
    ]
    return subprocess.run(
        command if browser else [*command, "--no-browser"],
        cwd=folder,
        env={**os.environ, "LANGGRAPH_CLI_NO_ANALYTICS": "1"},  # nothing leaves the machine unasked
    ).returncode
