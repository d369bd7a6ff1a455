"""How to train: one record a method, with every number that a result depends on.

Each has only the numbers that its method uses, so a learning rate for rewards that nobody computes, or a 4-bit base
whose weights are all trained, cannot be written down.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from shared_memory.record import Record

Method = Literal["sft", "dpo", "kto", "reward", "grpo", "rloo", "distill"]


class Lora(Record):
    """A low-rank adapter [arXiv 2106.09685]."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str = "all-linear"
    base: Literal["16bit", "nf4"] = "16bit"
    """How the frozen weights are held; `nf4` is QLoRA, in four bits [arXiv 2305.14314], and needs a GPU."""


class _Recipe(Record):
    """What all methods have."""

    id: str
    lora: Lora | None = Field(default_factory=Lora)
    """None trains all weights."""
    precision: Literal["mixed", "bfloat16", "float32"] = "mixed"
    """`mixed`: float32 weights, arithmetic in bfloat16 where the device has it; `bfloat16`: weights, too."""
    learning_rate: float = Field(default=2e-4, gt=0)
    epochs: int = Field(default=1, ge=1)
    """Passes over the training data in all, those of the experiment it continues included."""
    batch: int = Field(default=16, ge=1)
    """Effective batch: rows behind one optimizer step; for GRPO and RLOO completions, `num_generations` a prompt."""
    micro_batch: int = Field(default=8, ge=1)
    """Rows on the device at once, at most; divides `batch`. The plan takes fewer where memory is short."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens; the end of a longer row is cut off. For GRPO and RLOO of prompt and completion together."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    train_rows: int = Field(default=400, ge=1)
    """Rows to synthesise when the goal brings no data."""
    reason: str = ""
    source: str = ""
    findings: tuple[str, ...] = ()
    """Ids of the findings it rests on."""
    expected: str = ""
    """The gain to expect, as the findings bear it out: `data X + method Y → 85.3 on Z, table 4 of …`."""
    cost: str = ""
    """What it takes, in words: GPU hours, rows to write, a teacher."""
    risk: str = ""
    """What may go wrong with it here."""


class SftRecipe(_Recipe):
    """Supervised fine-tuning: the loss of the completions, or of whole texts."""

    method: Literal["sft"] = "sft"
    packing: bool = False
    """Several rows fill one sequence of `max_length`; they do not see one another."""


class DpoRecipe(_Recipe):
    """Direct preference optimisation [arXiv 2305.18290]."""

    method: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to its start."""


class KtoRecipe(_Recipe):
    """Kahneman-Tversky optimisation on single replies marked good or bad [arXiv 2402.01306]."""

    method: Literal["kto"] = "kto"
    batch: int = Field(default=16, ge=2)
    micro_batch: int = Field(default=8, ge=2)
    """As in every recipe, and at least two: the rows of a micro-batch are each other's reference."""
    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float = Field(default=1.0, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)


class RewardRecipe(_Recipe):
    """A reward model: a score for a conversation, learned from preference pairs [arXiv 2203.02155, § 3.5]."""

    method: Literal["reward"] = "reward"
    center_rewards: float = Field(default=0.0, ge=0)
    """Weight of the pull of the mean reward towards 0 [arXiv 2312.09244, eq. 2]; 0 leaves it out."""


class _Online(_Recipe):
    """What methods share that sample completions and score them by rewards."""

    num_generations: int = Field(default=8, ge=2)
    """Completions of one prompt; divides `batch`."""
    max_completion_length: int = Field(default=256, ge=1)
    """Tokens."""
    temperature: float = Field(default=1.0, gt=0)
    rewards: tuple[str, ...] = Field(default=("exact_match",), min_length=1)
    """Names of `agents/trainer/scripts/rewards.py`; their values are added."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> Self:
        if self.batch % self.num_generations:
            raise ValueError(
                f"a batch of {self.batch} completions is no whole number of groups of {self.num_generations}"
            )
        return self


class GrpoRecipe(_Online):
    """Group-relative policy optimisation [arXiv 2402.03300]."""

    method: Literal["grpo"] = "grpo"
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the start; 0 needs no reference model."""


class RlooRecipe(_Online):
    """REINFORCE leave-one-out [arXiv 2402.14740]."""

    method: Literal["rloo"] = "rloo"
    beta: float = Field(default=0.05, ge=0)


class DistillRecipe(_Recipe):
    """Distillation: the model learns a teacher's next-token distribution [GKD, arXiv 2306.13649]."""

    method: Literal["distill"] = "distill"
    teacher: str = Field(min_length=1)
    """Folder or Hub id of a model with the same vocabulary."""
    temperature: float = Field(default=0.9, gt=0)
    """Of the distributions that are compared, and of sampling."""
    on_policy: float = Field(default=0.0, ge=0, le=1)
    """Share of batches that the model writes itself, instead of taking the rows' completions."""
    divergence: float = Field(default=0.5, ge=0, le=1)
    """Between the forward (0) and the reverse (1) KL divergence: the generalised Jensen-Shannon divergence's beta."""
    max_completion_length: int = Field(default=256, ge=1)
    """Tokens of what the model writes itself."""


Recipe = Annotated[
    SftRecipe | DpoRecipe | KtoRecipe | RewardRecipe | GrpoRecipe | RlooRecipe | DistillRecipe,
    Field(discriminator="method"),
]
RECIPES: dict[str, type[_Recipe]] = {
    "sft": SftRecipe, "dpo": DpoRecipe, "kto": KtoRecipe, "reward": RewardRecipe, "grpo": GrpoRecipe,
    "rloo": RlooRecipe, "distill": DistillRecipe,
}  # fmt: skip
METHODS: tuple[str, ...] = tuple(RECIPES)
Layout = Literal["sft", "dpo", "grpo", "kto", "reward"]
WORDS = ("id", "reason", "source", "findings", "expected", "cost", "risk", "train_rows")
"""Fields of a recipe that are no numbers of the training itself."""

_any: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def title_of(method: str) -> str:
    """What a person calls it."""
    return {"reward": "reward model", "distill": "distillation"}.get(method, method.upper())


def layout_of(method: str) -> Layout:
    """What rows have to be laid out for, so that a method can train on them."""
    layouts: dict[str, Layout] = {"dpo": "dpo", "grpo": "grpo", "kto": "kto", "reward": "reward", "rloo": "grpo"}
    return layouts.get(method, "sft")


def numbers_of(recipe: Recipe) -> dict[str, Any]:
    """What training by a recipe depends on, as plain data: all of it but WORDS."""
    return recipe.model_dump(mode="json", exclude=set(WORDS))


def numbers_of_the_method(recipe: Recipe) -> dict[str, Any]:
    """Those that only its method has."""
    return {key: value for key, value in numbers_of(recipe).items() if key not in (*_Recipe.model_fields, "method")}


def recipe_of(plain: dict[str, Any]) -> Recipe:
    """The recipe in plain data, of the class that its `method` names (sft where it names none).

    Raises pydantic.ValidationError for a number that the method does not have.
    """
    return _any.validate_python({"method": "sft", **plain})
