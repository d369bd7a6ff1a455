"""A goal that names a data set on the Hub: found once, pinned, and read as it was then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad.events import Event
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.journal import Journal
from shared_memory.records import DatasetRecord
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.servers.hub import hub, point_client_at

pytestmark = pytest.mark.usefixtures("noop_jobs")


def rows(count: int) -> str:
    made = [{"question": f"What stands on page {n}?", "answer": f"Line {n} does."} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in made)


def test_a_data_set_on_the_hub_is_pinned_to_the_commit_that_was_found_first(
    make_goal: MakeGoal,
    settings: Settings,
    recipe: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe()
    with hub() as server:
        point_client_at(server, monkeypatch, tmp_path / "hf")
        card = "---\nlicense: mit\n---\n"
        repo = server.add("anna/pages", {"README.md": card, "train.jsonl": rows(150), "test.jsonl": rows(30)})
        first = repo.head.oid

        def push(event: Event) -> None:
            if event.kind == "move" and event.move == "baseline":
                server.push(repo, {"train.jsonl": rows(400)})

        path = make_goal(data='["anna/pages"]', generator="", experiments=1)
        text = path.read_text()
        start, end = text.index("[[benchmark]]"), text.index("[limits]")
        path.write_text(text[:start] + text[end:])  # rows are held out: the files must stay what they were
        summary: dict[str, Any] = postgrad.run(path, on_event=push)

        assert summary["status"] == "succeeded", summary["error"]
        (dataset,) = Journal(Database.open(settings.database), summary["run_id"]).all(DatasetRecord).values()
        assert dataset.source == f"hf://datasets/anna/pages@{first}"
        assert (dataset.revision, dataset.licence) == (first, "mit")
        assert 100 < dataset.rows < 150, "of the first commit's training split, without what was held out"
        assert repo.head.oid != first

        with pytest.raises(BadInput, match="anna/nothing"):
            postgrad.run(make_goal(data='["anna/nothing"]', generator=""))
