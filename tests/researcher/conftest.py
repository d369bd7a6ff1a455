"""The services that the researcher asks, on this machine, and a library that asks them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.researcher.library import Library
from tests.servers.literature import Literature, Sends, literature


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Literature]:
    with literature() as running:
        running.texts["/page"] = Sends("<p>kept</p>", media_type="text/html; charset=utf-8")
        running.point_client_at(monkeypatch)
        yield running


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library", backoff=0.01)
