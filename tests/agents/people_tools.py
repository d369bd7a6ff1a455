"""Installs a package with tools of a person's own, as pip would leave it on the path."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = '''
import time
from langchain_core.tools import ToolException, tool

CALLS = []


@tool(extras={"read_only": True})
def count(text: str) -> int:
    """Count the letters of a text."""
    return len(text)


@tool
def post(message: str, to: str = "everybody") -> str:
    """Post a message."""
    CALLS.append((to, message))
    return f"posted to {to}"


def grumpy():
    @tool
    def refuse(how: str = "") -> str:
        """Never works."""
        if how == "politely":
            raise ToolException("the door is shut")
        if how == "leave":
            raise SystemExit
        raise ValueError("not today,\\nnot tomorrow")

    refuse.metadata = {"read_only": True, "roles": "trainer"}

    @tool
    async def nap(seconds: float) -> str:
        """Takes a while."""
        time.sleep(seconds)
        return "rested"

    nap.metadata = {"read_only": True}
    return [refuse, nap]


NO_TOOL = 7
'''


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, points: dict[str, str], source: str = SOURCE
) -> None:
    """Puts the package `module` on the path, with the entry points `points` (name → object) of `postgrad.tools`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    lines = [f"{name} = {module}:{target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("[postgrad.tools]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
