"""The free smoke run: the job's own script, two updates, eight of its rows, its architecture with two tiny layers.

On this machine's CPU, in the sandbox, without a network. It shows that the script runs from end to end and keeps the
contract of its last line, and it is where the checks of tokens and masks see what the trainer makes of the rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from agents import sandbox
from agents.jobs.base import last_words
from agents.jobs.hardware import local_hardware
from agents.trainer.preflight.case import Case
from agents.trainer.preflight.environment import keep
from agents.trainer.preflight.report import Check, fault, ok, skipped
from agents.trainer.preflight.shrink import shrunken
from shared_memory.errors import Unavailable
from shared_memory.record import Record, canonical_digest

PROBE = Path(__file__).parent / "scripts" / "probe.py"
UPDATES = 2
ROWS = 8
CANDIDATES = 64
"""Rows that the shortest ROWS are taken from: what is long is looked at by `answer_not_cut`, and takes time here."""
LONGEST = 512
"""Tokens of a row, at most: with a large vocabulary, logits of longer ones take gigabytes."""
LIMITS = sandbox.Limits(
    seconds=300, cpu_seconds=180, memory=6 * sandbox.GIB, processes=64, file_size=2 * sandbox.GIB, disk=4 * sandbox.GIB,
    output=4 * sandbox.MIB,
)  # fmt: skip
"""A run takes about 15 s and 1.5 GiB; Gemma's vocabulary, twice that."""
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.model",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
"""What is taken over from the base as it is."""
SIZES: dict[str, Any] = {
    "revision": None, "adapter": None, "resume_from": None, "epochs": 1, "batch": 4, "micro_batch": 2,
    "num_generations": 2, "save_steps": None, "max_steps": UPDATES, "push_to_hub": False, "hub_model_id": None,
    "report_to": [],
}  # fmt: skip
"""Keys of a config that are set so, where it has them."""
OF_NO_MATTER = ("learning_rate", "seed", "run_name", "project", "warmup_ratio", "temperature", "hub_private")
"""Keys of a config whose value changes numbers, and not which code runs: the result of a smoke run holds for all."""
NETWORK = re.compile(
    r"OfflineModeIsEnabled|LocalEntryNotFoundError|ConnectionError|Network is unreachable|name resolution|"
    r"couldn't connect to|Couldn't reach|offline mode|Cannot send a request|client has been closed|ConnectError",
    re.IGNORECASE,
)
"""What a script says that asks for the network, in words of huggingface_hub, datasets, requests and httpx."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled", "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONWARNINGS": "ignore",
}  # fmt: skip


class Smoke(Record):
    """How a smoke run went."""

    status: Literal["passed", "failed", "skipped"]
    words: str = ""
    """Why it failed, or was skipped; of one that passed, in which other environment."""
    seen: dict[str, Any] | None = None
    seconds: float = 0.0
    """0 where it was not run anew."""

    @property
    def told(self) -> str:
        """`passed in 21 s`, `skipped (reason)` or `failed: …`."""
        if self.status == "passed":
            when = f"in {self.seconds:.0f} s" if self.seconds else "before, with the same script and the like of rows"
            return f"passed {when}" + (f" ({self.words})" if self.words else "")
        return f"skipped ({self.words})" if self.status == "skipped" else f"failed: {self.words}"


def smoke_run(case: Case) -> Smoke:
    """Run it, or take over the result of an earlier run of the same script on the like of it."""
    if reason := _why_not(case):
        return Smoke(status="skipped", words=reason)
    try:
        files = dict(_job_files(case))
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        return Smoke(status="skipped", words=f"the model cannot be shrunk: {error}")
    mode: sandbox.Mode = "none" if case.spec.sandbox == "none" else "auto"
    try:
        sandbox.isolation(mode)
    except Unavailable as error:
        if case.spec.custom:
            return Smoke(status="skipped", words=f"the script cannot be kept apart: {error}")
        mode = "none"  # our own script would run here without one, too
    kept = _kept(case, files)
    if kept is not None and kept.is_file():
        return Smoke.model_validate_json(kept.read_text(encoding="utf-8"))
    smoke = _run(case, files, mode)
    if kept is not None and smoke.status != "skipped":
        keep(kept, smoke.model_copy(update={"seconds": 0.0}).model_dump_json())
    return smoke


def smoke_check(smoke: Smoke) -> Check:
    name = "smoke_run"
    if smoke.status == "passed":
        return ok(name, smoke.told)
    if smoke.status == "skipped":
        return skipped(name, smoke.words)
    return fault(name, f"the smoke run {smoke.told}", "mend script, config or rows; try it with postgrad preflight")


def not_exercised(case: Case) -> tuple[str, ...]:
    """Parts of the job that a smoke run leaves out."""
    # Ours does what its config says, and holds the code for all of it.
    config, text = case.config, "".join(script.text for script in case.scripts if case.spec.custom)
    lora = config.get("lora")
    parts = {
        "a 4-bit base (bitsandbytes on a GPU)": (isinstance(lora, dict) and lora.get("base") == "nf4")
        or "BitsAndBytesConfig" in text,
        "arithmetic in bfloat16 on a GPU": case.spec.flavor != "cpu",
        "flash attention": "flash_attention" in text,
        "vLLM": bool(config.get("use_vllm")) or any(c.value is True for c in case.script.constants("use_vllm")),
        f"{case.spec.devices * case.spec.nodes} processes": case.spec.devices * case.spec.nodes > 1,
        "DeepSpeed or FSDP": "deepspeed" in text or "fsdp" in text,
        "the adapter that it goes on from": bool(config.get("adapter")),
        "the checkpoint that it resumes from": bool(config.get("resume_from")),
        "the teacher's own weights": bool(config.get("teacher")),
        "the push to the Hub": bool(config.get("push_to_hub")),
        "the container image": bool(case.spec.image),
    }
    return tuple(part for part, applies in parts.items() if applies)


def _why_not(case: Case) -> str:
    """Why there is nothing to run; empty where there is."""
    if not case.trains:
        return "no training"
    if case.model_folder is None:
        return "the model's config and tokenizer are not on this machine"
    if case.data_file is None:
        return "the rows are not on this machine"
    needed = {"torch", "transformers"}
    if absent := sorted(needed - case.environment.packages.keys()):
        return f"{absent[0]} is not installed; pip install 'postgrad[train]'"
    return ""


def _job_files(case: Case) -> Iterator[tuple[str, bytes]]:
    """The job's folder: its files, eight rows, the small model's config and tokenizer, and the changed config."""
    for name, path in case.files.items():
        if name not in (case.data_name, "config.json") and path.is_file():
            yield f"job/{name}", path.read_bytes()
    rows = sorted(case.rows[:CANDIDATES], key=lambda row: len(json.dumps(row)))[:ROWS]
    chosen = [row for row in case.rows[:CANDIDATES] if any(row is short for short in rows)]
    if case.method == "kto":
        chosen = _both_labels(case.rows, chosen)
    yield f"job/{_data_name(case)}", "".join(json.dumps(row) + "\n" for row in chosen).encode()
    yield "job/config.json", json.dumps(smoke_config(case), sort_keys=True).encode()
    small = shrunken(case.of_model("config.json") or {})
    yield "model/config.json", json.dumps(small, sort_keys=True).encode()
    for name in TOKENIZER:
        if case.model_folder is not None and (case.model_folder / name).is_file():
            yield f"model/{name}", (case.model_folder / name).read_bytes()


def _both_labels(rows: list[dict[str, Any]], chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """KTO cannot train on rows of one label: one of the other takes the last place, where there is one."""
    labels = {bool(row.get("label")) for row in chosen}
    other = next((row for row in rows if bool(row.get("label")) not in labels), None)
    return chosen if other is None else [*chosen[:-1], other]


def _data_name(case: Case) -> str:
    return "data.jsonl" if Path(case.data_name).is_absolute() else case.data_name


def smoke_config(case: Case) -> dict[str, Any]:
    """The job's config with its sizes made small. A key that it does not have is not added: scripts may refuse it."""
    config = {key: SIZES.get(key, value) for key, value in case.config.items()}
    if "data" in config:
        config["data"] = _data_name(case)
    for key in ("model", "teacher"):
        if config.get(key):
            config[key] = key  # a folder beside the job's, put in place when it runs
    for key, most in (("max_length", LONGEST), ("max_completion_length", 16)):
        if isinstance(config.get(key), int):
            config[key] = min(config[key], most)
    if isinstance(config.get("save_steps"), int) or isinstance(case.config.get("save_steps"), int):
        config["save_steps"] = UPDATES
    if config.get("packing"):
        config |= {key: value for key, value in (("batch", 2), ("micro_batch", 1)) if key in config}
    if isinstance(config.get("lora"), dict):
        small = {"r": 4, "alpha": 8, "base": "16bit"}
        config["lora"] = {key: small.get(key, value) for key, value in config["lora"].items()}
    return config


