"""Measures how many tokens a four-role task sends through postgrad's loops, and through one loop that never forgets.

    python benchmarks/context.py [--json]

The task is a run's course: baseline, research, data, draft, debug, improve, candidate, confirm. The server is scripted:
which tools are called, what they give back, and the playbook's proposal at the end. Prompts, briefs, the tools with
their descriptions and schemas, and the loops are the roles' own; only what the tools give back is written here, in the
sizes that such results have (a paper's section, a log, rows).

The other side is the same task in the style of one agent for everything: one system prompt with what the four roles are
told, the tools of all roles and a tool for each kind of proposal with every request, and one conversation, in which
every call, result and proposal stays. It is given the benefit of the doubt: the brief's facts and words are sent once,
at its beginning, and each later step is asked for in its own few lines alone; results are cut as ours are; it has none
of the tools by which our loops read on and take notes. Its requests are put together from the very messages that ours
sent, so calls, results and proposals are the same to the letter.

Tokens are those of cl100k_base, which comes with LiteLLM, of every request's messages and tools as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MUST_REACH = 0.40
"""Ours, as a share of the other."""

LINE = "Supervised fine-tuning on {n} filtered traces gives {n}.3 on GPQA-main against 26.0 for the base, lr 2e-4. "
LOG = "step {n} loss 1.{n} grad_norm 0.{n} lr 0.0002 tokens 81920 seconds 1.7\n"
ROW = '{{"messages": [{{"role": "user", "content": "question {n}?"}}, {{"role": "assistant", "content": "B"}}]}}\n'


def text(line: str, characters: int) -> str:
    return "".join(line.format(n=n) for n in range(10, 10 + characters // len(line)))


@dataclass(frozen=True)
class Call:
    """A call of a tool, and what it gives back."""

    tool: str
    arguments: dict[str, Any]
    result: str


COURSE: dict[str, list[Call]] = {
    "baseline": [],
    "research": [
        Call("search_papers", {"query": "post-training small models multiple choice science"}, text(LINE, 4_000)),
        *(
            call
            for paper in ("2506.04178", "2402.03300", "2501.12948")
            for call in (
                Call("read_paper", {"paper": paper}, text(LINE, 3_000)),
                Call("read_paper", {"paper": paper, "section": "4 Results"}, text(LINE, 6_000)),
                Call("record_finding", {"claim": "traces help", "source": paper, "quotation": "gives"}, "Filed as f1."),
            )
        ),
        Call("citations", {"paper": "2506.04178"}, text(LINE, 3_000)),
        Call("search_hub", {"kind": "dataset", "words": "science reasoning traces"}, text(LINE, 2_500)),
        Call("read_card", {"kind": "dataset", "repo": "nvidia/OpenScience"}, text(LINE, 4_000)),
        Call("installed_library", {"name": "trl.SFTConfig", "words": "packing"}, text(LINE, 3_000)),
    ],
    "data": [
        Call("audit_data", {}, text(LINE, 1_500)),
        *(Call("read_rows", {"offset": offset, "limit": 5}, text(ROW, 3_000)) for offset in (0, 500, 1_000)),
        Call("run_python", {"code": "print(len(rows))"}, "12000"),
    ],
    "draft": [Call("read_training_script", {}, text(LOG, 6_000))],
    "debug": [
        Call("read_log", {"experiment": "e3"}, text(LOG, 6_000)),
        Call("read_log", {"experiment": "e1"}, text(LOG, 6_000)),
        Call("read_training_script", {}, text(LOG, 6_000)),
    ],
    "improve": [
        Call("read_log", {"experiment": "e1"}, text(LOG, 6_000)),
        Call("look_up", {"words": "learning rate"}, text(LINE, 1_500)),
    ],
    "candidate": [],
    "confirm": [Call("compare_scores", {"baseline": "e1", "candidate": "e2"}, '{"delta":0.04,"ci_low":0.01}')],
}
"""Move → what its role looks up before it proposes."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    figures = measure()
    if parser.parse_args().json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:44} {value}")
    return 0 if float(str(figures["ours / one loop"])) <= MUST_REACH else 1


def measure() -> dict[str, object]:
    """Tokens sent by both, and the share."""
    with tempfile.TemporaryDirectory(prefix="postgrad-context-") as folder:
        moves = run_of_ours(Path(folder))
    ours = [body for bodies in moves.values() for body in bodies]
    other = one_loop(moves)
    sent, sent_by_other = sum(map(tokens_of, ours)), sum(map(tokens_of, other))
    return {
        "requests": f"{len(ours)} and {len(other)}",
        "tokens sent by our loops": sent,
        "by move": {move: sum(map(tokens_of, bodies)) for move, bodies in moves.items()},
        "tokens sent by one loop with everything": sent_by_other,
        "first request, bytes": f"{len(json.dumps(ours[0]))} and {len(json.dumps(other[0]))}",
        "longest request, tokens": f"{max(map(tokens_of, ours))} and {max(map(tokens_of, other))}",
        "ours / one loop": round(sent / sent_by_other, 3),
    }


