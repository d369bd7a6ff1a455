"""Answers what a judge is asked, by a rule on what stands inside the fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.servers.openai_chat import Reply, Request, Says
from tests.servers.playbook_replies import words_in
from tests.servers.teacher_replies import kind_of

Words = dict[str, Any]


def judge(
    met: Callable[[Words], bool] = lambda words: False, better: Callable[[Words], str] = lambda words: "A=B"
) -> Callable[[Request], Reply]:
    """A script for `openai_chat`: `met` decides on a criterion, `better` on a pair; each is shown the fenced words."""

    def says(request: Request) -> Reply:
        words = words_in(request)
        if kind_of(request) == "RubricVerdict":
            return Says({"explanation": "so", "met": met(words)})
        assert kind_of(request) == "PairVerdict"
        return Says({"explanation": "so", "verdict": better(words)})

    return says
