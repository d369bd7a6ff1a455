"""The table of methods says the same as the recipes and as the scripts that carry them out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agents.trainer.methods import METHODS, REWARD_COLUMNS, SCRIPT_FILES, SCRIPTS, needs_reference, samples
from shared_memory.recipes import RECIPES, Lora, numbers_of, recipe_of

NEEDS = {"distill": {"teacher": "m"}}
IN_SCRIPT_ONLY = {
    "model", "revision", "adapter", "data", "seed", "activation_checkpointing", "group_by_length", "report_to",
    "project", "run_name", "save_steps", "resume_from", "max_steps", "push_to_hub", "hub_model_id", "hub_private",
}  # fmt: skip
"""Settings that are the plan's and the runner's, and no part of a recipe."""


@pytest.mark.parametrize("method", RECIPES)
def test_every_recipe_is_a_config_of_the_script_and_has_all_its_numbers(method: str) -> None:
    import train

    recipe = recipe_of({"id": "r", "method": method, **NEEDS.get(method, {})})
    settings = train.METHODS[method].settings
    assert set(settings.model_fields) == set(numbers_of(recipe)) | IN_SCRIPT_ONLY
    config = settings.model_validate_json(json.dumps(numbers_of(recipe) | {"model": "m"}))
    assert config.method == method
    assert set(Lora.model_fields) == set(type(config.lora).model_fields)


def test_the_table_has_every_method_and_the_columns_that_the_script_asks_for() -> None:
    import train

    assert METHODS.keys() == RECIPES.keys() == train.METHODS.keys()
    for name, method in METHODS.items():
        [kind, *_] = train.METHODS[name].rows
        assert set(method.columns) == {key for key, field in kind.model_fields.items() if field.is_required()}


def test_the_table_knows_what_rewards_read() -> None:
    from rewards import REWARDS

    assert {name: reward.needs for name, reward in REWARDS.items()} == REWARD_COLUMNS


def test_second_models_are_counted_only_where_they_are_loaded() -> None:
    assert needs_reference("dpo", lora=False, beta=0.1)
    assert not needs_reference("dpo", lora=True, beta=0.1)
    assert not needs_reference("grpo", lora=False, beta=0.0)
    assert not needs_reference("sft", lora=False, beta=0.1)
    assert samples("rloo")
    assert samples("distill", on_policy=0.5)
    assert not samples("distill")


def test_the_files_of_a_training_job_are_all_that_the_script_imports(tmp_path: Path) -> None:
    for name in SCRIPT_FILES:
        shutil.copy(SCRIPTS / name, tmp_path)
    siblings = {path.stem for path in SCRIPTS.glob("*.py")}
    for name in SCRIPT_FILES:
        imported = set(re.findall(r"^(?:from|import) (\w+)", (SCRIPTS / name).read_text(), re.MULTILINE))
        assert {f"{module}.py" for module in imported & siblings} <= set(SCRIPT_FILES)
        assert not imported & {"agents", "graph", "postgrad", "shared_memory"}
    command = [sys.executable, str(tmp_path / SCRIPT_FILES[0]), "--help"]
    assert "--config" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
