"""What an ablation varies about a champion: it is checked, and its variants are chosen, before anything begins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from agents.data_engineer.leaving_out import variants_of
from agents.evaluator import ablations, evaluation
from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.trainer import training
from graph.context import Desk
from graph.pinned import BASELINE, Original, read_original, require_scores, verify
from graph.state import Plain
from shared_memory.ablations import Variant
from shared_memory.errors import BadInput
from shared_memory.records import DatasetRecord, EvalResult, Experiment, Part, Purpose

LEARNED = "ablated"
"""Kind of the notes of the first run: id of an ablation → the same."""


def read_champion(desk: Desk) -> Original:
    """The champion of the desk's run with all that it stands on, checked byte by byte.

    Raises BadInput where it has none of its own, or something is not what it was.
    """
    champion = desk.journal.notes("champion").get("champion", {}).get("experiment", "")
    if champion == BASELINE:
        raise BadInput(f"run {desk.run_id} has nothing to ablate: its champion is the base model; improve on it first")
    original = read_original(desk)
    verify(original)
    for name in (BASELINE, reference_of(original).id):
        result = selection_of(original, name)
        if result is None:
            raise BadInput(f"{name} of run {desk.run_id} was not scored on the selection items; start a new run")
        require_scores(result, load_benchmark(original.goal.primary))
    _require_same_scripts(original)
    return original


def reference_of(original: Original) -> Experiment:
    """The experiment that parts are taken away from; see `ablations.reference_of`."""
    return original.lineage[0]


def selection_of(original: Original, name: str) -> EvalResult | None:
    return original.desk.journal.all(EvalResult).get(f"{name}/{original.goal.primary.id}/{Part.SELECTION}")


def _require_same_scripts(original: Original) -> None:
    """Raise BadInput where variants would be trained or scored by another program than the champion was."""
    trained_by = Path(original.goal.run.script or training.SCRIPT)
    now = {
        Purpose.TRAINING: _digests_beside(trained_by) | {each.script for each in original.lineage},
        Purpose.EVALUATION: set().union(*(_digests_beside(script) for script in evaluation.SCRIPTS.values())),
    }
    for pinned in original.path:
        for name, digest in pinned.spec.files.items():
            if name.endswith(".py") and digest not in now.get(pinned.spec.purpose, {digest}):
                raise BadInput(
                    f"{name} of “{pinned.spec.title}” is another one by now, so nothing could be compared; bring that "
                    "version of postgrad back, or run the goal again"
                )


def _digests_beside(script: Path) -> set[str]:
    """Of a script and of what it may import."""
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in script.parent.glob("*.py")}


def choose(original: Original, parts: Sequence[str] | None, seeds: int, factors: Sequence[str]) -> tuple[Variant, ...]:
    """What is to be varied: the parts that are named and the factors, or else all that nobody has left out yet;
    combinations of the factors; other seeds.

    Raises BadInput for a part that there is not, for factors that make no sweep, and where nothing would be varied.
    """
    reference = reference_of(original)
    experiments = original.desk.journal.all(Experiment)
    data = variants_of(original.dataset)
    every = ablations.leave_one_out(reference, experiments, original.desk.journal.recipes(), data)
    chosen = [_named(name, every) for name in dict.fromkeys((*(parts or ()), *factors))]
    if parts is None and not factors:
        chosen = _unmeasured(every, original)
    try:
        sweep = ablations.factorial([_named(name, every) for name in factors]) if factors else ()
    except ValueError as error:
        raise BadInput(f"{error}; see --factorial") from error
    planned = (*chosen, *sweep, *ablations.seeds(seeds, original.goal.run.seed))
    if not planned:
        raise BadInput(
            f"no part of {reference.id} is left to leave out; --seeds N trains it again by other seeds, --components "
            f"measures some once more: {', '.join(Path(variant.part).name for variant in every)}"
        )
    return planned


def _unmeasured(every: Sequence[Variant], original: Original) -> list[Variant]:
    """Those that neither the run's own experiments nor an earlier ablation have a score of."""
    journal = original.desk.journal
    experiments, datasets = journal.all(Experiment), journal.all(DatasetRecord)
    scored = {name: each for name, each in experiments.items() if each.status == "evaluated"}
    learned = {
        (each["part"], each["change"])
        for note in journal.notes(LEARNED).values()
        for each in note["outcomes"]
        if each["status"] == "evaluated"
    }
    untried = ablations.untried(every, reference_of(original).id, scored, datasets)
    return [variant for variant in untried if (variant.part, variant.change) not in learned]


def _named(name: str, every: Sequence[Variant]) -> Variant:
    """The variant of a part; a source may be called by its file's name."""
    found = [variant for variant in every if name in (variant.part, Path(variant.part).name)]
    if len(found) != 1:
        known = ", ".join(Path(variant.part).name for variant in every)
        raise BadInput(f"there is no part {name!r} to leave out; known here: {known}")
    return found[0]


def named(note: Plain) -> dict[str, Variant]:
    """Id of the experiment → the variant that it is, in the order in which they are trained."""
    return {f"a{number}": Variant.model_validate(plain) for number, plain in enumerate(note["variants"], 1)}
