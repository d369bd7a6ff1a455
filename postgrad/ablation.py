"""Learns what the parts of a run's champion are worth, as a run of its own: each part left out, all else the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from postgrad import api
from postgrad.decide import Decide
from postgrad.events import Event
from shared_memory.database import Database
from shared_memory.errors import BadInput
from shared_memory.goal import Goal
from shared_memory.journal import Journal
from shared_memory.records import MICRO_USD
from shared_memory.redaction import redact_plain
from shared_memory.runs import Runs, RunStatus, new_run_id
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from graph.context import Desk
    from graph.pinned import Original
    from shared_memory.ablations import Variant


@dataclass(frozen=True)
class Wish:
    """What a person wants to know, and what it may take."""

    components: Sequence[str] | None = None
    """Parts to leave out, one at a time; None takes all of them, unless there are factors."""
    seeds: int = 0
    """Trainings of the same recipe by other seeds: how much a score moves by itself."""
    factorial: Sequence[str] = ()
    """Two or three parts, of which every combination is left out."""
    usd: float | None = None
    hours: float | None = None
    jobs: int | None = None
    """Caps; None takes the dollars that the first run has left of its own, and its hours and jobs anew."""
    parallel: int | None = None
    approve: str | None = None


def ablate(
    run_id: str,
    *,
    components: Sequence[str] | None = None,
    seeds: int = 0,
    factorial: Sequence[str] = (),
    usd: float | None = None,
    hours: float | None = None,
    jobs: int | None = None,
    parallel: int | None = None,
    approve: Literal["ask", "paid", "auto"] | None = None,
    decide: Decide | None = None,
    on_event: Callable[[Event], None] | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Train the champion of a run without each of its parts, and say what these are worth; see `outcome`.

    run_id: its id, the beginning of it, or `last`; a run that is itself an ablation is gone on with. The other options
    are those of `Wish`. Raises BadInput where the run has no champion of its own, a part is not among those that it
    has, or something that the champion stands on is not what it was.
    """
    settings = settings or load_settings()
    wish = Wish(components, seeds, factorial, usd, hours, jobs, parallel, approve)
    own = open_ablation(settings, run_id, wish)
    api.resume(own, decide=decide, on_event=on_event, settings=settings)
    told = outcome(settings, own)
    rewrite_report(settings, told)
    return told


def open_ablation(settings: Settings, run_id: str, wish: Wish) -> str:
    """Check the champion, plan what is varied about it, and register a run that does so; returns that run's id."""
    from graph.ablation import NOTE
    from graph.ablation_plan import reference_of

    desk = _desk(settings, run_id)
    if desk.journal.notes(NOTE):
        return desk.run_id
    original, variants, goal = _planned(desk, wish)
    own = new_run_id(goal.text)
    note = {
        "of": desk.run_id,
        "champion": original.champion.id,
        "reference": reference_of(original).id,
        "variants": [variant.plain() for variant in variants],
    }
    with desk.db.transaction():
        Runs(desk.db).create(own, goal, time.time())
        Journal(desk.db, own).note(NOTE, NOTE, note)
    settings.run_paths(own).root.mkdir(parents=True, exist_ok=True)
    return own


def _desk(settings: Settings, run_id: str) -> Desk:
    from graph.context import Context, Desk

    db = Database.open(settings.database)
    return Desk(Runs(db).get(run_id).run_id, Context(home=str(settings.home)))


def _planned(desk: Desk, wish: Wish) -> tuple[Original, tuple[Variant, ...], Goal]:
    """The champion, what is varied about it, and the goal of the run that does so."""
    from graph.ablation_plan import choose, read_champion

    if wish.seeds < 0:
        raise BadInput(f"{wish.seeds} seeds cannot be trained by; give 0 or more")
    original = read_champion(desk)
    variants = choose(original, wish.components, wish.seeds, wish.factorial)
    spend = desk.budget(original.goal).spent()
    left = original.goal.limits.usd_micro - spend.usd_micro - spend.held_usd_micro
    goal = api.as_goal(
        original.goal,
        text=f"Ablate {desk.run_id}: {original.goal.text}",
        usd=max(0, left) / MICRO_USD if wish.usd is None else wish.usd,
        hours=wish.hours,
        jobs=wish.jobs,
        parallel=wish.parallel,
        approve=wish.approve,
    )
    return original, variants, goal


