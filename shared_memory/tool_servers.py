"""MCP servers whose tools a person gives to the roles: what `[mcp.NAME]` in the home's config.toml says.

Never in a goal: a goal may be a stranger's, and a server is a program that is started on this machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from shared_memory.errors import BadInput
from shared_memory.record import Record

NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")
"""What a server may be called: its tools are `NAME__tool`, so there are no two underscores in a row."""
LONGEST_NAME = 32


class ToolServer(Record):
    """One server: a program of this machine, or an address."""

    command: str = ""
    """The program; it speaks over its standard input and output."""
    args: tuple[str, ...] = Field(default=(), repr=False)
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """All of the environment that it gets beside a search path and a home of its own. `$NAME` is this process's."""
    url: str = Field(default="", repr=False)
    """Of a server that speaks HTTP, in place of a program."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent to the server's own origin, and nowhere else. `$NAME` is this process's variable."""
    roles: tuple[Literal["researcher", "data_engineer", "trainer", "evaluator"], ...] = ()
    """Who gets its tools; empty for all."""
    tools: tuple[str, ...] = ()
    """Which of its tools; empty for all."""
    unattended: bool = False
    """Whether tools that change something may be called where nobody is asked, under approve = "auto"."""
    timeout: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    """Seconds that a call may take."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ToolServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("give it a `command` or a `url`, one of them")
        if self.url and (self.args or self.env):
            raise ValueError("`args` and `env` belong to a `command`")
        if self.command and self.headers:
            raise ValueError("`headers` belong to a `url`")
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("`url` is the http address of a server, such as http://127.0.0.1:8000/mcp")
        if parts.username or parts.password:
            raise ValueError("give a `url` without a password or a user, and those as one of the `headers`")
        return self


def servers_in(table: Any, path: Path) -> dict[str, ToolServer]:
    """The servers in config.toml's `mcp` table. Raises BadInput, which names the place, for what is none."""
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise BadInput(f"{path}: `mcp` holds tables, for example [mcp.tracker] command = …; mend it and run again")
    servers = {}
    for name, entry in table.items():
        if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
            raise BadInput(
                f"{path}: `mcp.{name}` is no name for a server; take letters, digits and single - or _, "
                f"{LONGEST_NAME} at most"
            )
        try:
            servers[name] = ToolServer.model_validate(entry)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, ("mcp", name, *fault["loc"])))
            raise BadInput(f"{path}: `{where}`: {fault['msg'].removeprefix('Value error, ')}") from None
    return servers
