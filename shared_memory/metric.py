"""A measured value that knows which way is better, how sure it is, and on how much it stands."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Metric(BaseModel):
    """A score with its standard error and sample size.

    `value` is in the metric's own unit (a fraction of 1 for accuracies, nats for losses); `stderr` is the standard
    error of that value; `n` counts the items behind it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    stderr: float = Field(ge=0)
    n: int = Field(ge=1)
    higher_is_better: bool = True

    def better_than(self, other: Metric) -> bool:
        """Whether this value is strictly on the better side of `other`'s (no claim of significance)."""
        if self.name != other.name or self.higher_is_better != other.higher_is_better:
            raise ValueError(f"{self.name} and {other.name} are not the same metric")
        return self.value > other.value if self.higher_is_better else self.value < other.value

    def shrunken(self, prior: float, items: float) -> Metric:
        """This metric with its value pulled towards `prior` with the weight of `items` items.

        For a share, that is the posterior mean of a beta-binomial. A value on few items is believed less than the same
        value on many: the best of ten equal checkpoints looks 5 points better than it is on 200 items (winner's curse).
        """
        return self.model_copy(update={"value": (self.value * self.n + prior * items) / (self.n + items)})

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.stderr:.3f} (n={self.n})"
