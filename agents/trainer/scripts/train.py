# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0",
#   "trackio==0.43.0", "pydantic==2.14.3",
# ]
# ///
"""Post-trains a causal language model: `python train.py --config config.json`, in a folder that holds the data.

Every row of `data.jsonl` has a `prompt` and, for SFT, a `completion`, for DPO a `chosen` and a `rejected` one: lists of
chat messages. They may call tools, which `tools` describes: JSON schemas, as a JSON text. Only completions are in the
loss, their end-of-turn token included. For SFT all rows may be a `text` instead, which is in the loss as a whole, and
gets an EOS token. Writes out/adapter (LoRA) or out/model (all weights), and out/metrics.jsonl with one line a weight
update. Standard output has one JSON event a line and ends with `{"result": ...}`. Exit status 2, with one line on
standard error, for a config or data that is no use.
"""

import argparse
import io
import json
import math
import os
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field, Json, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

STARTED = time.monotonic()
OUT = Path("out")
BASE_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*", "generation_config.json")
"""What a trained model takes over from its base byte for byte: tokenizer, chat template, decoding policy."""
REFUSALS = (TemplateError, TypeError, ValueError, LookupError)
"""What a chat template raises that was not written for such a conversation."""
PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
"""How many train together; torchrun and accelerate set it."""


class Strict(BaseModel):
    """Settings that take no key and no type but their own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Lora(Strict):
    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: NonNegativeFloat = 0.0
    target_modules: str | list[str] = "all-linear"


class Config(Strict):
    model: str
    """Folder or Hub id of the base."""
    batch: PositiveInt
    """Rows behind one weight update: exactly micro_batch x accumulation x processes."""
    micro_batch: PositiveInt
    """Rows that one process computes at a time."""
    method: str = "sft"
    beta: PositiveFloat = 0.1
    """DPO: how strongly the model is held to its start."""
    revision: str | None = None
    adapter: str | None = None
    """Folder of an adapter of this base to go on from, with a fresh optimizer."""
    data: str = "data.jsonl"
    lora: Lora | None = Lora()
    """None trains all weights."""
    learning_rate: PositiveFloat = 1e-3
    epochs: PositiveFloat = 1
    max_length: PositiveInt = 1024
    """Tokens of a row; what is longer is cut off at the end."""
    warmup_ratio: NonNegativeFloat = 0.03
    lr_scheduler: str = "cosine"
    seed: int = 0
    packing: bool = False
    group_by_length: bool = True
    activation_checkpointing: bool = False
    report_to: list[str] = []
    project: str = "postgrad"
    run_name: str = "train"


class Message(BaseModel):
    """A turn; what else it holds (`tool_calls`, `name`, `reasoning_content`, ...) is for the chat template."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str


Turns = list[dict[str, Any]]
"""Messages as plain data."""


class Chat(BaseModel):
    prompt: list[Message] = Field(min_length=1)
    tools: Json[list[dict[str, Any]]] | None = None


class Row(Chat):
    completion: list[Message] = Field(min_length=1)


class Pair(Chat):
    chosen: list[Message] = Field(min_length=1)
    rejected: list[Message] = Field(min_length=1)


class Text(Strict):
    text: str = Field(pattern=r"\S")


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-trains a causal language model.")
    parser.add_argument("--config", type=Path, required=True)
    config = read_config(parser.parse_args().config)
    rows = read_rows(Path(config.data), METHODS[config.method].rows)
    quiet_and_local(config)
    with redirect_stdout(io.StringIO()):
        result = train(config, rows)
    emit({"result": result})


def train(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Trains, saves, and returns the run's figures: seconds, GiB, tokens without padding."""
    from datasets import Dataset, Features, Json, List, Value

    model, tokenizer = load(config)
    if "text" not in rows[0]:
        require_rendering(rows, tokenizer, config)
    # As JSON, because Arrow gives every message and every tool the keys that any of them has, with nulls.
    types = {"text": Value("string"), "tools": Json()}
    features = Features({name: types.get(name, List(Json())) for name in rows[0]})
    dataset = Dataset.from_list(rows, features=features)
    trainer = METHODS[config.method].trainer(config, model, tokenizer, dataset)
    suit_processor(trainer)
    began = time.monotonic()
    train_loss = trainer.train().training_loss
    seconds = time.monotonic() - began
    tokens = next(int(log["num_tokens"]) for log in reversed(trainer.state.log_history) if "num_tokens" in log)
    return {
        "train_loss": train_loss,
        "steps": trainer.state.global_step,
        "rows": len(rows),
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "model": save(trainer.model, config),
        "peak_memory_gib": peak_memory_gib(),
        "seconds": time.monotonic() - STARTED,
    }


def sft(config: Config, model: Any, tokenizer: Any, rows: Any) -> Any:
    """Supervised fine-tuning on completions, or on texts."""
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    arguments = shared_arguments(config) | {
        "max_length": config.max_length,
        "packing": config.packing,
        "completion_only_loss": "completion" in rows.column_names,
        "train_sampling_strategy": "group_by_length" if config.group_by_length and not config.packing else "random",
    }
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=new_adapter(config),
        callbacks=[progress()],
    )


