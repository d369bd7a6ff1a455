"""Keywords of training scripts against the libraries that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.trainer.preflight import Preflight
from tests.trainer.preflight.a_job import found, look

DIRECT = "from trl import SFTConfig\n\nSFTConfig(output_dir='out', max_seq_length=512)\n"
IN_DICTS = """
import trl
from trl.trainer.sft_config import SFTConfig as Arguments

def shared(config):
    return {"output_dir": "out", "bf16": True}

def build(config):
    arguments = shared(config) | {"max_length": 512}
    arguments["evaluation_strategy"] = "no"
    arguments.update(dict(packing=False))
    return Arguments(**arguments)
"""
SOUND = """
from peft import LoraConfig
from transformers import AutoTokenizer, TrainingArguments
from trl import SFTConfig, SFTTrainer

def shared(lora):
    more = {"not_one_of_theirs": 1}
    more.pop("not_one_of_theirs")
    return {"output_dir": "out", **more}

def build(config, model, rows):
    rest = {key: value for key, value in config.items()}
    tokenizer = AutoTokenizer.from_pretrained("model", anything=True)
    return SFTTrainer(
        model=model, args=SFTConfig(**shared(config), max_length=512, **rest), train_dataset=rows,
        processing_class=tokenizer, peft_config=LoraConfig(r=8, lora_alpha=16),
    )
"""
OTHERS = {
    "a trainer's keyword": (
        "from trl import SFTTrainer\nSFTTrainer(model=None, tokenizer=None)\n",
        "write `processing_class`",
    ),
    "a name that is gone": ("import trl\ntrl.NoSuchConfig(output_dir='out')\n", "has no `trl.NoSuchConfig`"),
    "peft": ("from peft import LoraConfig\nLoraConfig(r=8, alpha=16)\n", "LoraConfig of peft"),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shared, because importing TRL takes seconds."""
    return str(tmp_path_factory.mktemp("cache"))


def looked(script: str, folder: Path, cache: str) -> Preflight:
    return look(folder, script=script, facts={"cache_folder": cache})


@pytest.mark.slow
def test_keywords_are_checked_against_the_installed_libraries(cache: str, tmp_path: Path) -> None:
    """One script with all of them, so that TRL is imported once; then each alone, from what was learned."""
    every = "\n".join([DIRECT, IN_DICTS, SOUND, *(script for script, _ in OTHERS.values())])
    assert found(looked(every, tmp_path, cache), "known_keywords").status == "fault"
    assert len(list(Path(cache).glob("signatures-*.json"))) == 1

    renamed = found(looked(DIRECT, tmp_path, cache), "known_keywords")
    assert renamed.status == "fault"
    assert "train.py, line 3: SFTConfig of trl " in renamed.message
    assert renamed.message.endswith("takes no `max_seq_length`")
    assert renamed.fix == "write `max_length`"

    hidden = found(looked(IN_DICTS, tmp_path, cache), "known_keywords")
    assert hidden.status == "fault"
    assert "line 10: Arguments" in hidden.message.replace("SFTConfig", "Arguments")
    assert hidden.fix == "write `eval_strategy`"

    for script, words in OTHERS.values():
        check = found(looked(script, tmp_path, cache), "known_keywords")
        assert check.status == "fault"
        assert words in f"{check.message}; {check.fix}"

    sound = looked(SOUND, tmp_path, cache)
    assert found(sound, "known_keywords").status == "ok", found(sound, "known_keywords")
    assert not sound.fault


def test_a_module_that_is_not_installed_is_a_fault_unless_a_try_guards_it(tmp_path: Path) -> None:
    script = "try:\n    import nowhere_at_all\nexcept ImportError:\n    pass\n\nimport not_there_either\n"
    check = found(look(tmp_path, script=script), "imports_found")
    assert check.status == "fault"
    assert "line 6: `not_there_either` is not installed" in check.message


def test_requirements_of_another_release_are_told_and_make_unknown_keywords_a_warning(
    cache: str, tmp_path: Path
) -> None:
    header = '# /// script\n# dependencies = ["trl==0.12.0"]\n# ///\n'
    here = look(tmp_path, script=header + DIRECT, facts={"cache_folder": cache})
    assert found(here, "requirements_valid").status == "warning"
    assert "trl==0.12.0 (here: " in found(here, "requirements_valid").message
    there = look(tmp_path, script=header + DIRECT, facts={"cache_folder": cache, "disk": "kept"}, runner="hf")
    assert found(there, "requirements_valid").status == "skipped"
    check = found(there, "known_keywords")
    assert check.status == "warning"
    assert "where its header asks for trl==0.12.0" in check.message
