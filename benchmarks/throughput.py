"""Measures what a planned training job gains over TRL as it is: useful tokens a second, at the same loss.

    python benchmarks/throughput.py [--json] [--rounds 3] [--rows 64] [--quick]

Three ways to train the same small model on the same rows, all its weights, for one epoch, with as many rows behind a
weight update: `TRL` calls SFTTrainer with its defaults, `TRL, no checkpointing` keeps the activations, and `postgrad`
is train.py as our planner has it on this machine. They take turns within each round, in another order each time, and
each round shuffles the rows anew, so that its number serves as the seed. Rows are chats whose answers have log-normal
lengths, mean about 220 tokens, a few in a hundred cut at 1,024.

Useful tokens are those of the rows, without padding. They are counted from the begin of the training to its last
update, by the clock and by the processor, which other programs on the machine disturb less; a bar holds when both hold
it. The loss is that of the completions of held-out rows, one at a time, under the trained weights. Exits with 1 where
less is reached than in REACHED, or the loss differs by more than two standard errors. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from agents.base_model import BaseModel, parameters_of  # noqa: E402
from agents.jobs.flavors import local_flavors  # noqa: E402
from agents.trainer.planner import plan_training  # noqa: E402
from benchmarks.data.prose import Prose  # noqa: E402
from shared_memory.recipes import SftRecipe  # noqa: E402

TRAIN = ROOT / "agents" / "trainer" / "scripts" / "train.py"
ARMS = ("TRL", "TRL, no checkpointing", "postgrad")
REACHED = {"TRL": 2.0, "TRL, no checkpointing": 1.6}
"""How many times the useful tokens a second of each that postgrad reaches at least."""
BATCH = 8
"""Rows behind a weight update in every arm; TRL's own micro-batch."""
LENGTH = 1024
"""Tokens of a row at most; TRL's own default."""
SHARED = {"learning_rate": 3e-3, "lr_scheduler": "cosine", "warmup_ratio": 0.1, "max_length": LENGTH, "epochs": 1}
HELD_OUT = 64
WORDS = (100, 1.0, 4, 1000)
"""Of an answer: median, standard deviation of the logarithm, fewest, most."""
VOCABULARY, WIDTH, LAYERS = 8192, 256, 6
"""The head has about a third of the weights, as in models of half a billion."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Row = dict[str, list[dict[str, str]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="one round of 16 rows, to try it; judges speed alone")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        task, *rest = arguments.worker
        return train_as_trl_does(*rest) if task == "train" else evaluate(*rest)
    rounds, rows = (1, 2 * BATCH) if arguments.quick else (arguments.rounds, arguments.rows)
    with tempfile.TemporaryDirectory(prefix="postgrad-throughput-") as folder:
        runs = measure(Path(folder), rounds, rows)
    times, agrees = ratios(runs), agreement(runs)
    figures = {"arms": summary(runs), "ratios": times, "loss agrees": agrees, "runs": runs}
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        tell(figures)
    fast = all(times[arm][clock]["median"] >= least for arm, least in REACHED.items() for clock in CLOCKS)
    return 0 if fast and all(agrees.values()) else 1


CLOCKS = ("wall", "processor")


def measure(folder: Path, rounds: int, count: int) -> list[dict[str, Any]]:
    """One entry a run: arm, round, useful tokens, steps, seconds by both clocks, held-out loss."""
    prepare(folder, count)
    rows = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    runs = []
    for turn in range(rounds):
        shuffled = random.Random(turn).sample(rows, len(rows))
        for place in range(len(ARMS)):
            arm = ARMS[(turn + place) % len(ARMS)]
            job = folder / f"{ARMS.index(arm)}-{turn}"
            job.mkdir()
            (job / "data.jsonl").write_text("".join(shuffled))
            runs.append({"arm": arm, "round": turn, **run(job, arm, turn), "job": str(job)})
    jobs = [entry.pop("job") for entry in runs]
    command = [sys.executable, __file__, "--worker", "evaluate", str(folder), *jobs]
    losses = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment()).stdout)
    for entry, loss in zip(runs, losses, strict=True):
        entry["held-out loss"] = loss
    seen = {entry["tokens"] for entry in runs}
    if len(seen) != 1:
        raise SystemExit(f"error: the arms saw {sorted(seen)} useful tokens; nothing can be compared")
    return runs


def run(job: Path, arm: str, seed: int) -> dict[str, Any]:
    """Trains in a process of its own, and returns what it used from the begin of the training to its last update."""
    config = {"model": str(job.parent / "model"), "batch": BATCH, "micro_batch": BATCH, "seed": seed, **SHARED}
    if arm == "postgrad":
        config |= {"method": "sft", "lora": None, **planned(job.parent / "model")}
        command = [sys.executable, str(TRAIN), "--config", "config.json"]
    else:
        command = [sys.executable, __file__, "--worker", "train", "config.json", str(arm == "TRL")]
    (job / "config.json").write_text(json.dumps(config))
    marks: list[tuple[float, float, dict[str, Any]]] = []
    with (job / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=job, env=environment(), stdout=subprocess.PIPE, stderr=err, text=True)
        watched = psutil.Process(process.pid)
        for line in process.stdout or ():
            event = json.loads(line)
            if "loss" in event or (event.get("step") == 0 and not marks):
                used = watched.cpu_times()
                marks.append((time.perf_counter(), used.user + used.system, event))
    if process.wait():
        raise SystemExit(f"error: {arm} failed: {(job / 'err').read_text()[-2000:]}")
    (began, before, _), (ended, after, last) = marks[0], marks[-1]
    return {
        "tokens": int(last["num_tokens"]),
        "steps": last["step"],
        "wall": ended - began,
        "processor": after - before,
        "last training loss": last["loss"],
    }


def planned(model: Path) -> dict[str, Any]:
    """What the planner makes of a recipe that asks for TRL's own micro-batch."""
    given = json.loads((model / "config.json").read_text())
    base = BaseModel(name="m", folder=str(model), parameters=parameters_of(model), architecture="", config=given)
    recipe = SftRecipe(id="r", lora=None, batch=BATCH, micro_batch=BATCH, max_length=LENGTH)
    plan = plan_training(base, recipe, flavors=local_flavors().flavors)
    return {"packing": recipe.packing, "group_by_length": True, **plan.config}


