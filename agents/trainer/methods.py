"""What each training method is and takes: for the plan, the preflight, the intake and the documents."""

from __future__ import annotations

from pathlib import Path

from shared_memory.recipes import Recipe
from shared_memory.record import Record

SCRIPTS = Path(__file__).parent / "scripts"
SCRIPT_FILES = (
    "train.py", "chats.py", "distillation.py", "programs.py", "progress.py", "rewards.py", "settings.py", "uploads.py",
    "weights.py",
)  # fmt: skip
"""What a training job runs, the script first; the others lie beside it, in one folder."""


class Method(Record):
    """What of a method matters outside its job."""

    columns: tuple[str, ...]
    """What every row must have."""
    samples: bool = False
    """Whether the model writes completions while it trains: time and memory go to generation, too."""
    reference: bool = False
    """Whether the model as it was is needed as well: one more copy of the weights, where all of them are trained."""
    teacher: bool = False
    """Whether a second, usually larger model is loaded beside it."""
    smallest_micro_batch: int = 1
    """Rows that one process has to compute at a time, at least."""


_PAIRS = ("prompt", "chosen", "rejected")
METHODS: dict[str, Method] = {
    "sft": Method(columns=("prompt", "completion")),
    "dpo": Method(columns=_PAIRS, reference=True),
    "kto": Method(columns=("prompt", "completion", "label"), reference=True, smallest_micro_batch=2),
    "reward": Method(columns=_PAIRS),
    "grpo": Method(columns=("prompt",), samples=True, reference=True),
    "rloo": Method(columns=("prompt",), samples=True, reference=True),
    "distill": Method(columns=("prompt", "completion"), teacher=True),
}
"""Name → method. GRPO and RLOO need their reference, distillation its sampling, only where the recipe says so: see
`needs_reference` and `samples`."""

REWARD_COLUMNS: dict[str, tuple[str, ...]] = {
    "exact_match": ("answer",),
    "multiple_choice": ("answer",),
    "format": (),
    "math_verify": ("answer",),
    "code": ("tests",),
}
"""Reward of `scripts/rewards.py` → columns that it reads besides the prompt."""


def smallest_batch(recipe: Recipe) -> int:
    """What a batch has to be a multiple of: the completions of one prompt, or the rows that are compared at once."""
    return getattr(recipe, "num_generations", METHODS[recipe.method].smallest_micro_batch)


def needs_reference(method: str, lora: bool, beta: float) -> bool:
    """Whether a second copy of the weights is held: with an adapter, the base without it is the reference."""
    return METHODS[method].reference and not lora and beta > 0


def samples(method: str, on_policy: float = 0.0) -> bool:
    """Whether the model writes completions while it trains."""
    return METHODS[method].samples or (METHODS[method].teacher and on_policy > 0)
