"""Which hardware a training takes, how its batch is split there, how long it runs and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from agents.base_model import BaseModel
from agents.jobs.flavors import Flavor
from agents.trainer.footprint import SAMPLING, Memory, Setup, training_memory
from agents.trainer.methods import METHODS
from agents.trainer.shape import Shape, shape_of, usual_shape
from agents.trainer.throughput import USUAL_FILL, Rate, rate_of, sampling_seconds
from shared_memory.errors import BadInput
from shared_memory.records import MICRO_USD, Estimate, Recipe, Record

HEADROOM = 0.1
"""Share of a device's memory that a plan leaves free."""
LEAST_UNCALIBRATED_SECONDS = 2 * 3600
"""Time-out where no measurement stands behind the prediction, and the budget allows it."""
ROWS_ON_A_CPU = 4
"""At once: more of them only add padding where nothing computes in parallel. Measured by benchmarks/throughput.py."""
PILOT_SECONDS = 30 * 60
START_SECONDS = 60
"""Loading libraries and weights, and saving."""


class Data(Record):
    """What is known of the rows that are trained on."""

    tokens: int
    """Of one pass, without padding."""
    rows: int = 0
    """0 where nobody has counted."""
    mean: float = 0.0
    """Tokens of a row; 0 takes a quarter of the recipe's `max_length`."""
    longest: int = 0
    """Tokens of the longest row, after cutting; 0 where it is not known."""


class Limits(Record):
    """What a plan may not exceed; None is no limit."""

    hours: float | None = None
    usd: float | None = None


class Known(Record):
    """What is known of how fast, and of what else is held."""

    tokens_per_second: float | None = None
    """Of an earlier job of the run on the same model."""
    measured_on: str = ""
    """The flavor that it ran on; empty where there is only one."""
    gflops: float = 0.0
    """fp32 rate of this machine's processor, for a `cpu` flavor; 0 goes by its cores."""
    teacher: int = 0
    """Weights of a distillation's teacher; 0 takes one of the model's size."""


NOTHING, UNLIMITED = Known(), Limits()


class Fit(Record):
    """A training on one flavor."""

    flavor: Flavor
    devices: int
    micro_batch: int
    """Rows on each device at once."""
    accumulation: int
    activation_checkpointing: bool
    memory: Memory
    rate: Rate
    hours: float
    usd_micro: int
    """Of the predicted time."""
    why_not: str = ""
    """What speaks against it; empty where it fits into memory, time and budget."""

    @property
    def room_gib(self) -> float:
        """Memory that a plan may fill."""
        return self.flavor.room_gib * (1 - HEADROOM)


class TrainingPlan(Record):
    """How a recipe will be trained."""

    recipe: Recipe
    """With the micro-batch that fits; the mathematics is as asked for."""
    best: Fit
    alternatives: tuple[Fit, ...] = ()
    """The other flavors, best first."""
    timeout_seconds: int
    warnings: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """What the gate shows: the predicted time, and the price of the whole time-out."""
        worst = self.best.flavor.usd_micro(self.timeout_seconds / 3600)
        memory = round(self.best.memory.peak, 2)
        return Estimate(hours=self.best.hours, usd_micro=worst, memory_gib=memory, basis=self.best.rate.basis)

    @property
    def config(self) -> dict[str, Any]:
        """The keys of a training job's config that the plan decides: all of them free of its scope."""
        best = self.best
        return {"micro_batch": best.micro_batch, "activation_checkpointing": best.activation_checkpointing}


def plan_training(
    model: BaseModel,
    recipe: Recipe,
    *,
    flavors: Iterable[Flavor],
    data: Data | None = None,
    epochs: float | None = None,
    known: Known = NOTHING,
    limits: Limits = UNLIMITED,
    pilot: bool = False,
) -> TrainingPlan:
    """The cheapest flavor on which a recipe fits with head-room and ends in time; of equal price the fastest.

    data: without it the time is not told (0 hours), and prices are compared by the hour. epochs: passes to make, where
    an experiment goes on from another; else the recipe's.

    Where nothing fits, the plan is for what comes nearest, with `best.why_not` set. Raises BadInput without flavors,
    and for a model of which neither config nor weights tell the size.
    """
    case = _Case(model, recipe, data, recipe.epochs if epochs is None else epochs, known, limits)
    fits = sorted(map(case.on, flavors), key=_preference)
    if not fits:
        raise BadInput("there is no hardware to plan for; name a runner that offers some")
    best, *others = fits
    return TrainingPlan(
        recipe=recipe.model_copy(update={"micro_batch": best.micro_batch}),
        best=best,
        alternatives=tuple(others),
        timeout_seconds=timeout_seconds(best, limits, pilot=pilot),
        warnings=(*case.guessed, *_warnings(best, data)),
    )


