"""Answers what a teacher and an examiner are asked: rows for the cells of a request, and a word on every row shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.servers.openai_chat import Reply, Request, Says
from tests.servers.playbook_replies import facts_in, words_in

ROOMS = ("kitchen", "garden", "harbour", "library", "stable", "workshop", "attic", "bakery", "station", "orchard")
THINGS = ("lantern", "ladder", "kettle", "compass", "violin", "barrel", "mirror", "ribbon", "anchor", "candle")


def kind_of(request: Request) -> str:
    """What is asked for: `Taxonomy`, `Drafts`, `ChoiceDrafts`, `Solutions`, `Judgements`; empty for a role at work."""
    return str(request.body.get("response_format", {}).get("json_schema", {}).get("name", ""))


def teacher(wrong: Callable[[str], bool] = lambda question: False) -> Callable[[Request], Reply]:
    """A script for `openai_chat`: a teacher whose rows differ, and an examiner to whom some questions are `wrong`."""

    def says(request: Request) -> Reply:
        match kind_of(request):
            case "Taxonomy":
                named = words_in(request)["topics"] or ["weather", "tides", "stars"]
                topics = [{"name": name, "words": [f"{name}s"]} for name in named]
                return Says({"topics": topics, "personas": ["a sailor"], "edge_cases": ["no figures are given"]})
            case "Drafts":
                return Says({"rows": [draft(request, cell) for cell in words_in(request)["cells"]]})
            case "ChoiceDrafts":
                return Says({"rows": [choice_draft(request, cell) for cell in words_in(request)["cells"]]})
            case "Judgements":
                rows = words_in(request)["rows"]
                judged = [{"number": row["number"], "right": not wrong(row["question"]), "why": "so"} for row in rows]
                return Says({"rows": judged})
            case "Solutions":
                rows = words_in(request)["rows"]
                return Says({"answers": [_solution(row, wrong(row["question"])) for row in rows]})
        raise AssertionError(f"nobody asks a teacher for {kind_of(request)}")

    return says


def _number(request: Request, cell: dict[str, Any]) -> int:
    return 8 * (int(facts_in(request)["request"]) - 1) + int(cell["cell"])


def draft(request: Request, cell: dict[str, Any]) -> dict[str, Any]:
    """A row of its own for every cell, in other words than any other."""
    number = _number(request, cell)
    room, thing = ROOMS[number % 10], THINGS[number // 10 % 10]
    question = f"{cell['topic']} {number}: what would {cell['persona']} do with the {thing} near the {room}?"
    reply = f"Take the {thing} of the {room} and look at {cell['topic']} {number} times. {cell['edge_case']}"
    return {"cell": cell["cell"], "question": question, "reply": reply, "computation": ""}


def choice_draft(request: Request, cell: dict[str, Any]) -> dict[str, Any]:
    number = _number(request, cell)
    first, second = number + 2, number % 7 + 3
    room, thing = ROOMS[number % 10], THINGS[number // 10 % 10]
    return {
        "cell": cell["cell"],
        "question": f"{cell['topic']}: {first} {thing}s stand in each of {second} {room}s. How many are there?",
        "right": f"{first * second} {thing}s",
        "wrong": [f"{first + second} {room}s", f"{first * second + 1000} {thing}s", f"{abs(first - second)} of them"],
        "explanation": f"{first} * {second} = {first * second}",
        "computation": f"{first} * {second}",
    }


def _solution(row: dict[str, Any], wrong: bool) -> dict[str, Any]:
    """The letter of the product of the question's numbers, or another one."""
    numbers = [int(word) for word in row["question"].split() if word.isdigit()]
    right = next(letter for letter, text in row["choices"].items() if text.startswith(f"{numbers[0] * numbers[1]} "))
    other = next(letter for letter in row["choices"] if letter != right)
    return {"number": row["number"], "answer": other if wrong else right}
