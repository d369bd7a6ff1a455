"""PostTrainBench from the outside: which task a folder is, what its clock says, and what its evaluator answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.evaluator import posttrainbench as ptb
from shared_memory.errors import BadInput
from tests.posttrainbench.replica import Replica, lay_out


@pytest.fixture
def replica(tmp_path: Path, tiny_model: Path) -> Replica:
    return lay_out(tmp_path, tiny_model)


def task_of(replica: Replica, **named: str) -> ptb.Task:
    return ptb.read_task(replica.folder, replica.prompt, **named)


@pytest.mark.parametrize("name", ptb.known_tasks())
def test_the_prompt_says_which_task_it_is(name: str, replica: Replica) -> None:
    known = ptb.known_tasks()[name]
    prompt = f"We want to train the small LLM \\`Qwen/Qwen3-1.7B-Base\\` to excel at {known.title}.\nYour goal is to"
    task = ptb.read_task(replica.folder, prompt)
    assert (task.benchmark, task.model) == (name, "Qwen/Qwen3-1.7B-Base")


def test_what_the_prompt_does_not_say_is_asked_for(replica: Replica, tmp_path: Path) -> None:
    assert task_of(replica, benchmark="gsm8k", model="/base").model == "/base"
    with pytest.raises(BadInput, match=r"the prompt names none.*--benchmark: aime2025, .*humaneval"):
        ptb.read_task(replica.folder, "Do your best.")
    with pytest.raises(BadInput, match="--model"):
        ptb.read_task(replica.folder, benchmark="gsm8k")
    with pytest.raises(BadInput, match=r"no task folder of PostTrainBench: it has no evaluate\.py"):
        ptb.read_task(tmp_path / "elsewhere")


def test_the_clock_is_read_in_whole_minutes_and_says_when_it_has_run_out(replica: Replica) -> None:
    task = task_of(replica)
    replica.set_clock(605.5)
    assert ptb.seconds_left(task) == 605 * 60
    replica.set_clock(-1)
    assert ptb.seconds_left(task) == 0
    (replica.folder / "timer.sh").write_text("echo soon")
    with pytest.raises(BadInput, match=r"timer\.sh shows no hours:minutes"):
        ptb.seconds_left(task)


@pytest.mark.parametrize(
    ("architecture", "benchmark", "template"),
    [
        ("Qwen3ForCausalLM", "gpqamain", "qwen3"),
        ("Gemma3ForConditionalGeneration", "gpqamain", "gemma3"),
        ("Gemma3ForConditionalGeneration", "bfcl", "gemma3_tool_calling"),
        ("SmolLM3ForCausalLM", "bfcl", "smollm"),
    ],
)
def test_the_template_is_the_one_that_the_evaluator_renders_with(
    replica: Replica, architecture: str, benchmark: str, template: str
) -> None:
    (replica.folder / "templates" / "gemma3_tool_calling.jinja").write_text("")
    assert ptb.template_of(task_of(replica, benchmark=benchmark), architecture).stem == template
    with pytest.raises(BadInput, match="no template for MistralForCausalLM"):
        ptb.template_of(task_of(replica), "MistralForCausalLM")


def test_what_the_harness_laid_out_is_protected_and_what_comes_later_is_not(replica: Replica) -> None:
    task = task_of(replica)
    (replica.folder / "evaluation_code").mkdir()
    (replica.folder / "evaluation_code" / "grader.py").write_text("mark()")
    protected = ptb.protected_files(task)
    templates = [f"templates/{name}.jinja" for name in ("gemma3", "llama3", "qwen3", "smollm")]
    assert sorted(protected) == ["evaluate.py", "evaluation_code/grader.py", *templates, "timer.sh"]
    (replica.folder / "final_model").mkdir()
    (replica.folder / "notes.txt").write_text("later")
    assert ptb.tampered(task, protected) == []
    (replica.folder / "evaluation_code" / "grader.py").write_text("mark(True)")
    (replica.folder / "timer.sh").unlink()
    assert ptb.tampered(task, protected) == ["evaluation_code/grader.py", "timer.sh"]


def test_an_evaluation_that_outlasts_the_clock_is_ended_with_all_it_started(replica: Replica, tmp_path: Path) -> None:
    child = tmp_path / "child"
    (replica.folder / "evaluate.py").write_text(f"sleep 300 &\necho $! > {child}\nwait\n")
    task = task_of(replica)
    clock = iter((62.0, 0.0))
    said: list[str] = []
    official = ptb.official_evaluation(
        task, ptb.protected_files(task), python="bash", folder=tmp_path / "official", tell=said.append,
        left=lambda: next(clock),
    )  # fmt: skip
    assert official.score is None
    assert "the clock runs out" in official.error
    assert not _runs(int(child.read_text()))


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("content", ['{"accuracy": NaN}', '{"accuracy": 1.5}', '{"stderr": 0.1}', "[]", "no JSON"])
def test_a_score_that_is_none_is_not_taken_for_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(BadInput):
        ptb.read_metrics(tmp_path / "metrics.json")


def test_the_weights_give_the_published_averages_again() -> None:
    weights = ptb.weights("v1")
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(ptb.weights("v1.2").values()) == pytest.approx(1, abs=2e-4)
    rows = ptb.leaderboard("v1")
    assert len(rows) == 15
    for row in rows:
        recomputed = sum(weight * score for weight, score in zip(weights.values(), row.scores, strict=True))
        assert recomputed == pytest.approx(row.average, abs=0.001), row.name


def test_the_base_scores_of_the_four_models_have_the_published_mean() -> None:
    scores = [ptb.base_score("gpqamain", model) for model in ptb.MODELS]
    assert sum(scores) / 4 == pytest.approx(0.085, abs=0.0005)
    assert ptb.base_score("gsm8k", "Qwen3-4B-Base") == 0.204


def test_metrics_of_the_benchmark_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"accuracy": 0.36, "stderr": 0.0227, "by_theme": {}}))
    official = ptb.read_metrics(tmp_path / "metrics.json")
    assert (official.score, official.stderr, official.includes_selection_items) == (0.36, 0.0227, True)
