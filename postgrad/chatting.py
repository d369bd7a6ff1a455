"""Asking the team about a run, and steering it between its steps, from whatever process.

Nothing but the journal is written: who drives the run takes a wish up at its next step.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from shared_memory.errors import BadInput, BudgetSpent, ContextExhausted, Unavailable
from shared_memory.redaction import redact
from shared_memory.runs import RunRow, RunStatus
from shared_memory.settings import Settings, load_settings
from shared_memory.steering import CHAT, STEERED, Steer, read_steer

if TYPE_CHECKING:
    from graph.context import Desk
    from postgrad.chat_facts import Known

TEAM = "team"
"""On whose account the answers are paid for."""
RULES = "rules"
"""Who answers where no language model does."""
LONGEST_QUESTION = 4000
"""Characters."""
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

    text = redact(" ".join(text.split()))
    if not text:
        raise BadInput('nothing was said; ask something: postgrad chat RUN "why was e3 discarded?"')
    if len(text) > LONGEST_QUESTION:
        raise BadInput(f"that is longer than {LONGEST_QUESTION} characters; say it in fewer")
    settings = settings or load_settings()
    evidence = gather(settings, Database.open(settings.database), run_id)
    desk = Desk(evidence.row.run_id, Context(home=str(settings.home)))
    notes = {kind: desk.journal.notes(kind) for kind in (CHAT, STEERED, "move")}
    told = _answered(text, known_of(evidence, notes), desk)
    steer = told.pop("steer")
    unsteerable = _why_not(evidence.row, desk) if steer else ""
    kept = {"question": text, **told, "steer": steer.plain() if steer and not unsteerable else None}
    name = f"c{len(notes[CHAT]) + 1}-{secrets.token_hex(2)}"
    desk.journal.note(CHAT, name, {**kept, "at": time.time()})
    return {"run_id": desk.run_id, **kept, "effect": unsteerable or _effect(steer, evidence.row)}


def _answered(text: str, known: Known, desk: Desk) -> dict[str, Any]:
    """`answer`, `cites`, `steer`, `by` and `note`: a language model's where one can be used, or the rules'."""
    from agents import team_chat
    from postgrad.chat_rules import answer_by_rules

    goal, note = known.evidence.goal, ""
    name = model_of(known, desk.settings)
    if name:
        try:
            model = desk.language_model(goal, TEAM, name)
            said = team_chat.ask(text, known.facts(), known.words(), known.ids, known.names, model)
            steer = said.steer_of(text)
            return {"answer": redact(said.answer), "cites": list(said.cites), "steer": steer, "by": name, "note": ""}
        except (Unavailable, BudgetSpent, ContextExhausted) as error:
            note = redact(f"`{name}` has not answered: {error}")
    answer, cites = answer_by_rules(text, known)
    steer = read_steer(text, known.names)
    if steer is not None and not cites:
        answer = _understood(steer)
    return {"answer": redact(answer), "cites": list(cites), "steer": steer, "by": RULES, "note": note}


def model_of(known: Known, settings: Settings) -> str:
    """The language model that speaks for the team: the goal's for all roles, else the first role's; empty for none."""
    brain = known.evidence.goal.brain
    wanted = (brain.default, brain.trainer, brain.researcher, brain.evaluator, brain.data_engineer)
    names = [name for name in (*wanted, "" if brain.default else settings.brain) if name and name != "playbook"]
    return names[0] if names else ""


def _understood(steer: Steer) -> str:
    """What the rules have made of a wish."""
    parts = ["end the search after what has been begun, deliver and measure the best model"] if steer.stop else []
    for what, wishes in (("prefer", steer.prefer), ("avoid", steer.avoid)):
        if wishes:
            parts.append(f"{what} {', '.join(f'the {wish.about} {wish.name}' for wish in wishes)}")
    if parts:
        return f"Understood: {'; '.join(parts)}."
    return (
        "Noted in your words. They name no move, method, recipe or experiment of this run, so the router and the "
        "playbook cannot act on them; roles with a language model are shown them."
    )


def _why_not(row: RunRow, desk: Desk) -> str:
    """Why a run cannot be steered; empty where it can."""
    from graph import ablation, replay

    if row.status in OVER:
        return f"the run has ended ({row.status.value.replace('_', ' ')}): nothing is steered any more"
    if desk.journal.notes(replay.NOTE) or desk.journal.notes(ablation.NOTE):
        return "this run does what its plan says, step by step: it cannot be steered"
    return ""


def _effect(steer: Steer | None, row: RunRow) -> str:
    if steer is None:
        return ""
    waits = row.status in (RunStatus.WAITING, RunStatus.INTERRUPTED, RunStatus.FAILED)
    when = f", once it goes on (it is {row.status.value})" if waits else ""
    return f"it is taken up at the run's next step{when}; jobs that run or wait for approval stay as they are"
