"""What the monitor makes of curves: of healthy ones nothing, of sick ones a stop with numbers and advice."""

import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.jobs.base import read_events
from agents.trainer.monitor import Monitor, Stop
from shared_memory.jobs import Estimate, JobSpec, Purpose

STEPS = 300
Curve = Callable[[random.Random, int], dict[str, Any]]
"""From a source of noise and a step to what is logged of it."""


def a_spec(method: str = "sft", **fields: Any) -> JobSpec:
    estimate = Estimate(hours=1, usd_micro=0, memory_gib=1, basis="a guess")
    plain = {
        "purpose": Purpose.TRAINING,
        "experiment": "e1",
        "title": "train e1",
        "script": "train.py",
        "files": {"train.py": "0" * 64},
        "config": {"method": method},
        "timeout_seconds": 10 * 3600,
        "estimate": estimate,
    }
    return JobSpec.model_validate(plain | fields)


def events(curve: Curve, steps: int = STEPS, seed: int = 0, pace: float = 3.0) -> Iterator[dict[str, Any]]:
    noise, seconds, tokens = random.Random(seed), 0.0, 0.0
    yield {"step": 0, "steps": steps, "seconds": 0.0}
    for step in range(1, steps + 1):
        logged = curve(noise, step)
        seconds += logged.pop("took", pace * noise.uniform(0.7, 1.6))
        tokens += logged.pop("tokens", 8192 * noise.uniform(0.4, 1.6))
        yield {"step": step, "steps": steps, **logged, "num_tokens": tokens, "seconds": seconds}


def watched(monitor: Monitor, curve: Curve, **how: Any) -> tuple[Stop | None, int]:
    """The first stop, and at which step; the job is looked at after every event, by its own clock."""
    for event in events(curve, **how):
        stop = monitor.see(event) or monitor.look(running=20 + event["seconds"])
        if stop is not None:
            return stop, event["step"]
    return None, STEPS


def falling(start: float, end: float, noise: float, heavy: float = 0.0) -> Curve:
    """A loss that falls as fine-tuning does, with normal noise, and now and then `heavy` times as much."""

    def curve(source: random.Random, step: int) -> dict[str, Any]:
        level = end + (start - end) * math.exp(-6 * step / STEPS)
        spike = heavy * noise * abs(source.gauss(0, 1)) if source.random() < 0.03 else 0.0
        loss = max(0.001, level + source.gauss(0, noise) + spike)
        return {"loss": loss, "grad_norm": source.lognormvariate(0, 0.5)}

    return curve


def of_single_rows(source: random.Random, step: int) -> dict[str, Any]:
    loss = (0.8 + 1.2 * math.exp(-step / 60)) * source.lognormvariate(0, 0.8)
    return {"loss": loss, "grad_norm": source.lognormvariate(0.5, 0.8)}


def with_a_warm_up_spike(source: random.Random, step: int) -> dict[str, Any]:
    logged = falling(2.1, 0.9, 0.1)(source, step)
    return logged | ({"loss": 8.0 + source.random(), "grad_norm": 60.0} if 5 <= step < 14 else {})


