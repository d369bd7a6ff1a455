"""The weighted averages of PostTrainBench from results as its harness and `solve` leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agents.evaluator import posttrainbench as ptb
from postgrad.cli import app
from postgrad.posttrainbench.results import results
from shared_memory.errors import BadInput

ORGANISATIONS = {"Qwen3": "Qwen", "SmolLM3": "HuggingFaceTB", "gemma": "google"}


def a_run(
    folder: Path, benchmark: str, model: str, score: float | None, number: int = 1, *, flagged: bool = False,
    stderr: float = 0.02,
) -> None:  # fmt: skip
    organisation = ORGANISATIONS[model.split("-")[0]]
    run = folder / f"{benchmark}_{organisation}_{model}_{number}"
    run.mkdir(parents=True)
    (run / "time_taken.txt").write_text("09:59:59\n")
    verdict = "contamination detected" if flagged else "no contamination detected"
    (run / "contamination_judgement.txt").write_text(f"{verdict}\n")
    (run / "disallowed_model_judgement.txt").write_text("only allowed use detected\n")
    if score is not None:
        (run / "metrics.json").write_text(json.dumps({"accuracy": score, "stderr": stderr}))


def cell(found: dict[str, Any], benchmark: str, model: str) -> dict[str, Any]:
    return next(c for c in found["cells"] if (c["benchmark"], c["model"]) == (benchmark, model))


def test_a_complete_table_gives_the_mean_over_models_times_the_weights(tmp_path: Path) -> None:
    for n, benchmark in enumerate(ptb.known_tasks()):
        for m, model in enumerate(ptb.MODELS):
            a_run(tmp_path, benchmark, model, 0.1 * n + 0.01 * m)
    found = results([tmp_path])
    assert (found["measured"], found["of"]) == (28, 28)
    for version in ("v1", "v1.2"):
        weights = ptb.weights(version)
        expected = sum(weights[name] * (0.1 * n + 0.015) for n, name in enumerate(ptb.known_tasks()) if name in weights)
        assert found["averages"][version]["average"] == pytest.approx(expected)
        stderr = sum((weight * 0.02) ** 2 / 4 for weight in weights.values()) ** 0.5
        assert found["averages"][version]["stderr"] == pytest.approx(stderr)


def test_missing_and_flagged_cells_have_the_score_of_the_base_model(tmp_path: Path) -> None:
    a_run(tmp_path, "gpqamain", "Qwen3-4B-Base", 0.397)
    a_run(tmp_path, "gpqamain", "Qwen3-1.7B-Base", 0.99, flagged=True)
    a_run(tmp_path, "gsm8k", "gemma-3-4b-pt", None)
    found = results([tmp_path])
    assert found["measured"] == 1
    assert cell(found, "gpqamain", "Qwen3-4B-Base")["score"] == 0.397
    flagged = cell(found, "gpqamain", "Qwen3-1.7B-Base")
    assert (flagged["score"], flagged["counted"], flagged["why"]) == (0.141, "flagged", "contamination detected")
    assert cell(found, "gsm8k", "gemma-3-4b-pt")["why"] == "no score"
    assert cell(found, "aime2025", "gemma-3-4b-pt")["why"] == "no run"
    nothing = sum(weight * ptb.facts()["base"]["mean"][name] for name, weight in ptb.weights("v1").items())
    gain = ptb.weights("v1")["gpqamain"] * (0.397 - 0.134) / 4
    assert found["averages"]["v1"]["average"] == pytest.approx(nothing + gain, abs=1e-4)


def test_a_measured_baseline_goes_before_the_published_one(tmp_path: Path) -> None:
    a_run(tmp_path / "ours", "gpqamain", "Qwen3-4B-Base", 0.4)
    a_run(tmp_path / "baseline", "gsm8k", "Qwen3-4B-Base", 0.5)
    found = results([tmp_path / "ours"], baseline=tmp_path / "baseline")
    assert cell(found, "gsm8k", "Qwen3-4B-Base")["score"] == 0.5
    assert cell(found, "gsm8k", "Qwen3-1.7B-Base")["score"] == 0.204


def test_of_one_folder_the_newest_run_counts_and_of_several_their_mean(tmp_path: Path) -> None:
    a_run(tmp_path / "first", "gpqamain", "Qwen3-4B-Base", 0.1, 9)
    a_run(tmp_path / "first", "gpqamain", "Qwen3-4B-Base", 0.3, 10)
    a_run(tmp_path / "second", "gpqamain", "Qwen3-4B-Base", 0.4, 1)
    found = cell(results([tmp_path / "first", tmp_path / "second"]), "gpqamain", "Qwen3-4B-Base")
    assert found["score"] == pytest.approx(0.35)
    assert found["stderr"] == pytest.approx(0.02 / 2**0.5)


def told_by_solve(folder: Path, tampered: tuple[str, ...] = ()) -> Path:
    ours = folder / "postgrad_home" / "posttrainbench"
    ours.mkdir(parents=True)
    official = {"score": 0.36, "stderr": 0.02, "attempts": 1, "error": "", "includes_selection_items": True}
    told = {"benchmark": "gpqamain", "model": "Qwen/Qwen3-1.7B-Base", "official": official, "tampered": [*tampered]}
    (ours / "posttrainbench.json").write_text(json.dumps(told))
    return folder


def test_what_solve_has_told_is_read_beside_it(tmp_path: Path) -> None:
    good = cell(results([told_by_solve(tmp_path / "a")]), "gpqamain", "Qwen3-1.7B-Base")
    assert (good["score"], good["why"]) == (0.36, "not looked at by the harness's judge")
    bad = cell(results([told_by_solve(tmp_path / "b", ("evaluate.py",))]), "gpqamain", "Qwen3-1.7B-Base")
    assert (bad["score"], bad["why"]) == (0.141, "evaluate.py was changed")


def test_the_leaderboard_has_ours_in_place(tmp_path: Path) -> None:
    for benchmark in ptb.known_tasks():
        for model in ptb.MODELS:
            a_run(tmp_path, benchmark, model, 0.22)
    told = CliRunner().invoke(app, ["posttrainbench", "results", str(tmp_path), "--name", "postgrad 1", "--json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["averages"]["v1"]["leaderboard"]
    assert [(row["rank"], row["name"]) for row in rows[:4]] == [
        (None, "Official instruct models"), (1, "Opus 4.6 (Claude Code)"), (2, "postgrad 1"),
        (3, "Gemini 3.1 Pro (OpenCode)"),
    ]  # fmt: skip
    assert all(row["source"] for row in rows)
    shown = CliRunner().invoke(app, ["posttrainbench", "results", str(tmp_path)])
    assert "28 of 28 cells are measured" in shown.stdout
    assert "→ postgrad" in shown.stdout
    assert "README, 2026-04-07" in shown.stdout


def test_a_folder_without_results_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no results in it"):
        results([tmp_path])
    with pytest.raises(BadInput, match="is no folder"):
        results([tmp_path / "missing"])
