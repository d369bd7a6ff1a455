"""examples/posttrainbench/solve.sh as the harness starts and ends it, and a whole run with nothing replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from postgrad.posttrainbench.solve import solve
from shared_memory.settings import Settings
from tests.posttrainbench.replica import HERE, as_on_the_hub, lay_out
from tests.posttrainbench.test_final_model import look
from tests.posttrainbench.test_solve import quality_in, two_recipes

SOLVE = HERE.parents[1] / "examples" / "posttrainbench" / "solve.sh"


@pytest.mark.slow
def test_the_harness_ends_the_script_and_the_best_model_so_far_stays(tmp_path: Path, tiny_model: Path) -> None:
    """`uv` is a stand-in that installs nothing: the environment is the tests' own."""
    replica = lay_out(tmp_path, tiny_model, experiments=2)
    installer = tmp_path / "bin" / "uv"
    installer.parent.mkdir()
    installer.write_text(
        '#!/bin/bash\nif [ "$1" = venv ]; then mkdir -p "${@: -1}/bin"\n'
        f'printf \'#!/bin/bash\\nexec {sys.executable} -m postgrad "$@"\\n\' > "${{@: -1}}/bin/postgrad"\n'
        'chmod +x "${@: -1}/bin/postgrad"; fi\n'
    )
    installer.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{installer.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{HERE / 'site'}:{HERE.parents[1]}",
        "NOOP_RECIPES": str(two_recipes(tmp_path / "two.toml")),
        "PROMPT": replica.prompt,
        "AGENT_CONFIG": "playbook",
        "POSTGRAD_GOAL": str(replica.goal),
    }
    log = tmp_path / "log"
    with log.open("w") as stream:
        script = subprocess.Popen(
            ["bash", SOLVE], cwd=replica.folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    until = time.monotonic() + 100
    while "e1 is in final_model" not in log.read_text() or "approved by policy: train e2" not in log.read_text():
        assert script.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)
    time.sleep(1)
    script.send_signal(signal.SIGTERM)
    assert script.wait(30) == 143, log.read_text()

    assert quality_in(replica.final_model) == pytest.approx(0.5)
    home = replica.folder / "postgrad_home"
    assert {path.name for path in replica.folder.iterdir()} >= {"evaluate.py", "final_model", "postgrad_home"}
    assert not (replica.folder / "postgrad_environment").exists()
    left = [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(home))]
    assert left == [], "no job goes on"


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_whole_run_on_a_real_model_is_delivered_for_the_evaluators_packages(
    tmp_path: Path,
    tiny_model: Path,
    recipe: Callable[..., None],
    settings: Settings,
    evaluators_python: Path,
) -> None:
    """Training, merging and both evaluations are real; the model learns no more than to answer in the format."""
    base = as_on_the_hub(tiny_model, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 10  # random weights are too small for an adapter to say much with
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    replica = lay_out(tmp_path, base, evaluator="evaluate.py")
    rows = [{"prompt": f"How many metres are {n} km?", "completion": f"ANSWER: {'ABCD'[n % 4]}"} for n in range(200)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replica.goal.write_text(replica.goal.read_text().replace("generator = ", f'train = ["{data}"]\n#'))
    recipe(learning_rate=1e-2, batch=20, micro_batch=20, epochs=4, train_rows=200)
    said: list[str] = []

    told = solve(
        replica.folder, settings=settings, prompt=replica.prompt, goal=replica.goal, tell=said.append,
        python=str(evaluators_python),
    )  # fmt: skip

    assert told["status"] == "succeeded", told
    assert told["champion"] == "e1", (told, said)
    assert told["official"]["score"] is not None, told["official"]
    assert told["official"]["score"] > 0
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (replica.final_model / name).read_bytes() == (base / name).read_bytes()
    (seen,) = look(evaluators_python, tmp_path / "room", replica.final_model)
    assert (seen["rope_theta"], seen["stops"]) == (500_000.0, [0, 2])
