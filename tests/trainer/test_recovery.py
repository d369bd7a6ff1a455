"""The next try at a job that failed: what changes in it, and what never does."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.jobs.flavors import Flavor
from agents.trainer.diagnosis import diagnose
from agents.trainer.recovery import ATTEMPTS, Remedy, remedy
from graph.consent import consent_for, envelope_of
from shared_memory.jobs import FREE_OF_SCOPE, Decision, Diagnosis, Estimate, Failure, JobSpec, JobState, Purpose

CORPUS = Path(__file__).parent / "failures"


def a_flavor(name: str, gpu: str, gpus: int, vram_gib: float, ram_gib: float, usd_micro_per_minute: int) -> Flavor:
    return Flavor(
        name=name, gpu=gpu, gpus=gpus, vram_gib=vram_gib, ram_gib=ram_gib, usd_micro_per_minute=usd_micro_per_minute
    )


FLAVORS = (
    a_flavor("cpu-basic", "", 0, 0, 16, 167),
    a_flavor("cpu-xl", "", 0, 0, 124, 16_667),
    a_flavor("t4-small", "Nvidia T4", 1, 16, 15, 6_667),
    a_flavor("l4x1", "Nvidia L4", 1, 24, 30, 13_333),
    a_flavor("a10g-large", "Nvidia A10G", 1, 24, 46, 25_000),
    a_flavor("l40sx1", "Nvidia L40S", 1, 48, 62, 30_000),
    a_flavor("a100-large", "Nvidia A100", 1, 80, 142, 41_667),
    a_flavor("l4x4", "Nvidia L4", 4, 24, 186, 63_333),
)


def a_job(config: dict[str, Any] | None = None, usd_micro: int = 0, **fields: Any) -> JobSpec:
    settings = {
        "method": "sft",
        "batch": 32,
        "micro_batch": 8,
        "activation_checkpointing": False,
        "max_length": 1024,
        "resume_from": None,
    }
    plain = {
        "purpose": Purpose.TRAINING,
        "experiment": "e1",
        "title": "train e1: more rows",
        "script": "train.py",
        "files": {"train.py": "0" * 64},
        "config": settings | (config or {}),
        "timeout_seconds": 3600,
        "estimate": Estimate(hours=0.5, usd_micro=usd_micro, memory_gib=20, basis="a guess"),
    }
    return JobSpec.model_validate(plain | fields)


def on_hub(flavor: str, **fields: Any) -> JobSpec:
    price = next(each.usd_micro_per_minute for each in FLAVORS if each.name == flavor)
    return a_job(runner="hf", flavor=flavor, usd_micro=60 * price, **fields)


def failed(kind: Failure) -> Diagnosis:
    return Diagnosis(kind=kind, remedy="read on")


def is_asked_about(spec: JobSpec, way: Remedy) -> bool:
    """Whether a person's yes to `spec` does not cover the remedy."""
    yes = Decision(spec_digest=spec.digest, approved=True, by="person", envelope=envelope_of(spec))
    return consent_for(way.spec, [yes], []) is None


def all_tries(spec: JobSpec, kind: Failure, **how: Any) -> list[Remedy]:
    """The remedies of a job that fails in the same way each time."""
    tried: list[tuple[JobSpec, Diagnosis]] = []
    found = []
    while (way := remedy(spec, failed(kind), tried, **how)) is not None:
        found.append(way)
        tried.append((spec, failed(kind)))
        spec = way.spec
        assert len(tried) < ATTEMPTS
    return found


def test_a_device_without_memory_gets_fewer_rows_at_once_in_the_same_batch() -> None:
    first, second = all_tries(a_job(), "out_of_memory")
    assert (first.spec.config["micro_batch"], first.spec.config["batch"]) == (4, 32)
    assert first.spec.config["activation_checkpointing"] is False
    assert first.spec.title == (
        "train e1: more rows; again with micro-batches of 4 instead of 8, the batch of 32 unchanged"
    )
    assert not is_asked_about(a_job(), first)
    # The last try takes all that leaves the mathematics alone.
    assert second.spec.config["micro_batch"] == 2
    assert second.spec.config["activation_checkpointing"] is True
    assert second.spec.title.count("; again ") == 1


def test_rows_that_cannot_be_fewer_are_computed_twice() -> None:
    (way,) = all_tries(a_job({"micro_batch": 1}), "out_of_memory")
    assert way.spec.config["activation_checkpointing"] is True
    assert all_tries(a_job({"micro_batch": 1, "activation_checkpointing": True}), "out_of_memory") == []


def test_the_batch_stays_exact_over_all_processes() -> None:
    way = remedy(a_job({"batch": 24, "micro_batch": 6}, devices=2, nodes=2), failed("out_of_memory"))
    assert way is not None
    assert way.spec.config["micro_batch"] == 3
    way = remedy(a_job({"batch": 12, "micro_batch": 3}, devices=2, nodes=2), failed("out_of_memory"))
    assert way is not None
    assert way.spec.config["micro_batch"] == 1


