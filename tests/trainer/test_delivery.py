"""What is handed over is the champion and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import postgrad
from agents.base_model import find_base_model
from agents.trainer import delivery
from shared_memory.errors import PostgradError
from shared_memory.goal import Goal
from shared_memory.recipes import SftRecipe
from shared_memory.records import Experiment
from shared_memory.run_paths import RunPaths
from shared_memory.settings import Settings
from tests.conftest import MakeGoal
from tests.postgrad.test_reproduce import jobs_with  # noqa: F401 - a fixture

NO_SCORE_FOR_E2 = """
import json, os, sys
if "generate.py" in sys.orig_argv:
    with open("config.json") as stream:
        config = json.load(stream)
    folder = config["adapter"] or config["model"]
    quality = 0.0
    if os.path.exists(folder + "/quality.json"):
        with open(folder + "/quality.json") as stream:
            quality = json.load(stream)["quality"]
    if quality > 0.6 or folder.endswith("merged"):
        sys.exit("error: no room; make some")
"""
NO_MERGE = """
import sys
if "merge.py" in sys.orig_argv:
    sys.exit("error: no room; make some")
"""


@pytest.mark.usefixtures("noop_jobs")
def test_a_champion_without_a_merge_takes_the_merged_weights_of_the_one_before_away(
    make_goal: MakeGoal,
    settings: Settings,
    jobs_with: Callable[[str], None],  # noqa: F811
) -> None:
    jobs_with(NO_SCORE_FOR_E2)
    first = postgrad.run(make_goal(experiments=2))
    assert first["champion"]["experiment"] == "e1"
    folder = settings.run_paths(first["run_id"]).model
    assert sorted(path.name for path in folder.iterdir()) == ["adapter", "merged"]

    jobs_with(NO_MERGE)
    then = postgrad.resume(first["run_id"])
    assert (then["status"], then["champion"]["experiment"]) == ("succeeded", "e2")
    assert then["champion"]["model"] == str(folder / "adapter")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter"]


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    (paths.job("k1") / "out" / "adapter").mkdir(parents=True)
    return paths


@pytest.mark.parametrize("model", ["", "{run}", "{run}/jobs", "{run}/jobs/k1/out/gone", "{run}/jobs/k1/../.."])
def test_only_what_a_job_of_the_run_has_trained_is_handed_over(
    paths: RunPaths, tiny_model: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(paths.job("k1"))
    where = model.format(run=paths.root)
    experiment = Experiment(id="e1", parent="baseline", change="c", recipe=SftRecipe(id="r"), dataset="d1", model=where)
    with pytest.raises(PostgradError, match=r"e1 has no model in .*; run the goal again"):
        delivery.hand_over(experiment, None, Goal(text="t"), find_base_model(str(tiny_model), ""), paths)
    assert not paths.model.exists()
