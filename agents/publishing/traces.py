"""A run's trace as a private data set: what it holds, the job that publishes it, and how that is carried out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from agents.publishing.cards import CARD, rendered, without_folders
from agents.publishing.runner import FOLDER, PUBLISHER, TIMEOUT_SECONDS, Destination, flavor_of, seconds_of
from agents.publishing.to_folder import place
from agents.publishing.to_hub import Files, Heed, heedless, push
from shared_memory.errors import BadInput
from shared_memory.records import Estimate, JobSpec, Purpose, canonical_digest
from shared_memory.redaction import redact_plain
from shared_memory.run_paths import RunPaths

OF_A_TRACE = ("status", "move", "steer", "turn", "tool", "proposal", "gate", "job", "verdict", "note")
"""Kinds of events that a trace has; progress and spend come too often to be read."""
TRACE = "trace.jsonl"
TEMPLATE = Path(__file__).parent / "templates" / "trace_card.md.j2"
_OURS = re.compile(r"trace\.jsonl|output-[0-9A-Za-z]+\.json")


class TracePublication(Destination):
    """Which trace is published, and where: the config of the job. Its digest is that of the files beside the card."""

    kind: Literal["trace"] = "trace"
    private: Literal[True] = True


def events_of(paths: RunPaths) -> Iterator[dict[str, Any]]:
    """The events that a trace has, oldest first; a line that was cut short is passed over."""
    try:
        text = paths.events.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and event.get("kind") in OF_A_TRACE:
            yield event


def publishing_job(run_id: str, goal: str, to: str, *, outputs: bool, paths: RunPaths) -> JobSpec:
    """The job that publishes a run's trace, for nobody but its owner to read; its files are what will be sent.

    outputs: whether what the tools gave back goes with it. Raises BadInput where there is no trace.
    """
    events = [_leaving(event) for event in events_of(paths)]
    if not events:
        raise BadInput(f"run {run_id} has no trace yet; see `postgrad show {run_id} --trace`")
    content = {TRACE: "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events).encode()}
    if outputs:
        content |= {f"output-{file.stem}.json": _output(file) for file in sorted(paths.tools.glob("*.json"))}
    told = {kind: sum(event["kind"] == kind for event in events) for kind in ("turn", "tool")}
    card = rendered(
        TEMPLATE,
        run=run_id,
        goal=goal,
        events=len(events),
        turns=told["turn"],
        calls=told["tool"],
        outputs=len(content) - 1,
    )
    files = {name: paths.store(data) for name, data in content.items()}
    size = sum(map(len, content.values()))
    readers = "for this machine" if flavor_of(to) == FOLDER else "private"
    with_outputs = f" with {len(content) - 1} outputs of tools" if outputs else ""
    return JobSpec(
        purpose=Purpose.PUBLICATION,
        experiment="trace",
        title=f"publish the trace of {run_id}{with_outputs}: {to}, {readers}",
        script=CARD,
        files={CARD: paths.store(card.encode()), **files},
        config=TracePublication(digest=canonical_digest(files), to=to).plain(),
        runner=PUBLISHER,
        flavor=flavor_of(to),
        timeout_seconds=TIMEOUT_SECONDS,
        estimate=Estimate(
            hours=seconds_of(size) / 3600,
            usd_micro=0,
            memory_gib=0.1,
            basis=f"{len(events)} events, {size / 1e6:.2f} MB, secrets removed once more",
        ),
    )


def carry_out(spec: JobSpec, job: Path, heed: Heed = heedless) -> dict[str, Any]:
    """Publish what lies in the folder of an approved job, file for file.

    Raises what `to_hub.push` and `to_folder.place` raise; a repository that is public is one of these.
    """
    publication = TracePublication.model_validate(spec.config)

    def build(folder: Path) -> Files:
        folder.mkdir(parents=True)
        return {name: _copied(job / name, folder / name) for name in spec.files}

    if flavor_of(publication.to) == FOLDER:
        heed(True)
        placed = place(build, Path(publication.to), is_of_a_trace)
        return {"url": str(placed), "revision": "", "private": True, "changed": True}
    name = publication.to.removeprefix("hf://datasets/")
    files = {each: job / each for each in spec.files}
    return push(lambda _: files, name, kind="dataset", private=True, is_ours=is_of_a_trace, heed=heed).plain()


def is_of_a_trace(path: str) -> bool:
    """Whether a file is one that a publication makes, by its name."""
    return bool(_OURS.fullmatch(path))


def _copied(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


def _output(file: Path) -> bytes:
    """An output of a tool as it may leave."""
    try:
        output: Any = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
        output = {}
    return (json.dumps(_leaving(output), ensure_ascii=False) + "\n").encode()


def _leaving(value: Mapping[str, Any]) -> Any:
    """Plain data without secrets, and with the names of files alone where it has paths of this machine."""
    return _walk(redact_plain(value))


def _walk(value: Any) -> Any:
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, dict):
        return {key: _walk(entry) for key, entry in value.items()}
    return [_walk(entry) for entry in value] if isinstance(value, list) else value
