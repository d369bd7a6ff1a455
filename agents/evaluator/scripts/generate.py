# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.6", "transformers>=5.0", "peft>=0.18"]
# ///
"""Answers prompts with a language model.

    python generate.py --config config.json

    {"model": folder or Hub id, "prompts": "prompts.jsonl", "revision": null, "adapter": null, "chat_template": null,
     "decoding": "greedy", "max_tokens": 256, "batch_size": 64, "seed": 0, "dtype": "auto", "engine": "auto",
     "resume_from": null}

`model` and `prompts` are required. A line of the prompts file: {"id", "epoch", "messages": [{"role", "content"}, ...],
"tools" (optional)}. `chat_template` is a Jinja file in place of the model's own template. decoding "greedy" takes the
likeliest token each time; "model" decodes as the model's generation_config.json says. dtype "auto" is the checkpoint's
own on an accelerator; on a CPU it is bfloat16 where the processor calculates in it, and float32 elsewhere.

Prints a progress event every few seconds and {"result": ...} at the end; writes out/answers.jsonl, a line a prompt:
{"id", "epoch", "output", "output_tokens", "prompt_tokens", "truncated"}. `resume_from` is the folder of an earlier
answers.jsonl, whose answers are taken over. Exit 2: the config, the model or the prompts cannot be used as they are.
"""

import argparse
import difflib
import json
import os
import sys
import time
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant", "tool")
DECODINGS = ("greedy", "model")
ENGINES = ("auto", "transformers", "vllm")
DTYPES = ("auto", "float32", "bfloat16", "float16")
PROGRESS_SECONDS = 2.0
OUT = Path("out")


class JobError(Exception):
    """The job cannot be done as it was given; the message ends with the next move."""


@dataclass(frozen=True)
class Config:
    model: str
    prompts: str
    revision: str | None = None
    adapter: str | None = None
    chat_template: str | None = None
    decoding: str = "greedy"
    max_tokens: int = 256
    batch_size: int = 64
    seed: int = 0
    dtype: str = "auto"
    engine: str = "auto"
    resume_from: str | None = None


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int
    """Tokens generated, the one that ends the turn included."""
    prompt_tokens: int
    truncated: bool
    """The token limit was met before the model ended its turn."""


