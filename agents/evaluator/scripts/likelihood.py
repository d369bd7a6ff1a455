# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.6", "transformers>=5.0", "peft>=0.18"]
# ///
"""Measures how likely a language model finds given answers: nats a token, or which of two it prefers.

    python likelihood.py --config config.json

    {"model": folder or Hub id, "items": "items.jsonl", "metric": "loss", "revision": null, "adapter": null,
     "batch_tokens": 2048, "dtype": "auto"}

`model` and `items` are required. A line of the items file: {"id", "prompt", "completion", "category", "part"}, both
texts lists of chat messages, and where they call tools `tools`, a list of JSON schemas; metric "preference" also needs
`rejected`, and the completion is what was chosen. The tokens that count are those of TRL's completion-only loss: all
that the chat template adds to the prompt for the answer, its end of turn included. Metric "loss" also takes {"id",
"text", "category", "part"}: then all tokens count but the first, and an EOS token at the end, as where TRL trains on
texts. An answer is preferred where it has fewer nats a token, so that length decides nothing [SimPO, arXiv 2405.14734];
a reward model prefers what it scores higher, and has no other metric.
Where a text does not fit the model's context, the answer gets what the prompt leaves, at least half, and the prompt
loses its beginning. `batch_tokens` bounds a batch, padding included. dtype "auto" is the checkpoint's
own on an accelerator; on a CPU it is bfloat16 where the processor calculates in it, and float32 elsewhere. job.py lies
beside this file.

Prints a progress event every few seconds and {"result": ...} at the end; writes out/items.jsonl, one line an item: the
score is nats a token (less is better), or 1 or 0 with the `margin` in nats a token. Exit 2: the config, the model or
the items cannot be used as they are.
"""

import argparse
import inspect
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from job import DTYPES, OUT, JobError, be_positive, be_there, placed, prepare_environment, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFUSALS = (TemplateError, TypeError, ValueError, LookupError)
"""What a chat template raises that was not written for such a conversation."""
Turns = list[dict[str, Any]]
"""Messages as plain data."""
METRICS = {"loss": ("completion",), "preference": ("completion", "rejected")}
"""Metric -> what is measured of an item that is a chat."""
PROGRESS_SECONDS = 2.0
FLOAT_TOKENS = 256
"""Tokens whose logits are in float32 at once: 160 MB with a vocabulary of 152k."""


@dataclass(frozen=True)
class Config:
    model: str
    items: str
    metric: str = "loss"
    revision: str | None = None
    adapter: str | None = None
    batch_tokens: int = 2048
    dtype: str = "auto"


@dataclass(frozen=True)
class Text:
    """A prompt and its answer as tokens."""

    ids: list[int]
    start: int
    """Where the answer begins; at least 1, because nothing predicts the first token."""
    cut: bool
    """It did not fit the model's context."""

    @property
    def tokens(self) -> int:
        return len(self.ids) - self.start


def read_config(path: Path) -> Config:
    """Raises JobError for anything that is not exactly the documented settings."""
    config = read_settings(path, Config, {"metric": METRICS, "dtype": DTYPES})
    be_there(config.model, config.adapter)
    be_positive(config, "batch_tokens")
    return config