def environment() -> dict[str, str]:
    """For every arm, so that none spins where another waits: train.py sets this for itself."""
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "OMP_WAIT_POLICY": "passive"}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians of speed, and the mean loss with its standard error over the rounds."""
    figures = {}
    for arm in ARMS:
        own = [entry for entry in runs if entry["arm"] == arm]
        loss, stderr = mean_and_stderr([entry["held-out loss"] for entry in own])
        speeds = {
            f"tokens a {clock} second": statistics.median(entry["tokens"] / entry[clock] for entry in own)
            for clock in CLOCKS
        }
        figures[arm] = {**speeds, "held-out loss": loss, "stderr": stderr}
    return figures


def ratios(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Times the useful tokens a second of each other arm, within a round: median, least, most."""
    spent = {(entry["arm"], entry["round"]): entry for entry in runs}
    rounds = sorted({entry["round"] for entry in runs})
    result: dict[str, dict[str, dict[str, float]]] = {}
    for arm in REACHED:
        for clock in CLOCKS:
            times = [spent[arm, turn][clock] / spent["postgrad", turn][clock] for turn in rounds]
            spread = {"median": statistics.median(times), "least": min(times), "most": max(times)}
            result.setdefault(arm, {})[clock] = spread
    return result


def agreement(runs: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether the mean loss differs from the arm's by two standard errors of the difference at most."""
    rounds = {entry["round"] for entry in runs}
    if len(rounds) < 2:
        return {}
    figures = summary(runs)
    ours = figures["postgrad"]
    return {
        arm: abs(ours["held-out loss"] - other["held-out loss"]) <= 2 * math.hypot(ours["stderr"], other["stderr"])
        for arm, other in figures.items()
        if arm != "postgrad"
    }


def mean_and_stderr(values: list[float]) -> tuple[float, float]:
    stderr = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), stderr


