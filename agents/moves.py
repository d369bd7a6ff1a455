"""What a language model is asked where the rules allow more than one move: which of them, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import create_model

from agents.brain import Brief, Proposal, Role
from agents.loop import work
from agents.prompting import COMMON, conversation, facts_of, fill, words_of
from agents.workbench import Workbench

CHOOSE = "choose"
"""What the facts call this question where those of a role name a move."""
OF_A_MOVE = ("move", "experiment", "room", "unscored", "unmeasured")
"""Facts that say something only once a move is chosen."""


class MoveProposal(Proposal):
    """The move that is to be made."""

    choice: int = 1
    """Its number among those that are allowed; the first is the playbook's own."""
    why: str = ""

    def summary(self) -> str:
        return self.why or f"choice {self.choice}"


def propose(
    brief: Brief, bench: Workbench, allowed: Sequence[Mapping[str, Any]], experiments_left: int
) -> MoveProposal:
    """The model's choice among `allowed`, each with its `move`, its `experiment` and what it `means`.

    A loop without tools, whose schema lets nothing else pass. Raises what `LanguageModel.ask` raises.
    """
    numbered = [{"choice": number, **entry} for number, entry in enumerate(allowed, 1)]
    known = {key: value for key, value in facts_of(brief).items() if key not in OF_A_MOVE}
    facts = {**known, "move": CHOOSE, "allowed": numbered, "experiments_left": experiments_left}
    kind = _one_of(len(allowed))
    task = fill(COMMON / "choose.md")
    messages = partial(conversation, fill(COMMON / "move.md"), task, facts, words_of(brief), kind)
    return MoveProposal.model_validate(work(bench, str(Role.TRAINER), kind, messages, (), lambda given: "").plain())


def _one_of(count: int) -> type[MoveProposal]:
    numbers: Any = Literal[tuple(range(1, count + 1))]
    kind: type[MoveProposal] = create_model("MoveProposal", __base__=MoveProposal, choice=(numbers, ...))
    return kind
