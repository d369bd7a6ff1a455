# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0",
#   "trackio==0.43.0", "pydantic==2.14.3", "math-verify==0.9.0",
# ]
# ///
"""Post-trains a causal language model: `python train.py --config config.json`.

METHODS below says what there is, and what rows of `data.jsonl` have to hold: lists of chat messages, which may call
tools that `tools` describes, JSON schemas as a JSON text. settings.py says what can be set; it and the other files that
this one imports lie beside it. Only replies are in the loss, their end-of-turn token included.

Writes out/adapter (LoRA) or out/model (all weights) to the working directory, checkpoints if asked to, and
out/metrics.jsonl with one line a weight update. Standard output has one JSON event a line and ends with
`{"result": ...}`. Exit status 2, with one line on standard error, for a config or data that is no use.
"""

import argparse
import io
import math
import os
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chats
import settings
from chats import Rows
from distillation import learning_from_rows
from programs import Unusable
from progress import OUT, emit, progress
from pydantic import BaseModel
from rewards import Reward, for_trl, rewards_of
from settings import PROCESSES, RANK, fail
from uploads import Repository, uploading
from weights import calculates_in_bf16, load, load_teacher, new_adapter, on_gpu, peak_memory_gib, save, suit_processor

STARTED = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-trains a causal language model.")
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config
    config = settings.read_config(path, {name: method.settings for name, method in METHODS.items()})
    rows = chats.read_rows(Path(config.data), METHODS[config.method].rows)
    rewards = proved_rewards(config, rows, path.parent)
    quiet_and_local(config)
    with redirect_stdout(io.StringIO()):
        result = train(config, rows, rewards)
    emit({"result": result})


def train(config: Any, rows: Rows, rewards: dict[str, Reward]) -> dict[str, Any]:
    """Trains, saves, and returns the run's figures: seconds, GiB, tokens without padding."""
    repository = Repository(config.hub_model_id, config.hub_private) if config.push_to_hub and RANK == 0 else None
    model, tokenizer = load(config)
    if "text" not in rows[0]:
        chats.require_rendering(rows, tokenizer, config.data, config.model)
    prepared = METHODS[config.method].prepare(config, rows, tokenizer)
    trainer = trainer_of(config, model, tokenizer, prepared, rewards)
    used = len(prepared) if getattr(config, "packing", False) else len(trainer.train_dataset)
    if not used:
        fail(f"no row of {config.data} leaves anything to learn within max_length {config.max_length}", "raise it")
    suit_processor(trainer)
    tell_epochs()
    told = progress(config.method, config.report_to)
    trainer.add_callback(told)
    if repository:
        trainer.add_callback(uploading(repository))
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=config.resume_from)
    seconds = time.monotonic() - began
    updates = [log for log in trainer.state.log_history if "loss" in log]
    tokens = int(updates[-1]["num_tokens"]) - told.tokens_before
    saved = save(trainer, config)
    return {
        "train_loss": math.fsum(log["loss"] for log in updates) / len(updates),
        "steps": trainer.state.global_step,
        "rows": used,
        "left_out": len(rows) - used,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "model": str(saved),
        "peak_memory_gib": peak_memory_gib(),
        "seconds": time.monotonic() - STARTED,
        "metrics": updates[-1],
    } | ({"hub": repository.deliver(saved)} if repository else {})


@dataclass(frozen=True)
class Method:
    trl: str
    """What the trainer and its arguments are called in TRL."""
    settings: type[settings.Config]
    rows: tuple[type[BaseModel], ...]
    """What a data set may consist of."""
    arguments: Callable[[Any, Any], dict[str, Any]]
    """From config and data set, what this trainer's arguments have besides those of all."""
    prepare: Callable[[Any, Rows, Any], Rows] = lambda config, rows, tokenizer: rows
    """From config, rows and tokenizer, the rows as the trainer wants them."""


def sft(config: settings.Sft, dataset: Any) -> dict[str, Any]:
    # However it is split, an update has the same rows: so a resumed job may take fewer of them at a time.
    by_length = config.group_by_length and not config.packing
    return {
        "max_length": config.max_length,
        "packing": config.packing,
        "completion_only_loss": "completion" in dataset.column_names,
        # Each update learns from a random batch all the same: only the split into micro-batches goes by length.
        "train_sampling_strategy": "batch_rebalance" if by_length else "random",
        "shuffle_dataset": by_length,  # by our seed: that sampler has one of its own
    }


def dpo(config: settings.Dpo, dataset: Any) -> dict[str, Any]:
    """The reference is the model as it is at the start [arXiv 2305.18290]."""
    return {"max_length": config.max_length, "beta": config.beta}


def kto(config: settings.Kto, dataset: Any) -> dict[str, Any]:
    """Gains and losses against the start, felt differently [arXiv 2402.01306]."""
    numbers = ("max_length", "beta", "desirable_weight", "undesirable_weight")
    return {name: getattr(config, name) for name in numbers}


def reward(config: settings.RewardModel, dataset: Any) -> dict[str, Any]:
    """A score for a whole conversation, higher for what is chosen [arXiv 2203.02155, § 3.5]."""
    return {"max_length": config.max_length, "center_rewards_coefficient": config.center_rewards or None}


def online(config: settings.Online, dataset: Any) -> dict[str, Any]:
    """Completions of one prompt, judged against one another [GRPO, arXiv 2402.03300; RLOO, arXiv 2402.14740]."""
    numbers = ("beta", "num_generations", "max_completion_length", "temperature")
    return {name: getattr(config, name) for name in numbers}


