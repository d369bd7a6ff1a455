"""What a training job can be told: config.json, one set of settings a method."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
"""How many train together; torchrun and accelerate set it."""
RANK = int(os.environ.get("RANK", "0"))
"""Which of them this is; only the first one tells anything."""
SPLITS = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"}
"""Set by launchers that have every process hold a part of the weights."""
CHECKPOINT = "trainer_state.json"
"""What a folder has to hold to be a checkpoint."""


class Strict(BaseModel):
    """Settings that take no key and no type but their own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Lora(Strict):
    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: NonNegativeFloat = 0.0
    target_modules: str | list[str] = "all-linear"
    base: Literal["16bit", "nf4"] = "16bit"
    """How the frozen weights are held; nf4 is QLoRA, in four bits [arXiv 2305.14314], and needs a GPU."""


class Config(Strict):
    """What all methods have."""

    model: str
    """Folder or Hub id of the base."""
    batch: PositiveInt
    """Rows behind one weight update: exactly micro_batch x accumulation x processes. Where the model samples, the
    completions behind it, `num_generations` a prompt."""
    micro_batch: PositiveInt
    """Rows that one process computes at a time."""
    method: str
    revision: str | None = None
    adapter: str | None = None
    """Folder of an adapter of this base to go on from, with a fresh optimizer."""
    data: str = "data.jsonl"
    lora: Lora | None = Lora()
    """None trains all weights."""
    precision: Literal["mixed", "bfloat16", "float32"] = "mixed"
    """mixed: float32 weights, arithmetic in bfloat16 where the device has instructions for it, and in bfloat16 also the
    weights that stay frozen on a GPU; bfloat16: all weights; float32: nothing in bfloat16."""
    learning_rate: PositiveFloat = 1e-3
    epochs: PositiveFloat = 1
    max_steps: PositiveInt | None = None
    """Weight updates, whatever the epochs say; None leaves it to the epochs."""
    max_length: PositiveInt = 1024
    """Tokens of a row; what is longer is cut off at the end. Where nothing can be cut the row is left out: pairs for a
    reward model, and prompts that leave no room for `max_completion_length`."""
    warmup_ratio: NonNegativeFloat = 0.03
    lr_scheduler: str = "cosine"
    seed: int = 0
    activation_checkpointing: bool = False
    group_by_length: bool = True
    """Rows of one update are split into micro-batches by length, so that little is padded; they stay the same rows."""
    report_to: list[Literal["trackio", "wandb", "tensorboard"]] = []
    project: str = "postgrad"
    run_name: str = "train"
    save_steps: PositiveInt | None = None
    """Weight updates between two checkpoints out/checkpoint-N, of which the last two are kept; None keeps none."""
    resume_from: str | None = None
    """Folder of a checkpoint to go on from as if nothing had happened, optimizer and random numbers included."""
    push_to_hub: bool = False
    """Uploads the model at the end, and each checkpoint as last-checkpoint/."""
    hub_model_id: str | None = None
    hub_private: bool = True


class Sft(Config):
    packing: bool = False
    """Several rows fill one sequence of max_length; they do not see one another."""


class Dpo(Config):
    beta: PositiveFloat = 0.1
    """How strongly the model is held to its start."""


class Kto(Config):
    beta: PositiveFloat = 0.1
    desirable_weight: PositiveFloat = 1.0
    undesirable_weight: PositiveFloat = 1.0


class RewardModel(Config):
    center_rewards: NonNegativeFloat = 0.0
    """Weight of the pull of the mean reward towards 0 [arXiv 2312.09244, eq. 2]; 0 leaves it out."""


class Online(Config):
    """The model samples completions, and rewards score them."""

    beta: NonNegativeFloat
    """Weight of the KL divergence from the start; 0 needs no reference model."""
    num_generations: int = Field(default=8, ge=2)
    """Completions of one prompt; divides `batch`."""
    max_completion_length: PositiveInt = 256
    """Tokens."""
    temperature: PositiveFloat = 1.0
    rewards: list[str] = Field(default=["exact_match"], min_length=1)
    """Names in rewards.py, or `file.py:name` for one of your own; their values are added."""