def test_the_cheapest_hardware_that_is_larger_comes_last_and_asks_if_it_is_dearer() -> None:
    full = {"micro_batch": 1, "activation_checkpointing": True}
    first, second = all_tries(on_hub("l4x1", config=full), "out_of_memory", flavors=FLAVORS)
    assert (first.spec.flavor, second.spec.flavor) == ("l40sx1", "a100-large")
    assert is_asked_about(on_hub("l4x1", config=full), first)
    assert is_asked_about(on_hub("l4x1", config=full), second)
    assert first.spec.estimate.usd_micro == 60 * 30_000
    assert "48 GiB instead of 24" in first.what
    cheaper = (*FLAVORS, a_flavor("spot", "Nvidia L40S", 1, 48, 62, 9_000))
    way = remedy(on_hub("l4x1", config=full), failed("out_of_memory"), flavors=cheaper)
    assert way is not None
    assert way.spec.flavor == "spot"
    assert not is_asked_about(on_hub("l4x1", config=full), way)


def test_hardware_that_calculates_otherwise_is_no_remedy() -> None:
    """A T4 has no bfloat16: mixed precision would mean another arithmetic on anything larger."""
    full = {"micro_batch": 1, "activation_checkpointing": True}
    assert all_tries(on_hub("t4-small", config=full), "out_of_memory", flavors=FLAVORS) == []


def test_a_job_keeps_a_device_for_each_of_its_processes() -> None:
    full = {"micro_batch": 1, "activation_checkpointing": True, "batch": 4}
    assert remedy(on_hub("l4x4", config=full, devices=4), failed("out_of_memory"), flavors=FLAVORS) is None


def test_hardware_of_unknown_size_is_not_compared() -> None:
    full = {"micro_batch": 1, "activation_checkpointing": True}
    unknown = (a_flavor("partition", "tesla", 1, 0, 0, 0), *FLAVORS)
    spec = a_job(runner="slurm", flavor="partition", config=full)
    assert remedy(spec, failed("out_of_memory"), flavors=unknown) is None


def test_what_ran_out_on_a_processor_is_the_machines_memory() -> None:
    way = remedy(a_job(), failed("out_of_host_memory"))
    assert way is not None
    assert way.spec.config["micro_batch"] == 4
    full = {"micro_batch": 1, "activation_checkpointing": True}
    way = remedy(on_hub("cpu-basic", config=full), failed("out_of_host_memory"), flavors=FLAVORS)
    assert way is not None
    assert way.spec.flavor == "cpu-xl"


def test_beside_a_gpu_only_a_larger_machine_helps() -> None:
    way = remedy(on_hub("l4x1"), failed("out_of_host_memory"), flavors=FLAVORS)
    assert way is not None
    assert (way.spec.flavor, way.spec.config["micro_batch"]) == ("a10g-large", 8)
    assert remedy(a_job(flavor="gpu"), failed("out_of_host_memory")) is None


def test_a_lost_connection_is_tried_again_once() -> None:
    (way,) = all_tries(a_job(), "network")
    assert way.spec.digest == a_job().digest
    assert way.what == "unchanged"


def test_what_was_reached_is_not_done_twice() -> None:
    spec = a_job(timeout_seconds=3600)
    for kind in ("network", "timed_out", "out_of_memory"):
        way = remedy(spec, failed(kind), checkpoint="out/checkpoint-40")
        assert way is not None
        assert way.spec.config["resume_from"] == "out/checkpoint-40"
        assert "checkpoint-40" in way.spec.title
    # The same checkpoint once more would end the same way; a later one would not.
    resumed = a_job({"resume_from": "out/checkpoint-40"})
    tried = [(spec, failed("timed_out"))]
    way = remedy(resumed, failed("timed_out"), tried, checkpoint="out/checkpoint-40")
    assert way is not None
    assert way.spec.timeout_seconds == 7200
    way = remedy(resumed, failed("timed_out"), tried, checkpoint="out/checkpoint-80")
    assert way is not None
    assert (way.spec.timeout_seconds, way.spec.config["resume_from"]) == (3600, "out/checkpoint-80")


def test_an_evaluation_goes_on_from_its_answers_and_with_fewer_prompts_where_the_machine_had_no_memory() -> None:
    settings = {"model": "m", "max_tokens": 256, "micro_batch": 64, "resume_from": None}
    spec = a_job(purpose=Purpose.EVALUATION).model_copy(update={"config": settings})
    for kind in ("network", "timed_out", "out_of_host_memory"):
        way = remedy(spec, failed(kind), checkpoint="job/out")
        assert way is not None
        assert way.what.endswith("from the answers that it left")
        assert way.spec.scope == spec.scope
        changed = {"micro_batch": 32} if kind == "out_of_host_memory" else {}
        assert way.spec.config == settings | {"resume_from": "job/out"} | changed
    assert remedy(spec, failed("out_of_memory"), checkpoint="job/out") is None, "the job itself has tried one at a time"


