"""An MCP server over its standard streams that says what a test wants said, word for word: what no library would send.

    python mcp_scripted.py SCRIPT.json

The script: `tools` (as tools/list gives them), `answers` (tool → the rest of the JSON-RPC answer; `null` ends the
program, `""` says nothing, `after` in it names a file that is waited for) and `noise` (printed before each answer, as
Latin-1). Beside it lie SCRIPT.starts, a process id for every start, and SCRIPT.calls, a line for every call.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

_printing = threading.Lock()


def main(path: Path) -> None:
    script = json.loads(path.read_text())
    add_line(path.with_suffix(".starts"), str(os.getpid()))
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" not in asked:
            continue
        if asked["method"] == "tools/call":
            add_line(path.with_suffix(".calls"), json.dumps(asked["params"]))
        said = answer_to(asked, script)
        if said is None:
            os._exit(3)
        threading.Thread(target=tell, args=(asked["id"], said, script.get("noise", ""), path.parent)).start()


def answer_to(asked: dict[str, Any], script: dict[str, Any]) -> Any:
    match asked["method"]:
        case "initialize":
            version, own = asked["params"]["protocolVersion"], {"name": "scripted", "version": "1"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": own}}
        case "tools/list":
            return {"result": {"tools": script["tools"]}}
        case "tools/call":
            return script["answers"][asked["params"]["name"]]
    return {"result": {}}


def tell(id: Any, said: Any, noise: str, folder: Path) -> None:
    while said and "after" in said and not (folder / said["after"]).exists():
        time.sleep(0.02)
    told = {key: value for key, value in said.items() if key != "after"} if said else {}
    line = json.dumps({"jsonrpc": "2.0", "id": id, **told}) + "\n" if told else ""
    with _printing:
        sys.stdout.buffer.write(noise.encode("latin-1") + line.encode())
        sys.stdout.buffer.flush()


def add_line(path: Path, line: str) -> None:
    with path.open("a") as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
