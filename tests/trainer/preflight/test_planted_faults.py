"""A fault in an otherwise sound job, one a check: it is named, with what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.preflight.a_job import PLAIN, ROWS, found, look, troubles

LETTERS = [
    {"prompt": f"Question {n}", "completion": f"So it is.\nANSWER: {'A' if n % 2 else 'ABCD'[n // 2 % 4]}"}
    for n in range(400)
]
HEADED = '# /// script\n# dependencies = ["torch>>2"]\n# ///\n' + PLAIN
HF: dict[str, Any] = {"runner": "hf", "secrets": ("HF_TOKEN",)}
PUSHED = {"push_to_hub": True, "hub_model_id": "anna/model"}
ADDS = "def main(tokenizer, LoraConfig):\n    tokenizer.add_special_tokens({})\n    LoraConfig(r=8)\n"
PACKS = "def main(config):\n    return dict(packing=True, packing_strategy='wrapped')\n"
FACTS: dict[str, Any] = {"max_tokens": 256}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a script that is no Python": ("script_parses", {"script": "def main(:\n    pass\n"}, "train.py, line 1"),
    "a literal secret in the script": (
        "no_literal_secret",
        {"script": PLAIN + "TOKEN = 'hf_AbCdEfGhIjKlMnOpQrStUv'\n"},
        "train.py, line 4 holds a secret",
    ),
    "a literal secret in the config": (
        "no_literal_secret",
        {"config": {"run_name": "hf_AbCdEfGhIjKlMnOpQrStUv"}},
        "config.json, line 1",
    ),
    "a header with a requirement that is none": (
        "requirements_valid",
        {"script": HEADED},
        "`torch>>2` is no requirement",
    ),
    "a requirement that a shell reads": (
        "requirements_quoted",
        {"script": "import os\nos.system('pip install torch<2.9')\n"},
        "line 2: a shell would read the `<`",
    ),
    "a requirement in the command line": (
        "requirements_quoted",
        {"facts": {"command": "uv run --with torch>=2.9 train.py"}},
        "`>` of the job's command line",
    ),
    "a local path in the config of a remote job": (
        "no_local_path",
        {**HF, "config": {"adapter": "/home/anna/adapter", **PUSHED}},
        "config `adapter` is a path",
    ),
    "a local path in a remote script": (
        "no_local_path",
        {**HF, "script": PLAIN + "open('/home/anna/rows.jsonl')\n", "config": PUSHED},
        "train.py, line 4",
    ),
    "output that stays on an ephemeral disk": ("output_kept", HF, "nothing is pushed from it"),
    "a push without the repository's name": (
        "output_kept",
        {**HF, "config": {"push_to_hub": True}},
        "without hub_model_id",
    ),
    "a push without a token": ("output_kept", {"runner": "hf", "config": PUSHED}, "gets no token"),
    "a time-out shorter than the run": (
        "time_enough",
        {"facts": {"predicted_seconds": 7200}},
        "120 minutes, and is ended after 60",
    ),
    "a base in four bits on a processor": (
        "four_bits_on_a_gpu",
        {"config": {"lora": {"r": 8, "alpha": 16, "base": "nf4"}}},
        "lora.base nf4 (QLoRA) needs a GPU, and the job runs on cpu",
    ),
    "rows that the method cannot use": (
        "columns_fit",
        {"config": {"method": "dpo"}, "custom": False},
        "needs prompt, chosen, rejected",
    ),
    "a column that a reward reads is missing": (
        "columns_fit",
        {"config": {"method": "grpo", "rewards": ["exact_match"]}, "custom": False},
        "grpo needs prompt, answer",
    ),
    "a row of other columns further down": (
        "columns_fit",
        {"rows": [*ROWS, {"question": "?"}], "custom": False},
        "question in row 13",
    ),
    "a data file that is no JSON": ("columns_fit", {"rows": [], "custom": False}, "has no rows"),
    "answers that are cut off": ("answer_not_cut", {"config": {"max_length": 24}}, "cut off in 100 % of the rows"),
    "letters out of balance": ("letters_balanced", {"rows": LETTERS}, "`A` is the answer of 62 % of 400 rows"),
    "an evaluator that scores the first items": (
        "limit_is_a_sample",
        {"facts": {"limit": 50, "limit_sampled": False}},
        "scores the first 50 items",
    ),
    "answers longer than the context": ("context_window", {"facts": {"max_tokens": 16000}}, "take 16000 tokens"),
    "wrapped packing": ("packing_keeps_rows_apart", {"script": PACKS}, "`wrapped` cuts rows in two"),
    "new tokens that no adapter trains": ("new_tokens_trained", {"script": ADDS}, "line 2 adds tokens"),
    "new tokens by the caller's word": (
        "new_tokens_trained",
        {"facts": {"new_tokens": ("<think>",)}},
        "<think> is new, and the adapter",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_planted_fault_is_found(case: str, tiny_model: Path, tmp_path: Path) -> None:
    name, planted, words = CASES[case]
    facts = {**FACTS, "model_folder": str(tiny_model), **planted.get("facts", {})}
    preflight = look(tmp_path, **{**planted, "facts": facts})
    check = found(preflight, name)
    assert check.status == "fault", check
    assert words in check.message
    assert check.fix
    assert [check.name for check in preflight.checks if check.status == "fault"] == [name], "and nothing else is"
    assert preflight.fault == f"{check.message}; {check.fix}"
    assert "\n" not in preflight.fault


def test_a_sound_job_has_no_fault_and_what_is_not_known_is_skipped_with_a_reason(tmp_path: Path) -> None:
    preflight = look(tmp_path, facts={})
    assert troubles(preflight) == {}
    reasons = {check.name: check.message for check in preflight.checks if check.status == "skipped"}
    assert reasons["context_window"] == "the model's config.json is not at hand, or names no context"
    assert reasons["stop_token_learned"] == "no smoke run looked at the rows that the trainer makes"
    assert all(reasons.values())
    assert preflight.smoke == "skipped (not asked for)"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"do_sample": True, "top_k": -1}, "top_k = -1"),
        ({"do_sample": True, "temperature": 0}, "do_sample with temperature = 0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p = 1.5"),
    ],
)
def test_an_invalid_decoding_policy_is_found(policy: dict[str, Any], words: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "generation_config.json").write_text(json.dumps(policy))
    check = found(look(tmp_path, facts={"model_folder": str(base)}), "generation_config")
    assert check.status == "fault"
    assert words in check.message


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        (
            "def f(load):\n    return load('a/b', split='train[:100]')\n",
            "limit_is_a_sample",
            "train[:100]",
        ),
        ("def f(rows):\n    return rows.select(range(50))\n", "limit_is_a_sample", "`.select(…)` takes the first"),
        ("import os\nkey = os.environ['WANDB_API_KEY']\n", "secrets_named", "does not get WANDB_API_KEY"),
    ],
)
def test_what_may_go_wrong_is_a_warning(script: str, name: str, words: str, tmp_path: Path) -> None:
    preflight = look(tmp_path, script=script)
    check = found(preflight, name)
    assert check.status == "warning"
    assert words in check.message
    assert f"{check.message}; {check.fix}" in preflight.warnings


def test_a_shuffled_sample_and_a_quoted_requirement_raise_no_alarm(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "def f(rows):\n    return rows.shuffle(seed=0).select(range(50))\n"
        "os.system(\"pip install 'torch<2.9'\")\n"
        "os.system('pip install torch && echo done > /dev/null')\n"
        "subprocess.run([sys.executable, '-m', 'pip', 'install', 'torch<2.9'])\n"
    )
    assert troubles(look(tmp_path, script=script)) == {}


def test_rows_are_read_at_many_places_of_a_large_file_in_no_time(tmp_path: Path) -> None:
    long = [{**row, "note": "x" * 4000} for row in ROWS] * 250
    long[-400:] = [{"question": "?" * 4000} for _ in range(400)]
    preflight = look(tmp_path, rows=[*long, *long[:2000]], custom=False)
    assert "question" in found(preflight, "columns_fit").message