def read_config(path: Path) -> Config:
    """Raises JobError for anything that is not exactly the documented settings."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the config {path}: {e}; give a JSON file") from e
    if not isinstance(given, dict):
        raise JobError(f"{path} is not a JSON object; see the example at the top of this script")
    known = {field.name: field for field in fields(Config)}
    for key in given.keys() - known.keys():
        near = difflib.get_close_matches(key, known, 1)
        raise JobError(f"unknown key {key!r} in {path}; " + (f"did you mean {near[0]!r}?" if near else "remove it"))
    missing = [name for name, field in known.items() if field.default is MISSING and name not in given]
    if missing:
        raise JobError(f"{path} lacks {', '.join(missing)}; add it")
    types = typing.get_type_hints(Config)
    for key, value in given.items():
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise JobError(f"{key} is {value!r} in {path}; give a value of type {known[key].type}")
    config = Config(**given)
    for folder in (config.model, config.adapter):
        if folder and Path(folder).is_absolute() and not Path(folder).is_dir():
            raise JobError(f"there is no folder {folder}; give a folder with a model or a Hub id")
    for name in ("max_tokens", "batch_size"):
        if getattr(config, name) < 1:
            raise JobError(f"{name} is {getattr(config, name)}; give at least 1")
    for name, allowed in (("decoding", DECODINGS), ("dtype", DTYPES), ("engine", ENGINES)):
        if getattr(config, name) not in allowed:
            raise JobError(f"{name} is {getattr(config, name)!r}; choose {' or '.join(allowed)}")
    return config


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The prompts in file order. Raises JobError with the line number for a row that cannot be asked."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the prompts {path}: {e}; give a JSONL file") from e
    prompts: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            usable = bool(row["messages"]) and isinstance(row["id"], str) and isinstance(row["epoch"], int)
            usable &= all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in row["messages"])
        except (ValueError, KeyError, TypeError) as e:
            raise JobError(f"{path}, line {number} is not a prompt ({e!r}); see the top of this script") from e
        if not usable:
            raise JobError(f"{path}, line {number} is not a prompt; see the top of this script")
        prompts.append(row)
    if len({(row["id"], row["epoch"]) for row in prompts}) < len(prompts):
        raise JobError(f"{path} has an id twice in one epoch; give every item an id of its own")
    return prompts


def load(config: Config) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model on its device with the adapter merged in, and the model's own tokenizer. Raises JobError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
        model: Any = AutoModelForCausalLM.from_pretrained(config.model, revision=config.revision, dtype="auto")
        if config.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, config.adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as e:
        reason = " ".join(str(e).split())[:300]
        raise JobError(f"cannot load {config.adapter or config.model} ({reason}); give a folder or a Hub id") from e
    if config.chat_template:
        tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
    if not tokenizer.chat_template:
        raise JobError(f"{config.model} has no chat template; choose an instruct model or add chat_template.jinja")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if config.dtype != "auto":
        model.to(getattr(torch, config.dtype))
    elif device == "cpu":
        model.to(torch.bfloat16 if native else torch.float32)
    return model.to(device).eval(), tokenizer


class Progress:
    """Counts what decoding has done and prints it, at most every `PROGRESS_SECONDS`."""

    def __init__(self) -> None:
        self.steps = self.answered = self.tokens = 0
        self.shown = self.seconds = 0.0

    def start(self, steps: int) -> None:
        """`steps`: different prompts to answer."""
        self.steps, self.started = steps, time.monotonic()

    def add(self, answered: int, tokens: int) -> None:
        self.answered, self.tokens = self.answered + answered, self.tokens + tokens
        self.seconds = time.monotonic() - self.started
        if self.seconds - self.shown >= PROGRESS_SECONDS or (answered and self.answered == self.steps):
            self.shown = self.seconds
            event = {"step": self.answered, "steps": self.steps, "seconds": round(self.seconds, 1)}
            print(json.dumps(event | {"tokens_per_second": self.tokens_per_second}), flush=True)

    @property
    def tokens_per_second(self) -> float:
        return round(self.tokens / self.seconds, 1) if self.seconds else 0.0


class GreedyDecoder:
    """Continues prompts greedily, many at a time; prompts of similar length share a batch.

    Rows leave their batch as soon as they end, and what all prompts of a batch begin with is read once: with short
    answers, long templates and a few stragglers that is several times faster than `generate`, token for token the same.
    Both need a cache of plain full attention; other models (sliding windows, state spaces) go through `generate`.
    """

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: Config, progress: Progress
    ) -> None:
        from transformers import DynamicCache, GenerationConfig
        from transformers.cache_utils import DynamicLayer

        self.model, self.tokenizer, self.progress = model, tokenizer, progress
        self.failure: Exception | None = None
        self.max_tokens, self.batch_size = config.max_tokens, config.batch_size
        ends = model.generation_config.eos_token_id if model.generation_config else None
        self.ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
        # Only these: a repetition penalty or temperature that a checkpoint brings along is not plain greedy decoding.
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=sorted(self.ends), pad_token_id=tokenizer.pad_token_id
        )
        self.plain_cache = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)

    def __call__(self, prompts: Sequence[str]) -> list[Answer]:
        """One answer a prompt, in order. Raises JobError when prompt and answer exceed the model's context."""
        import torch

        encoded = {prompt: self.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts}
        context = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, encoded.values())) + self.max_tokens
        if context and longest > context:
            raise JobError(f"the longest item needs {longest} tokens, the model reads {context}; lower max_tokens")
        ordered = sorted(encoded, key=lambda prompt: (len(encoded[prompt]), prompt))
        self.progress.start(len(ordered))
        outputs: dict[str, list[int]] = {}
        with torch.inference_mode():
            for start in range(0, len(ordered), self.batch_size):
                batch = ordered[start : start + self.batch_size]
                decode = self.decode if self.plain_cache else self.decode_with_generate
                outputs |= zip(batch, decode([encoded[prompt] for prompt in batch]), strict=True)
        return [self.answer(outputs[prompt], len(encoded[prompt])) for prompt in prompts]

    def answer(self, tokens: list[int], prompt_tokens: int) -> Answer:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(str(text), len(tokens), prompt_tokens, truncated=tokens[-1] not in self.ends)

    def padded(self, rows: list[list[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Token ids and attention mask, both (rows, longest), on the model's device."""
        batch = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.model.device)
        return batch["input_ids"], batch["attention_mask"]

    def decode(self, prompts: list[list[int]]) -> list[list[int]]:
        """Generated ids a row, the ending one included. The batch shrinks as rows end."""
        import torch
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        columns = enumerate(zip(*prompts, strict=False))
        shared = next((i for i, column in columns if len(set(column)) > 1), min(map(len, prompts)) - 1)
        if shared:
            prefix = torch.tensor([prompts[0][:shared]], device=self.model.device)
            self.model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache.batch_repeat_interleave(len(prompts))
        ids, mask = self.padded([prompt[shared:] for prompt in prompts])
        mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
        positions = (mask.cumsum(1) - 1)[:, shared:]
        outputs: list[list[int]] = [[] for _ in prompts]
        live = list(range(len(prompts)))
        for _ in range(self.max_tokens):
            step = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            chosen = step.logits[:, -1].argmax(-1)
            for row, token in zip(live, chosen.tolist(), strict=True):
                outputs[row].append(token)
            going = [i for i, row in enumerate(live) if outputs[row][-1] not in self.ends]
            self.progress.add(len(live) - len(going), len(live))
            if len(going) < len(live):
                live = [live[i] for i in going]
                kept = torch.tensor(going, dtype=torch.long, device=ids.device)
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
                cache.batch_select_indices(kept)
            if not live:
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        self.progress.add(len(live), 0)
        return outputs

    def decode_with_generate(self, prompts: list[list[int]]) -> list[list[int]]:
        ids, mask = self.padded(prompts)
        generated = self.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=self.max_tokens)  # type: ignore[operator]
        outputs = []
        for row in generated[:, ids.shape[1] :].tolist():
            end = next((i for i, token in enumerate(row) if token in self.ends), len(row) - 1)
            outputs.append(row[: end + 1])
        self.progress.add(len(outputs), sum(map(len, outputs)))
        return outputs


def evaluate(config: Config, prompts: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs the job and returns its result. Raises JobError."""
    started = time.monotonic()
    prepare_environment(config)
    print(f"loading {config.model}" + (f" with adapter {config.adapter}" if config.adapter else ""), flush=True)
    import torch

    torch.manual_seed(config.seed)
    model, tokenizer = load(config)
    progress = Progress()
    decoder = GreedyDecoder(model, tokenizer, config, progress)
    texts = [
        tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False, add_generation_prompt=True
        )
        for row in prompts
    ]
    answers = decoder([str(text) for text in texts])
    with (OUT / "answers.jsonl").open("w", encoding="utf-8") as file:
        for row, answer in zip(prompts, answers, strict=True):
            line = {
                "id": row["id"], "epoch": row["epoch"], "output": answer.text, "output_tokens": answer.tokens,
                "prompt_tokens": answer.prompt_tokens, "truncated": answer.truncated,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")
    return {
        "prompts": len(prompts),
        "truncated": round(sum(answer.truncated for answer in answers) / len(answers), 6),
        "seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": progress.tokens_per_second,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def prepare_environment(config: Config) -> None:
    """Must come before the heavy imports: keeps libraries from the network and from writing outside `out`."""
    OUT.mkdir(exist_ok=True)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin slow down whatever else uses the cores
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if Path(config.model).is_dir() and (not config.adapter or Path(config.adapter).is_dir()):
        os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> int:
    parser = argparse.ArgumentParser(description="Answers prompts with a language model.")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    try:
        config = read_config(parser.parse_args().config)
        result = evaluate(config, read_prompts(Path(config.prompts)))
    except JobError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