def distill(config: settings.Distill, dataset: Any) -> dict[str, Any]:
    """A teacher's distribution, token by token [arXiv 2306.13649]."""
    numbers = {"beta": config.divergence, "max_completion_length": config.max_completion_length}
    return numbers | {"temperature": config.temperature}


METHODS = {
    "sft": Method("SFT", settings.Sft, (chats.Exchange, chats.Text), sft),
    "dpo": Method("DPO", settings.Dpo, (chats.Pair,), dpo),
    "kto": Method("KTO", settings.Kto, (chats.Labelled,), kto, chats.mixed),
    "reward": Method("Reward", settings.RewardModel, (chats.Pair,), reward),
    "grpo": Method("GRPO", settings.Grpo, (chats.Question,), online, chats.with_room),
    "rloo": Method("RLOO", settings.Rloo, (chats.Question,), online, chats.with_room),
    "distill": Method("Distillation", settings.Distill, (chats.Exchange,), distill, chats.in_tokens),
}


def trainer_of(config: Any, model: Any, tokenizer: Any, rows: Rows, rewards: dict[str, Reward]) -> Any:
    """The TRL trainer that the method names, ready to train."""
    import trl

    method = METHODS[config.method]
    dataset = dataset_of(rows)
    trainer = getattr(trl, f"{method.trl}Trainer")
    more: dict[str, Any] = {}
    if isinstance(config, settings.Online):
        more = {"reward_funcs": [for_trl(name, reward) for name, reward in rewards.items()]}
    elif isinstance(config, settings.Distill):
        trainer = learning_from_rows(trainer)
        more = {"teacher_model": load_teacher(config, model, tokenizer)}
    made = trainer(
        model=model,
        args=getattr(trl, f"{method.trl}Config")(**shared_arguments(config), **method.arguments(config, dataset)),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=new_adapter(config),
        **more,
    )
    if isinstance(config, settings.Distill):
        made.on_policy = config.on_policy
    elif isinstance(config, settings.Sft):
        # Every token of an update counts the same, in micro-batches of any size. TRL computes the loss, and can do so
        # for models (Gemma 3) that say of their own that they cannot.
        made.model_accepts_loss_kwargs = True
    # A card is for the model that is delivered, and says more than each checkpoint's would.
    made.create_model_card = lambda **_: None
    return made


def dataset_of(rows: Rows) -> Any:
    """Messages, tools and answers stay JSON: Arrow would give each of them the keys that any has, with nulls."""
    from datasets import Dataset, Features, Json, List, Value

    types: dict[str, Any] = {"text": Value("string"), "label": Value("bool")}
    types |= {name: List(Json()) for name in ("prompt", "completion", "chosen", "rejected")}
    types |= {name: List(Value("int64")) for name in ("prompt_ids", "completion_ids")}
    names = list(dict.fromkeys(name for row in rows for name in row))
    features = Features({name: types.get(name, Json()) for name in names})
    return Dataset.from_list([{name: row.get(name) for name in names} for row in rows], features=features)


def proved_rewards(config: Any, rows: Rows, folder: Path) -> dict[str, Reward]:
    """Name -> reward, none where the model does not sample. Exits 2 where one cannot be relied on with these rows."""
    if not isinstance(config, settings.Online):
        return {}
    try:
        return rewards_of(config.rewards, folder, rows)
    except Unusable as error:
        fail(*str(error).rsplit("; ", 1))


def tell_epochs() -> None:
    """After a resume of several processes, accelerate's wrapper of our sampler keeps the epoch to itself.

    Then rows that it has had would come again; so the wrapper hands it on.
    """
    from accelerate.data_loader import BatchSamplerShard

    BatchSamplerShard.set_epoch = lambda self, epoch: getattr(self.batch_sampler, "set_epoch", int)(epoch)


def shared_arguments(config: settings.Config) -> dict[str, Any]:
    """What every method hands to transformers' TrainingArguments."""
    return {
        "output_dir": str(OUT),
        "per_device_train_batch_size": config.micro_batch,
        "gradient_accumulation_steps": config.batch // (config.micro_batch * PROCESSES),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a fraction of all steps
        "seed": config.seed,
        "bf16": config.precision == "mixed" and calculates_in_bf16(),
        "use_cpu": not on_gpu(),
        "dataloader_pin_memory": on_gpu(),
        "activation_checkpointing": config.activation_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 500,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "report_to": config.report_to,
        "project": config.project,
        "run_name": config.run_name,
        # For the reference model, which some trainers load themselves.
        "model_init_kwargs": {"revision": config.revision} if config.revision else None,
    }


def quiet_and_local(config: settings.Config) -> None:
    """A log without noise, no spinning threads, one GPU, nothing to the network: must come before the heavy imports."""
    warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell one another
    os.environ |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads that spin cost a neighbour on the machine most
    if PROCESSES == 1:  # with several GPUs in sight transformers would compute a micro-batch on each
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    for name in ("SPACE_ID", "SERVER_URL", "BUCKET_ID", "DATASET_ID", "WEBHOOK_URL"):
        os.environ.pop(f"TRACKIO_{name}", None)
    models = [config.model, *([config.teacher] if isinstance(config, settings.Distill) else [])]
    if not config.push_to_hub and all(Path(model).is_dir() for model in models):
        os.environ["HF_HUB_OFFLINE"] = "1"


if __name__ == "__main__":
    main()
