# /// script
# requires-python = ">=3.11"
# dependencies = ["inspect-ai>=0.3.285", "torch>=2.6", "transformers>=5.0", "peft>=0.18"]
# ///
"""Evaluates a language model on questions with choices, or with a short answer, with inspect-ai's own scorers.

    python evaluate.py --config config.json

    {"model": folder or Hub id, "items": "items.jsonl", "revision": null, "adapter": null, "template": "gpqa",
     "max_tokens": 256, "batch_size": 64, "epochs": 1, "seed": 0, "dtype": "auto"}

`model` and `items` are required. A line of the items file for template "gpqa": {"id", "question", "choices", "answer":
"A", "category", "part"}; choices are shown in the order given. For template "exact": {"id", "prompt", "completion",
"category", "part"}, both lists of chat messages; the one message of the completion is what has to be answered. Decoding
is greedy, so epochs and seed change nothing but the number of lines. dtype "auto" is the checkpoint's own on an
accelerator; on a CPU it is bfloat16 where the processor calculates in it, and float32 elsewhere.

Prints a progress event every few seconds and {"result": ...} at the end; writes out/items.jsonl (one line an item and
epoch) and inspect's own log to out/inspect. Exit 2: the config, the model or the items cannot be used as they are.
"""

import argparse
import copy
import difflib
import json
import os
import re
import sys
import time
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from inspect_ai.log import EvalSample
    from inspect_ai.model import Model
    from inspect_ai.scorer import Scorer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEMPLATES = {"gpqa": ("question", "choices", "answer"), "exact": ("prompt", "completion")}
"""Template -> what an item has. gpqa: `multiple_choice(cot=True)` and `choice()`, as inspect-evals scores GPQA. exact:
the prompt as it is, and `match(location="exact")`: case, and blanks and punctuation around the answer, do not count. A
reply that marks its answer is matched by that, unless the right one is marked as well."""
MARK = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}|####[ \t]*([^\n]+)|ANSWER[ \t]*:[ \t]*([^\n]+)", re.IGNORECASE)
"""Answers as MATH, GSM8K and multiple-choice evaluators have them marked."""
NUMBER = re.compile(r"[-+]?(\d\.?){1,5}")
"""Compared by value, so that a sign counts; inspect rounds longer ones to five digits."""
ROLES = ("system", "user", "assistant", "tool")
DTYPES = ("auto", "float32", "bfloat16", "float16")
PROGRESS_SECONDS = 2.0
OUT = Path("out")


class JobError(Exception):
    """The job cannot be done as it was given; the message ends with the next move."""


@dataclass(frozen=True)
class Config:
    model: str
    items: str
    revision: str | None = None
    adapter: str | None = None
    template: str = "gpqa"
    max_tokens: int = 256
    batch_size: int = 64
    epochs: int = 1
    seed: int = 0
    dtype: str = "auto"


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
    for name in ("max_tokens", "batch_size", "epochs"):
        if getattr(config, name) < 1:
            raise JobError(f"{name} is {getattr(config, name)}; give at least 1")
    for name, allowed in (("template", TEMPLATES), ("dtype", DTYPES)):
        if getattr(config, name) not in allowed:
            raise JobError(f"{name} is {getattr(config, name)!r}; choose {' or '.join(allowed)}")
    return config


