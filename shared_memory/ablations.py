"""What is varied about an experiment to learn what a part of it is worth, and what the scores say of that."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shared_memory.record import Record

PartKind = Literal["data", "stage", "number", "seed", "several"]
"""`data`: a source, or a step of the data's making. `stage`: passes over the data, and whether they were one training.
`number`: another field of the recipe. `seed`: no part at all, but the noise that every effect has to exceed. `several`
of these at once."""

WORTH_PURSUING = ((1000, 0.01), (500, 0.02), (150, 0.03), (50, 0.07), (0, 0.12))
"""Items from which, and the difference (fraction of 1) that makes a change worth pursuing there: about one standard
error of a paired difference where the two disagree on a quarter of the items. It steers, and claims nothing."""


class Variant(Record):
    """An experiment as it would be with one part of it left out, or another."""

    part: str
    """What is varied: a step of the data's making, one of its sources, a field of the recipe, `seed`."""
    kind: PartKind
    change: str
    """In words that follow an experiment's id: `without letter balancing`, `with lora r16 → r8`."""
    numbers: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe with their other values, as plain data."""
    without: tuple[str, ...] = ()
    """Parts of the data's making that are left out."""
    seed: int | None = None
    """Of the training, in place of the goal's."""


class Effect(Record):
    """What a part of a champion is worth on the selection items: two trainings that differ in it alone.

    Those items chose the champion and so flatter it: an effect steers a search, and claims nothing.
    """

    part: str
    kind: PartKind
    change: str
    """From the champion's value to the other: `r16 → r8`, `left out`."""
    given: str
    """The experiment that has the part as the champion has it."""
    other: str
    """The one that does not."""
    run: str = ""
    """The ablation whose experiments these are; empty for those of the run whose champion it is about."""
    delta: float
    """`given` minus `other`, in the benchmark's unit."""
    stderr: float
    """Of the paired difference over items; the noise of training seeds comes on top."""
    ci_low: float
    ci_high: float
    p_value: float
    p_holm: float
    """Corrected for all effects of its table [Holm 1979]."""
    n: int
    unit: Literal["fraction", "nats"] = "fraction"
    higher_is_better: bool = True
    shrunken: float
    """The gain (positive is better, whatever the unit) pulled to 0 by as much of the table as its noise explains."""
    raised: bool | None = None
    """Whether the champion's value is the larger number; None where the two are no numbers."""

    @property
    def gain(self) -> float:
        """The difference as a gain: positive where the champion's value is the better one."""
        return self.delta if self.higher_is_better else -self.delta

    @property
    def matters(self) -> bool:
        """Whether it is large enough to steer by; a loss has no table of thresholds, and has to exceed its error."""
        if self.unit == "nats":
            return abs(self.shrunken) > self.stderr
        return abs(self.shrunken) >= next(least for items, least in WORTH_PURSUING if self.n >= items)


class Noise(Record):
    """How much the score of one and the same recipe moves with the seed of its training."""

    experiments: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    deviation: float
    """Standard deviation of one training; two of them differ by √2 times that."""
    n: int
    """Items that each was scored on."""
    unit: Literal["fraction", "nats"] = "fraction"


class EffectTable(Record):
    """All that is known of a champion's parts; null and negative results stay in it."""

    champion: str
    effects: tuple[Effect, ...] = ()
    interactions: tuple[Effect, ...] = ()
    """Of two parts: how much more both are worth together than the sum of what each is worth alone."""
    noise: Noise | None = None
