"""Answers a role's language-model request as the playbook would, so that a whole run can be driven over HTTP."""

from __future__ import annotations

import json
import re
from typing import Any

from agents.brain import Brief, DataAudit, Move
from graph.context import RULES
from shared_memory.goal import Goal
from shared_memory.recipes import recipe_of
from shared_memory.records import DatasetRecord, Diagnosis, Experiment, Finding
from tests.servers.openai_chat import Request, Says


def playbook_says(request: Request) -> Says:
    """A script for `openai_chat`: the playbook's proposal for whatever move the request is about."""
    if facts_in(request)["move"] == "choose":
        return Says({"choice": 1, "why": ""})
    brief = brief_in(request)
    role = brief.move.role
    assert role is not None
    if brief.move is Move.ABLATE:  # a model names parts, and is shown no more of them
        return Says({"parts": list(facts_in(request)["variants"])[: brief.room], "why": ""})
    return Says(RULES[role](brief).plain())


def facts_in(request: Request) -> dict[str, Any]:
    """The facts of a request, as the model reads them."""
    text = request.messages[1]["content"]
    return dict(json.loads(re.findall(r"^# Facts$.*?^(\{.*\})$", text, re.MULTILINE | re.DOTALL)[0].split("\n")[0]))


def words_in(request: Request) -> dict[str, Any]:
    """What stands inside the fence."""
    text = request.messages[1]["content"]
    return dict(json.loads(re.findall(r"^<untrusted \w+>\n(.*)\n</untrusted \w+>$", text, re.MULTILINE)[0]))


def brief_in(request: Request) -> Brief:
    """The brief that a request was made from, as far as the rules look at it."""
    facts, words = facts_in(request), words_in(request)
    return Brief(
        goal=Goal.model_validate({**facts["goal"], "text": words["goal"]}),
        move=Move(facts["move"]),
        experiment=facts["experiment"],
        incumbent=facts["incumbent"],
        room=facts["room"],
        trains=tuple(facts["trains"]),
        unscored=tuple(facts["unscored"]),
        unmeasured=tuple(facts["unmeasured"]),
        parameters=facts["parameters"],
        findings={key: Finding(id=key, **words["findings"][key], **plain) for key, plain in facts["findings"].items()},
        recipes={key: recipe_of({**plain, **words["recipes"][key]}) for key, plain in facts["recipes"].items()},
        datasets={
            key: DatasetRecord(id=key, source="", path="", digest="", **plain)
            for key, plain in facts["datasets"].items()
        },
        experiments={key: _experiment(key, plain, words) for key, plain in facts["experiments"].items()},
        generated=tuple(facts["generated"]),
        audit=DataAudit.model_validate(facts["audit"]) if facts.get("audit") else None,
        choices=facts.get("choices", False),
        teacher=facts.get("teacher", ""),
    )


def _experiment(key: str, plain: dict[str, Any], words: dict[str, Any]) -> Experiment:
    said = dict(words["experiments"][key])
    evidence = said.pop("evidence")
    diagnosis = Diagnosis(kind=plain["diagnosis"], evidence=evidence) if plain["diagnosis"] else None
    return Experiment(id=key, **said, **{**plain, "diagnosis": diagnosis})
