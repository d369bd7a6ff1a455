"""The card of a model that is handed over or published: what it is made of, what it scores, what it may be used for.

The same card lies in the delivered folders and on the Hub; only the name that it is loaded by differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from agents.base_model import BaseModel
from agents.hub_client import front_matter
from agents.publishing.cards import CARD, UNKNOWN, licence_metadata, rendered, without_folders
from shared_memory.goal import Goal
from shared_memory.records import ComparisonResult, DatasetRecord, EvalResult, Experiment, Recipe, Record
from shared_memory.run_paths import write_atomically

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
TASKS = {"reward": "text-classification"}
"""Method → the Hub's name for what its models do, where that is not text-generation."""


class ScoreFacts(Record):
    """A line of the table of scores."""

    benchmark: str
    part: str
    n: int
    base: str
    model: str


class DataFacts(Record):
    """What the card says of the training data."""

    source: str
    revision: str
    rows: int
    digest: str
    licence: str
    contamination: dict[str, float] = Field(default_factory=dict)
    searched_by: str = ""


class ModelFacts(Record):
    """All that a card says, so that it can be rendered again for another name; no path and no job is in it."""

    title: str
    experiment: str
    method: str
    adapter: bool
    """Whether an adapter was trained, and not all weights."""
    base: str
    """Hub id of the base model, or its folder's name."""
    base_on_hub: bool
    base_revision: str = ""
    licence: str = ""
    """Of the base model, as its card has it; empty where it says nothing."""
    licence_name: str = ""
    """What the Hub's metadata call it, where that is another word."""
    licence_link: str = ""
    data: DataFacts | None = None
    scores: tuple[ScoreFacts, ...] = ()
    claims: tuple[str, ...] = ()
    benchmarks: dict[str, str] = Field(default_factory=dict)
    """Name → digest of its items."""
    settings: tuple[str, ...] = ()
    """Digests of how it was measured."""
    recipe: str
    """JSON."""
    reproduce: str
    """A goal file."""


def facts_of(
    *,
    goal: Goal,
    model: BaseModel,
    experiment: Experiment,
    dataset: DatasetRecord | None,
    baseline: Sequence[EvalResult],
    results: Sequence[EvalResult],
    claims: Sequence[ComparisonResult],
    benchmarks: Mapping[str, str],
) -> ModelFacts:
    """What there is to say of an experiment's model; `benchmarks` are name → digest of the items."""
    on_hub = not Path(model.name).is_absolute()
    base = model.name if on_hub else Path(model.name).name
    licence = _licence_of(Path(model.folder))
    before = {(result.benchmark, result.part): result for result in baseline}
    return ModelFacts(
        title=goal.text,
        experiment=experiment.id,
        method=experiment.recipe.method,
        adapter=experiment.adapter,
        base=base,
        base_on_hub=on_hub,
        base_revision=model.revision,
        licence=licence["license_name"] or licence["license"],
        licence_name=licence["license"],
        licence_link=licence["license_link"],
        data=_data(dataset) if dataset else None,
        scores=tuple(
            ScoreFacts(
                benchmark=result.benchmark,
                part=result.part.value,
                n=result.n,
                base=_score(before.get((result.benchmark, result.part))),
                model=_score(result),
            )
            for result in results
        ),
        claims=tuple(map(_claim, claims)),
        benchmarks=dict(benchmarks),
        settings=tuple(sorted({result.settings_digest for result in results})),
        recipe=without_folders(experiment.recipe.model_dump_json(exclude={"reason", "source", "findings"}, indent=2)),
        reproduce=_reproduce(goal, base, model.revision, experiment.recipe),
    )


def render_card(facts: ModelFacts, name: str, *, whole: bool, has_adapter: bool) -> str:
    """README.md of the model that is loaded as `name`; the same facts give the same text, and no secret is in it.

    `whole`: whether all weights are there, and not just an adapter.
    """
    return rendered(
        TEMPLATE, facts=facts, name=name, whole=whole, has_adapter=has_adapter, metadata=_metadata(facts, whole)
    )


def write_card(folder: Path, facts: ModelFacts) -> Path:
    """Put the card into a delivered folder, where it replaces what a library has written there."""
    whole = not (folder / "adapter_config.json").exists()
    card = render_card(facts, f"./{folder.name}", whole=whole, has_adapter=False)
    write_atomically(folder / CARD, card.encode())
    return folder / CARD


def _metadata(facts: ModelFacts, whole: bool) -> dict[str, Any]:
    """The card's front matter [huggingface.co/docs/hub/model-cards]. The Hub takes no base that it does not have."""
    metadata: dict[str, Any] = licence_metadata(facts.licence_name)
    if facts.licence_name.lower() == "other":
        metadata = {"license": "other", "license_name": facts.licence, "license_link": facts.licence_link}
        metadata = {key: value for key, value in metadata.items() if value}
    if facts.base_on_hub:
        metadata |= {"base_model": facts.base, "base_model_relation": "finetune" if whole else "adapter"}
    return metadata | {
        "library_name": "transformers" if whole else "peft",
        "pipeline_tag": TASKS.get(facts.method, "text-generation"),
        "tags": ["postgrad", facts.method],
    }


def _licence_of(folder: Path) -> dict[str, str]:
    """`license`, `license_name` and `license_link` as the card of a base model has them; empty where it does not."""
    card = folder / CARD
    said = front_matter(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else {}

    def text(key: str) -> str:
        value = said.get(key) or ""
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    found = {key: text(key) for key in ("license", "license_name", "license_link")}
    if found["license"].lower() in UNKNOWN and not found["license_name"]:
        return dict.fromkeys(found, "")
    return found


def _data(dataset: DatasetRecord) -> DataFacts:
    names = dataset.source.split(", ")
    evidence = dataset.evidence
    return DataFacts(
        source=", ".join(Path(name).name if Path(name).is_absolute() else name for name in names),
        revision=dataset.revision,
        rows=dataset.rows,
        digest=dataset.digest,
        licence=dataset.licence,
        contamination=dataset.contamination,
        searched_by=", ".join(filter(None, (evidence.detector, *evidence.rules, evidence.embeddings)))
        if evidence
        else "",
    )


def _score(result: EvalResult | None) -> str:
    if result is None:
        return "—"
    return f"{result.score:.3f} ± {result.stderr:.3f}{' nats a token' if result.unit == 'nats' else ''}"


def _claim(claim: ComparisonResult) -> str:
    lower = "" if claim.higher_is_better else "; lower is better"
    return (
        f"Paired difference on the {claim.n} report items of {claim.benchmark}: {claim.delta:+.3f} "
        f"(95 % interval {claim.ci_low:+.3f} to {claim.ci_high:+.3f}{lower})."
    )


def _reproduce(goal: Goal, base: str, revision: str, recipe: Recipe) -> str:
    """A goal for a stranger, who brings the rows of the digest above; the owner has `postgrad reproduce`."""
    lines = [
        f"# goal.toml, for `postgrad run goal.toml` with postgrad {version('postgrad')}",
        f"text = {json.dumps(goal.text)}",
        f"base_model = {json.dumps(base)}",
        *([f"revision = {json.dumps(revision)}"] if revision else []),
        f"method = {json.dumps(recipe.method)}",
        "[data]",
        'train = ["rows.jsonl"]',
        "[run]",
        f"seed = {goal.run.seed}",
    ]
    return without_folders("\n".join(lines))
