"""`postgrad recipes`: what the library has, narrowed down, and one recipe in full."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agents.researcher.findings import Notebook
from postgrad.cli import app
from shared_memory.errors import BadInput
from shared_memory.records import Finding


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["recipes", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(*words, "--json"))
    return found


def test_all_recipes_are_listed_with_what_to_expect_and_where_that_is_from() -> None:
    lines = said().splitlines()
    assert lines[0].split() == ["id", "method", "model", "benchmark", "expected", "source"]
    for entry in listed():
        [line] = [line for line in lines if line.startswith(f"{entry['id']} ")]
        assert entry["method"] in line
        assert re.split("[,;]", entry["source"])[0] in line


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("--method", "reward"), ["reward-small", "reward-medium", "tulu3-reward"]),
        (("--benchmark", "humaneval"), ["magicoder"]),
        (("--method", "kto", "--size", "135M"), ["kto-small"]),
        (("--method", "kto", "--size", "7B", "--benchmark", "gsm8k"), ["orca-math-kto"]),
        (("four bits",), ["zephyr-dpo-qlora"]),
    ],
)
def test_the_list_is_narrowed_down_by_method_size_benchmark_and_words(words: tuple[str, ...], ids: list[str]) -> None:
    assert [entry["id"] for entry in listed(*words)] == ids


def test_one_recipe_is_shown_in_full_with_the_findings_that_it_rests_on() -> None:
    text = said("open-rs")
    for words in ("46.7 on AIME24", "$42", "cut off", "arXiv 2503.16219", "learning rate", "1e-06", "rewards"):
        assert words in text
    whole: dict[str, Any] = json.loads(said("open-rs", "--json"))
    assert whole["fits"] == {"min_m": 1000, "max_m": 2500, "benchmarks": ["aime2025"]}
    assert {finding["id"] for finding in whole["findings"]} == {"f-open-rs", "f-mixed-rewards"}
    assert whole["lora"] is None
    assert "LoRA r32 α64" in said("lora-medium")


def test_no_recipe_promises_a_result_that_none_of_its_findings_has(tmp_path: Path) -> None:
    """The library keeps the rule that a language model's recipes are held to."""
    for entry in listed():
        findings = [Finding.model_validate(each) for each in entry["findings"]]
        assert Notebook(tmp_path).fault_of_expectation(entry["expected"], findings) == "", entry["id"]
        assert all(each.benchmark for each in findings if each.number is not None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "sfd"), "no recipe has the method `sfd`; did you mean `sft`?"),
        (("--benchmark", "gsm"), "did you mean `gsm8k`?"),
        (("--benchmark", "zzz"), "known: aime2025"),
        (("--size", "big"), "write 135M or 1.7B"),
        (("limoo",), "did you mean `limo`?"),
        (("unicorns on roller skates",), "`postgrad recipes` lists all"),
    ],
)  # fmt: skip
def test_what_the_library_does_not_have_is_an_error_with_the_next_move(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(BadInput, match=r".+") as error:
        said(*words)
    assert told in str(error.value)
