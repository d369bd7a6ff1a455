"""What the trainer's language model can look at: the logs of its jobs, and the training script's own source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.brain import Brief, Move
from agents.jobs.log_file import tail_of
from agents.trainer.methods import SCRIPT_FILES, SCRIPTS
from agents.workbench import Workbench

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

LOG = "log.txt"
"""Of a job, in its folder; every runner brings it home under this name."""
MOVES = (Move.DRAFT, Move.DEBUG, Move.IMPROVE)
"""Those for which there is something to find out."""


def tools_of(brief: Brief, bench: Workbench) -> list[BaseTool]:
    """The tools of a move; none where its answer is in the facts."""
    if brief.move not in MOVES:
        return []
    from langchain_core.tools import tool

    @tool
    def read_log(experiment: str) -> str:
        """The end of the log of an experiment's latest job: losses, warnings, the traceback of a crash."""
        known = brief.experiments.get(experiment)
        if known is None:
            return f"there is no experiment {experiment!r}; there are {', '.join(brief.experiments) or 'none'}"
        if not known.jobs or bench.jobs is None:
            return f"{experiment} has had no job"
        return tail_of(bench.jobs / known.jobs[-1] / LOG) or f"{experiment} left no log"

    @tool
    def read_training_script(file: str = SCRIPT_FILES[0]) -> str:
        """The source of the script that trains, or of a file that it imports; a script of yours may import them too."""
        if file not in SCRIPT_FILES:
            return f"there is no {file!r}; there are {', '.join(SCRIPT_FILES)}"
        return (SCRIPTS / file).read_text(encoding="utf-8")

    return [read_log, read_training_script]