def by_epochs(source: random.Random, step: int) -> dict[str, Any]:
    return {"loss": max(0.01, (1.6, 0.8, 0.3)[(step - 1) // 100] + source.gauss(0, 0.08)), "grad_norm": 0.6}


def evaluated_now_and_then(source: random.Random, step: int) -> dict[str, Any]:
    return falling(2.0, 1.0, 0.1)(source, step) | ({"took": 1500.0} if step % 60 == 0 else {})


def saved_often(source: random.Random, step: int) -> dict[str, Any]:
    return falling(2.0, 1.0, 0.1)(source, step) | ({"took": 90.0} if step % 5 == 0 else {})


def grpo(source: random.Random, step: int) -> dict[str, Any]:
    part = step / STEPS
    return {
        "loss": source.gauss(0.0, 0.02),
        "grad_norm": source.lognormvariate(-2.5, 0.6),
        "reward": 0.1 + 0.6 * part + source.gauss(0, 0.1),
        "reward_std": abs(source.gauss(0.3, 0.1)),
        "frac_reward_zero_std": min(1.0, max(0.0, source.gauss(0.5, 0.2))),
        "kl": 900.0 if source.random() < 0.02 else 0.15 * part + abs(source.gauss(0, 0.01)),
        "entropy": 0.6 * math.exp(-2.5 * part) + 0.02,
        "completions/clipped_ratio": max(0.0, 0.4 - 0.4 * part + source.gauss(0, 0.05)),
        "clip_ratio/region_mean": abs(source.gauss(0.01, 0.01)),
    }


def grpo_cut_at_first(source: random.Random, step: int) -> dict[str, Any]:
    """A base model that never ends its turn at first, and learns all the same."""
    reward = max(0.0, 0.004 * step + source.gauss(0, 0.03))
    return grpo(source, step) | {"reward": reward, "completions/clipped_ratio": 1.0 if step < 120 else 0.3}


def grpo_of_two_prompts(source: random.Random, step: int) -> dict[str, Any]:
    """Few groups an update: in many updates none, or all, of them have rewards to compare."""
    shares = [source.random() < 0.7 for _ in range(2)]
    return grpo(source, step) | {"frac_reward_zero_std": sum(shares) / 2, "reward_std": 0.0 if all(shares) else 0.4}


def grpo_ever_longer(source: random.Random, step: int) -> dict[str, Any]:
    """Answers grow to six times their length, and every step with them."""
    longer = 1 + 5 * step / STEPS
    return grpo(source, step) | {"took": 4 * longer**1.3, "tokens": 8000 * longer}


def online_distillation(source: random.Random, step: int) -> dict[str, Any]:
    return {"loss": max(0.0, 0.4 * math.exp(-step / 80) + source.gauss(0, 0.05)), "grad_norm": 0.3}


HEALTHY: dict[str, tuple[str, Curve]] = {
    "sft": ("sft", falling(2.2, 0.9, 0.15, heavy=6)),
    "sft that is well known already": ("sft", falling(0.5, 0.2, 0.05, heavy=8)),
    "sft of single rows": ("sft", of_single_rows),
    "sft with a spike while it warms up": ("sft", with_a_warm_up_spike),
    "sft over epochs": ("sft", by_epochs),
    "sft with slow evaluations": ("sft", evaluated_now_and_then),
    "sft with many checkpoints": ("sft", saved_often),
    "dpo": ("dpo", falling(0.69, 0.35, 0.25, heavy=10)),
    "kto": ("kto", falling(0.5, 0.35, 0.1)),
    "reward": ("reward", falling(0.69, 0.25, 0.2)),
    "distill": ("distill", online_distillation),
    "grpo": ("grpo", grpo),
    "grpo of a base that is cut off at first": ("grpo", grpo_cut_at_first),
    "grpo of two prompts": ("grpo", grpo_of_two_prompts),
    "grpo with ever longer answers": ("grpo", grpo_ever_longer),
    "rloo": ("rloo", grpo),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_raises_no_alarm(name: str) -> None:
    method, curve = HEALTHY[name]
    for seed in range(2):
        monitor = Monitor(a_spec(method))
        stop, step = watched(monitor, curve, seed=seed)
        assert stop is None, (seed, step, stop)
        if name != "grpo of a base that is cut off at first":
            assert not monitor.advice


def broken_after(method: Curve, step_of: int, **sick: Any) -> Curve:
    def curve(source: random.Random, step: int) -> dict[str, Any]:
        return method(source, step) | ({} if step < step_of else sick)

    return curve


def names(**values: Any) -> dict[str, Any]:
    """Keywords for TRL's names, which have slashes."""
    return {name.replace("__", "/"): value for name, value in values.items()}


SFT = falling(2.2, 0.9, 0.15, heavy=6)
SICK: dict[str, tuple[str, Curve, str, int, str]] = {
    # what it is called: method, curve, kind of the stop, by which step, a word of why
    "nan": ("sft", broken_after(SFT, 40, loss=math.nan), "diverged", 40, "step 40"),
    "infinity": ("grpo", broken_after(grpo, 40, loss=-math.inf), "diverged", 40, "-inf"),
    "weights broken at the start": ("sft", broken_after(SFT, 30, loss=9.7), "diverged", 75, "9.7"),
    "weights broken after it had learned": (
        "dpo",
        broken_after(HEALTHY["dpo"][1], 150, loss=4.0),
        "diverged",
        195,
        "4",
    ),
    "far from the reference": ("grpo", broken_after(grpo, 100, kl=3.2), "diverged", 115, "nats a token"),
    "groups of one mind": ("grpo", broken_after(grpo, 60, frac_reward_zero_std=1.0), "stopped", 110, "99%"),
    "no exploration": ("rloo", broken_after(grpo, 60, entropy=0.003), "stopped", 110, "0.003 nats"),
    "cut off": (
        "grpo",
        broken_after(grpo, 60, **names(completions__clipped_ratio=0.99), reward=0.1),
        "stopped",
        111,
        "99% of the completions",
    ),
    "ten times slower for long": ("sft", broken_after(SFT, 100, took=120.0), "stopped", 112, "tokens a second"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_is_stopped_in_time_with_numbers_and_advice(name: str) -> None:
    method, curve, kind, by, words = SICK[name]
    stop, step = watched(Monitor(a_spec(method)), curve)
    assert stop is not None
    assert (stop.kind, step <= by) == (kind, True), (step, stop)
    assert words in stop.why
    assert stop.advice
    assert stop.diagnosis.evidence == (stop.why,)


@pytest.mark.parametrize(
    ("method", "curve", "words"),
    [
        ("sft", falling(0.02, 0.01, 0.001), "the loss is 0.0"),
        ("sft", broken_after(SFT, 50, grad_norm=0.01), "under 0.1"),
        ("sft", broken_after(SFT, 50, grad_norm=55.0), "over 10"),
        ("grpo", broken_after(grpo, 50, **names(clip_ratio__region_mean=0.5)), "50% of the tokens are clipped"),
        ("grpo", broken_after(grpo, 50, frac_reward_zero_std=0.9), "no difference in reward"),
        ("grpo", broken_after(grpo, 50, **names(completions__clipped_ratio=0.7)), "were cut off"),
    ],
)
def test_what_may_be_wrong_is_said_once_and_stops_nothing(method: str, curve: Curve, words: str) -> None:
    monitor = Monitor(a_spec(method))
    assert watched(monitor, curve) == (None, STEPS)
    assert [words in each for each in monitor.advice] == [True]
    assert "; " in monitor.advice[0]


def test_a_job_that_cannot_end_in_time_is_stopped_early() -> None:
    monitor = Monitor(a_spec(timeout_seconds=600))  # 300 steps of 3.4 s
    stop, step = watched(monitor, SFT)
    assert stop is not None
    assert stop.kind == "timed_out"
    assert step < 60
    assert "steps to come need" in stop.why
    assert "time-out" in monitor.advice[0]


def test_a_job_that_just_fits_is_warned_of_and_goes_on() -> None:
    monitor = Monitor(a_spec(timeout_seconds=1000))
    assert watched(monitor, SFT)[0] is None
    assert ["time-out" in advice for advice in monitor.advice] == [True]


def test_slow_first_steps_are_no_pace() -> None:
    compiling = broken_after(SFT, 1000)

    def curve(source: random.Random, step: int) -> dict[str, Any]:
        return compiling(source, step) | ({"took": 60.0} if step <= 4 else {"took": 1.0})

    monitor = Monitor(a_spec(timeout_seconds=700))
    assert watched(monitor, curve)[0] is None


def test_a_job_that_needs_more_than_the_run_has_left_is_stopped() -> None:
    monitor = Monitor(a_spec())
    for event in events(SFT):
        assert monitor.see(event) is None
        stop = monitor.look(running=event["seconds"], seconds_left=400 - event["seconds"])
        if stop is not None:
            assert stop.kind == "stopped"
            assert "the run has" in stop.why
            return
    raise AssertionError("it was not stopped")


def through_silence(monitor: Monitor, began: float, seconds: float, **look: Any) -> Stop | None:
    """Looks every 30 s at a job that says nothing more."""
    for second in range(0, int(seconds), 30):
        if stop := monitor.look(running=began + second, **look):
            return stop
    return None


def heard(spec: JobSpec, steps: int = 40, of: int = 300, took: float = 3.0) -> tuple[Monitor, float]:
    """A monitor that has seen so many steps, and the running time then."""
    monitor = Monitor(spec)
    for step in range(steps + 1):
        assert monitor.see({"step": step, "steps": of, "loss": 1.5, "seconds": took * step}) is None
        assert monitor.look(running=took * step) is None
    return monitor, took * steps


def test_a_job_that_hangs_is_stopped_by_its_own_measure() -> None:
    monitor, running = heard(a_spec())
    stop = through_silence(monitor, running, 3 * 3600)
    assert stop is not None
    assert stop.kind == "stopped"
    assert "30 min" in stop.why
    slow, running = heard(a_spec(timeout_seconds=10**7), steps=40, took=250.0)
    assert through_silence(slow, running, 2400) is None


def test_silence_is_no_stop_while_the_device_works() -> None:
    monitor, running = heard(a_spec())
    assert through_silence(monitor, running, 3 * 3600, use_percent=97.0) is None


def test_a_frozen_log_of_a_remote_job_is_only_said() -> None:
    monitor, running = heard(a_spec(runner="hf"))
    assert through_silence(monitor, running, 3 * 3600) is None
    assert ["said nothing" in advice for advice in monitor.advice] == [True]
    stop = through_silence(monitor, running + 3 * 3600, 3600, use_percent=0.0)
    assert stop is not None


def test_downloads_before_and_saving_after_the_steps_may_take_an_hour() -> None:
    fresh = Monitor(a_spec())
    assert through_silence(fresh, 0, 3500, use_percent=0.0) is None
    assert through_silence(fresh, 3500, 600, use_percent=0.0) is not None
    done, running = heard(a_spec(), steps=300)
    assert through_silence(done, running, 3500, use_percent=0.0) is None


def test_a_watcher_that_slept_does_not_take_its_own_silence_for_the_jobs() -> None:
    monitor, running = heard(a_spec())
    assert through_silence(monitor, running, 300) is None
    assert through_silence(monitor, running + 9 * 3600, 1700) is None


def test_another_process_goes_on_from_the_log() -> None:
    curve = broken_after(SFT, 30, loss=9.7)
    log = "".join(json.dumps(event) + "\n" for event in events(curve))
    progress, _ = read_events(log)
    whole, rebuilt = Monitor(a_spec()), Monitor(a_spec())
    expected = next(stop for event in progress if (stop := whole.see(event)))
    stops = [stop for event in progress[:50] if (stop := rebuilt.see(event))]
    stops += [stop for event in progress[50:] if (stop := rebuilt.see(event))]
    assert stops[0] == expected


def test_a_script_may_print_anything() -> None:
    monitor = Monitor(a_spec())
    for odd in ("loss", None, True, [1], {"a": 1}, 10**400, "nan"):
        event = {"step": odd, "steps": odd, "seconds": odd, "loss": odd, "grad_norm": odd, "num_tokens": odd}
        assert monitor.see(event) is None
        assert monitor.look(running=1.0) is None
    assert monitor.see({"step": 1, "steps": 0, "seconds": -5.0, "loss": -3.0, "num_tokens": -1}) is None
