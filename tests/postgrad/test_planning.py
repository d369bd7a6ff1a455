"""What training a model would take, from Python and from the command line."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import postgrad
from agents.jobs import hardware
from benchmarks.data.shapes import SHAPES
from shared_memory.errors import BadInput
from tests.postgrad.test_cli import COMMAND
from tests.servers.hub import HubServer, hub, point_client_at
from tests.servers.hub_routes import Answer
from tests.servers.jobs import HARDWARE

LLAMA_8B = SHAPES["Llama-3.1-8B"]


@pytest.fixture
def config_only(tmp_path: Path) -> Path:
    """A model folder with nothing but the config.json of an 8B Llama."""
    return folder_of(tmp_path / "llama-8b", LLAMA_8B)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A CSV of 40 questions with their answers."""
    path = tmp_path / "sums.csv"
    path.write_text("question,answer\n" + "".join(f"What is {n} + {n}?,{2 * n}\n" for n in range(40)))
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that offers hardware."""
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        served.services.append(lambda asked: Answer(HARDWARE) if asked.path == "/api/jobs/hardware" else None)
        yield served


def folder_of(folder: Path, config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def on_a_machine(monkeypatch: pytest.MonkeyPatch, **machine: Any) -> None:
    found = hardware.LocalHardware(**{"cpu_cores": 8, "ram_gib": 64, **machine})
    monkeypatch.setattr("agents.jobs.flavors.local_hardware", lambda: found)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command with nothing replaced."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


def test_an_8b_model_is_counted_and_its_batch_split_until_it_fits(
    config_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu = hardware.Gpu(index=0, uuid="GPU-0", name="NVIDIA H100", memory_gib=60.0)
    on_a_machine(monkeypatch, gpus=(a_gpu,))

    planned = postgrad.plan(config_only, "sft")

    memory = planned["memory"]
    assert planned["parameters"] == 8_030_261_248
    assert list(memory) == [
        "weights", "master", "gradients", "optimizer", "activations", "logits", "overhead", "peak",
    ]  # fmt: skip
    assert memory["peak"] == pytest.approx(sum(gib for part, gib in memory.items() if part != "peak"), abs=0.01)
    assert memory["weights"] == pytest.approx(2 * 8.03e9 / 2**30, rel=0.02)
    assert planned["hardware"] == {"name": "NVIDIA H100", "count": 1, "vram_gib": 60.0, "usd_per_hour": 0.0}
    assert planned["batch"] == {"per_device": 2, "accumulation": 8, "effective": 16}
    assert (planned["hours"], planned["usd"], planned["activation_checkpointing"]) == (None, None, False)
    assert planned["recipe"]["micro_batch"] == 2


def test_what_does_not_fit_here_is_told_with_hardware_that_it_fits_on(
    config_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, cpu_cores=2, ram_gib=4)

    planned = postgrad.plan(config_only)

    assert planned["batch"]["per_device"] == 1
    assert any("does not fit" in warning and "4.0 GiB" in warning for warning in planned["warnings"])
    first = planned["alternatives"][0]
    assert (first["name"], first["why_not"]) == ("l4x1", "")


def test_time_and_price_are_told_of_given_data(config_only: Path, questions: Path, server: HubServer) -> None:
    planned = postgrad.plan(config_only, data=questions, on="hf")

    assert planned["hardware"] == {"name": "a10g-large", "count": 1, "vram_gib": 22.5, "usd_per_hour": 1.5}
    assert planned["hours"] > 0
    assert planned["usd"] == pytest.approx(planned["hours"] * 1.5, abs=0.03)
    assert planned["timeout_hours"] == 2.0
    assert planned["prices"] == "prices of HF Jobs as of now"
    (cpu,) = planned["alternatives"]
    assert (cpu["name"], cpu["count"]) == ("cpu-basic", 2)
    assert "does not fit" in cpu["why_not"]
    assert postgrad.plan(config_only, data=questions)["usd"] == 0


def test_weights_that_are_there_are_counted(config_only: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000, 7_000_000], "data_offsets": [0, 0]}}).encode()
    (config_only / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    planned = postgrad.plan(config_only)

    assert planned["parameters"] == 7_000_000_000
    assert not any("counted from config.json" in warning for warning in planned["warnings"])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**LLAMA_8B, "num_experts": 8}, "mixture of experts"),
        ({"n_embd": 768, "n_layer": 12}, "no number `hidden_size`"),
        ([], "JSON object"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused(config_only: Path, config: object, said: str) -> None:
    folder_of(config_only, config)

    with pytest.raises(BadInput, match=said):
        postgrad.plan(config_only)


def test_the_data_choose_the_method_unless_it_is_given(config_only: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f'{{"prompt": "{n}?", "chosen": "yes", "rejected": "no"}}\n' for n in range(4)))

    assert postgrad.plan(config_only)["recipe"]["method"] == "sft"
    assert postgrad.plan(config_only, data=pairs)["recipe"]["method"] == "dpo"
    assert postgrad.plan(config_only, "sft", data=pairs)["recipe"]["method"] == "sft"
    with pytest.raises(BadInput, match=r"`prayer`; give auto, sft, dpo, kto"):
        postgrad.plan(config_only, "prayer")
    with pytest.raises(BadInput, match="no runner `moon`; give local, hf or slurm"):
        postgrad.plan(config_only, on="moon")  # type: ignore[arg-type]


def test_a_plan_needs_no_heavy_library(config_only: Path) -> None:
    code = f"""
import sys, postgrad
postgrad.plan({str(config_only)!r})
print([name for name in ("torch", "transformers", "langgraph", "huggingface_hub", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plan_is_a_table_or_one_json_document(config_only: Path) -> None:
    table = command("plan", config_only, "--method", "dpo")
    assert table.returncode == 0, table.stderr
    for words in ("8,030 M parameters", "optimizer", "at the peak", "or on", "l4x1"):
        assert words in table.stdout

    assert json.loads(command("plan", config_only, "--json").stdout)["recipe"]["method"] == "sft"
    assert command("plan", config_only.with_name("absent"), "--json").returncode == 2


@pytest.mark.slow
def test_an_exact_plan_takes_a_real_step_and_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu = hardware.Gpu(index=0, uuid="GPU-0", name="NVIDIA H100", memory_gib=80.0)
    on_a_machine(monkeypatch, gpus=(a_gpu,))
    folder = folder_of(tmp_path / "small", {**SHAPES["SmolLM2-135M"], "num_hidden_layers": 4})

    planned = postgrad.plan(folder, exact=True)

    predicted = planned["memory"]["peak"] - planned["memory"]["overhead"]
    assert planned["exact"]["peak"] == pytest.approx(sum(planned["exact"]["parts"].values()), abs=0.001)
    assert predicted == pytest.approx(planned["exact"]["peak"], rel=0.05)
