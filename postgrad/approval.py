"""The approval prompt: what a person sees of jobs before they may run, and the ways to answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from postgrad.decide import Answer
from postgrad.typing_in import EditorError
from postgrad.units import RUN_IN, dollars, duration, one_line, printable

Request = Mapping[str, Any]
"""A JobSpec as plain data, with `digest` and `script_text`."""


class ParkedError(Exception):
    """The person left the prompt: nothing is decided."""


class ApprovalPrompt:
    """Shows requests and collects answers. Nothing is approved by default: an empty line asks again."""

    def __init__(self, terminal: Terminal, read: Callable[[], str], edit: Callable[[str, str], str | None]) -> None:
        """`read` returns a typed line, or raises EOFError at the end.

        `edit(text, suffix)` gives None if unchanged, or raises EditorError.
        """
        self._terminal = terminal
        self._read = read
        self._edit_text = edit

    def ask(self, requests: Sequence[Request]) -> dict[str, Answer] | None:
        """Digest → answer for every request, or None where the person parked the run.

        An edited job is answered by its edit: it comes back under a new digest.
        """
        pending = {str(request["digest"]): request for request in requests}
        answers: dict[str, Answer] = {}
        try:
            for number, request in enumerate(requests, 1):
                self._show(request, f"{number} of {len(requests)}")
            if len(requests) > 1:
                self._say(_total(requests), "bold")
            while pending:
                answered = self._answer_all(pending) if len(pending) > 1 else self._answer_one(*pending.values())
                answers |= answered
                pending = {digest: request for digest, request in pending.items() if digest not in answers}
        except (ParkedError, EOFError, KeyboardInterrupt):
            return None
        return answers

    def _answer_all(self, pending: Mapping[str, Request]) -> dict[str, Answer]:
        """One key for several jobs; empty where the person only looked."""
        key = self._choose(
            {
                "a": f"approve all {len(pending)}",
                "p": "pick one by one",
                "v": "view a script",
                "e": "edit one",
                "r": "reject all",
                "q": "quit: decide later",
            }
        )
        match key:
            case "a":
                return {digest: {"approved": True, "reason": ""} for digest in pending}
            case "p":
                picked: dict[str, Answer] = {}
                for request in pending.values():
                    self._say(f"\n{one_line(request['title'])}", "bold")
                    while not (answered := self._answer_one(request)):
                        pass
                    picked |= answered
                return picked
            case "r":
                return self._rejected(pending)
        chosen = self._which(list(pending.values()))
        if chosen is not None and key == "v":
            self._view(chosen)
        return self._edited(chosen) if chosen is not None and key == "e" else {}

    def _answer_one(self, request: Request) -> dict[str, Answer]:
        key = self._choose({"a": "approve", "v": "view script", "e": "edit", "r": "reject", "q": "quit: decide later"})
        match key:
            case "a":
                return {request["digest"]: {"approved": True, "reason": ""}}
            case "r":
                return self._rejected([request["digest"]])
            case "v":
                self._view(request)
                return {}
        return self._edited(request)

    def _choose(self, keys: Mapping[str, str]) -> str:
        """One of the keys; `q` raises Parked."""
        while True:
            menu = Text("\n").join(Text.assemble((f"  [{key}] ", "bold cyan"), words) for key, words in keys.items())
            self._terminal.print(menu)
            said = self._line("> ").lower()
            if said[:1] == "q":
                raise ParkedError
            if said[:1] in keys and said[:1]:
                return said[:1]
            self._say(f"please type one of: {', '.join(keys)}", "yellow")

    def _which(self, requests: Sequence[Request]) -> Request | None:
        for number, request in enumerate(requests, 1):
            self._say(f"  {number}  {one_line(request['title'])}")
        said = self._line("which number? ")
        if said.isascii() and said.isdigit() and 1 <= int(said) <= len(requests):
            return requests[int(said) - 1]
        self._say(f"`{said}` is none of 1 to {len(requests)}", "yellow")
        return None

    def _rejected(self, digests: Iterable[str]) -> dict[str, Answer]:
        """A no to all of these; empty where the person went back instead of giving a reason."""
        reason = self._line("why? ")
        if not reason:
            reason = self._line("why? (an empty line again rejects without a reason; b goes back) ")
            if reason.lower() == "b":
                return {}
        return {digest: {"approved": False, "reason": reason} for digest in digests}

    def _view(self, request: Request) -> None:
        for name, text in {request["script"]: request["script_text"], **request.get("modules", {})}.items():
            self._terminal.print(Rule(Text(one_line(name))))
            code = Syntax(printable(text), "python", line_numbers=True, word_wrap=True, background_color="default")
            self._terminal.print(code)
        self._terminal.print(Rule())

    def _edited(self, request: Request) -> dict[str, Answer]:
        """The answer that an edit makes; empty where nothing was changed."""
        key = self._choose(
            {"c": "edit the config", "s": f"edit {request['script']}", "b": "back", "q": "quit: decide later"}
        )
        if key == "b":
            return {}
        try:
            return self._edit(request, script=key == "s")
        except EditorError as error:
            self._say(str(error), "red")
            return {}

    def _edit(self, request: Request, script: bool) -> dict[str, Answer]:
        if script:
            text = self._edit_text(request["script_text"], Path(request["script"]).suffix)
            if text is None or text == request["script_text"]:
                self._say("nothing was changed", "yellow")
                return {}
            return {request["digest"]: {"edit": {"files": {request["script"]: text}}}}
        config = self._edited_config(request["config"])
        return {} if config is None else {request["digest"]: {"edit": {"config": config}}}

    def _edited_config(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """A config from the editor, asked for again until it is a JSON object; None where nothing was changed."""
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        while True:
            written = self._edit_text(text, ".json")
            fault = "" if written is None else _json_fault(written)
            if written is None or (not fault and json.loads(written) == config):
                self._say("nothing was changed", "yellow")
                return None
            if not fault:
                edited: dict[str, Any] = json.loads(written)
                return edited
            self._say(f"that is not a valid config: {fault}", "red")
            if self._choose({"e": "edit again", "b": "back, without the edit", "q": "quit: decide later"}) == "b":
                return None
            text = written

    def _show(self, request: Request, count: str) -> None:
        estimate = request["estimate"]
        self._terminal.print(Rule(Text(f"{request['purpose']} {request['experiment']} · {count}"), align="left"))
        self._say(one_line(request["title"]), "bold")
        facts = Table.grid(padding=(0, 2))
        lines = len(request["script_text"].splitlines())
        others = ", ".join(one_line(name) for name in request["files"] if name != request["script"])
        rows = {
            "time": f"about {duration(3600 * estimate['hours'])}, stopped after {duration(request['timeout_seconds'])}",
            "memory": f"{estimate['memory_gib']:.1f} GiB",
            "cost": _cost(request),
            "a yes covers": _reach(request["envelope"]),
            "estimate": one_line(estimate["basis"]),
            "runs on": _where(request),
            "script": f"{one_line(request['script'])}, {lines} lines" + (f"; with {others}" if others else ""),
        }
        if found := request.get("preflight"):
            rows["checked"] = _checked(found)
            rows |= {f"  {check['name']}": one_line(check["message"]) for check in found["checks"] if _worries(check)}
        if request.get("custom"):
            rows["is"] = "a script that is not postgrad's own: no yes covers another run of it"
        if request.get("sandbox"):
            rows["is run"] = RUN_IN[request["sandbox"]]
        if request.get("secrets"):
            rows["reads"] = "the secrets " + ", ".join(map(one_line, request["secrets"]))
        config, called = request["config"], "config."
        if request["purpose"] == "action":
            rows, config, called = _of_an_action(request), config["arguments"], "with "
        for name, value in rows.items():
            facts.add_row(Text(f"  {name}", "dim"), Text(value))
        for name, value in config.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            facts.add_row(Text(f"  {called}{one_line(name)}", "dim"), Text(one_line(shown), overflow="fold"))
        self._terminal.print(facts)

    def _line(self, prompt: str) -> str:
        self._terminal.print(Text(prompt, "bold"), end="")
        return self._read().strip()

    def _say(self, text: str, style: str = "") -> None:
        self._terminal.print(Text(text, style))


def _of_an_action(request: Request) -> dict[str, str]:
    """What there is to know of a tool's call beside its arguments."""
    config = request["config"]
    return {
        "calls": one_line(config["tool"]),
        "of": one_line(config["source"]),
        "for": f"the {one_line(config['role']).replace('_', ' ')}",
        "cost": one_line(request["estimate"]["basis"]),
        "a yes covers": f"this call, once; its answer is waited for up to {duration(request['timeout_seconds'])}",
    }