class Grpo(Online):
    beta: NonNegativeFloat = 0.0


class Rloo(Online):
    beta: NonNegativeFloat = 0.05


class Distill(Config):
    teacher: str
    """Folder or Hub id of a model with the same vocabulary."""
    temperature: PositiveFloat = 0.9
    """Of the distributions that are compared, and of sampling."""
    on_policy: float = Field(default=0.0, ge=0, le=1)
    """Share of updates that learn from what the model writes itself, instead of the rows' completions."""
    divergence: float = Field(default=0.5, ge=0, le=1)
    """From the forward (0) to the reverse (1) KL divergence; between, the generalised Jensen-Shannon divergence."""
    max_completion_length: PositiveInt = 256
    """Tokens of what the model writes itself."""


def read_config(path: Path, methods: dict[str, type[Config]]) -> Any:
    """The settings, of the class that their method has; paths in them are relative to their own folder.

    Exits 2 for a key, type or value that is wrong, and for numbers that contradict one another.
    """
    try:
        given = json.loads(path.read_bytes())
        method = given.get("method", "sft") if isinstance(given, dict) else "sft"
    except (OSError, ValueError) as error:
        fail(f"{path}: {problem(error)}", "give a JSON object of settings")
    if method not in methods:
        fail(f"unknown method {method!r}", f"choose one of {', '.join(methods)}")
    kind = methods[method]
    try:
        config = kind.model_validate_json(json.dumps(given | {"method": method} if isinstance(given, dict) else given))
    except ValidationError as error:
        fail(f"{path}: {problem(error)}", f"known settings of {method} are {', '.join(kind.model_fields)}")
    require_sense(config)
    beside = {name: getattr(config, name) for name in ("data", "adapter", "resume_from")}
    return config.model_copy(update={name: str(path.parent / value) for name, value in beside.items() if value})


def require_sense(config: Any) -> None:
    """Exits 2 for settings that are well-formed, and cannot be carried out."""
    if config.batch % (config.micro_batch * PROCESSES):
        what = f"batch {config.batch} is not a multiple of micro_batch {config.micro_batch} x {PROCESSES} process(es)"
        fail(what, "change one of them, the effective batch must be exact")
    if isinstance(config, Online) and config.batch % config.num_generations:
        what = f"batch {config.batch} is not a multiple of num_generations {config.num_generations}"
        fail(what, "change one of them, the completions of a prompt are compared with one another")
    writes = isinstance(config, Online) or (isinstance(config, Distill) and config.on_policy)
    if writes and config.max_completion_length >= config.max_length:
        what = f"max_completion_length {config.max_completion_length} leaves no room in max_length"
        fail(f"{what} {config.max_length} for a prompt", "change one of them")
    if isinstance(config, Kto) and config.micro_batch < 2:
        fail(
            "micro_batch 1 leaves KTO nothing to compare a reply with",
            "take at least 2: the KL divergence is estimated from the other rows of the micro-batch",
        )
    if SPLITS & {name for name, value in os.environ.items() if value.lower() in ("1", "true")}:
        fail(
            "weights that are split over devices (FSDP, DeepSpeed) would not be saved whole",
            "launch with torchrun or accelerate without them: every process holds all weights",
        )
    if config.push_to_hub and not config.hub_model_id:
        fail("push_to_hub has no hub_model_id", "name the repository, as owner/name")
    for name in config.report_to:
        if not find_spec(name):
            fail(f"report_to names {name}, which is not installed", f"pip install {name}, or leave it out")


def problem(error: Exception) -> str:
    """What is wrong, in a line: the first complaint of a validation, or the first line of any other error."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return str(error).strip().partition("\n")[0]


def fail(what: str, next_move: str) -> NoReturn:
    """Ends the job as one that was asked for something impossible: a line on standard error, exit status 2."""
    if RANK == 0:
        print(f"error: {what}; {next_move}", file=sys.stderr)
    raise SystemExit(2)
