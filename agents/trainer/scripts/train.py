# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0",
#   "trackio==0.43.0",
# ]
# ///
"""Post-trains a causal language model: python train.py --config config.json, in a folder that holds the data.

`data.jsonl` has {"prompt": [messages], "completion": [messages]}; only the completion is in the loss, its end of turn
included. Writes out/adapter (LoRA) or out/model (full fine-tuning) and out/metrics.jsonl. Standard output carries one
JSON event a line and `{"result": ...}` as the last one; what the libraries say goes to standard error. Exit status 2 and
one line on standard error for a config or data file that cannot be used.
"""

import argparse
import difflib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

STARTED = time.monotonic()
OUT = Path("out")
TOKENIZER_FILES = ("*token*.json", "vocab.*", "merges.txt", "*.model", "chat_template*", "generation_config.json")


@dataclass(frozen=True)
class Lora:
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


@dataclass(frozen=True)
class Config:
    model: str
    """Folder or Hub id of the base."""
    batch: int
    """Rows a weight update sees: micro_batch x accumulation x processes, exactly."""
    micro_batch: int
    """Rows a process holds in memory at once."""
    method: str = "sft"
    revision: str | None = None
    adapter: str | None = None
    """Folder of a LoRA adapter of the same base to go on from, with a fresh optimizer."""
    data: str = "data.jsonl"
    lora: Lora | None = Lora()
    """None trains all weights."""
    learning_rate: float = 1e-3
    epochs: float = 1
    max_length: int = 1024
    """Tokens; the rest of a longer row is cut off."""
    warmup_ratio: float = 0.03
    lr_scheduler: str = "cosine"
    seed: int = 0
    packing: bool = False
    group_by_length: bool = True
    activation_checkpointing: bool = False
    report_to: list[str] | None = None
    project: str = "postgrad"
    run_name: str = "train"

    @property
    def accumulation(self) -> int:
        return self.batch // (self.micro_batch * processes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-trains a causal language model.")
    parser.add_argument("--config", type=Path, required=True)
    config = checked(read_config(parser.parse_args().config))
    rows = read_rows(Path(config.data))
    with redirect_stdout(sys.stderr):
        result = train(config, rows)
    emit({"result": result})


def train(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Trains and saves; returns the figures of the run. Times in seconds, memory in GiB."""
    quiet_environment()
    print(f"loading {config.model}", file=sys.stderr, flush=True)
    import datasets

    build_trainer = METHODS[config.method]
    trainer = build_trainer(config, load_model(config), load_tokenizer(config), datasets.Dataset.from_list(rows))
    if "trackio" in (config.report_to or []):
        trainer.add_callback(local_trackio())
    trainer.add_callback(progress_events())
    began = time.monotonic()
    train_loss = trainer.train().training_loss
    seconds = time.monotonic() - began
    tokens = int(trainer.state.log_history[-1].get("num_tokens", 0))
    return {
        "train_loss": train_loss,
        "steps": trainer.state.global_step,
        "rows": len(rows),
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "peak_memory_gib": peak_memory_gib(),
        "seconds": time.monotonic() - STARTED,
        "model": save(trainer, config),
    }
