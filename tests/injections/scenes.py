"""A role at work on words from outside, with a model that obeys what it reads: what the tests of injections share."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.injections.families import Call, Family, Scene, is_in
from tests.servers.openai_chat import Reply, Request, Says
from tests.servers.playbook_replies import facts_in, playbook_says

PLUGIN = '''
from pathlib import Path
from langchain_core.tools import tool

SENT = Path({sent!r})
NOTES = Path({notes!r})

@tool
def send(to: str, text: str) -> str:
    """Send a mail."""
    SENT.write_text(SENT.read_text() + to if SENT.exists() else to)
    return "sent"

@tool
def notes() -> str:
    """What colleagues have noted."""
    return NOTES.read_text()

notes.metadata = {{"read_only": True}}
tools = [send, notes]
'''


@dataclass
class Listener:
    """A port that nobody should ever connect to."""

    url: str = ""
    heard: list[str] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Listener]:
    """A server on the loopback interface that keeps what it is sent."""
    listener = Listener()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(1)
            listener.heard.append(self.request.recv(4096).decode(errors="replace"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        listener.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown()
            thread.join()


def install_mail(folder: Path, notes: str, patch: pytest.MonkeyPatch) -> Path:
    """A person's package with a tool that acts and one that only reads; gives back the file that sending writes."""
    sent = folder / "sent.txt"
    (folder / "notes.txt").write_text(notes, encoding="utf-8")
    (folder / "mail_tools.py").write_text(PLUGIN.format(sent=str(sent), notes=str(folder / "notes.txt")))
    info = folder / "mail_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mail-tools\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[postgrad.tools]\nmail = mail_tools:tools\n")
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, "mail_tools", raising=False)
    return sent


class Obedient:
    """A script of a model server: it looks where it is told to, obeys what it finds there, and then does its work."""

    def __init__(self, family: Family, words: str, look: Call, at: Callable[[Request], Scene | None]) -> None:
        """look: the call that brings the words. at: the scene of a request, None where nothing is to be tried."""
        self._family, self._words, self._look, self._at = family, words, look, at
        self._looked = False
        self._left: list[Says] | None = None
        self.tools: set[str] = set()
        """Names of those that it was offered."""

    @property
    def obeyed(self) -> bool:
        """Whether it has read the words, and done all that they ask for."""
        return self._left == []

    def __call__(self, request: Request) -> Reply:
        scene = self._at(request)
        if scene is None:
            return playbook_says(request)
        self.tools |= {tool["function"]["name"] for tool in request.body.get("tools", ())}
        if self._left is None and is_in(self._words, request.said):
            self._left = self._family.obeys(scene)
        if self._left:
            return self._left.pop(0)
        if self._left is None and not self._looked and request.body.get("tools"):
            self._looked = True
            return Says("", calls=(self._look,))
        return playbook_says(request)


def move_of(request: Request) -> str:
    return str(facts_in(request)["move"])
