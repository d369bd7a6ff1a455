"""What a run learns from the runs before it, and leaves to those after it.

Lessons are put together here from records: numbers, ids and words of ours. What a language model, a log or a row says
does not get into one, so nothing can be passed on by way of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from agents.brain import Brief, Move
from agents.evaluator import ablations, scored
from agents.evaluator.benchmarks.benchmark import Benchmark
from graph import routing
from graph.briefing import benchmarks_of, model_of
from graph.context import Desk
from graph.state import RunState
from graph.variants import effects_of
from shared_memory.ablations import Effect
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.lessons import CLAIM, Conditions, Lesson, Lessons, Measured, family_of
from shared_memory.recipes import title_of
from shared_memory.records import ComparisonResult, DatasetRecord, EvalResult, Experiment, Part, Verdict

NOTE = "lessons"
"""Kind and id of the journal's note on the lessons that a run was given: `{lines}`."""
MOST = 8
"""Lessons that a run is given."""
LOOKED_AT = 400
"""Lessons that these are chosen from: many runs of one goal leave the same ones over and over."""


def recall(goal: Goal, trains: tuple[str, ...], desk: Desk) -> None:
    """Look up once what earlier runs of this home learned that bears on the goal, and put it on record.

    What was measured on report items stays out: a search that knew it would steer by them. Of lessons on the same
    attempt with the same outcome, the best one stands for all.
    """
    if NOTE in desk.journal.notes(NOTE):
        return
    method = Brief(goal=goal, move=Move.RESEARCH, trains=trains).method
    found = Lessons(desk.db).find(like=_conditions(goal, method), but=desk.run_id, limit=LOOKED_AT)
    steering = [each for each in found if each.effect is None or each.effect.part != Part.REPORT.value]
    different: dict[tuple[str, str], Lesson] = {}
    for lesson in steering:
        different.setdefault((lesson.tried, lesson.outcome), lesson)
    desk.journal.note(NOTE, NOTE, {"lines": [lesson.line for lesson in list(different.values())[:MOST]]})


def recalled(desk: Desk) -> tuple[str, ...]:
    """The lessons that the run was given, a line each."""
    return tuple(desk.journal.notes(NOTE).get(NOTE, {}).get("lines", ()))


def learn(state: RunState, desk: Desk) -> None:
    """File what the run has to pass on: every experiment, what the champion's parts are worth, and the claim.

    Done again, it changes nothing. What cannot be measured any more (a benchmark's file is gone) is left out.
    """
    lessons = Lessons(desk.db)
    try:
        for lesson in _lessons(state, desk):
            lessons.put(desk.run_id, lesson)
    except (PostgradError, OSError, ValueError) as error:
        desk.emit("note", text=f"not all lessons of this run could be put on record: {str(error).splitlines()[0]}")


def _lessons(state: RunState, desk: Desk) -> Iterator[Lesson]:
    experiments = routing.experiments_of(state)
    if not experiments:
        return
    goal = routing.goal_of(state)
    datasets = {key: DatasetRecord.model_validate(plain) for key, plain in state.get("datasets", {}).items()}
    results = {key: EvalResult.model_validate(plain) for key, plain in state.get("results", {}).items()}
    benchmark = benchmarks_of(goal)[goal.primary.id]
    for experiment in experiments.values():
        yield _of_experiment(experiment, experiments, datasets, goal, benchmark, state, desk)
    best = routing.incumbent(state)
    if best not in experiments:
        return
    conditions = _conditions(goal, experiments[best].recipe.method, datasets.get(experiments[best].dataset))
    known = effects_of(ablations.reference_of(best, experiments), goal, experiments, datasets, results)
    for effect in known.effects:
        yield _of_part(effect, conditions, desk)
    claim = state.get("claims", {}).get(goal.primary.id)
    if claim is not None:
        yield _of_claim(ComparisonResult.model_validate(claim), conditions, desk)