def timeout_seconds(fit: Fit, limits: Limits = UNLIMITED, *, pilot: bool = False) -> int:
    """1.5 × the predicted time plus 15 minutes; 30 minutes for a pilot.

    At least two hours where nothing has been measured, if so long a job is within the limits.
    """
    if pilot:
        return PILOT_SECONDS
    seconds = math.ceil(1.5 * fit.hours * 3600) + 15 * 60
    if fit.rate.calibrated or seconds >= LEAST_UNCALIBRATED_SECONDS:
        return seconds
    worst = fit.flavor.usd_micro(LEAST_UNCALIBRATED_SECONDS / 3600)
    allowed = limits.usd is None or worst <= limits.usd * MICRO_USD
    return LEAST_UNCALIBRATED_SECONDS if allowed else seconds


def updates_of(recipe: Recipe, data: Data, epochs: float) -> int:
    """Weight updates in so many passes: a batch holds rows, sequences that rows were packed into, or completions."""
    rows = _rows(recipe, data)
    if recipe.method == "sft" and recipe.packing:
        rows = math.ceil(data.tokens / recipe.max_length)
    return math.ceil(epochs * rows * getattr(recipe, "num_generations", 1) / recipe.batch)


def _rows(recipe: Recipe, data: Data) -> int:
    return data.rows or math.ceil(data.tokens / (data.mean or USUAL_FILL * recipe.max_length))