def read_items(path: Path, template: str) -> list[dict[str, Any]]:
    """The items in file order. Raises JobError with the line number for a row that cannot be scored."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as e:
        raise JobError(f"cannot read the items {path}: {e}; give a JSONL file") from e
    items: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            item = json.loads(line)
            item = {key: item[key] for key in ("id", *TEMPLATES[template], "category", "part")}
            item["id"] = str(item["id"])
            advice = advice_on(item)
        except (ValueError, KeyError, TypeError) as e:
            raise JobError(f"{path}, line {number} is not an item ({e!r}); see the top of this script") from e
        if advice:
            raise JobError(f"{path}, line {number}: {advice}")
        items.append(item)
    if len({item["id"] for item in items}) < len(items):
        raise JobError(f"{path} has an id twice; give every item an id of its own")
    return items


def advice_on(item: dict[str, Any]) -> str:
    """What to do about an item that cannot be scored; empty for one that can. Raises KeyError or TypeError."""
    if "choices" in item:
        letters = [chr(ord("A") + i) for i in range(len(set(item["choices"])))]
        usable = len(letters) == len(item["choices"]) >= 2 and item["answer"] in letters
        return "" if usable else "give distinct choices and the letter of the right one as answer"
    texts = [item["prompt"], item["completion"]]
    chat = all(turn["role"] in ROLES and isinstance(turn["content"], str) for turns in texts for turn in turns)
    return "" if chat and item["prompt"] and len(item["completion"]) == 1 else "give messages, one as completion"


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


def gathering_model(name: str, decoder: GreedyDecoder, expected: int) -> "Model":
    """An inspect model that collects `expected` chats, then decodes all at once: the batches never depend on timing.

    What goes wrong there is kept as `decoder.failure`, because inspect would only log it.
    """
    import anyio
    from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, modelapi
    from inspect_ai.tool import ToolChoice, ToolInfo

    class Gathering(ModelAPI):
        def __init__(self, model_name: str) -> None:
            super().__init__(model_name)
            self.prompts: list[str] = []
            self.answers: list[Answer] = []
            self.all_answered = anyio.Event()

        async def generate(
            self,
            input: list[ChatMessage],
            tools: list[ToolInfo],
            tool_choice: ToolChoice,
            config: GenerateConfig,
        ) -> ModelOutput:
            chat = [{"role": message.role, "content": message.text} for message in input]
            text = decoder.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            place = len(self.prompts)
            self.prompts.append(str(text))
            if len(self.prompts) == expected:
                await self.decode()
            await self.all_answered.wait()
            answer = self.answers[place]
            output = ModelOutput.from_content(name, answer.text, "max_tokens" if answer.truncated else "stop")
            output.usage = ModelUsage(input_tokens=answer.prompt_tokens, output_tokens=answer.tokens)
            return output

        async def decode(self) -> None:
            try:
                self.answers = await anyio.to_thread.run_sync(decoder, self.prompts)
            except Exception as e:
                decoder.failure = e
                raise
            self.all_answered.set()

    api = modelapi("transformers")(Gathering)(name)
    return Model(api, GenerateConfig(max_tokens=decoder.max_tokens, max_connections=expected))


def score(config: Config, items: list[dict[str, Any]], decoder: GreedyDecoder) -> "list[EvalSample]":
    """inspect's samples, one for every item and epoch, scored. Raises what decoding raised, or RuntimeError."""
    from inspect_ai import Epochs, Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import choice
    from inspect_ai.solver import generate, multiple_choice

    choices = config.template == "gpqa"
    dataset = [
        Sample(id=item["id"], input=item["question"], choices=item["choices"], target=item["answer"])
        if choices
        else Sample(id=item["id"], input=item["prompt"], target=item["completion"][0]["content"])
        for item in items
    ]
    task = Task(
        name=config.template,
        dataset=MemoryDataset(dataset),
        solver=multiple_choice(cot=True) if choices else generate(),
        scorer=choice() if choices else exact_match(),
        epochs=Epochs(config.epochs, "mean"),
    )
    count = len(items) * config.epochs
    model = gathering_model(config.model, decoder, count)
    [log] = inspect_eval(
        task, model=model, display="none", log_dir=str(OUT / "inspect"), log_realtime=False, log_level="error",
        max_samples=count, ctl_server=False, acp_server=False, fail_on_error=True,
    )  # fmt: skip
    if decoder.failure:
        raise decoder.failure
    samples = log.samples or []
    if log.status != "success" or len(samples) != count:
        raise RuntimeError(log.error.traceback if log.error else f"{len(samples)} of {count} samples have a score")
    return samples


def answer_in(reply: str) -> str:
    """The last marked answer, or all of a reply that marks none."""
    *_, last = [None, *MARK.finditer(reply)]
    return next(filter(None, last.groups()), "") if last else reply


def exact_match() -> "Scorer":
    """inspect's `match`, by value where the right answer is a number."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score, Target, accuracy, match, scorer
    from inspect_ai.solver import TaskState

    @scorer(metrics=[accuracy()], name="exact")
    def either() -> "Scorer":
        text, number = match("exact"), match("exact", numeric=True)

        async def score(state: TaskState, target: Target) -> Score | None:
            if not MARK.search(target.text):
                said = copy.copy(state)
                said.output = ModelOutput.from_content(str(state.model), answer_in(state.output.completion))
                state = said
            return await (number if NUMBER.fullmatch(target.text.strip()) else text)(state, target)

        return score

    return either()


def line(item: dict[str, Any], sample: "EvalSample") -> dict[str, Any]:
    """What is kept of one answer. The score is inspect's: C (correct) counts 1, everything else 0."""
    [mark] = (sample.scores or {}).values()
    return {
        "id": item["id"],
        "part": item["part"],
        "category": item["category"],
        "epoch": sample.epoch,
        "score": int(mark.value == "C"),
        "answered": bool(mark.answer),
        "truncated": sample.output.stop_reason == "max_tokens",
        "answer": mark.answer or None,
        "output": sample.output.completion,
        "output_tokens": sample.output.usage.output_tokens if sample.output.usage else 0,
    }


def evaluate(config: Config, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs the job and returns its result. Raises JobError."""
    started = time.monotonic()
    prepare_environment(config)
    print(f"loading {config.model}" + (f" with adapter {config.adapter}" if config.adapter else ""), flush=True)
    import torch

    torch.manual_seed(config.seed)
    model, tokenizer = load(config)
    progress = Progress()
    decoder = GreedyDecoder(model, tokenizer, config, progress)
    samples = {(str(sample.id), sample.epoch): sample for sample in score(config, items, decoder)}
    epochs = range(1, config.epochs + 1)
    lines = [line(item, samples[item["id"], epoch]) for item in items for epoch in epochs]
    with (OUT / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in lines)
    means = {key: round(sum(row[key] for row in lines) / len(lines), 6) for key in ("score", "answered", "truncated")}
    return {
        "items": len(items),
        **means,
        "seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": progress.tokens_per_second,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def prepare_environment(config: Config) -> None:
    """Must come before the heavy imports: keeps libraries from the network and from writing outside `out`."""
    OUT.mkdir(exist_ok=True)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["XDG_DATA_HOME"] = str((OUT / "inspect").resolve())  # inspect's traces
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin slow down whatever else uses the cores
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if Path(config.model).is_dir() and (not config.adapter or Path(config.adapter).is_dir()):
        os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> int:
    parser = argparse.ArgumentParser(description="Evaluates a language model on questions.")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    try:
        config = read_config(parser.parse_args().config)
        result = evaluate(config, read_items(Path(config.items), config.template))
    except JobError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
