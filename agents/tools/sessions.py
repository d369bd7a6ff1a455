"""Opens a session with an MCP server, which is given what its table in config.toml names, and none of our tokens.

A program gets a search path, a home of its own under ours, and what its `env` names (the MCP library adds LOGNAME,
USER, SHELL and TERM); an address gets the headers that the table names, on its own origin only (the client follows no
redirect that leaves it). A program runs as the person who runs postgrad: it is kept from our environment, not from the
machine.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from shared_memory.errors import BadInput
from shared_memory.redaction import REDACTED
from shared_memory.tool_servers import ToolServer

if TYPE_CHECKING:
    from mcp import ClientSession

LONGEST_SILENCE = 300.0
"""Seconds for which an address may send nothing, where a call may not take longer."""
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|AUTH", re.IGNORECASE)
"""Names in a table whose values are secrets even where they are written out in it."""
SHORTEST_SECRET = 8


@asynccontextmanager
async def with_address(name: str, config: ToolServer) -> AsyncIterator[ClientSession]:
    """With a server that speaks HTTP. Raises BadInput where a variable that the table names is not set."""
    from langchain_mcp_adapters.sessions import create_session

    async with create_session(
        {
            "transport": "streamable_http",
            "url": config.url,
            "headers": _filled(name, config.headers, "headers"),
            "sse_read_timeout": max(LONGEST_SILENCE, config.timeout),
        }
    ) as session:
        yield session


@asynccontextmanager
async def with_program(name: str, config: ToolServer, folder: Path, log: TextIO) -> AsyncIterator[ClientSession]:
    """With a program that is started here. folder: its home. log: takes what it prints on standard error.

    Raises BadInput as `with_address` does.
    """
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    own = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),  # the person's has the Hub's token in it
        "LANG": "C.UTF-8",
    }
    program = StdioServerParameters(
        command=config.command,
        args=list(config.args),
        env=own | _filled(name, config.env, "env"),
        cwd=folder,
        encoding_error_handler="replace",  # what is no UTF-8 is no message, and no reason to end
    )
    async with stdio_client(program, errlog=log) as (read, write), ClientSession(read, write) as session:
        yield session


def without_secrets_of(config: ToolServer, text: str) -> str:
    """A text without the secrets that only this server was given; the rest of its address may be one."""
    if config.url:
        text = text.replace(config.url, f"{'/'.join(config.url.split('/')[:3])}/…")
    for key, value in (config.env | config.headers).items():
        named = [os.environ.get(name, "") for name in re.findall(r"\$\{?([A-Za-z_]\w*)", value)]
        written = value.split()[-1:] if SECRET.search(key) and not named else []
        for secret in map(str.strip, (*named, *written)):  # an error may quote it as Python would, line end and all
            text = text.replace(secret, REDACTED) if len(secret) >= SHORTEST_SECRET else text
    return text


def _filled(name: str, values: Mapping[str, str], what: str) -> dict[str, str]:
    """The values with `$NAME` replaced by that variable: one by one, by name, as the person wrote it."""
    filled = {}
    for key, value in values.items():
        try:
            filled[key] = string.Template(value).substitute(os.environ)
        except KeyError as unset:
            raise BadInput(f"[mcp.{name}] `{what}` needs {unset.args[0]}, which is not set; export it") from None
        except ValueError:
            raise BadInput(
                f"[mcp.{name}] `{what}`: `{key}` has a $ that begins no name; write $$ for the sign itself"
            ) from None
    return filled