def run_of_ours(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The bodies of the requests of each move, as the server saw them."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    from agents import prompting
    from agents.brain import Move
    from agents.llm import LanguageModel, Tally
    from agents.workbench import Workbench
    from graph.context import AGENTS
    from tests.agents.briefs import brief
    from tests.servers.openai_chat import Request, Says, openai_chat
    from tests.servers.playbook_replies import facts_in, playbook_says

    def script(request: Request) -> Says:
        at = sum(message["role"] == "tool" for message in request.messages)
        planned = COURSE[facts_in(request)["move"]]
        if at < len(planned):
            return Says("", calls=((planned[at].tool, planned[at].arguments),))
        proposal = playbook_says(request)
        return Says("", calls=(("hand_in", proposal.content),)) if "tools" in request.body else proposal

    def scripted(bench: Any, role: str, kind: Any, messages: Any, tools: Sequence[Any], fault: Any) -> Any:
        results = {(call.tool, json.dumps(call.arguments)): call.result for call in COURSE[move.value]}
        return real(bench, role, kind, messages, [_giving(tool, results) for tool in tools], fault)

    real = prompting.work
    moves: dict[str, list[dict[str, Any]]] = {}
    with openai_chat(script) as server, mock.patch.object(prompting, "work", scripted):
        model = LanguageModel("openai/gpt-4o", api_base=server.base_url, cache=folder / "answers", meter=Tally())
        for move in map(Move, COURSE):
            assert move.role is not None  # noqa: S101 - none of these is the stop
            begun = len(server.requests)
            AGENTS[move.role](brief(move), Workbench(model, folder / "tools", folder / "library"))
            moves[move.value] = [request.body for request in server.requests[begun:]]
            if len(moves[move.value]) != len(COURSE[move.value]) + 1:
                raise RuntimeError(f"{move.value} did not go as planned: {len(moves[move.value])} requests")
    return moves


def _giving(tool: Any, results: dict[tuple[str, str], str]) -> Any:
    """A role's tool, name, description and arguments as they are, that gives back what is planned."""

    def give(**arguments: Any) -> str:
        given = {key: value for key, value in arguments.items() if value != _default(tool, key)}
        planned = [
            text for (name, asked), text in results.items() if name == tool.name and given == _plain(asked, tool)
        ]
        return planned[0]

    return tool.model_copy(update={"func": give})


def _plain(asked: str, tool: Any) -> dict[str, Any]:
    return {key: value for key, value in json.loads(asked).items() if value != _default(tool, key)}


def _default(tool: Any, argument: str) -> Any:
    return tool.args.get(argument, {}).get("default")


def one_loop(moves: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The requests of one agent for everything, from the messages of ours."""
    ours = {"read_output", "take_note"}
    tools: dict[str, Any] = {}
    systems: dict[str, None] = {}
    for move, bodies in moves.items():
        systems[bodies[0]["messages"][0]["content"].partition("\n\n# Tools\n")[0]] = None
        for tool in bodies[0].get("tools", []):
            name = f"propose_{move}" if tool["function"]["name"] == "hand_in" else tool["function"]["name"]
            if name not in ours:
                tools[name] = {**tool, "function": {**tool["function"], "name": name}}
    conversation: list[Any] = [{"role": "system", "content": "\n\n".join(systems)}]
    requests = []
    for number, bodies in enumerate(moves.values()):
        _, task, *said = bodies[-1]["messages"]
        asked = task["content"] if number == 0 else task["content"].partition("\n\n# Facts")[0]
        conversation.append({"role": "user", "content": asked})
        for body in bodies:
            turns = said[: len(body["messages"]) - 2]
            requests.append({"messages": [*conversation, *turns], "tools": list(tools.values())})
        conversation += [*said, {"role": "assistant", "content": "The proposal is handed in."}]
    return requests


def tokens_of(body: dict[str, Any]) -> int:
    """Tokens of a request's messages and tools."""
    return len(_encode()(json.dumps([body["messages"], body.get("tools", [])], ensure_ascii=False)))


def _encode() -> Callable[[str], list[int]]:
    from agents.provider import load_litellm

    encode: Callable[[str], list[int]] = load_litellm().encoding.encode
    return encode


if __name__ == "__main__":
    sys.exit(main())
