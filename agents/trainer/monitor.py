"""Watches a training job while it runs: stops what cannot end well, and warns of what may not.

    monitor = Monitor(spec)
    for event in events:              # in the order of the log, each once
        stop = monitor.see(event)
    stop = monitor.look(running=…)    # at every poll

All that it knows comes from the job's log, so another process rebuilds it by reading that from the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from agents.trainer import recovery
from agents.trainer import vital_signs as signs
from agents.trainer.pace import Pace, Silence, hours, number
from shared_memory.jobs import Diagnosis, Failure, JobSpec
from shared_memory.record import Record

FALLING = ("sft", "dpo", "kto", "reward", "distill")
"""Methods whose loss falls while they learn; that of the online ones means little."""
IDLE_PERCENT = 5.0
"""Use of a GPU, or of a processor's core, under which a job does nothing."""
OVERRUN = 1.25
"""How many times the time that is there a job has to need, by its own pace, to be stopped for it."""
LOWER_RATE = "lower the learning rate, or warm it up for longer"
MIXED_REWARDS = "keep prompts that are solved sometimes (pass rates of 0.1 to 0.9), or sample more completions of each"
EXPLORE = "raise the temperature or beta, and train less"
LONGER = "raise max_completion_length, or reward answers that end"
MORE_TIME = "allow more time, or go on from the last checkpoint"
LESS_WORK = "train on fewer rows or for fewer steps, or on faster hardware"
SERIES = (
    "loss", "grad_norm", "reward", "reward_std", "frac_reward_zero_std", "entropy", "kl", "completions/clipped_ratio",
    "clip_ratio/region_mean",
)  # fmt: skip
"""What is kept of an event, by TRL's names."""


class Stop(Record):
    """Why a job has to end before it is done."""

    kind: Failure
    why: str
    """One line, with numbers."""
    advice: str
    """What to do about it, in one line."""

    @property
    def diagnosis(self) -> Diagnosis:
        return Diagnosis(kind=self.kind, evidence=(self.why,), remedy=self.advice)