class _Case:
    """A training that is looked at on one flavor after another."""

    def __init__(
        self, model: BaseModel, recipe: Recipe, data: Data | None, epochs: float, known: Known, limits: Limits
    ) -> None:
        self.shape, self.guessed = _shape(model)
        self.parameters = model.parameters
        self.recipe, self.data, self.epochs = recipe, data or Data(tokens=0), epochs
        self.known, self.limits = known, limits

    def on(self, flavor: Flavor) -> Fit:
        """Without checkpointing in the largest micro-batch that fits, else with it."""
        least = METHODS[self.recipe.method].smallest_micro_batch
        split = (n for n in range(1, flavor.devices + 1) if self.recipe.batch % n == 0)
        devices = max(n for n in split if n == 1 or self.recipe.batch // n >= least)
        room = flavor.room_gib * (1 - HEADROOM)
        for setup in _setups(self.recipe, flavor, devices, self.data.longest):
            memory = training_memory(
                self.shape, self.recipe, setup, parameters=self.parameters, teacher=self.known.teacher
            )
            if memory.peak <= room or not room:
                break
        rate = rate_of(
            self.shape,
            self.recipe,
            flavor,
            length=self.data.mean or USUAL_FILL * self.recipe.max_length,
            devices=devices,
            checkpointing=setup.activation_checkpointing,
            gflops=self.known.gflops,
            measured=self.known.tokens_per_second if self.known.measured_on in ("", flavor.name) else None,
        )
        hours = self._hours(flavor, rate, devices)
        fit = Fit(
            flavor=flavor,
            devices=devices,
            micro_batch=setup.micro_batch,
            accumulation=setup.accumulation,
            activation_checkpointing=setup.activation_checkpointing,
            memory=memory,
            rate=rate,
            hours=hours,
            usd_micro=flavor.usd_micro(hours),
        )
        return fit.model_copy(update={"why_not": _why_not(fit, self.recipe, self.limits)})

    def _hours(self, flavor: Flavor, rate: Rate, devices: int) -> float:
        recipe, data = self.recipe, self.data
        if not data.tokens:
            return 0.0
        tokens = data.tokens
        if isinstance(recipe, SAMPLING):
            tokens = recipe.num_generations * (tokens + _rows(recipe, data) * recipe.max_completion_length)
        seconds = tokens * self.epochs / rate.tokens_per_second + START_SECONDS
        if not rate.calibrated:
            updates = updates_of(recipe, data, self.epochs)
            seconds += sampling_seconds(self.shape, recipe, flavor, updates, self.known.gflops, devices)
        return round(seconds / 3600, 4)


def _shape(model: BaseModel) -> tuple[Shape, tuple[str, ...]]:
    """The model's, and what to be told of it; a usual one where its config cannot be counted and its weights can."""
    try:
        return shape_of(model.config), ()
    except BadInput as error:
        if not model.parameters:
            raise
        note = f"memory and time are those of a Llama of {model.parameters / 1e6:,.0f} M weights: {error}"
        return usual_shape(model.parameters), (note.partition("; ")[0],)


def _setups(recipe: Recipe, flavor: Flavor, devices: int, longest: int) -> Iterator[Setup]:
    """Ways to split the batch exactly, the least effort first: fewer rows at once, then checkpointing, then both.

    Rows of one length go into one micro-batch, which saves padding where an update has several.
    """
    share = recipe.batch // devices
    least = min(share, METHODS[recipe.method].smallest_micro_batch)
    most = min(recipe.micro_batch, share)
    if not isinstance(recipe, SAMPLING) and not (recipe.method == "sft" and recipe.packing):
        most = max(least, min(most, share // 2, most if flavor.gpus else ROWS_ON_A_CPU))
    micro = [n for n in range(most, least - 1, -1) if share % n == 0] or [share]
    for checkpointing in (False, True):
        for n in micro:
            yield Setup(
                micro_batch=n,
                activation_checkpointing=checkpointing,
                accumulation=share // n,
                device="gpu" if flavor.gpus else "cpu",
                bf16=flavor.bf16,
                devices=devices,
                length=longest,
            )


def _why_not(fit: Fit, recipe: Recipe, limits: Limits) -> str:
    flavor, needed = fit.flavor, fit.memory.peak
    if fit.flavor.room_gib and needed > fit.room_gib:
        return f"it does not fit: about {needed:.1f} GiB are needed, and there are {flavor.room_gib:.1f} GiB"
    if flavor.gpus and recipe.precision != "float32" and not flavor.bf16:
        return f"a {flavor.gpu} has no bfloat16, which the recipe's precision `{recipe.precision}` needs"
    if not flavor.gpus and recipe.lora and recipe.lora.base == "nf4":
        return "a base in four bits needs a GPU"
    if limits.hours is not None and fit.hours > limits.hours:
        return f"it would take {fit.hours:.1f} h, and there are {limits.hours:.1f} h"
    if limits.usd is not None and fit.usd_micro > limits.usd * MICRO_USD:
        return f"it would cost ${fit.usd_micro / MICRO_USD:.2f}, and there are ${limits.usd:.2f}"
    return ""


def _preference(fit: Fit) -> tuple[Any, ...]:
    """What fits first, then the cheaper, then the faster; of those that do not fit, the one that lacks least memory."""
    room = fit.flavor.room_gib
    lacking = max(0.0, fit.memory.peak - room * (1 - HEADROOM)) if room else 0.0
    price = fit.usd_micro or fit.flavor.usd_micro_per_minute
    return bool(fit.why_not), lacking, price, -fit.rate.tokens_per_second, -fit.flavor.gpus, fit.flavor.name


def _warnings(best: Fit, data: Data | None) -> Iterator[str]:
    if best.why_not:
        yield best.why_not
    if not best.flavor.room_gib:
        yield f"nobody says how much memory {best.flavor.name} has; about {best.memory.peak:.1f} GiB are needed"
    if data is None:
        yield "the hours are not known without data"
    elif not best.rate.calibrated:
        yield f"the hours are a prediction until a job has measured them: {best.rate.basis}"


def data_of(lengths: Sequence[int], max_length: int) -> Data:
    """From the tokens of each row, as they are after cutting at `max_length`."""
    cut = [min(length, max_length) for length in lengths]
    return Data(tokens=sum(cut), rows=len(cut), mean=fmean(cut) if cut else 0.0, longest=max(cut, default=0))
