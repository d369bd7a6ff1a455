"""`look_up`: what the team knows, record by record, so that a brief need not show all of it at once.

It answers from the brief in hand, and never tells of the report items: a model that saw them would steer by them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agents.brain import Brief
from shared_memory.errors import BadInput
from shared_memory.records import Part

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

DESCRIPTION = (
    "Look up what the team has on record: the id of an experiment, result (on the selection items), finding, recipe or "
    "data set for all of it, or one of `experiments`, `results`, `findings`, `recipes`, `datasets`, `failures`, "
    "`actions` for what there is."
)

Line = Callable[[Any], str]


def look_up(brief: Brief) -> BaseTool:
    """The tool, for one proposal."""
    from agents.tools.calling import calling

    known = on_record(brief)

    def call(arguments: Mapping[str, Any]) -> str:
        what = str(arguments.get("what", "")).strip()
        if what in known:
            listed = "\n".join(f"{id}: {line}" for id, (line, _) in known[what].items())
            return listed or f"there are no {what} yet"
        found = {kind: records[what][1] for kind, records in known.items() if what in records}
        if not found:
            ids = [id for records in known.values() for id in records]
            raise BadInput(f"there is nothing called {what!r} on record; there are {', '.join([*known, *ids])[:2000]}")
        return json.dumps(found, ensure_ascii=False)

    parameters = {
        "type": "object",
        "properties": {"what": {"type": "string", "description": "an id, or a kind of record"}},
        "required": ["what"],
        "additionalProperties": False,
    }
    return calling("look_up", DESCRIPTION, parameters, call)


def on_record(brief: Brief) -> dict[str, dict[str, tuple[str, Any]]]:
    """Kind → id → a line, and the whole record as plain data."""
    shown = {id: result for id, result in brief.results.items() if result.part is Part.SELECTION}
    failed = {id: each for id, each in brief.experiments.items() if each.error or each.diagnosis}
    return {
        "experiments": {
            id: (
                f"{each.change} (of {each.parent}): {each.verdict or each.status}",
                each.model_dump(mode="json", exclude={"model", "jobs"}),
            )
            for id, each in brief.experiments.items()
        },
        "results": {
            # The items' file has the report items in it, too.
            id: (f"{each.metric}", each.model_dump(mode="json", exclude={"items"}))
            for id, each in shown.items()
        },
        "findings": {id: (each.claim, each.plain()) for id, each in brief.findings.items()},
        "recipes": {id: (f"{each.method}: {each.reason}", each.plain()) for id, each in brief.recipes.items()},
        "datasets": {
            # The evidence of a search for benchmark items may quote them.
            id: (f"{each.rows} rows of {each.source}", each.model_dump(mode="json", exclude={"evidence", "making"}))
            for id, each in brief.datasets.items()
        },
        "failures": {
            id: (each.error, {"error": each.error, "diagnosis": each.diagnosis.plain() if each.diagnosis else None})
            for id, each in failed.items()
        },
        "actions": {id: (said.split("\n")[0], said) for id, said in brief.done.items()},
    }