class Monitor:
    """What the curves and the pace of one training job say.

    advice: warnings so far, one line each with numbers and what to do, in the order in which they arose.
    """

    def __init__(self, spec: JobSpec) -> None:
        self.advice: list[str] = []
        self._spec = spec
        self._method = str(spec.config.get("method", ""))
        self._warned: set[str] = set()
        self._updates = 0
        self._series: dict[str, deque[float]] = {}
        self._starts: dict[str, float] = {}
        self._levels: deque[float] = deque(maxlen=signs.SHORT)
        self._lowest = float("inf")
        self._pace = Pace()
        self._clock = Silence()

    def see(self, event: Mapping[str, Any]) -> Stop | None:
        """Take in a progress event as train.py prints it; whether the job has to stop for what the curves say."""
        self._clock.heard = True
        self._pace.take(event)
        loss = number(event, "loss")
        if loss is None:
            return None
        if fault := signs.not_a_number(loss):
            return Stop(kind="diverged", why=f"{fault} at step {event.get('step')}", advice=LOWER_RATE)
        self._updates += 1
        for name in SERIES:
            value = number(event, name)
            if value is not None:
                self._keep(name, value)
        self._warn()
        stop = self._curves()
        if stop is None and (fault := self._pace.stalled()):
            stop = Stop(kind="stopped", why=fault, advice="look at the machine: what else runs there, and its disk")
        return stop

    def look(
        self, *, running: float, seconds_left: float | None = None, use_percent: float | None = None
    ) -> Stop | None:
        """Whether a job that its backend has as running has to stop for its silence, or for the time it still needs.

        running: seconds so far, by the backend's record. seconds_left: of the run, None without a limit; its money
        needs no rule of its own, since the whole time-out is paid for in advance. use_percent: of its GPUs now, of the
        processor where it has none (100 is a core); None where the backend does not tell.
        """
        return self._silent(running, use_percent) or self._overrun(running, seconds_left)

    def _keep(self, name: str, value: float) -> None:
        values = self._series.setdefault(name, deque(maxlen=signs.LONG))
        values.append(value)
        if len(values) >= signs.SHORT:
            level = median(list(values)[-signs.SHORT :])
            self._starts.setdefault(name, level)
            if name == "loss":
                self._levels.append(level)
                self._lowest = min(self._lowest, level)

    def _values(self, name: str) -> list[float]:
        return list(self._series.get(name, ()))

    def _curves(self) -> Stop | None:
        """The rules that end a job. Those of rewards have their own series, which other methods do not print."""
        values, start = self._values, self._starts.get
        if self._method in FALLING:
            if fault := signs.diverging(self._levels, start("loss", 0.0), self._lowest):
                return Stop(kind="diverged", why=fault, advice=LOWER_RATE)
            return None
        if fault := signs.far_from_reference(values("kl")):
            return Stop(kind="diverged", why=fault, advice="lower the learning rate, or raise beta")
        for fault, advice in (
            (signs.no_spread(values("frac_reward_zero_std"), values("reward_std")), MIXED_REWARDS),
            (signs.no_entropy(values("entropy"), start("entropy", 0.0)), EXPLORE),
            (signs.at_the_cap(values("completions/clipped_ratio"), values("reward")), LONGER),
        ):
            if fault:
                return Stop(kind="stopped", why=fault, advice=advice)
        return None

    def _warn(self) -> None:
        values = self._values
        if self._method in FALLING:
            if self._method == "sft":
                masked = signs.masked(values("loss"), self._updates)
                self._advise("masked", masked, "look at the rows as the model sees them: their loss may be masked away")
                odd = signs.odd_gradients(values("grad_norm"))
                self._advise("gradients", odd, "compare learning rate, precision and the share of tokens in the loss")
            return
        self._advise("groups", signs.few_mixed_groups(values("frac_reward_zero_std")), MIXED_REWARDS)
        self._advise("cut", signs.often_cut(values("completions/clipped_ratio")), LONGER)
        clipped = signs.often_clipped(values("clip_ratio/region_mean"))
        self._advise("clipped", clipped, "lower the learning rate, or take fewer updates per sample")

    def _advise(self, rule: str, fault: str, advice: str) -> None:
        """Each rule warns once."""
        if fault and rule not in self._warned:
            self._warned.add(rule)
            self.advice.append(f"{fault}; {advice}")

    def _silent(self, running: float, use_percent: float | None) -> Stop | None:
        """A job that says nothing for long, unless it computes.

        Where the log comes over a network its stream may freeze while the job goes on: there only idleness is proof.
        """
        silent = self._clock.look(running)
        limit = self._pace.patience()
        if silent <= limit or (use_percent is not None and use_percent > IDLE_PERCENT):
            return None
        why = f"it has said nothing for {silent / 60:.0f} min (its updates take {self._pace.interval:.3g} s)"
        if (self._spec.runner == "hf" or not self._pace.began) and use_percent is None:
            self._advise("silent", why, "look at the job itself; its log may have stopped, and the job not")
            return None
        return Stop(kind="stopped", why=why, advice="look at the end of its log and at its machine, then try again")

    def _overrun(self, running: float, seconds_left: float | None) -> Stop | None:
        need = self._pace.need()
        if need is None:
            return None
        left = self._spec.timeout_seconds - running
        told = self._pace.told()
        if self._pace.persists("warning", need > left):
            self._advise("overrun", f"{told}, and its time-out comes in {hours(left)}", "allow more time")
        if seconds_left is not None and self._pace.persists("run", need > OVERRUN * max(0.0, seconds_left)):
            return Stop(kind="stopped", why=f"{told}, and the run has {hours(seconds_left)} left", advice=LESS_WORK)
        if self._pace.persists("time-out", running + need > OVERRUN * self._spec.timeout_seconds):
            why = f"{told}, and its time-out comes in {hours(left)}"
            if running + need > recovery.MORE_TIME * self._spec.timeout_seconds:
                return Stop(kind="stopped", why=why, advice=LESS_WORK)  # the time that a second try gets is too short
            return Stop(kind="timed_out", why=why, advice=MORE_TIME)
        return None