def show_plan(settings: Settings, run_id: str, wish: Wish, as_json: bool) -> None:
    """What would be trained, with its worst cost; nothing is started or registered."""
    from agents.trainer.training import rows_of
    from graph.ablation import NOTE
    from graph.ablation_plan import reference_of
    from graph.forecast import forecast_of_variants
    from postgrad.plan_only import print_plan
    from shared_memory.records import recipe_of

    desk = _desk(settings, run_id)
    if desk.journal.notes(NOTE):
        raise BadInput(f"run {desk.run_id} is an ablation and has its plan; name the run whose champion it is about")
    original, variants, goal = _planned(desk, wish)
    reference = reference_of(original)
    measured = reference.train.get("tokens_per_second") if goal.run.on == "local" else None
    stored = original.dataset.model_copy(update={"path": str(desk.paths.stored(original.dataset.digest))})
    plans = []
    for variant in variants:
        recipe = recipe_of({**reference.recipe.plain(), **variant.numbers})
        plans.append((f"{reference.id} {variant.change}", recipe, rows_of(stored, recipe.max_length).tokens))
    facts = {
        "of": desk.run_id,
        "champion": original.champion.id,
        "reference": reference.id,
        "variants": [variant.model_dump(mode="json", include={"part", "kind", "change"}) for variant in variants],
    }
    plan = forecast_of_variants(goal, original.model, plans, measured)
    print_plan(plan, goal.run.approve, as_json, **facts)


def outcome(settings: Settings, run_id: str) -> dict[str, Any]:
    """What an ablation has come to so far; the JSON of `postgrad ablate --json`:

    `{run_id, of, status, error, champion, reference, benchmark, variants [{experiment, part, kind, change, status
    (not tried | planned | trained | evaluated | crashed), error}], effects [{part, kind, change, given, other, delta,
    stderr, ci_low, ci_high, p_value, p_holm, n, unit, higher_is_better, shrunken, raised}], interactions [the same],
    noise {experiments, seeds, scores, deviation, n} or null}`; all of it on selection items.
    """
    from graph.ablation import NOTE

    db = Database.open(settings.database)
    row = Runs(db).get(run_id)
    note = Journal(db, row.run_id).notes(NOTE)[NOTE]
    table = note.get("table", {})
    told = {
        "run_id": row.run_id,
        **{key: note[key] for key in ("of", "champion", "reference")},
        "status": row.status.value,
        "error": row.error,
        "benchmark": Goal.model_validate(row.goal).primary.id,
        "variants": note.get("outcomes", []),
        "effects": table.get("effects", []),
        "interactions": table.get("interactions", []),
        "noise": table.get("noise"),
    }
    redacted: dict[str, Any] = redact_plain(told)
    return redacted


def rewrite_report(settings: Settings, told: dict[str, Any]) -> None:
    """The report of the run whose champion it is about, with what is known of it now."""
    from postgrad.report.write import write_report

    if told["status"] != RunStatus.WAITING and told["effects"]:
        write_report(settings, Database.open(settings.database), told["of"])


def show(told: dict[str, Any]) -> None:
    """The outcome for a person, on stdout."""
    from postgrad.report.ablations import HEAD, noise_words, rows_of
    from postgrad.tables import show_facts, show_rows
    from shared_memory.ablations import EffectTable

    table = EffectTable.model_validate(
        {"champion": told["champion"], **{key: told[key] for key in ("effects", "interactions", "noise")}}
    )
    if table.effects or table.interactions:
        show_rows(HEAD, rows_of(table))
    open_ends = [each for each in told["variants"] if each["status"] != "evaluated"]
    facts = {
        "run": f"{told['run_id']} · {told['status'].replace('_', ' ')}",
        "about": f"{told['champion']} of {told['of']}",
    }
    facts |= {"because": told["error"]} if told["error"] else {}
    facts |= {"noise": noise_words(table.noise)} if table.noise else {}
    facts |= {each["experiment"]: f"{each['change']}: {each['status']} {each['error']}".strip() for each in open_ends}
    show_facts(facts)
