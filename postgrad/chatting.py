"""Asking the team about a run, and steering it between its steps, from whatever process.

Nothing but the journal is written: who drives the run takes a wish up at its next step.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from postgrad.units import one_line
from shared_memory.errors import BadInput, BudgetSpent, ContextExhausted, Unavailable
from shared_memory.lease import holder
from shared_memory.records import MICRO_USD
from shared_memory.redaction import redact
from shared_memory.runs import RunRow, RunStatus
from shared_memory.settings import Settings, load_settings
from shared_memory.steering import CHAT, STEERED, Steer, read_steer

if TYPE_CHECKING:
    from agents.provider import Answer
    from graph.context import Desk
    from postgrad.chat_facts import Known

TEAM = "team"
"""On whose account the answers are paid for."""
RULES = "rules"
"""Who answers where no language model does."""
LONGEST_QUESTION = 4000
"""Characters."""
HOW_IT_GOES_ON = {
    RunStatus.WAITING: "it waits for you: `postgrad approve {run}`",
    RunStatus.INTERRUPTED: "it is parked: `postgrad resume {run}`",
    RunStatus.FAILED: "it has failed: `postgrad resume {run}`",
}
OVER = (RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.OVER_BUDGET, RunStatus.TIMED_OUT)


def chat(run_id: str, text: str, *, settings: Settings | None = None) -> dict[str, Any]:
    """Ask the team about a run ("why was e3 discarded?"), or steer it ("prefer DPO next", "stop after this one").

    run_id: its id, the beginning of it, or `last`. Returns `{run_id, question, answer, cites [ids], steer {words, stop,
    prefer, avoid} or null, effect, by, note}`: `effect` says what becomes of the steer, `by` is a model or `rules`, and
    `note` why a model that is set has not answered. The answer is metered to the run's budget and filed in its journal.
    Raises BadInput for an unknown run, or where nothing is said.
    """
    from graph.context import Context, Desk
    from postgrad.chat_facts import known_of
    from postgrad.report.evidence import gather
    from shared_memory.database import Database

    text = one_line(text.encode(errors="replace").decode())  # a terminal may send what UTF-8 cannot hold
    if not text:
        raise BadInput('nothing was said; ask something: postgrad chat RUN "why was e3 discarded?"')
    if len(text) > LONGEST_QUESTION:
        raise BadInput(f"that is longer than {LONGEST_QUESTION} characters; say it in fewer")
    text = redact(text)
    settings = settings or load_settings()
    evidence = gather(settings, Database.open(settings.database), run_id)
    row = evidence.row
    desk = Desk(row.run_id, Context(home=str(settings.home)))
    notes = {kind: desk.journal.notes(kind) for kind in (CHAT, STEERED, "move")}
    driven = row.status is not RunStatus.RUNNING or row.driver != "worker" or holder(desk.db, row.run_id) is not None
    known = known_of(evidence, notes, driven=driven, unsteerable=_why_not(row, desk))
    turns: list[dict[str, Any]] = []
    told = _answered(text, known, desk, turns)
    steer = told.pop("steer")
    kept = {"question": text, **told, "steer": steer.plain() if steer and not known.unsteerable else None}
    name = f"c{len(notes[CHAT]) + 1}-{secrets.token_hex(2)}"
    desk.journal.note(CHAT, name, {**kept, "at": time.time(), "turns": turns})
    effect = (known.unsteerable or _effect(steer, known, desk.settings)) if steer else ""
    return {"run_id": desk.run_id, **kept, "effect": effect}


def _answered(text: str, known: Known, desk: Desk, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """`answer`, `cites`, `steer`, `by` and `note`: a language model's where one can be used, or the rules'.

    Adds to `turns` what the model was sent and said, as `turn` events of a trace.
    """
    from agents import team_chat
    from postgrad.chat_rules import answer_by_rules, not_from_here

    goal, note = known.evidence.goal, ""
    name = model_of(known, desk.settings)
    if name:
        try:
            model = desk.language_model(goal, TEAM, name)
            facts, words, began = known.facts(), known.words(), time.time()

            def heard(request: str, answer: Answer, kept: bool) -> None:
                turns.append(_turn(request, answer, kept, turns[-1]["at"] if turns else began))

            said = team_chat.ask(text, facts, words, known.ids, known.names, model, heard)
            steer, by = said.steer_of(text), turns[-1]["model"] or name
            return {"answer": _clean(said.answer), "cites": list(said.cites), "steer": steer, "by": by, "note": ""}
        except (Unavailable, BudgetSpent, ContextExhausted) as error:
            note = redact(f"`{name}` has not answered: {error}")
    answer, cites = answer_by_rules(text, known)
    steer, elsewhere = read_steer(text, known.names), not_from_here(text, known)
    if elsewhere and (steer is None or not steer.names_anything):
        answer, cites, steer = elsewhere, (), None
    elif steer is not None:  # what was understood comes first, whatever else the words name or ask
        told = (elsewhere, _understood(steer, known, desk.settings), answer if cites else "")
        answer = " ".join(filter(None, told))
    return {"answer": _clean(answer), "cites": list(cites), "steer": steer, "by": RULES, "note": note}


def _clean(answer: str) -> str:
    return redact(answer.encode(errors="replace").decode())


def _turn(request: str, answer: Answer, kept: bool, began: float) -> dict[str, Any]:
    """A request and what was said, as a run's own models have them in its events; `began`: seconds since the epoch."""
    from agents.workbench import LONGEST_TOLD

    usd, now = None if answer.usd_micro is None else answer.usd_micro / MICRO_USD, time.time()
    text = _clean(answer.text)[:LONGEST_TOLD]
    return {
        "kind": "turn", "at": now, "role": TEAM, "model": answer.model, "request": request, "tokens": answer.tokens,
        "usd": usd, "seconds": round(now - began, 3), "kept": kept, "text": text, "calls": [],
    }  # fmt: skip


