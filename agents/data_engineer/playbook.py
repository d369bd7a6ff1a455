"""The data engineer without a language model: rules for where the training rows come from."""

from __future__ import annotations

import math

from agents.brain import Brief, Move, Proposal
from agents.data_engineer.proposal import (
    EXACT_ONLY,
    NEAR_DUPLICATES,
    DataProposal,
    Generate,
    PublishProposal,
    Verification,
)
from shared_memory.errors import BadInput
from shared_memory.recipes import Recipe, layout_of, recipe_of
from shared_memory.records import Record

HEAD_ROOM = 1.2
"""Rows written for each row wanted: checks, de-duplication and decontamination take some away."""
FEW_ROWS = 100
"""Different rows below which a data set is too small; gains begin at 50 to 100 [OpenAI's guide to fine-tuning]."""
ROWS_A_TOPIC = 10
"""Rows that a topic of the goal's has to have."""
SMALL_MODEL = 1e9
"""Parameters below which a model computes the right value and names the wrong letter (docs/measurements.md)."""


class Decision(Record):
    """Whether rows are written for a goal, and how many: the rules' word on it, for the journal."""

    write: bool
    reasons: tuple[str, ...]
    """What speaks for it, with the numbers; empty where the goal's rows suffice."""
    rows: int = 0
    """To be written."""
    writer: str = ""
    """The generator or the teacher; empty where there is none."""

    @property
    def line(self) -> str:
        why = "; ".join(self.reasons) or "the goal's rows suffice"
        if self.write:
            return f"{self.rows} rows are written by {self.writer}: {why}"
        return f"no rows are written: {why}" + ("" if self.writer or not self.reasons else ", and nobody can write any")


def publish(brief: Brief) -> PublishProposal:
    """The champion's data set, or else the first, to where the goal says; others are ablations."""
    output, champion = brief.goal.output, brief.experiments.get(brief.incumbent)
    dataset = champion.dataset if champion else next(iter(brief.datasets))
    return PublishProposal(dataset=dataset, to=output.data_to, private=output.private)


def decide(brief: Brief) -> Decision:
    """Whether to write rows: never, always, or where the audit of the goal's own rows says that they are needed."""
    data, best = brief.goal.data, _best(brief)
    wanted = best.train_rows
    reasons, missing = _needs(brief, wanted)
    if data.synthesise == "always" and data.train:
        reasons, missing = (*reasons, "`data.synthesise` is always"), max(missing, wanted)
    # A teacher writes replies, not pairs of which one is worse.
    writer = data.generator or (brief.teacher if best.method == "sft" else "")
    allowed = data.synthesise != "never" and not brief.not_written
    return Decision(
        write=bool(reasons and writer) and allowed,
        reasons=reasons,
        rows=math.ceil(missing * HEAD_ROOM),
        writer=writer,
    )


def _needs(brief: Brief, wanted: int) -> tuple[tuple[str, ...], int]:
    """Why the goal's own rows do not suffice, and how many are missing."""
    data, audit = brief.goal.data, brief.audit
    if not data.train:
        return ("`data.train` is empty",), wanted
    if audit is None:
        return (), 0
    reasons, missing = [], 0
    if audit.verdict == "unfit":
        faults = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in audit.findings.items())
        reasons.append(f"the audit finds the {audit.rows} rows unfit ({faults})")
        missing = wanted
    elif audit.distinct < FEW_ROWS:
        reasons.append(f"{audit.distinct} different rows to train on are fewer than {FEW_ROWS}")
        missing = max(FEW_ROWS, wanted) - audit.distinct
    rare = {topic: count for topic, count in audit.topics.items() if count < ROWS_A_TOPIC}
    if rare:
        listed = ", ".join(f"{topic} {count}" for topic, count in rare.items())
        reasons.append(f"topics with fewer than {ROWS_A_TOPIC} rows: {listed}")
        missing = max(missing, sum(ROWS_A_TOPIC - count for count in rare.values()))
    return tuple(reasons), missing


def propose(brief: Brief) -> Proposal:
    """What the move asks for; see `propose_data` and `publish`."""
    return publish(brief) if brief.move is Move.PUBLISH else propose_data(brief)


def propose_data(brief: Brief) -> DataProposal:
    """Have rows written, or name the files to train on.

    Raises BadInput where the goal has no rows that can be trained on and nobody may write any.
    """
    data, best, decision = brief.goal.data, _best(brief), decide(brief)
    place = brief.parameters < SMALL_MODEL
    if brief.generated:
        return DataProposal(
            sources=data.train + brief.generated,
            method=layout_of(best.method),
            near_duplicate_threshold=_threshold(brief),
            rows=None if data.train else best.train_rows,
            place_choice=place,
            why="the goal's files and the generated rows" if data.train else "the generated rows",
        )
    if decision.write:
        return DataProposal(
            generate=Generate(
                script=data.generator,
                teacher="" if data.generator else brief.teacher,
                rows=decision.rows,
                seed=brief.goal.run.seed,
                verify=_verification(brief),
            ),
            near_duplicate_threshold=_threshold(brief),
            method=layout_of(best.method),
            rows=None if data.train else best.train_rows,
            why=f"{'; '.join(decision.reasons)}; {HEAD_ROOM - 1:.0%} more than are missing, for what checks remove",
        )
    unfit = brief.audit is not None and brief.audit.verdict == "unfit"
    must = data.synthesise == "always" and not brief.not_written
    if not data.train or unfit or must:
        raise BadInput(_no_way(brief, decision))
    why = ["the goal brings its training data", *decision.reasons]
    if brief.not_written:  # not for what reason: it quotes rows, and a language model is shown this
        why.append("rows that were written are not used")
    return DataProposal(
        sources=data.train,
        method=layout_of(best.method),
        near_duplicate_threshold=NEAR_DUPLICATES,
        place_choice=place,
        why="; ".join(why),
    )


def _no_way(brief: Brief, decision: Decision) -> str:
    """Why there is nothing to train on, and what to do about it."""
    data, why = brief.goal.data, "; ".join(decision.reasons)
    if brief.not_written:
        return f"{why}, and no rows were written: {brief.not_written}; mend that, and start a new run"
    if data.synthesise == "never":
        return f"there is nothing to train on: {why} and `data.synthesise` is never; name a file"
    if brief.no_teacher:
        return f"{why} and there is no `data.generator`; {brief.no_teacher}"
    return (
        f"{why} and there is no `data.generator`; name a file to train on, a script that writes rows, "
        "or a model that does, as `data.teacher`"
    )


def _verification(brief: Brief) -> Verification:
    """A script computes its answers; of a teacher's, letters can be voted on, and other replies be judged."""
    if brief.goal.data.generator:
        return "computed"
    return "majority" if brief.choices else "judge"


def _threshold(brief: Brief) -> float:
    """Rows that one script wrote share most of their words, and two of them are still two questions."""
    return EXACT_ONLY if brief.goal.data.generator and not brief.goal.data.train else NEAR_DUPLICATES


def _best(brief: Brief) -> Recipe:
    if brief.recipes:
        return next(iter(brief.recipes.values()))
    teacher = {"teacher": brief.goal.distill_from} if brief.method == "distill" else {}
    return recipe_of({"id": "default", "method": brief.method, **teacher})