def _kept(case: Case, files: dict[str, bytes]) -> Path | None:
    """Where the result is kept: named after all that decides how such a run goes."""
    if not case.facts.cache_folder:
        return None
    config = json.loads(files["job/config.json"])
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    digests["job/config.json"] = canonical_digest({k: v for k, v in config.items() if k not in OF_NO_MATTER})
    decided = [
        digests, case.environment.digest, PROBE.read_text(), case.facts.evaluator_template, case.facts.stop_tokens,
        case.spec.runner == "hf", case.spec.script, case.spec.sandbox,
    ]  # fmt: skip
    return Path(case.facts.cache_folder) / f"smoke-{canonical_digest(decided)[:32]}.json"


def _run(case: Case, files: dict[str, bytes], mode: sandbox.Mode) -> Smoke:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="postgrad-smoke-", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve() / "smoke"
        # Elsewhere, a job's folder is not the one it works in; here it is.
        work = folder / ("work" if case.spec.runner == "hf" else "job")
        config = json.loads(files["job/config.json"])
        for key in ("model", "teacher"):
            if config.get(key) == key:
                config[key] = str(folder / "model")
        order = _order(case, folder, work)
        placed = files | {"job/config.json": json.dumps(config).encode(), "order.json": json.dumps(order).encode()}
        work.mkdir(parents=True)
        result = sandbox.run(
            [case.environment.python, "probe.py", "order.json"],
            {**placed, "probe.py": PROBE.read_bytes()},
            LIMITS.model_copy(update={"memory": _memory()}),
            mode=mode,
            folder=folder,
            readable=[Path(path) for path in case.environment.readable],
        )
        seen = _seen(folder / "seen.json")
        seconds = time.monotonic() - began
        if result.limit is not None:
            return Smoke(status="skipped", words=f"it {result.error} here", seconds=seconds)
        if result.exit_code:
            words = _last_words(result, case)
            if NETWORK.search(result.stderr):
                return Smoke(status="skipped", words=f"it asks for the network: {words}", seconds=seconds, seen=seen)
            return Smoke(status="failed", words=words, seen=seen, seconds=seconds)
        broken = fault_of_result(result.stdout, work)
        if seen is not None and not broken:
            seen["generation_config_lost"] = _lost(result.stdout, work, folder / "model")
        notes = [case.environment.note, _trouble(folder / "seen.json")]
        return Smoke(
            status="failed" if broken else "passed",
            words=broken or "; ".join(filter(None, notes)),
            seen=seen,
            seconds=seconds,
        )