def model_of(known: Known, settings: Settings) -> str:
    """The language model that speaks for the team: the goal's for all roles, else the first role's; empty for none."""
    brain = known.evidence.goal.brain
    wanted = (brain.default, brain.trainer, brain.researcher, brain.evaluator, brain.data_engineer)
    names = [name for name in (*wanted, "" if brain.default else settings.brain) if name and name != "playbook"]
    return names[0] if names else ""


def _minds(known: Known, settings: Settings) -> list[str]:
    """The roles that a language model thinks for."""
    from agents.brain import Playbook, Role

    goal = known.evidence.goal
    return [str(role).replace("_", " ") for role in Role if goal.mind(role, settings.brain) != Playbook.name]


def _understood(steer: Steer, known: Known, settings: Settings) -> str:
    """What the rules have made of a wish."""
    if known.unsteerable:
        return f"Nothing is steered here: {known.unsteerable}."
    parts = ["end the search after what has been begun, deliver and measure the best model"] if steer.stop else []
    for what, wishes in (("prefer", () if steer.stop else steer.prefer), ("avoid", steer.avoid)):
        if wishes:
            parts.append(f"{what} {', '.join(f'the {wish.about} {wish.name}' for wish in wishes)}")
    if parts:
        alone = "" if not (steer.stop and steer.prefer) else " What you prefer is not tried first: ask for it alone."
        return f"Understood: {'; '.join(parts)}.{alone}"
    if steer.goes_on:
        return "Understood: go on with the search, as its rules allow."
    shown = "roles with a language model are shown them" if _minds(known, settings) else "no role has a language model"
    return (
        "Noted in your words. They name no move, method, recipe or experiment of this run, so the router and the "
        f"playbook cannot act on them; {shown}."
    )


def _why_not(row: RunRow, desk: Desk) -> str:
    """Why a run cannot be steered; empty where it can."""
    from graph import ablation, replay

    if row.status in OVER:
        return f"the run has ended ({row.status.value.replace('_', ' ')}): nothing is steered any more"
    if row.cancel_requested:
        return "the run is being cancelled: nothing is steered any more"
    if desk.journal.notes(replay.NOTE) or desk.journal.notes(ablation.NOTE):
        return "this run does what its plan says, step by step: it cannot be steered"
    return ""


def _effect(steer: Steer, known: Known, settings: Settings) -> str:
    """What becomes of a wish, and when."""
    row = known.evidence.row
    how = HOW_IT_GOES_ON.get(row.status, "" if known.driven else "nobody drives it now: `postgrad resume {run}`")
    when = f", once it goes on ({how.format(run=row.run_id)})" if how else ""
    if not (steer.names_anything or steer.goes_on):
        if minds := _minds(known, settings):
            return f"your words are shown to the models of {', '.join(minds)} from their next turn on{when}"
        return "it is on record, and changes nothing"
    return f"it is taken up at the run's next step{when}; jobs that run or wait for approval stay as they are"
