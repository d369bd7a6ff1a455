"""What the team has on record of a run, as a language model is shown it that answers a person's question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents import moves
from agents.brain import Brief, Move
from agents.prompting import facts_of, words_of
from postgrad.answer import BASELINE, answer
from postgrad.report.evidence import Evidence
from postgrad.summary import summary_of
from shared_memory.records import Part
from shared_memory.steering import Names

EARLIER = 5
"""Questions before this one that are shown with their answers."""


@dataclass(frozen=True)
class Known:
    """A run, ready to be asked about."""

    evidence: Evidence
    summary: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]]
    """Of the journal, by kind: `chat`, `steered`, `move`."""
    driven: bool = True
    """False where the run says that it goes on, and the process that drove it is gone."""
    unsteerable: str = ""
    """Why nothing that a person wishes can change what it does; empty where something can."""

    @property
    def claimed(self) -> bool:
        """Whether the comparison on the report items is made: before, nobody is told of a score on them."""
        return bool(self.evidence.comparisons)

    @property
    def ids(self) -> set[str]:
        """Everything that an answer may cite."""
        found = self.evidence
        results = {key for key, result in found.results.items() if result.part is Part.SELECTION or self.claimed}
        named = (found.experiments, found.recipes, found.datasets, found.findings, found.benchmarks, results)
        return {BASELINE, *(name for names in named for name in names)}

    @property
    def names(self) -> Names:
        return Names(recipes=tuple(self.evidence.recipes), experiments=tuple(self.evidence.experiments))

    def facts(self) -> dict[str, Any]:
        """As values that cannot hold a sentence, but for ours."""
        found, told = self.evidence, self.summary
        known = {key: value for key, value in facts_of(self._brief()).items() if key not in moves.OF_A_MOVE}
        return {
            **known,
            "status": told["status"],
            "driven": self.driven,
            "steering": self.unsteerable or "possible",
            "outcome": told["outcome"],
            "so_far": answer(told),
            "baseline": told["baseline"] if self.claimed else self._selection(BASELINE),
            "champion": told["champion"] if self.claimed else {"experiment": found.champion},
            "scores": {name: self._selection(name) for name in found.experiments},
            "spent": told["spent"],
            "limits": found.goal.limits.model_dump(mode="json"),
            "waits_for": [request["experiment"] for request in (found.row.request or {}).get("requests", ())],
            "decisions": [
                decision.model_dump(mode="json", include={"approved", "by", "at"}) for decision in found.decisions
            ],
        }

    def words(self) -> dict[str, Any]:
        """What people, models and programs wrote."""
        found = self.evidence
        earlier = list(self.notes["chat"].values())[-EARLIER:]
        told = ("move", "experiment", "by", "why")
        return {
            **words_of(self._brief()),
            "error": found.row.error,
            "refusals": [decision.reason for decision in found.decisions if not decision.approved],
            "moves": [{key: note[key] for key in told} for note in self.notes["move"].values()],
            "steers": [note["text"] for note in self.notes["steered"].values()],
            "earlier": [{"question": note["question"], "answer": note["answer"]} for note in earlier],
        }

    def _brief(self) -> Brief:
        found = self.evidence
        return Brief(
            goal=found.goal,
            move=Move.STOP,
            findings=found.findings,
            recipes=found.recipes,
            datasets=found.datasets,
            experiments=found.experiments,
            results=found.results,
        )

    def _selection(self, name: str) -> dict[str, Any] | None:
        result = self.evidence.selection_result(name)
        return result.model_dump(mode="json", include={"score", "stderr", "n", "unit"}) if result else None


def known_of(
    evidence: Evidence, notes: Mapping[str, Mapping[str, Any]], *, driven: bool = True, unsteerable: str = ""
) -> Known:
    return Known(evidence, summary_of(evidence), notes, driven, unsteerable)