def test_more_time_asks_where_it_costs_more() -> None:
    way = remedy(a_job(), failed("timed_out"))
    assert way is not None
    assert way.spec.timeout_seconds == 7200
    assert not is_asked_about(a_job(), way)
    way = remedy(on_hub("t4-small"), failed("timed_out"))
    assert way is not None
    assert way.spec.estimate.usd_micro == 2 * 60 * 6_667
    assert is_asked_about(on_hub("t4-small"), way)


def test_a_script_that_is_not_ours_asks_always() -> None:
    way = remedy(a_job(custom=True), failed("out_of_memory"))
    assert way is not None
    assert is_asked_about(a_job(custom=True), way)


def test_a_script_without_the_settings_is_not_given_them() -> None:
    bare = a_job(custom=True).model_copy(update={"config": {"rows": 3}})
    assert remedy(bare, failed("out_of_memory"), checkpoint="out/checkpoint-4") is None
    way = remedy(bare, failed("network"), checkpoint="out/checkpoint-4")
    assert way is not None
    assert way.spec.config == {"rows": 3}


@pytest.mark.parametrize("kind", sorted(set(get_args(Failure)) - {
    "out_of_memory", "out_of_host_memory", "timed_out", "network",
}))  # fmt: skip
def test_what_another_try_does_not_mend_is_left_to_the_brain_or_a_person(kind: Failure) -> None:
    assert remedy(on_hub("t4-small"), failed(kind), flavors=FLAVORS, checkpoint="out/checkpoint-4") is None


def test_writing_and_publishing_are_not_tried_again_here() -> None:
    for runner in ("teacher", "publisher"):
        assert remedy(a_job(runner=runner), failed("network")) is None


KINDS = st.sampled_from(sorted(get_args(Failure)))
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "batch": st.integers(1, 512),
        "micro_batch": st.integers(1, 64) | st.just("eight"),
        "activation_checkpointing": st.booleans(),
        "resume_from": st.none() | st.just("out/checkpoint-2"),
        "learning_rate": st.floats(1e-6, 1e-2),
    },
)


@settings(max_examples=100, deadline=None)
@given(
    config=CONFIGS,
    kinds=st.lists(KINDS, min_size=ATTEMPTS + 1, max_size=ATTEMPTS + 1),
    flavor=st.sampled_from(FLAVORS),
    devices=st.integers(1, 4),
    nodes=st.integers(1, 3),
    custom=st.booleans(),
    checkpoints=st.lists(st.sampled_from(["", "out/checkpoint-2", "out/checkpoint-4"]), min_size=4, max_size=4),
)
def test_no_remedy_leaves_the_scope_or_goes_on_for_ever(
    config: dict[str, Any],
    kinds: list[Failure],
    flavor: Flavor,
    devices: int,
    nodes: int,
    custom: bool,
    checkpoints: list[str],
) -> None:
    first = spec = on_hub(flavor.name, devices=devices, nodes=nodes, custom=custom).model_copy(
        update={"config": config}
    )
    approved = first.estimate.usd_micro
    tried: list[tuple[JobSpec, Diagnosis]] = []
    for kind, checkpoint in zip(kinds, checkpoints, strict=True):
        way = remedy(spec, failed(kind), tried, FLAVORS, checkpoint)
        if way is None:
            return
        derived = way.spec
        assert derived.scope == first.scope
        assert {key for key in derived.config if derived.config[key] != first.config.get(key)} <= set(FREE_OF_SCOPE)
        assert derived.config.keys() == first.config.keys()
        if derived.config.get("micro_batch") != first.config.get("micro_batch"):
            assert derived.config["batch"] % (derived.config["micro_batch"] * devices * nodes) == 0
        assert is_asked_about(first, way) or (derived.estimate.usd_micro <= approved and not custom)
        assert derived.digest != spec.digest or kind == "network"
        assert (derived.digest, kind) not in [(one.digest, failure.kind) for one, failure in tried]
        tried.append((spec, failed(kind)))
        spec = derived
        assert len(tried) < ATTEMPTS


def test_no_failure_of_the_corpus_leads_to_another_scope() -> None:
    for case in tomllib.loads((CORPUS / "cases.toml").read_text())["case"]:
        log = (CORPUS / f"{case['log']}.log").read_text()
        state = JobState(case.get("state", "failed"))
        found = diagnose(log, error=case.get("error", ""), exit_code=case.get("exit_code", 1), state=state)
        for spec in (a_job(), on_hub("t4-small")):
            way = remedy(spec, found, flavors=FLAVORS)
            assert way is None or way.spec.scope == spec.scope


def test_kto_keeps_the_rows_that_it_compares_and_recomputes_instead() -> None:
    job = a_job({"method": "kto", "micro_batch": 4}, runner="hf", flavor="a100-large")
    tries = all_tries(job, "out_of_memory")
    shapes = [(way.spec.config["micro_batch"], way.spec.config["activation_checkpointing"]) for way in tries]
    assert shapes == [(4, True)]
    fewer = job.model_copy(update={"config": job.config | {"micro_batch": 2}})
    assert fewer.scope != job.scope, "its KL divergence is estimated from the rows of a micro-batch"
    assert {way.spec.config["batch"] for way in tries} == {32}
