"""What the evaluator's language model can work out before it says why: how two models differ on the selection items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.brain import Brief, Move
from agents.evaluator.benchmarks.benchmark import load_benchmark
from agents.evaluator.scored import item_scores
from agents.evaluator.statistics import paired_comparison
from agents.prompting import compact
from shared_memory.records import EvalResult, Part

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool


def tools_of(brief: Brief) -> list[BaseTool]:
    """The tools of a move; none before there are two scores to compare."""
    if brief.move is not Move.CONFIRM or not brief.experiments:
        return []
    from langchain_core.tools import tool

    @tool
    def compare_scores(baseline: str, candidate: str, benchmark: str = "") -> str:
        """Paired difference of two scored models (`baseline` or an experiment's id) on the selection items."""
        entry = next((each for each in brief.goal.benchmark if each.id == benchmark), brief.goal.primary)
        results = [_selection(brief, name, entry.id) for name in (baseline, candidate)]
        if None in results:
            scored = sorted({each.experiment for each in brief.results.values() if each.part is Part.SELECTION})
            return f"only these have a score on the selection items of {entry.id}: {', '.join(scored)}"
        loaded = load_benchmark(entry)
        before, after = (item_scores(result, loaded) for result in results if result)
        shared = before.keys() & after.keys()
        compared = paired_comparison({key: before[key] for key in shared}, {key: after[key] for key in shared})
        return compact({key: getattr(compared, key) for key in ("delta", "ci_low", "ci_high", "p_value", "n", "mde")})

    return [compare_scores]


def _selection(brief: Brief, experiment: str, benchmark: str) -> EvalResult | None:
    return brief.results.get(f"{experiment}/{benchmark}/{Part.SELECTION}")