def _order(case: Case, folder: Path, work: Path) -> dict[str, Any]:
    """What the probe is told."""
    stops: list[int] = []
    for file in ("generation_config.json", "config.json"):
        value = (case.of_model(file) or {}).get("eos_token_id")
        stops += value if isinstance(value, list) else [value] if isinstance(value, int) else []
        if stops:
            break
    return {
        "script": str(folder / "job" / case.spec.script),
        "arguments": ["--config", str(folder / "job" / "config.json")],
        "model": str(folder / "model"),
        "work": str(work),
        "updates": UPDATES,
        "tell": str(folder / "seen.json"),
        "environment": ENVIRONMENT,
        "stop_ids": stops,
        "stop_tokens": list(case.facts.stop_tokens),
        "evaluator_template": case.facts.evaluator_template,
        "prompts": [row["prompt"] for row in case.rows[:2] if isinstance(row.get("prompt"), list)],
    }


def _memory() -> int:
    """Bytes: what the limits say, but no more than three quarters of the machine."""
    return min(LIMITS.memory, int(local_hardware().ram_gib * sandbox.GIB * 0.75))


def _trouble(file: Path) -> str:
    """Why the probe could not look at what the trainer does; empty where it could."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "nothing was seen of its trainer"
    if told.get("trouble"):
        return f"what its trainer does could not be looked at: {told['trouble']}"
    return "" if "replies_only" in told else "it uses no trainer of transformers or TRL, so its rows were not seen"


def _seen(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and "replies_only" in value else None


def _last_words(result: sandbox.Result, case: Case) -> str:
    words = last_words(result.stderr or result.stdout, result.exit_code)
    own = re.findall(rf'File "[^"]*/job/{re.escape(case.spec.script)}", line (\d+)', result.stderr)
    return f"{case.spec.script}, line {own[-1]}: {words}" if own else words


def fault_of_result(stdout: str, work: Path) -> str:
    """Why the last line, or what it names, is not what a training job owes; empty where it is."""
    last = stdout.rstrip().rpartition("\n")[2]
    try:
        result = json.loads(last)["result"]
    except (ValueError, KeyError, TypeError):
        return f'its last line is not {{"result": …}} but {last[:120]!r}'
    model = result.get("model") if isinstance(result, dict) else None
    if not isinstance(model, str):
        return "its result names no `model` folder"
    folder = (work / model).resolve()
    if not folder.is_relative_to((work / "out").resolve()) or not folder.is_dir():
        return f"its result names the model folder {model}, which is not there under out/"
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return f"{model} holds neither config.json nor adapter_config.json"
    return "" if any(folder.glob("*.safetensors")) else f"{model} holds no safetensors weights"


def _lost(stdout: str, work: Path, base: Path) -> bool:
    """Whether a model with all weights came out without the decoding policy that its base has."""
    folder = work / json.loads(stdout.rstrip().rpartition("\n")[2])["result"]["model"]
    whole = (folder / "config.json").is_file()
    return whole and (base / "generation_config.json").is_file() and not (folder / "generation_config.json").is_file()