def dpo(config: Config, model: Any, tokenizer: Any, rows: Any) -> Any:
    """Direct preference optimisation [arXiv 2305.18290]; the reference is the model as it is at the start."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    return DPOTrainer(
        model=model,
        args=DPOConfig(**shared_arguments(config), max_length=config.max_length, beta=config.beta),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=new_adapter(config),
        callbacks=[progress()],
    )


@dataclass(frozen=True)
class Method:
    trainer: Callable[[Config, Any, Any, Any], Any]
    """Builds the TRL trainer from config, model, tokenizer and rows."""
    rows: tuple[type[BaseModel], ...]
    """What a data set may consist of."""


METHODS = {"sft": Method(sft, (Row, Text)), "dpo": Method(dpo, (Pair,))}


def shared_arguments(config: Config) -> dict[str, Any]:
    """What every method hands to transformers' TrainingArguments."""
    return {
        "output_dir": str(OUT),
        "per_device_train_batch_size": config.micro_batch,
        "gradient_accumulation_steps": config.batch // (config.micro_batch * PROCESSES),
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a fraction of all steps
        "seed": config.seed,
        "bf16": calculates_in_bf16(),
        "use_cpu": not on_gpu(),
        "dataloader_pin_memory": on_gpu(),
        "activation_checkpointing": config.activation_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": config.report_to,
        "project": config.project,
        "run_name": config.run_name,
    }


def load(config: Config) -> tuple[Any, Any]:
    """Model (float32; bfloat16 where it stays frozen on a GPU) and tokenizer. Exits 2 when they cannot be used."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if on_gpu() and config.lora else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
        model: Any = AutoModelForCausalLM.from_pretrained(config.model, revision=config.revision, dtype=dtype)
        if config.adapter:
            model = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
    except (OSError, ValueError) as error:
        fail(f"{config.adapter or config.model} cannot be loaded: {problem(error)}", "give a model folder or a Hub id")
    if config.adapter and (not config.lora or model.active_peft_config.r != config.lora.r):
        fail(f"the adapter {config.adapter} has rank {model.active_peft_config.r}", "set lora.r to it")
    return model, tokenizer


def require_rendering(rows: list[dict[str, Any]], tokenizer: Any, config: Config) -> None:
    """Exits 2 where the chat template refuses a row, or leaves a part of it out without a word."""
    if not tokenizer.chat_template:
        fail(f"the tokenizer of {config.model} has no chat template", "add chat_template.jinja to the model folder")
    replies = [name for name in rows[0] if name not in ("prompt", "tools")]
    for number, row in enumerate(rows, 1):
        try:
            lost = [what for name in replies for what in left_out(row["prompt"], row[name], row["tools"], tokenizer)]
        except REFUSALS as error:
            lost = [f"it ({problem(error)})"]
        if lost:
            what = f"{config.data}, row {number}: the chat template of {config.model} does not render {lost[0]}"
            fail(what, "choose a model whose template does, or change or drop the row")


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


def new_adapter(config: Config) -> Any:
    if config.lora is None or config.adapter:
        return None
    from peft import LoraConfig

    lora = config.lora.model_dump()
    return LoraConfig(lora_alpha=lora.pop("alpha"), lora_dropout=lora.pop("dropout"), task_type="CAUSAL_LM", **lora)


def suit_processor(trainer: Any) -> None:
    """Makes a CPU twice as fast (1.7 -> 0.8 s of one core per row of 170 tokens and 135M weights), at the same loss."""
    import trl.trainer.utils

    if on_gpu():
        return
    # TRL projects only the tokens in the loss to the vocabulary where it has Triton; elsewhere it projects all of them,
    # so that compiled shapes stay the same. Nothing is compiled here, and most tokens belong to prompts.
    vars(trl.trainer.utils)["_use_triton"] = lambda _device: True
    # While rows are short, the backward pass of the CPU's fused attention is slower than plain matrix products.
    columns = [
        name for name in ("input_ids", "chosen_ids", "rejected_ids") if name in trainer.train_dataset.column_names
    ]
    prompts = trainer.train_dataset["prompt_ids"] if "prompt_ids" in trainer.train_dataset.column_names else [[]]
    longest = max(len(ids) for name in columns for ids in trainer.train_dataset[name]) + max(map(len, prompts))
    if longest <= 512:
        trainer.model.set_attn_implementation("eager")


def progress() -> Any:
    """A callback that tells every weight update: an event on standard output, a line in metrics.jsonl."""
    from transformers import TrainerCallback

    OUT.mkdir(exist_ok=True)
    metrics = (OUT / "metrics.jsonl").open("w", buffering=1)

    class Progress(TrainerCallback):
        began = told = time.monotonic()

        def tell(self, state: Any, **values: Any) -> str:
            self.told = time.monotonic()
            seconds = round(self.told - self.began, 2)
            return emit({"step": state.global_step, "steps": state.max_steps, **values, "seconds": seconds})

        def on_train_begin(self, *event: Any, **_: Any) -> None:
            self.began = time.monotonic()
            self.tell(event[1])

        def on_substep_end(self, *event: Any, **_: Any) -> None:
            if time.monotonic() - self.told > 5:
                self.tell(event[1])

        def on_log(self, *event: Any, **details: Any) -> None:
            logs = details["logs"]
            if "loss" in logs:
                metrics.write(self.tell(event[1], **logs) + "\n")
                if not math.isfinite(logs["loss"]):
                    raise FloatingPointError(f"the loss is {logs['loss']}; lower the learning rate")

    return Progress()


def save(model: Any, config: Config) -> str:
    """Saves to out/adapter or out/model, and returns which."""
    if config.lora:
        # The embeddings are the base's ("auto" asks the Hub); DPO's reference may be an adapter beside the trained one.
        model.save_pretrained(OUT / "adapter", save_embedding_layers=False, selected_adapters=["default"])
        return str(OUT / "adapter")
    from huggingface_hub import snapshot_download
    from transformers import AutoConfig

    model.to(AutoConfig.from_pretrained(config.model, revision=config.revision).dtype).save_pretrained(OUT / "model")
    base = Path(config.model)
    if not base.is_dir():
        base = Path(snapshot_download(config.model, revision=config.revision, allow_patterns=list(BASE_FILES)))
    for file in (file for pattern in BASE_FILES for file in base.glob(pattern)):
        shutil.copyfile(file, OUT / "model" / file.name)
    return str(OUT / "model")


def quiet_and_local(config: Config) -> None:
    """A log without noise, no spinning threads, nothing to the network: must come before the heavy imports."""
    warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell one another
    os.environ |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads that spin cost a neighbour on the machine most
    for name in ("SPACE_ID", "SERVER_URL", "BUCKET_ID", "DATASET_ID", "WEBHOOK_URL"):
        os.environ.pop(f"TRACKIO_{name}", None)
    if Path(config.model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"


def calculates_in_bf16() -> bool:
    """Whether the device has instructions for bfloat16; a processor without them is many times slower in it."""
    import torch

    return on_gpu() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def peak_memory_gib() -> float:
    """The most memory this process held: the GPU's if it has one, else resident (getrusage counts KiB on Linux)."""
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return (torch.cuda.max_memory_allocated() if on_gpu() else resident) / 2**30