def read_items(path: Path, metric: str) -> list[dict[str, Any]]:
    """The items in file order. Raises JobError with the line number for a row that cannot be measured."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the items {path}: {e}; give a JSONL file") from e
    items: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            given = json.loads(line)
            item = {"id": str(given["id"])} | {key: given[key] for key in ("category", "part")}
            if metric == "loss" and "text" in given:
                items.append(item | {"text": str(given["text"])})
                continue
            for key in ("prompt", *METRICS[metric]):
                item[key] = [turn | {"role": str(turn["role"]), "content": str(turn["content"])} for turn in given[key]]
        except (ValueError, KeyError, TypeError) as e:
            raise JobError(f"{path}, line {number} is not an item ({e!r}); see the top of this script") from e
        if not all(item[key] for key in METRICS[metric]):
            raise JobError(f"{path}, line {number}: give at least one message as {' and as '.join(METRICS[metric])}")
        item["tools"] = given.get("tools")
        items.append(item)
    if len({item["id"] for item in items}) < len(items):
        raise JobError(f"{path} has an id twice; give every item an id of its own")
    return items


def load(config: Config) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model on its device with the adapter merged in, and the model's own tokenizer. Raises JobError."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    scores = {"num_labels": 1} if is_reward_model(config) else {}
    if scores and config.metric != "preference":
        raise JobError("a reward model writes nothing, so it has no loss; measure it on pairs, by preference")
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
        model: Any = kind.from_pretrained(config.model, revision=config.revision, dtype="auto", **scores)
        if config.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, config.adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as e:
        reason = " ".join(str(e).split())[:300]
        raise JobError(f"cannot load {config.adapter or config.model} ({reason}); give a folder or a Hub id") from e
    if scores:
        model.config.pad_token_id = None  # texts come one by one: the last token is theirs, and never padding
    return placed(model, config.dtype), tokenizer


def is_reward_model(config: Config) -> bool:
    """Whether model or adapter give a score for a text in place of the next token."""
    for folder, file in ((config.adapter, "adapter_config.json"), (config.model, "config.json")):
        path = Path(folder or "") / file
        if folder and path.is_file():
            said = json.loads(path.read_text(encoding="utf-8"))
            named = [said.get("task_type") or "", *(said.get("architectures") or ())]
            return any(name == "SEQ_CLS" or name.endswith("ForSequenceClassification") for name in named)
    return False


def encode(item: dict[str, Any], key: str, tokenizer: "PreTrainedTokenizerBase", context: int | None) -> Text:
    """The item's text, or its prompt and its answer `key`, as TRL's trainers tokenize them.

    Raises JobError where that cannot be.
    """
    if key == "text":
        end = tokenizer.eos_token or ""
        asked, whole = [], tokenizer(item["text"].removesuffix(end) + end)["input_ids"]
    else:
        asked, whole = chat_tokens(item, key, tokenizer)
    # Not always after the prompt: some templates render the end of a prompt differently once an answer follows.
    same = next((i for i, pair in enumerate(zip(asked, whole, strict=False)) if pair[0] != pair[1]), len(asked))
    start = max(1, min(same, len(whole)))
    if start == len(whole):
        raise JobError(f"the tokenizer leaves nothing of item {item['id']}'s {key} to predict; mend or drop it")
    if context is None or len(whole) <= context:
        return Text(whole, start, cut=False)
    end = start + max(context - start, context // 2)
    ids = whole[:end][-context:]
    return Text(ids, start - len(whole[:end]) + len(ids), cut=True)


def chat_tokens(item: dict[str, Any], key: str, tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The prompt as it is put to a model, and with the answer `key`. Raises JobError where the template will not."""
    if not tokenizer.chat_template:
        where = tokenizer.name_or_path
        raise JobError(f"{where} has no chat template; choose an instruct model or add chat_template.jinja")
    prompt, reply, tools = item["prompt"], item[key], item["tools"]
    try:
        lost = next(left_out(prompt, reply, tools, tokenizer), "")
        asked = tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(prompt + reply, tools=tools, return_dict=True)
    except REFUSALS as e:
        raise JobError(f"the chat template refuses item {item['id']} ({e}); mend or drop it") from e
    if lost:
        move = "choose a model whose template does, or change or drop it"
        raise JobError(f"the chat template does not render {lost} of item {item['id']}; {move}")
    return asked["input_ids"], whole["input_ids"]


def left_out(prompt: Turns, reply: Turns, tools: Turns | None, tokenizer: Any) -> Iterator[str]:
    """What of a conversation the chat template makes no use of. Raises one of REFUSALS."""

    def rendered(turns: Turns, tools: Turns | None) -> Any:
        return tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)

    def without(role: str, key: str, start: int = 0) -> Turns:
        changed = [turn | {key: ""} if turn["role"] == role and turn.get(key) else turn for turn in chat[start:]]
        return chat[:start] + changed

    chat = prompt + reply
    whole = rendered(chat, tools)
    less = {
        "tools": (chat, None),
        "tool_calls": (without("assistant", "tool_calls"), tools),
        "what tools answer": (without("tool", "content"), tools),
        # What was thought before earlier turns is left out on purpose by many templates.
        "reasoning_content": (without("assistant", "reasoning_content", len(prompt)), tools),
    }
    for what, rest in less.items():
        with suppress(*REFUSALS):
            if rest != (chat, tools) and rendered(*rest) == whole:
                yield what