def _cost(request: Request) -> str:
    worst = request["estimate"]["usd_micro"] / 1_000_000
    return f"at worst {dollars(worst)}" if worst else "none"


def _where(request: Request) -> str:
    times = "".join(
        f" × {n} {what}"
        for n, what in ((request.get("nodes", 1), "nodes"), (request.get("devices", 1), "devices"))
        if n > 1
    )
    of = f", paid by {request['namespace']}" if request.get("namespace") else ""
    image = f", in {one_line(request['image'])}" if request.get("image") else ""
    return f"{request['runner']} ({request['flavor']}{times}{of}{image})"


def _worries(check: Mapping[str, Any]) -> bool:
    return bool(check["status"] == "warning")


def _checked(found: Mapping[str, Any]) -> str:
    """What was looked at before anybody was asked, in one line."""
    of = [check["status"] for check in found["checks"]]
    skipped = f", {of.count('skipped')} could not be made here" if "skipped" in of else ""
    return f"{of.count('ok')} checks passed{skipped}; smoke run {one_line(found['smoke'])}"


def _reach(envelope: Mapping[str, Any]) -> str:
    bounds = f"{dollars(envelope['max_usd_micro'] / 1_000_000)} and {duration(3600 * envelope['max_hours'])}"
    tries = envelope["attempts"]
    return f"{tries} tries of this work within {bounds}" if tries > 1 else f"one try, within {bounds}"


def _total(requests: Sequence[Request]) -> str:
    hours = sum(request["estimate"]["hours"] for request in requests)
    worst = sum(request["estimate"]["usd_micro"] for request in requests) / 1_000_000
    return f"\n{len(requests)} jobs: about {duration(3600 * hours)} in all, at worst {dollars(worst)}"


def _json_fault(text: str) -> str:
    """What keeps a text from being a config, and where; empty if nothing does."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    except ValueError as error:
        return str(error)
    return "" if isinstance(value, dict) else "it must be one JSON object, { … }"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; write a number, or null")
