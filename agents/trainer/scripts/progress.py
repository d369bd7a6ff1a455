"""What a job tells while it trains: an event a weight update, and an alert where the numbers look wrong."""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings import RANK

OUT = Path("out")


@dataclass(frozen=True)
class Sign:
    """A figure that means trouble when it stays bad."""

    key: str
    """Name in TRL's logs."""
    is_bad: Callable[[float, float], bool]
    """Given the figure now, and as it was at the first update."""
    advice: str
    until: float = math.inf
    """Looked at up to this update."""
    methods: tuple[str, ...] = ()
    """Looked at in these methods only; empty for all."""


SIGNS = (
    Sign(
        "loss",
        lambda now, _: now < 0.05,
        "almost nothing is left to learn: check that completions are in the loss, and not known to the model already",
        until=10,
        methods=("sft",),
    ),
    Sign(
        "grad_norm",
        lambda now, _: now > 10,
        "gradients are large, 0.1 to 10 is healthy: lower the learning rate",
    ),
    Sign(
        "frac_reward_zero_std",
        lambda now, _: now == 1,
        "all completions of a prompt get the same reward, so nothing is learned: check the reward, and choose prompts "
        "that the model solves in 10 to 90 % of its attempts",
    ),
    Sign(
        "entropy",
        lambda now, first: now < 0.1 * first,
        "the model hardly varies its answers any more: lower the learning rate, or raise beta or the temperature",
    ),
    Sign(
        "kl",
        lambda now, _: now > 0.5,
        "the model is far from its start: lower the learning rate, or raise beta",
        methods=("grpo", "rloo"),  # KTO's is that of whole replies
    ),
    Sign(
        "completions/clipped_ratio",
        lambda now, _: now > 0.5,
        "most completions run into max_completion_length: raise it, or check that the model can end its turn",
    ),
)
"""What is told once when it has been so for PATIENCE updates in a row."""
PATIENCE = 3


class Signs:
    """Watches one training's figures go by."""

    def __init__(self, method: str) -> None:
        self.signs = [sign for sign in SIGNS if not sign.methods or method in sign.methods]
        self.first: dict[str, float] = {}
        self.bad: dict[str, int] = {}
        self.told: set[str] = set()

    def alert(self, step: int, logs: dict[str, Any]) -> str:
        """What to tell about this update; empty while all is well, or was told."""
        for sign in self.signs:
            now = logs.get(sign.key)
            if not isinstance(now, int | float) or not math.isfinite(now) or step > sign.until:
                continue
            first = self.first.setdefault(sign.key, now)
            self.bad[sign.key] = self.bad.get(sign.key, 0) + 1 if sign.is_bad(now, first) else 0
            if self.bad[sign.key] >= PATIENCE and sign.key not in self.told:
                self.told.add(sign.key)
                return f"{sign.key} is {now:.4g} after {step} updates: {sign.advice}"
        return ""


def progress(method: str, report_to: list[str]) -> Any:
    """A callback that tells every weight update: an event on standard output, a line in metrics.jsonl.

    Raises FloatingPointError in the training loop for a loss that is no number.
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        began = told = time.monotonic()
        tokens_before = 0
        """Those that a resumed run had seen."""
        signs = Signs(method)

        def tell(self, state: Any, **values: Any) -> str:
            self.told = time.monotonic()
            seconds = round(self.told - self.began, 2)
            return emit({"step": state.global_step, "steps": state.max_steps, **values, "seconds": seconds})

        def on_train_begin(self, *event: Any, **_: Any) -> None:
            state = event[1]
            self.began = time.monotonic()
            self.tokens_before = state.num_input_tokens_seen
            if RANK == 0:
                OUT.mkdir(exist_ok=True)
                self.metrics = (OUT / "metrics.jsonl").open("w", buffering=1)
            self.tell(state)

        def on_substep_end(self, *event: Any, **_: Any) -> None:
            if time.monotonic() - self.told > 5:
                self.tell(event[1])

        def on_log(self, *event: Any, **details: Any) -> None:
            state, logs = event[1], details["logs"]
            if "loss" not in logs:
                return
            finite = math.isfinite(logs["loss"])
            advice = f"the loss is {logs['loss']} after {state.global_step} updates: lower the learning rate"
            alert = self.signs.alert(state.global_step, logs) if finite else advice
            line = self.tell(state, **logs, **({"alert": alert} if alert else {}))
            if RANK == 0:
                self.metrics.write(line + "\n")
            if alert and RANK == 0 and "trackio" in report_to:
                import trackio

                level = trackio.AlertLevel.WARN if finite else trackio.AlertLevel.ERROR
                trackio.alert(alert.partition(":")[0], alert, level)
            if not finite:
                raise FloatingPointError(f"the loss is {logs['loss']}; lower the learning rate")

    return Progress()


def emit(event: dict[str, Any]) -> str:
    """One event for whoever watches: a JSON object on a line of the real standard output. Returns that line."""
    line = json.dumps(event)
    if RANK == 0:
        print(line, file=sys.__stdout__, flush=True)
    return line