def batches(texts: list[Text], budget: int) -> Iterator[list[int]]:
    """Positions of texts of similar length whose batch has at most `budget` tokens, or that are alone."""
    batch: list[int] = []
    for position in sorted(range(len(texts)), key=lambda position: len(texts[position].ids)):
        if batch and (len(batch) + 1) * len(texts[position].ids) > budget:
            yield batch
            batch = []
        batch.append(position)
    yield batch


def nats_a_token(model: "PreTrainedModel", batch: list[Text]) -> list[float]:
    """Mean negative log-likelihood of each answer's tokens. Pads on the right, where causal attention never looks."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(text.ids, device=model.device) for text in batch]
    ids, mask = (pad_sequence(values, batch_first=True) for values in (rows, [torch.ones_like(row) for row in rows]))
    first = min(text.start for text in batch) - 1
    last = ids.shape[1] - first  # what all rows have in front of their answers needs no logits
    kept = {"logits_to_keep": last} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits[:, -last:]
    means = []
    for row, text in enumerate(batch):
        predicted = logits[row, text.start - 1 - first : len(text.ids) - 1 - first].split(FLOAT_TOKENS)
        targets = ids[row, text.start : len(text.ids)].split(FLOAT_TOKENS)
        parts = [cross_entropy(p.float(), t, reduction="sum") for p, t in zip(predicted, targets, strict=True)]
        means.append(float(torch.stack(parts).sum()) / text.tokens)
    return means


def negative_rewards(model: "PreTrainedModel", batch: list[Text]) -> list[float]:
    """What a reward model scores each text, negated, so that less is better as for nats."""
    import torch

    return [-float(model(input_ids=torch.tensor([text.ids], device=model.device)).logits[0, 0]) for text in batch]


def measure(model: "PreTrainedModel", texts: list[Text], budget: int) -> list[float]:
    """Nats a token of every text, in order; tells the progress."""
    import torch

    measure_batch = negative_rewards if type(model).__name__.endswith("ForSequenceClassification") else nats_a_token
    nats = [0.0] * len(texts)
    done, started, shown = 0, time.monotonic(), 0.0
    with torch.inference_mode():
        for batch in batches(texts, budget):
            for position, mean in zip(batch, measure_batch(model, [texts[at] for at in batch]), strict=True):
                nats[position] = mean
            done += len(batch)
            seconds = time.monotonic() - started
            if seconds - shown >= PROGRESS_SECONDS or done == len(texts):
                shown = seconds
                event = {"step": done, "steps": len(texts), "seconds": round(seconds, 1)}
                print(json.dumps(event), flush=True)
    return nats


def line(item: dict[str, Any], texts: list[Text], nats: list[float]) -> dict[str, Any]:
    """What is kept of one item."""
    if not all(map(math.isfinite, nats)):
        raise JobError(f"item {item['id']} has {nats[0]} nats a token; the model is broken, train it again more gently")
    kept = {key: item[key] for key in ("id", "part", "category")} | {
        "epoch": 1,
        "score": nats[0],
        "answered": True,
        "truncated": any(text.cut for text in texts),
        "output_tokens": sum(text.tokens for text in texts),
    }
    return kept if len(nats) == 1 else kept | {"score": int(nats[0] < nats[1]), "margin": nats[1] - nats[0]}


def evaluate(config: Config, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs the job and returns its result. Raises JobError."""
    started = time.monotonic()
    prepare_environment(config.model, config.adapter)
    print(f"loading {config.model}" + (f" with adapter {config.adapter}" if config.adapter else ""), flush=True)
    model, tokenizer = load(config)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    keys = [("text",) if "text" in item else METRICS[config.metric] for item in items]
    encoded = [[encode(item, key, tokenizer, context) for key in each] for item, each in zip(items, keys, strict=True)]
    texts = [text for answers in encoded for text in answers]
    measuring = time.monotonic()
    nats = iter(measure(model, texts, config.batch_tokens))
    tokens_per_second = sum(len(text.ids) for text in texts) / (time.monotonic() - measuring)
    lines = [line(item, answers, [next(nats) for _ in answers]) for item, answers in zip(items, encoded, strict=True)]
    with (OUT / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in lines)
    means = {key: round(sum(row[key] for row in lines) / len(lines), 6) for key in ("score", "answered", "truncated")}
    return {
        "items": len(items),
        **means,
        "seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": round(tokens_per_second, 1),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures how likely a language model finds given answers.")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    try:
        config = read_config(parser.parse_args().config)
        result = evaluate(config, read_items(Path(config.items), config.metric))
    except JobError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
