"""Publishes a model with its card: to a folder, or, after a person's consent, to the Hugging Face Hub.

The merged weights lie at the root and the adapter they are made with in `adapter`; an adapter without them lies at the
root itself. Only what loading needs leaves: weights, configs and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ValidationError

from agents.base_model import TOKENIZER_FILES
from agents.publishing.cards import CARD, forbidding, licences
from agents.publishing.runner import (
    FOLDER,
    PUBLISHER,
    TIMEOUT_SECONDS,
    Destination,
    flavor_of,
    readers_of,
    seconds_of,
)
from agents.publishing.to_folder import place
from agents.publishing.to_hub import Files, Heed, heedless, push
from agents.trainer.delivery import link_or_copy
from agents.trainer.model_card import ModelFacts, render_card
from shared_memory.errors import BadInput
from shared_memory.records import Estimate, JobSpec, Purpose
from shared_memory.run_paths import RunPaths

FACTS = "facts.json"
"""What the card is rendered from, among the files of the job."""
ADAPTER = "adapter"
WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json", "adapter_model*.safetensors")
CONFIGS = ("config.json", "generation_config.json", "adapter_config.json")


class ModelPublication(Destination):
    """Which model is published, and where: the config of the job. Its digest is that of all files but the card."""

    kind: Literal["model"] = "model"
    experiment: str


def model_publishing_job(facts: ModelFacts, to: str, *, private: bool, paths: RunPaths) -> JobSpec:
    """The job that publishes the delivered model; its card is a file of it, for the person at the gate to read.

    Raises BadInput where no model was delivered, or where the base's licence forbids it.
    """
    if forbidden := forbidding(facts.licence):
        raise BadInput(
            f"the licence {', '.join(forbidden)} of {facts.base} forbids sharing changed copies; ask its owners"
        )
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=paths.root) as room:
        files = _build(facts, paths.model, to, Path(room) / "whole")
        size = sum(file.stat().st_size for file in files.values())
        card, digest = files[CARD].read_bytes(), _digest_of(files)
    leaves = f"the {'merged model' if 'config.json' in files else 'adapter'} of {facts.experiment}"
    warnings = _warnings(facts, to, private)
    seconds = seconds_of(2 * size)  # there and back
    return JobSpec(
        purpose=Purpose.PUBLICATION,
        experiment=facts.experiment,
        title=f"publish {leaves}: {to}, {readers_of(to, private)}" + "".join(f"; {warning}" for warning in warnings),
        script=CARD,
        files={CARD: paths.store(card), FACTS: paths.store(facts.model_dump_json().encode())},
        config=ModelPublication(experiment=facts.experiment, digest=digest, to=to, private=private).plain(),
        runner=PUBLISHER,
        flavor=flavor_of(to),
        timeout_seconds=max(TIMEOUT_SECONDS, round(3 * seconds)),
        estimate=Estimate(
            hours=seconds / 3600,
            usd_micro=0,
            memory_gib=1.0,
            basis=f"{len(files)} files of {size / 1e6:.1f} MB, licence of the base {facts.licence or 'unknown'}",
        ),
    )


def told_anew(spec: JobSpec, paths: RunPaths) -> JobSpec:
    """A publication whose config was edited, with title, card and estimate of what it is now.

    One that cannot be carried out stays as it is: `runner.fault_of_config` or the job itself refuses it.
    """
    try:
        publication = ModelPublication.model_validate(spec.config)
        facts = ModelFacts.model_validate_json(paths.stored(spec.files[FACTS]).read_bytes())
        told = model_publishing_job(facts, publication.to, private=publication.private, paths=paths)
    except (ValidationError, KeyError, OSError, BadInput):
        return spec
    return told if told.flavor == spec.flavor and told.config == spec.config else spec


def carry_out(config: Mapping[str, Any], job: Path, paths: RunPaths, heed: Heed = heedless) -> dict[str, Any]:
    """Publish the delivered model, with the card that lies in the folder of an approved job.

    Raises BadInput where another model is there by now, and what `to_hub.push` and `to_folder.place` raise.
    """
    publication = ModelPublication.model_validate(config)
    facts = ModelFacts.model_validate_json((job / FACTS).read_bytes())

    def build(name: str, folder: Path) -> Files:
        files = _build(facts, paths.model, name, folder)
        if _digest_of(files) != publication.digest:
            raise BadInput(f"the model in {paths.model} is not the one that was approved; start the run again")
        return files

    if flavor_of(publication.to) == FOLDER:
        heed(True)
        target = Path(publication.to)
        placed = place(lambda new: build(f"./{target.expanduser().absolute().name}", new), target, is_of_a_model)
        return {"url": str(placed), "revision": "", "private": True, "changed": True}
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=paths.root) as room:
        return push(
            lambda name: build(name, Path(room) / "whole"),
            publication.to.removeprefix("hf://"),
            kind="model",
            private=publication.private,
            is_ours=is_of_a_model,
            heed=heed,
        ).plain()


def is_of_a_model(path: str) -> bool:
    """Whether a file is one that a publication makes, by its name."""
    parts = PurePosixPath(path).parts
    return parts[:-1] in ((), (ADAPTER,)) and _leaves(parts[-1])


def _leaves(name: str) -> bool:
    return name in TOKENIZER_FILES or any(fnmatch(name, pattern) for pattern in (*WEIGHTS, *CONFIGS))


def _build(facts: ModelFacts, delivered: Path, name: str, folder: Path) -> dict[str, Path]:
    """Name in the repository → file in `folder`: weights (linked where that works), configs, tokenizer and card."""
    found = [part for part in ("merged", ADAPTER) if (delivered / part).is_dir()]
    if not found:
        raise BadInput(f"{delivered} holds no model; run the goal to its end, then publish")
    folder.mkdir(parents=True)
    files: dict[str, Path] = {}
    for part in found:
        inside = ADAPTER if part == ADAPTER and len(found) > 1 else ""
        (folder / inside).mkdir(exist_ok=True)
        for source in sorted(path for path in (delivered / part).iterdir() if path.is_file() and _leaves(path.name)):
            target = folder / inside / source.name
            _put(source, target, facts)
            files[target.relative_to(folder).as_posix()] = target
    whole = "merged" in found
    card = render_card(facts, name, whole=whole, has_adapter=ADAPTER in found)
    (folder / CARD).write_text(card, encoding="utf-8")
    return files | {CARD: folder / CARD}


def _put(source: Path, target: Path, facts: ModelFacts) -> None:
    """A file as it may leave: in a config, the base's name stands for the folder that it had here."""
    if source.suffix == ".safetensors":
        link_or_copy(str(source), str(target))
        return
    if source.name in (*CONFIGS, "tokenizer_config.json"):
        config = json.loads(source.read_text(encoding="utf-8"))
        named = {key: value for key, value in config.items() if key.endswith("name_or_path") and value}
        here = {key: facts.base for key, value in named.items() if Path(value).is_absolute()}
        if here:
            if facts.base_revision and source.name == "adapter_config.json" and facts.base_on_hub:
                here["revision"] = facts.base_revision
            target.write_text(json.dumps(config | here, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            return
    shutil.copyfile(source, target)


def _digest_of(files: Files) -> str:
    """sha256 over the names and contents of all files but the card."""
    digest = hashlib.sha256()
    for name in sorted(files.keys() - {CARD}):
        with files[name].open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _warnings(facts: ModelFacts, to: str, private: bool) -> list[str]:
    found = []
    if not facts.licence:
        found.append(f"the licence of {facts.base} is unknown; the card says so")
    if facts.data is None or not licences(facts.data.licence):
        found.append("the licence of its training data is unknown; the card says so")
    elif forbidding(facts.data.licence):
        found.append(f"its training data are under {facts.data.licence}; the card says so")
    if not facts.scores:
        found.append("it was not measured; the card says so")
    if flavor_of(to) != FOLDER and not private:
        found.append("everybody will be able to read it")
    return found