def _of_experiment(
    experiment: Experiment,
    experiments: dict[str, Experiment],
    datasets: dict[str, DatasetRecord],
    goal: Goal,
    benchmark: Benchmark,
    state: RunState,
    desk: Desk,
) -> Lesson:
    after = routing.selection_result(state, experiment.id)
    before = routing.selection_result(state, experiment.parent) or routing.selection_result(state, routing.BASELINE)
    measured = None
    if after is not None and before is not None and after.settings_digest == before.settings_digest:
        measured = _measured(scored.claim(before, after, benchmark), before.experiment, Part.SELECTION)
    outcome = str(experiment.verdict or experiment.status)
    if experiment.verdict is Verdict.CRASH and experiment.diagnosis:
        outcome = f"crash: {experiment.diagnosis.kind}"
    return Lesson(
        run=desk.run_id,
        experiment=experiment.id,
        tried=_tried(experiment, experiments, datasets),
        conditions=_conditions(goal, experiment.recipe.method, datasets.get(experiment.dataset)),
        outcome=outcome,
        effect=measured,
    )


def _tried(experiment: Experiment, experiments: dict[str, Experiment], datasets: dict[str, DatasetRecord]) -> str:
    """What was trained, and where it differs from its parent, from the numbers alone."""
    recipe = experiment.recipe
    adapter = f"LoRA r{recipe.lora.r}" if recipe.lora else "all weights"
    whole = f"{title_of(recipe.method)}, {adapter}, lr {recipe.learning_rate:g}, batch {recipe.batch}"
    whole += f", {recipe.epochs} epochs" if recipe.epochs > 1 else ""
    whole += ", by a script of its own" if experiment.script else ""
    if experiment.parent not in experiments:
        return whole
    own, other = (ablations.makeup(name, experiments, datasets) for name in (experiment.id, experiment.parent))
    changes = [
        "other data" if part == ablations.DATA else f"{_called(part)} {_change(part, other, own)}"
        for part in ablations.differing(own, other)
    ]
    return f"{experiment.parent} with {', '.join(changes) or 'nothing changed'}; {whole}"


def _change(part: str, before: ablations.Makeup, after: ablations.Makeup) -> str:
    return ablations.change_of(part, before.get(part), after.get(part))


def _called(part: str) -> str:
    """A part as a person calls it; a source of data by its file's name."""
    return ablations.words_of(PurePath(part).name)


def _of_part(effect: Effect, conditions: Conditions, desk: Desk) -> Lesson:
    return Lesson(
        run=desk.run_id,
        experiment=f"part:{PurePath(effect.part).name}",
        tried=f"what {_called(effect.part)} is worth ({effect.change}), {effect.given} against {effect.other}",
        conditions=conditions,
        outcome="matters" if effect.matters else "hardly matters",
        effect=Measured(
            against=effect.other, delta=effect.delta, ci_low=effect.ci_low, ci_high=effect.ci_high, n=effect.n,
            unit=effect.unit, higher_is_better=effect.higher_is_better,
        ),
    )  # fmt: skip


def _of_claim(claim: ComparisonResult, conditions: Conditions, desk: Desk) -> Lesson:
    return Lesson(
        run=desk.run_id,
        experiment=CLAIM,
        tried=f"the champion {claim.experiment}, measured once",
        conditions=conditions,
        outcome="win" if claim.win else "no win",
        effect=_measured(claim, routing.BASELINE, Part.REPORT),
    )


def _measured(compared: ComparisonResult, against: str, part: Part) -> Measured:
    return Measured(
        against=against, delta=compared.delta, ci_low=compared.ci_low, ci_high=compared.ci_high, n=compared.n,
        unit=compared.unit, higher_is_better=compared.higher_is_better, part=part.value,
    )  # fmt: skip


def _conditions(goal: Goal, method: str, dataset: DatasetRecord | None = None) -> Conditions:
    model = model_of(goal)
    hub = [name for name in goal.data.train if "/" in name and not PurePath(name).is_absolute()]
    kinds = [
        *(["a generator's rows"] if goal.data.generator else []),
        *(["a language model's rows"] if goal.data.teacher and not goal.data.generator else []),
        *(hub[:3] or (["rows of one's own"] if goal.data.train else [])),
    ]
    return Conditions(
        benchmark=goal.primary.id if goal.benchmark else "",
        method=method,
        family=family_of(goal.base_model),
        parameters=model.parameters,
        data=" and ".join(kinds),
        rows=dataset.rows if dataset else 0,
    )
