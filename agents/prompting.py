"""What a role's language model is sent: its prompts, filled, and the brief as facts and as fenced words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jinja2 import Environment, StrictUndefined

from agents.brain import Brief, Proposal
from agents.loop import work
from agents.provider import Message
from agents.tools.shared import shared
from agents.workbench import Workbench
from shared_memory.records import Experiment, Part, Record, canonical_digest
from shared_memory.redaction import redact

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

COMMON = Path(__file__).parent / "prompts"
LONGEST_TEXT = 2000
"""Characters of a text from outside that are shown: its end, where a log says what happened."""

WORDS_OF_A_RECIPE = {"reason", "source", "expected", "cost", "risk"}
FIGURES = ("train_loss", "steps", "rows", "left_out", "tokens", "tokens_per_second", "peak_memory_gib", "seconds")
"""Of a training, as our script calls them; names that another script gives are words from outside."""
MOST_REPORTED = 20
"""Numbers of one training that are shown beside them."""

P = TypeVar("P", bound=Proposal)


def propose(
    brief: Brief,
    bench: Workbench,
    kind: type[P],
    prompts: Path,
    fault: Callable[[P, Brief], str],
    tools: Sequence[BaseTool] = (),
    **more_facts: Any,
) -> P:
    """The role's system prompt, the move's prompt and the brief; back comes a `kind`.

    With `tools`, or those of the workbench, the model looks things up first; without any it is one structured call.
    `fault` says what pydantic cannot: whether the proposal fits the brief. Raises what `LanguageModel.ask` raises.
    """
    task = fill(prompts / f"{brief.move.value}.md", **variables(brief))
    facts = {**facts_of(brief), **more_facts}
    messages = partial(conversation, fill(prompts / "system.md"), task, facts, words_of(brief), kind)
    role = str(brief.move.role)
    every = [*tools, *shared(brief, bench, facts), *bench.tools]
    return work(bench, role, kind, messages, every, lambda given: fault(given, brief))


def conversation(
    system: str, task: str, facts: Mapping[str, Any], words: Mapping[str, Any], kind: type[Record], call: str = ""
) -> list[Message]:
    """System and user message; what came from outside stands in a fence that nothing inside it can close.

    call: the tool by which the record is handed in; empty for an answer in JSON.
    """
    fenced = compact(words)
    user = fill(
        COMMON / "brief.md",
        task=task,
        facts=compact(facts),
        words=fenced,
        mark=canonical_digest(fenced)[:16],  # nobody can write the digest of a text into that text
        call=call,
        schema="" if call else compact(kind.model_json_schema()),
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def fill(template: Path, **values: Any) -> str:
    """A Markdown prompt with its variables; raises jinja2.UndefinedError for one that has no value."""
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - prompts are Markdown
    return environment.from_string(template.read_text(encoding="utf-8")).render(values).strip()


def compact(value: Any) -> str:
    """JSON in one line, without what UTF-8 cannot hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace").decode()


def variables(brief: Brief) -> dict[str, Any]:
    """What a move's prompt may name."""
    return {"experiment": brief.experiment, "incumbent": brief.incumbent, "room": brief.room}


def facts_of(brief: Brief) -> dict[str, Any]:
    """What the team knows, as values that cannot hold a sentence: numbers, ids, names of files.

    Of scores, those on the selection items alone: a model that sees the report items would steer by them.
    """
    return {
        **variables(brief),
        "move": brief.move.value,
        "unscored": list(brief.unscored),
        "unmeasured": list(brief.unmeasured),
        "parameters": brief.parameters,
        "trains": list(brief.trains),
        # The address of a model server may hold a password.
        "goal": brief.goal.model_dump(mode="json", exclude={"text", "brain"}),
        "findings": {key: {"confidence": finding.confidence} for key, finding in brief.findings.items()},
        "recipes": {
            key: recipe.model_dump(mode="json", exclude=WORDS_OF_A_RECIPE) for key, recipe in brief.recipes.items()
        },
        "datasets": {
            key: dataset.model_dump(mode="json", include={"method", "rows", "contamination"})
            for key, dataset in brief.datasets.items()
        },
        "experiments": {key: _experiment(experiment) for key, experiment in brief.experiments.items()},
        "results": {
            key: result.model_dump(mode="json", include=_OF_A_RESULT)
            for key, result in brief.results.items()
            if result.part is Part.SELECTION
        },
        "generated": list(brief.generated),
        # A person's own words, which are no material to judge: the one sentence among the facts.
        **({"wishes": list(brief.wishes)} if brief.wishes else {}),
    }


_OF_A_RESULT = {
    "experiment", "benchmark", "score", "stderr", "n", "unit", "higher_is_better", "answered",
    "accuracy_given_answered", "truncated",
}  # fmt: skip


def _experiment(experiment: Experiment) -> dict[str, Any]:
    shown = {"branch", "parent", "recipe", "dataset", "continues", "status", "verdict", "adapter"}
    plain = experiment.model_dump(mode="json", include=shown, exclude={"recipe": WORDS_OF_A_RECIPE})
    kind = experiment.diagnosis.kind if experiment.diagnosis else None
    train = {key: number for key, number in _numbers(experiment) if key in FIGURES}
    return {**plain, "train": train, "diagnosis": kind}


def _reported(experiment: Experiment) -> dict[str, float]:
    """Numbers of a training under names of its script's own."""
    return dict([(key[:60], number) for key, number in _numbers(experiment) if key not in FIGURES][:MOST_REPORTED])


def _numbers(experiment: Experiment) -> list[tuple[str, float]]:
    return [(key, value) for key, value in experiment.train.items() if isinstance(value, int | float)]


def words_of(brief: Brief) -> dict[str, Any]:
    """What people and programs wrote, by where it belongs."""
    selection = {key: result for key, result in brief.results.items() if result.part is Part.SELECTION}
    words = {
        "goal": brief.goal.text,
        "findings": {key: {"claim": each.claim, "source": each.source} for key, each in brief.findings.items()},
        "recipes": {key: each.model_dump(include=WORDS_OF_A_RECIPE) for key, each in brief.recipes.items()},
        "datasets": {
            key: each.model_dump(mode="json", include={"source", "licence", "steps", "findings"})
            for key, each in brief.datasets.items()
        },
        "experiments": {
            key: {
                **each.model_dump(include={"change", "why", "error"}),
                "evidence": each.diagnosis.evidence if each.diagnosis else "",
            }
            for key, each in brief.experiments.items()
        },
        "categories": {
            key: {name: part.plain() for name, part in each.categories.items()} for key, each in selection.items()
        },
    }
    reported = {key: own for key, each in brief.experiments.items() if (own := _reported(each))}
    if reported:
        words["reported"] = reported
    if brief.lessons:
        words["lessons"] = list(brief.lessons)
    if brief.done:
        words["actions"] = dict(brief.done)
    cut: dict[str, Any] = _cut(words)
    return cut


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        # Without secrets first: a cut one is not known as one.
        return value if len(value) <= LONGEST_TEXT else f"… {redact(value)[-LONGEST_TEXT:]}"
    if isinstance(value, dict):
        return {key: _cut(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(entry) for entry in value]
    return value