def read_config(path: Path) -> Config:
    """The settings. Exits 2 for a key, type or value that is wrong, and for a batch that would not be exact."""
    try:
        config = Config.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fail(f"{path}: {problem(error)}", f"known settings are {', '.join(Config.model_fields)}")
    if config.method not in METHODS:
        fail(f"unknown method {config.method!r}", f"choose one of {', '.join(METHODS)}")
    if config.batch % (config.micro_batch * PROCESSES):
        what = f"batch {config.batch} is not a multiple of micro_batch {config.micro_batch} x {PROCESSES} process(es)"
        fail(what, "change one of them, the effective batch must be exact")
    return config


def read_rows(path: Path, kinds: tuple[type[BaseModel], ...]) -> list[dict[str, Any]]:
    """The rows to train on, all of one kind. Exits 2 at the first that has not what the method needs."""
    rows: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                is_text = Text in kinds and isinstance(row, dict) and "text" in row
                if rows and is_text != ("text" in rows[0]):
                    raise ValueError("texts and conversations are mixed, and differ in what is learned")
                rows.append((Text if is_text else kinds[0]).model_validate(row).model_dump())
    except (OSError, ValueError) as error:
        needed = " and ".join(name for name, field in kinds[0].model_fields.items() if field.is_required())
        texts = ", or all of text" if Text in kinds else ""
        fail(f"{path}, row {len(rows) + 1}: {problem(error)}", f"give rows of {needed}, lists of messages{texts}")
    if not rows:
        fail(f"{path} has no rows", "give at least one")
    return rows


def problem(error: Exception) -> str:
    """What is wrong, in a line: the first complaint of a validation, or the first line of any other error."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return str(error).strip().partition("\n")[0]


def emit(event: dict[str, Any]) -> str:
    """One event for whoever watches: a JSON object on a line of the real standard output. Returns that line."""
    line = json.dumps(event)
    print(line, file=sys.__stdout__, flush=True)
    return line


def fail(what: str, next_move: str) -> NoReturn:
    print(f"error: {what}; {next_move}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
