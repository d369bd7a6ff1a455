"""postgrad on a replica of PostTrainBench's task folder: come what may, final_model is whole, and the best so far."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import postgrad
from agents.base_model import find_base_model
from agents.evaluator.posttrainbench import known_tasks, read_task
from agents.researcher import playbook
from agents.trainer import delivery
from postgrad.events import Event, JobEvent, VerdictEvent
from postgrad.posttrainbench import solve as solving
from postgrad.posttrainbench.final_model import shapes_of
from postgrad.posttrainbench.goal import goal_of
from postgrad.posttrainbench.solve import solve
from shared_memory.errors import BadInput
from shared_memory.settings import Settings, load_settings
from tests.posttrainbench.replica import HERE, Replica, lay_out

MakeReplica = Callable[..., Replica]
Work = Callable[..., dict[str, Any]]


@pytest.fixture
def make_replica(
    tmp_path: Path, tiny_model: Path, noop_jobs: None, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> MakeReplica:
    recipe()
    monkeypatch.setattr(delivery, "SCRIPT", HERE / "merge.py")
    return lambda **options: lay_out(tmp_path, tiny_model, **options)


@pytest.fixture
def work(settings: Settings) -> Work:
    """Works on a replica, with an eye on the clock five times a second."""

    def work_on(replica: Replica, **options: Any) -> dict[str, Any]:
        said: list[str] = []
        told = solve(
            replica.folder,
            prompt=replica.prompt,
            tell=said.append,
            **{"settings": settings, "goal": replica.goal, "python": sys.executable, "beat": 0.2} | options,
        )
        return {**told, "said": said}

    return work_on


@pytest.fixture
def second_recipe_never_ends(
    tmp_path: Path, make_replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    library = two_recipes(tmp_path / "two.toml")
    monkeypatch.setattr(playbook, "LIBRARY", library)
    playbook._library.cache_clear()
    yield
    playbook._library.cache_clear()


def two_recipes(library: Path) -> Path:
    """A library of recipes: the first one trains in a tenth of a second, the second takes two minutes."""
    library.write_text(
        "".join(
            f'[[recipe]]\nid = "{name}"\nfits = {{ min_m = 0, max_m = 1000 }}\nmethod = "sft"\nfindings = ["f"]\n'
            f"learning_rate = {rate}\nbatch = 8\nmicro_batch = 8\ntrain_rows = 40\n"
            for name, rate in (("quick", 1e-3), ("endless", 11.0))
        )
        + '[[finding]]\nid = "f"\nclaim = "it takes its time"\nsource = "this test"\n'
    )
    return library


def quality_in(folder: Path) -> float | None:
    """What the stand-in for a merge has left in the weights; None for the base model's. They are whole."""
    shapes_of(folder)
    with (folder / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    says = header.get("__metadata__", {}).get("says")
    return json.loads(says)["quality"] if says else None


def test_a_run_to_the_end_delivers_its_champion_and_reports_the_official_score_as_what_it_is(
    make_replica: MakeReplica, work: Work, tiny_model: Path
) -> None:
    replica = make_replica()
    delivered_early: list[float | None] = []

    def look(event: Event) -> None:
        if isinstance(event, JobEvent) and event.purpose == "evaluation" and event.experiment == "baseline":
            delivered_early.append(quality_in(replica.final_model))

    told = work(replica, on_event=look)

    assert delivered_early
    assert set(delivered_early) == {None}, "the base model is there before anything else is"
    assert (told["status"], told["outcome"], told["error"], told["tampered"]) == ("succeeded", "improved", "", [])
    assert told["champion"] == "e1"
    assert told["official"]["score"] == pytest.approx(quality_in(replica.final_model))
    assert told["official"]["includes_selection_items"]
    assert told["scores"]["items"]["part"] == "report"
    assert told["scores"]["items"]["n"] == 25, "half of the items select, the other half reports"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (replica.final_model / name).read_bytes() == (tiny_model / name).read_bytes(), name
    names = {path.name for path in replica.final_model.iterdir()}
    assert names == {path.name for path in tiny_model.iterdir()}, "and nothing else: no code, no notes"
    left_behind = {path.name for path in replica.folder.iterdir()}
    assert left_behind == {"evaluate.py", "timer.sh", "templates", "final_model"}


@pytest.mark.slow
@pytest.mark.usefixtures("second_recipe_never_ends")
def test_time_runs_out_in_the_middle_of_a_training_and_the_best_model_so_far_is_delivered(
    make_replica: MakeReplica, work: Work, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving, "CLOCK_SHOWS_SECONDS", 80.0)
    replica = make_replica(
        minutes=3.5, experiments=2
    )  # 180 s on the clock, 85 for the run, of which it keeps 60 for its end
    before: list[float | None] = []
    began = time.monotonic()

    def look(event: Event) -> None:
        if isinstance(event, JobEvent) and event.experiment == "e2" and event.state == "running":
            time.sleep(1)  # a merge takes a tenth of a second
            before.append(quality_in(replica.final_model))

    told = work(replica, on_event=look)

    e2 = postgrad.show(told["run_id"], settings=settings)["experiments"][1]
    assert "at its pace" in e2["error"], "it was ended when it could not end in time any more"
    assert before[0] is not None, "e1 was out while e2 was being trained: a kill would have left it"
    assert time.monotonic() - began < 60, "e2 would have taken two minutes"
    assert told["champion"] == "e1"
    assert told["official"]["score"] == pytest.approx(quality_in(replica.final_model))
    assert told["seconds_left"] > 0


@pytest.mark.usefixtures("second_recipe_never_ends")
def test_a_clock_that_runs_faster_than_it_said_ends_the_run(make_replica: MakeReplica, work: Work) -> None:
    replica = make_replica(experiments=2)

    def look(event: Event) -> None:
        if isinstance(event, JobEvent) and event.experiment == "e2" and event.state == "running":
            replica.set_clock(3)

    told = work(replica, on_event=look)

    assert "the clock runs out earlier than it said: the run is ended" in told["said"]
    assert told["status"] == "cancelled"
    assert told["champion"] == "e1"
    assert quality_in(replica.final_model) is not None
    assert told["official"]["score"] is not None


def test_an_evaluator_that_fails_twice_is_asked_three_times(make_replica: MakeReplica, work: Work) -> None:
    replica = make_replica(fails=2)
    told = work(replica, goal=only_score(replica))
    assert told["official"]["attempts"] == 3
    assert told["official"]["score"] == pytest.approx(0.2)
    assert sum("attempt" in line for line in told["said"]) == 2
    assert not any("memory" in line for line in told["said"]), "what it prints may hold items, and is not passed on"


def test_an_evaluator_that_is_broken_for_good_does_not_keep_the_model_back(
    make_replica: MakeReplica, work: Work
) -> None:
    replica = make_replica(fails=99)
    told = work(replica, goal=only_score(replica))
    assert (told["official"]["score"], told["official"]["attempts"]) == (None, 3)
    assert "exit status 1" in told["official"]["error"]
    assert told["status"] == "succeeded"
    assert shapes_of(replica.final_model)


def test_a_protected_file_that_something_changes_is_caught_and_its_evaluator_not_run(
    make_replica: MakeReplica, work: Work
) -> None:
    replica = make_replica()

    def tamper(event: Event) -> None:
        if isinstance(event, VerdictEvent):
            (replica.folder / "templates" / "llama3.jinja").write_text("ANSWER: A")

    told = work(replica, on_event=tamper)
    assert told["tampered"] == ["templates/llama3.jinja"]
    assert told["official"] | {"attempts": 0} == told["official"]
    assert "templates/llama3.jinja" in told["official"]["error"]
    with pytest.raises(BadInput, match=r"templates/llama3\.jinja is not what it was"):
        work(replica)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 12 MB, thirty times a model."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_a_disk_that_is_full_leaves_the_model_that_was_there(
    small_disk: Path, make_replica: MakeReplica, work: Work
) -> None:
    replica = make_replica()
    on_small = Replica(small_disk / "task", replica.prompt, replica.clock, replica.goal)
    shutil.copytree(replica.folder, on_small.folder)
    told = work(on_small, on_event=lambda event: fill(small_disk) if isinstance(event, VerdictEvent) else None)
    assert "No space left on device" in told["error"]
    assert told["champion"] == "baseline"
    assert quality_in(on_small.final_model) is None
    assert told["official"]["score"] == pytest.approx(0.2), "the logs are on another disk"
    names = {path.name for path in on_small.folder.iterdir()}
    assert names == {"evaluate.py", "timer.sh", "templates", "final_model"}


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_run_as_well_leaves_the_best_model_so_far(
    small_disk: Path, make_replica: MakeReplica, work: Work
) -> None:
    replica = make_replica(experiments=2)
    on_small = Replica(small_disk / "task", replica.prompt, replica.clock, replica.goal)
    shutil.copytree(replica.folder, on_small.folder)
    home = load_settings({"POSTGRAD_HOME": str(small_disk / "home"), "POSTGRAD_SMOKE_RUN": "never"})

    def look(event: Event) -> None:
        if isinstance(event, JobEvent) and event.experiment == "e2":
            time.sleep(1)  # a merge takes a tenth of a second
            fill(small_disk)

    told = work(on_small, settings=home, on_event=look)
    assert told["error"]
    assert (told["champion"], quality_in(on_small.final_model)) == ("e1", pytest.approx(0.5))
    assert told["official"]["score"] is None, "its logs have no room"


