"""Examples found in repositories on GitHub, and files read by line, all at one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.researcher.library import Library
from agents.researcher.reference import github, web
from shared_memory.errors import BadInput
from tests.servers.reference_sites import Sites, reference_sites

GRPO = "# Copyright\nfrom trl import GRPOTrainer\n\ntrainer = GRPOTrainer(reward_funcs=reward)\ntrainer.train()\n"
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Tune a model\n", "with LoRA"]},
        {
            "cell_type": "code", "source": "print('```')\nplot()",
            "outputs": [
                {"output_type": "stream", "text": ["step 1\n"] + ["loss 2.0\n"] * 200},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=" * 50, "text/plain": "<Figure>"}},
            ],
        },
        {"cell_type": "code", "source": "1 / 0", "outputs": [
            {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": ["x" * 9]}
        ]},
    ],
    "metadata": {"language_info": {"name": "python"}},
}  # fmt: skip


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    with reference_sites(monkeypatch) as served:
        yield served


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def trl(sites: Sites) -> str:
    return sites.push(
        "huggingface/trl",
        {
            "README.md": "# TRL", "trl/trainer/grpo_trainer.py": "class GRPOTrainer: ...",
            "examples/scripts/sft.py": "SFTTrainer()", "examples/scripts/grpo_agent.py": GRPO,
            "examples/notebooks/lora.ipynb": json.dumps(NOTEBOOK), "tests/examples/test_grpo.py": "GRPOTrainer",
            "examples/accelerate_configs/deepspeed.yaml": "zero_stage: 3\nreward_funcs: none",
        },
    )  # fmt: skip


def test_examples_are_ranked_by_name_and_content_and_show_the_lines_that_fit(
    sites: Sites, library: Library, trl: str
) -> None:
    found = github.find_examples(library, "trl", "GRPO reward_funcs").splitlines()
    assert found[0] == f"huggingface/trl at {trl[:12]}: 4 examples, 4 looked into"
    assert found[1].startswith("- examples/scripts/grpo_agent.py (")
    assert "  4: trainer = GRPOTrainer(reward_funcs=reward)" in found
    assert any("deepspeed.yaml" in line for line in found[2:])
    assert not any("tests/" in line or "sft.py" in line for line in found)


def test_what_lies_at_a_commit_is_fetched_once(sites: Sites, library: Library, trl: str) -> None:
    first = github.find_examples(library, "trl", "GRPO")
    asked = len(sites.asked)
    assert github.find_examples(library, "trl", "GRPO") == first
    github.read_file(library, "trl", "examples/scripts/grpo_agent.py")
    assert len(sites.asked) == asked


def test_a_file_is_read_by_line_at_its_commit(sites: Sites, library: Library, trl: str) -> None:
    text = github.read_file(library, "huggingface/trl", "examples/scripts/grpo_agent.py", 2, 4)
    assert text.splitlines() == [
        f"huggingface/trl at {trl[:12]}: examples/scripts/grpo_agent.py, lines 2–4 of 5", "",
        "    2  from trl import GRPOTrainer", "    3  ", "    4  trainer = GRPOTrainer(reward_funcs=reward)",
        "… 1 more lines: from line 5",
    ]  # fmt: skip
    sites.push("huggingface/trl", {"examples/scripts/grpo_agent.py": "all = 'new'"})
    again = github.read_file(library, "huggingface/trl", "examples/scripts/grpo_agent.py", ref=trl)
    assert "GRPOTrainer" in again
    sites.push("huggingface/trl", {"old.py": "x = 1"}, ref="v0.9/fix")
    assert "x = 1" in github.read_file(library, "huggingface/trl", "old.py", ref="v0.9/fix")


def test_a_notebook_is_read_as_prose_and_fenced_code_with_short_outputs(
    sites: Sites, library: Library, trl: str
) -> None:
    text = github.read_file(library, "trl", "examples/notebooks/lora.ipynb")
    plain = "\n".join(line[7:] for line in text.splitlines())
    assert "# Tune a model\nwith LoRA" in plain
    assert "In [2]:\n````python\nprint('```')\nplot()\n````" in plain
    assert "step 1\nloss 2.0" in plain
    assert "more characters" in plain
    assert "iVBOR" not in plain
    assert "ZeroDivisionError: division by zero" in plain


@pytest.mark.parametrize("text", ["{}", "[" * 100_000, '{"cells": [5]}', '{"cells": {"a": 1}}', "\x00"])
def test_a_notebook_that_is_none_is_refused_in_one_line(sites: Sites, library: Library, text: str) -> None:
    sites.push("lab/odd", {"a.ipynb": text})
    with pytest.raises(BadInput, match=r"no notebook of format 4|is no text"):
        github.read_file(library, "lab/odd", "a.ipynb")


def test_a_folder_is_listed(sites: Sites, library: Library, trl: str) -> None:
    assert github.list_files(library, "trl", "examples").splitlines() == [
        f"huggingface/trl at {trl[:12]}: examples/", "accelerate_configs/ (1 files)", "notebooks/ (1 files)",
        "scripts/ (2 files)",
    ]  # fmt: skip
    with pytest.raises(BadInput, match="has no folder `nowhere`"):
        github.list_files(library, "trl", "nowhere")


def test_what_is_not_there_says_what_is_near(sites: Sites, library: Library, trl: str) -> None:
    with pytest.raises(BadInput, match=r"has no file `scripts/sft.py`; nearest: examples/scripts/sft.py"):
        github.read_file(library, "trl", "scripts/sft.py")
    with pytest.raises(BadInput, match="no public repository some/thing"):
        github.find_examples(library, "some/thing", "x")
    with pytest.raises(BadInput, match="has 5 lines"):
        github.read_file(library, "trl", "examples/scripts/grpo_agent.py", 9)
    for wrong in ("../../x", "a/b/c", "https://github.com/a/b"):
        with pytest.raises(BadInput, match="no repository on GitHub"):
            github.find_examples(library, wrong, "x")


def test_a_token_opens_githubs_own_search_and_goes_to_github_only(
    sites: Sites, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"examples/scripts/a{number:02}.py": "pass" for number in range(20)}
    sites.push("huggingface/trl", many | {"examples/scripts/zz.py": "hidden = needle()"})
    assert "zz.py" not in github.find_examples(library, "trl", "needle")
    assert not [each for each in sites.asked if each.token]
    monkeypatch.setenv("GITHUB_TOKEN", "github_pat_0123456789")
    assert "- examples/scripts/zz.py" in github.find_examples(library, "trl", "needle").splitlines()[1]
    assert {each.token for each in sites.asked if each.path == "/search/code"} == {"github_pat_0123456789"}
    sites.add_page("/blog", "hello", "text/plain")
    web.read(library, f"{sites.url}/blog")
    assert not [each for each in sites.asked if each.token and each.site == "hub"]


def test_a_page_of_github_that_shows_a_file_is_read_as_that_file(sites: Sites, library: Library, trl: str) -> None:
    text = web.read(library, f"https://github.com/huggingface/trl/blob/{trl}/examples/scripts/sft.py#L1")
    assert "    1  SFTTrainer()" in text
