"""Rows held out of the training data, for a goal that brings no benchmark: which ones, and the benchmarks they make."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from agents.evaluator.benchmarks.benchmark import SMALLEST_PART
from agents.evaluator.benchmarks.items import Message, TextItem
from agents.evaluator.proposal import HoldOutProposal
from shared_memory.errors import BadInput, Unavailable
from shared_memory.goal import BenchmarkGoal
from shared_memory.records import Part
from shared_memory.run_paths import write_atomically

FEWEST_ROWS = 4 * SMALLEST_PART
"""Rows below which less than half would be left to train on."""
MOST_OF_ALL = 5
"""One row in so many may be held out, where that makes two parts that say something."""
LARGEST_CLUSTER = 10
"""A cluster with more than one in so many of the held-out rows stays for training: it would decide the score."""
SHORT_ANSWER = 20
"""Tokens up to which an answer is compared word for word; a longer one has many right wordings."""
BYTES_A_TOKEN = 3.5
"""Of UTF-8 text: an estimate, on the long side of what tokenizers of today make of English."""
EXACT_TOKENS = 32
REASONED_TOKENS = 256
"""What a model may write on its way to an answer that alone is compared."""
IMITATING = ("sft", "distill")
"""Methods that of a pair learn the chosen reply alone."""
ANSWERING = ("grpo", "rloo")
"""Methods that learn from the answer, however the model comes to it."""


def choose(
    clusters: Sequence[int], proposal: HoldOutProposal, *, seed: int, measures: Sequence[bool] = ()
) -> dict[int, Part]:
    """The rows to hold out: position → part, a cluster of near-duplicates always together.

    `clusters[i]` names the cluster of row i; `measures[i]` says whether that row can be measured on, which all can
    where nothing is given: one that cannot goes where its cluster goes, and does not count. About half of those that
    count select, half report. Raises BadInput where too few of them are there, or too few different ones.
    """
    counts = list(measures) or [True] * len(clusters)
    if sum(counts) < FEWEST_ROWS:
        raise BadInput(too_few(sum(counts)))

    def size(rows: Sequence[int]) -> int:
        return sum(counts[row] for row in rows)

    room = _size(sum(counts), proposal)
    members: dict[int, list[int]] = defaultdict(list)
    for position, cluster in enumerate(clusters):
        members[cluster].append(position)
    groups = list(members.values())
    Random(seed).shuffle(groups)
    parts: dict[Part, list[int]] = {part: [] for part in Part}
    for group in groups:
        smaller = min(parts.values(), key=size)
        fits = size(smaller) + size(group) <= room // 2 or size(smaller) < SMALLEST_PART
        if fits and 0 < size(group) <= room // LARGEST_CLUSTER:
            smaller += group
    measured = {part: [row for row in rows if counts[row]] for part, rows in parts.items()}
    _require_enough(measured, f"{sum(counts)} rows are so much alike that they")
    return dict(sorted((position, part) for part, positions in parts.items() for position in positions))


def too_few(rows: int) -> str:
    """What to say of so few rows."""
    return f"{rows} rows are too few to hold some out ({FEWEST_ROWS} are needed); give a [[benchmark]], or more rows"


def _size(rows: int, proposal: HoldOutProposal) -> int:
    """How many of `rows` to hold out."""
    wanted = min(max(round(proposal.share * rows), proposal.minimum), proposal.maximum)
    return min(wanted, max(rows // MOST_OF_ALL, 2 * SMALLEST_PART))


def _require_enough(parts: Mapping[Part, Sequence[object]], what: str) -> None:
    for part, members in parts.items():
        if len(members) < SMALLEST_PART:
            raise BadInput(
                f"the {what} make {len(members)} {part.value} items ({SMALLEST_PART} are needed); "
                "give a [[benchmark]], or more rows"
            )


def write(
    rows: Sequence[Mapping[str, Any]],
    chosen: Mapping[int, Part],
    folder: Path,
    *,
    context: int | None = None,
    method: str = "",
) -> tuple[BenchmarkGoal, ...]:
    """The benchmarks that the chosen rows make, as files in `folder`; the same rows give the same bytes.

    A row has `id`, `prompt` and `completion` (chat messages), and `rejected`, which is empty but in a preference pair;
    `tools` and each message's `tool_calls` are JSON texts; or else it is a `passage`. What has no text to ask or to
    answer, or an answer whose `label` says that it is not wanted, is left out. `context`: tokens that the base model
    reads, if that is known.

    `method`: what the model will be trained by, and is therefore measured for: replies that it imitates by their loss,
    pairs by preference, and answers that it is to find (each the whole completion) by whether it does. Without it, the
    rows say which. Raises BadInput where too few rows are usable, or passages are mixed with conversations, Unavailable
    where `folder` cannot be written.
    """
    items = [item for item in _items(rows, chosen) if _usable(item)]
    _require_enough(_by_part(items), f"{len(items)} of {len(chosen)} held-out rows that have a prompt and an answer")
    if len({bool(item.text) for item in items}) > 1:
        raise BadInput("the data mix texts and conversations, which no model is trained on together; name one kind")
    if method in ANSWERING:
        asked = [item for item in items if item.can_be_matched and _is_read_whole(item, context)]
        _require_enough(_by_part(asked), f"{len(asked)} of {len(items)} held-out rows with an answer to compare")
        return (_benchmark(folder / "holdout.jsonl", asked, metric="exact", primary=True, max_tokens=REASONED_TOKENS),)
    if method not in IMITATING and all(item.rejected for item in items):
        return (_benchmark(folder / "holdout.jsonl", items, metric="preference", primary=True),)
    texts = [item.model_copy(update={"rejected": ()}) for item in items]
    short = [item for item in texts if _has_short_answer(item) and _is_read_whole(item, context)]
    benchmarks = [_benchmark(folder / "holdout.jsonl", texts, metric="loss", primary=True)]
    if all(len(members) >= SMALLEST_PART for members in _by_part(short).values()):
        benchmarks += [_benchmark(folder / "holdout_exact.jsonl", short, metric="exact", max_tokens=EXACT_TOKENS)]
    return tuple(benchmarks)


def _items(rows: Sequence[Mapping[str, Any]], chosen: Mapping[int, Part]) -> list[TextItem]:
    """The chosen rows; where two files gave the same id, the position tells them apart."""
    ids = Counter(str(rows[position]["id"]) for position in chosen)
    items = []
    for position, part in sorted(chosen.items()):
        row, name = rows[position], str(rows[position]["id"])
        if row.get("label") is False:
            continue
        prompt, completion, rejected = (
            tuple(map(_message, row.get(column) or ())) for column in ("prompt", "completion", "rejected")
        )
        items.append(
            TextItem(
                id=name if ids[name] == 1 else f"{name}#{position}",
                prompt=prompt,
                completion=completion,
                rejected=rejected,
                tools=tuple(json.loads(row.get("tools") or "[]")),
                text=row.get("passage") or "",
                part=part,
            )
        )
    return items


def _message(given: Mapping[str, Any]) -> Message:
    return Message(
        role=given["role"],
        content=given["content"],
        tool_calls=tuple(json.loads(given.get("tool_calls") or "[]")),
        reasoning_content=given.get("reasoning") or "",
        name=given.get("name") or "",
        tool_call_id=given.get("tool_call_id") or "",
    )


def _by_part(items: Sequence[TextItem]) -> dict[Part, list[TextItem]]:
    return {part: [item for item in items if item.part is part] for part in Part}


def _usable(item: TextItem) -> bool:
    asked = not any(all(message.is_blank for message in text) for text in (item.prompt, item.completion))
    return bool(item.text.strip()) or (asked and item.completion != item.rejected)


def _has_short_answer(item: TextItem) -> bool:
    return item.can_be_matched and _bytes(item.completion) <= SHORT_ANSWER * BYTES_A_TOKEN


def _is_read_whole(item: TextItem, context: int | None) -> bool:
    """Whether the prompt leaves room for an answer, at two bytes a token to be on the safe side."""
    return context is None or _bytes(item.prompt) / 2 + 2 * EXACT_TOKENS <= context


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode()) for message in messages)


def _benchmark(path: Path, items: Sequence[TextItem], **settings: Any) -> BenchmarkGoal:
    """Write the file, and say how it is scored."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(map(_line, items)))
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror or error}); make room and resume") from error
    return BenchmarkGoal(path=str(path), **settings)


def _line(item: TextItem) -> bytes:
    plain = item.plain()
    columns = {"chosen": "completion", "rejected": "rejected"} if item.rejected else {"completion": "completion"}
    columns = {"text": "text"} if item.text else columns | {"prompt": "prompt", "tools": "tools"}
    row = {"id": item.id, "part": plain["part"]} | {
        column: plain[key] for column, key in columns.items() if key in plain
    }
    return (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n").encode()