def test_the_same_call_again_goes_on_and_begins_nothing_anew(make_replica: MakeReplica, work: Work) -> None:
    replica = make_replica()
    goal = only_score(replica)
    first, again = work(replica, goal=goal), work(replica, goal=goal)
    assert again["run_id"] == first["run_id"]
    assert again["official"]["score"] == first["official"]["score"]


def test_what_cannot_be_worked_on_is_told_in_one_line_with_the_base_model_in_place(
    make_replica: MakeReplica, work: Work
) -> None:
    replica = make_replica()
    replica.goal.write_text('[data]\ntrain = ["missing.jsonl"]\n[[benchmark]]\npath = "items.jsonl"\n')
    with pytest.raises(BadInput, match=r"missing\.jsonl"):
        work(replica)
    assert quality_in(replica.final_model) is None
    assert shapes_of(replica.final_model)


def test_a_template_decides_on_what_is_its_own_and_on_nothing_that_the_rules_say(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = lay_out(tmp_path, tiny_model)
    items = tmp_path / "hub" / "datasets--Idavidrein--gpqa" / "snapshots" / "abc" / "gpqa_main.csv"
    items.parent.mkdir(parents=True)
    items.write_text("Question")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    task, base = read_task(replica.folder, replica.prompt), find_base_model(str(tiny_model))
    template = tmp_path / "template.toml"
    template.write_text(
        '[limits]\nusd = 5\n[rules]\nhosted_teacher = true\n[output]\npush_to = "me/model"\n'
        '[run]\napprove = "ask"\non = "hf"\nparallel = 2\n[judge]\nmodel = "hosted_vllm/judge"\n'
    )
    goal = goal_of(task, base, seconds=7200, template=template, brain="openai/gpt")
    assert (goal.limits.usd, goal.run.parallel, goal.judge.model) == (5, 2, "hosted_vllm/judge")
    assert (goal.rules.hosted_teacher, goal.output.push_to, goal.run.approve, goal.run.on) == (
        False,
        "",
        "auto",
        "local",
    )
    assert (goal.limits.hours, goal.brain.default) == (2.0, "openai/gpt")
    assert goal.limits.deadline is not None
    assert goal.limits.deadline.timestamp() == pytest.approx(time.time() + 7200, abs=60)
    assert (goal.primary.name, goal.primary.path) == ("gpqa_main", str(items))
    assert goal.primary.chat_template == str(replica.folder / "templates" / "llama3.jinja")
    assert goal.data.train == known_tasks()["gpqamain"].train

    example = goal_of(task, base, seconds=60, template=HERE.parents[1] / "examples" / "posttrainbench" / "goal.toml")
    assert example.limits.experiments == 24


def only_score(replica: Replica) -> Path:
    """The goal without experiments."""
    goal = replica.goal.with_name("score.toml")
    goal.write_text(replica.goal.read_text().replace("experiments = 1", "experiments = 0"))
    return goal
