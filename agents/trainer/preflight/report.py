"""What a preflight finds: a check with its message and fix, and all of them together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared_memory.record import Record

Status = Literal["ok", "warning", "fault", "skipped"]
"""`fault`: the job fails, or wastes what it costs. `warning`: it may. `skipped`: not known here, and the message says
why."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    status: Status
    message: str
    """What is so; of a skipped one, why it could not be looked at."""
    fix: str = ""
    """The next move, where there is something to mend."""


class Preflight(Record):
    """All that could be known of a job before it runs."""

    checks: tuple[Check, ...]
    smoke: str
    """`passed in 21 s`, `skipped (reason)` or `failed: …`."""
    not_exercised: tuple[str, ...] = ()
    """Parts of the job that the smoke run left out, because they need a GPU, a network or the real weights."""
    seconds: float
    """That it took."""

    @property
    def fault(self) -> str:
        """The first fault as one line with the next move; empty where there is none."""
        return next((line(check) for check in self.checks if check.status == "fault"), "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person at the gate should know, a line each."""
        return tuple(line(check) for check in self.checks if check.status == "warning")


class Facts(Record):
    """What the caller knows of a job beside its spec. What is not given is not checked, and the check says so."""

    model_folder: str = ""
    """The base model's config.json, generation_config.json and tokenizer; weights are not needed."""
    predicted_seconds: float | None = None
    """Of the job; without it, the estimate of its spec counts."""
    disk: Literal["kept", "ephemeral", ""] = ""
    """Whether what the job writes is there after its end; empty: as the runner has it (HF Jobs loses it)."""
    online: bool = False
    """Whether the Hub may be asked."""
    pushes_to: tuple[str, ...] = ()
    """Repositories that the job writes to, beside its config's `hub_model_id`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens that the evaluator lets an answer take."""
    stop_tokens: tuple[str, ...] = ()
    """Texts of tokens that the evaluator stops at, beside the model's own."""
    evaluator_template: str | None = None
    """The chat template that the evaluator renders with; None where it uses the model's."""
    limit: int | None = None
    """Items that the evaluator scores, where those are not all; 0 or None is all."""
    limit_sampled: bool | None = None
    """Whether those are a random sample; False: the first ones."""
    new_tokens: tuple[str, ...] | None = None
    """Special tokens that the job adds to the base's vocabulary; None where that is not known."""
    left_out: tuple[str, ...] = ()
    """Steps of the data's making that an ablation leaves out: what they guard against is what it measures."""
    command: str = ""
    """The command line that starts the job, where it goes through a shell."""
    cache_folder: str = ""
    """Where results of smoke runs and signatures are kept for the next job; empty keeps none."""


def line(check: Check) -> str:
    return f"{check.message}; {check.fix}" if check.fix else check.message


def ok(name: str, message: str) -> Check:
    return Check(name=name, status="ok", message=message)


def skipped(name: str, reason: str) -> Check:
    return Check(name=name, status="skipped", message=reason)


def warning(name: str, message: str, fix: str) -> Check:
    return Check(name=name, status="warning", message=message, fix=fix)


def fault(name: str, message: str, fix: str) -> Check:
    return Check(name=name, status="fault", message=message, fix=fix)