def tell(figures: dict[str, Any]) -> None:
    first = figures["runs"][0]
    print(f"{first['tokens']} useful tokens in {first['steps']} updates, each run\n")
    print(f"{'':24}{'tokens/s':>10}{'tokens/processor s':>20}{'held-out loss':>24}")
    for arm, own in figures["arms"].items():
        speeds = f"{own['tokens a wall second']:10.0f}{own['tokens a processor second']:20.0f}"
        print(f"{arm:24}{speeds}{own['held-out loss']:15.4f} ± {own['stderr']:.4f}")
    print()
    for arm, clocks in figures["ratios"].items():
        for clock, times in clocks.items():
            spread = f"{times['median']:.2f} ({times['least']:.2f} to {times['most']:.2f})"
            print(f"postgrad / {arm:24}{clock:10} {spread}, asked for: {REACHED[arm]}")
    for arm, agrees in figures["loss agrees"].items():
        print(f"loss against {arm}: {'within' if agrees else 'NOT within'} 2 standard errors")


def prepare(folder: Path, count: int) -> None:
    """Writes model/ with random weights and a tokenizer for the rows, rows.jsonl and held-out.jsonl."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    rng, prose = np.random.default_rng(0), Prose()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(prose.texts(rng, 500, 300, 300), trainer)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend, **special)  # type: ignore[no-untyped-call]
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=640,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2 * LENGTH,
            bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for name, size in (("rows", count), ("held-out", HELD_OUT)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats(prose, rng, size)))


def chats(prose: Prose, rng: np.random.Generator, count: int) -> list[Row]:
    """Questions of 10 to 60 words, and answers whose lengths are skewed."""
    median, spread, fewest, most = WORDS
    lengths = np.clip(rng.lognormal(math.log(median), spread, count), fewest, most).astype(int)
    questions, answers = prose.texts(rng, count, 10, 60), prose.texts(rng, count, most, most)
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": " ".join(answer.split()[:length])}],
        }
        for question, answer, length in zip(questions, answers, lengths, strict=True)
    ]


def train_as_trl_does(path: str, checkpointing: str) -> int:
    """SFTTrainer with what it does unasked; only what has to be alike in all arms is given."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class Told(TrainerCallback):
        def on_train_begin(self, *event: Any, **_: Any) -> None:
            print(json.dumps({"step": 0}), file=sys.__stdout__, flush=True)

        def on_log(self, *event: Any, **details: Any) -> None:
            if "loss" in details["logs"]:
                line = json.dumps({"step": event[1].global_step, **details["logs"]})
                print(line, file=sys.__stdout__, flush=True)

    config = json.loads(Path(path).read_text())
    asked: dict[str, Any] = {} if checkpointing == "True" else {"activation_checkpointing": False}
    sys.stdout = sys.stderr
    arguments = SFTConfig(
        output_dir="trl",
        per_device_train_batch_size=config["micro_batch"],
        num_train_epochs=config["epochs"],
        learning_rate=config["learning_rate"],
        lr_scheduler_type=config["lr_scheduler"],
        warmup_steps=config["warmup_ratio"],
        seed=config["seed"],
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **asked,
    )
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    trainer = SFTTrainer(
        model=config["model"], args=arguments, train_dataset=Dataset.from_list(rows), callbacks=[Told()]
    )
    trainer.train()
    trainer.save_model("out/model")
    return 0


def evaluate(folder: str, *jobs: str) -> int:
    """Prints the mean loss of a held-out completion token after each job, rows one at a time, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(Path(folder) / "model")
    rows = []
    for line in (Path(folder) / "held-out.jsonl").read_text().splitlines():
        row: Row = json.loads(line)
        asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"][:LENGTH]
        rows.append((len(asked), torch.tensor([whole])))
    losses = []
    for job in jobs:
        model: Any = AutoModelForCausalLM.from_pretrained(Path(job) / "out" / "model", dtype=torch.float32)
        total, count = 0.0, 0
        for start, ids in rows:
            with torch.inference_mode():
                scores = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1].log_softmax(-1)
            total -= float(scores.gather(-1, ids[0, start:, None]).sum())
            count += ids.shape[1] - start
        losses.append(total / count)
    print(json.dumps(losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
