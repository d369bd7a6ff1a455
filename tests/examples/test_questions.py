"""The quickstart's question generator, run as a person and as a job would run it."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart" / "questions.py"
PARTS = ("train", "selection", "report")
GPQA = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Record ID")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=cwd)


def printed(part: str, rows: int, seed: int) -> list[dict[str, str]]:
    done = run("--part", part, "--rows", str(rows), "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def questions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("questions", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["questions"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def everything(questions: ModuleType) -> dict[str, list[dict[str, str]]]:
    """All questions that there are, by part."""

    def whole(part: str) -> list[dict[str, str]]:
        with pytest.raises(ValueError, match="different questions") as refused:
            questions.rows_of(part, 100_000, 0)
        found = re.search(r"has (\d+)", str(refused.value))
        assert found
        return list(questions.rows_of(part, int(found[1]), 0))

    return {part: whole(part) for part in PARTS}


def test_the_same_part_rows_and_seed_print_the_same_bytes_and_another_seed_does_not() -> None:
    assert printed("train", 30, 1) == printed("train", 30, 1)
    assert printed("train", 30, 1) != printed("train", 30, 2)


def test_every_row_has_gpqas_columns_and_four_distinct_choices(everything: dict[str, list[dict[str, str]]]) -> None:
    for row in (row for rows in everything.values() for row in rows):
        assert set(GPQA) <= row.keys()
        assert len({row[column] for column in GPQA if "Answer" in column}) == 4, row


def test_every_working_ends_in_the_right_value_and_is_short(everything: dict[str, list[dict[str, str]]]) -> None:
    for row in (row for rows in everything.values() for row in rows):
        assert row["Explanation"].endswith(f"= {row['Correct Answer']}."), row
        assert len(row["Explanation"]) <= 80


def given(question: str, unit: str) -> float:
    """The number that stands before a unit in a question."""
    found = re.search(rf"(\d+) {unit}(?![\w/²³])", question)
    assert found, (question, unit)
    return float(found[1])


FORMULAS: dict[str, Callable[[str], float]] = {
    "force": lambda q: given(q, "kg") * given(q, "m/s²"),
    "distance": lambda q: given(q, "m/s") * given(q, "s"),
    "electric power": lambda q: given(q, "V") * given(q, "A"),
    "work": lambda q: given(q, "N") * given(q, "m"),
    "kinetic energy": lambda q: given(q, "kg") * given(q, "m/s") ** 2 / 2,
    "speed": lambda q: given(q, "m") / given(q, "s"),
    "current": lambda q: given(q, "V") / given(q, "ohm"),
    "density": lambda q: given(q, "kg") / given(q, "m³"),
    "weight": lambda q: given(q, "kg") * 10,
    "kilo to unit": lambda q: given(q, "km") * 1000,
    "centi to unit": lambda q: given(q, "cm") / 100,
    "hours to minutes": lambda q: given(q, "(?:h|hours)") * 60,
    "momentum": lambda q: given(q, "kg") * given(q, "m/s"),
    "pressure": lambda q: given(q, "N") / given(q, "m²"),
}


def test_the_right_answer_follows_from_the_question_and_no_wrong_one_does(
    everything: dict[str, list[dict[str, str]]],
) -> None:
    for row in (row for rows in everything.values() for row in rows):
        expected = FORMULAS[row["Subdomain"]](row["Question"])
        assert float(row["Correct Answer"].split()[0]) == pytest.approx(expected), row
        wrong = [float(row[column].split()[0]) for column in GPQA if column.startswith("Incorrect")]
        assert all(abs(value - expected) > 0.001 for value in wrong), row


def test_no_question_and_no_record_id_occurs_twice_within_or_across_parts(
    everything: dict[str, list[dict[str, str]]],
) -> None:
    rows = [row for part in PARTS for row in everything[part]]
    assert max(Counter(row["Question"] for row in rows).values()) == 1
    assert max(Counter(row["Record ID"] for row in rows).values()) == 1


def test_no_part_asks_a_family_about_the_numbers_of_another_in_other_words(
    everything: dict[str, list[dict[str, str]]],
) -> None:
    workings = {part: {(row["Subdomain"], row["Explanation"]) for row in everything[part]} for part in PARTS}
    assert not workings["train"] & workings["selection"]
    assert not workings["train"] & workings["report"]
    assert not workings["selection"] & workings["report"]


def test_twelve_families_are_shared_and_two_occur_only_in_the_report(
    everything: dict[str, list[dict[str, str]]],
) -> None:
    families = {part: {row["Subdomain"] for row in everything[part]} for part in PARTS}
    assert families["train"] == families["selection"]
    assert len(families["train"]) == 12
    assert families["report"] - families["train"] == {"momentum", "pressure"}


def test_the_committed_benchmark_is_what_the_generator_prints() -> None:
    text = (SCRIPT.parent / "physics.jsonl").read_text(encoding="utf-8")
    committed = [json.loads(line) for line in text.splitlines()]
    parts = Counter(row["Part"] for row in committed)
    assert committed == printed("selection", parts["selection"], 0) + printed("report", parts["report"], 0)
    assert parts["report"] >= 100
    assert sum(row["Subdomain"] in ("momentum", "pressure") for row in committed) >= 20


def test_as_a_job_it_writes_its_rows_to_out_and_ends_with_a_result(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"part": "train", "rows": 40, "seed": 3}))
    done = run("--config", "config.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"result": {"rows": 40}}
    written = (tmp_path / "out" / "data.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == printed("train", 40, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--part", "train", "--rows", "100000"], "different questions"),
        (["--part", "test", "--rows", "10"], "invalid choice"),
        (["--part", "train", "--rows", "0"], "at least 1"),
        (["--part", "train"], "--rows"),
        (["--config", "nowhere.json"], "cannot read"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_exit_2(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize("config", [{"part": "train", "rows": 5}, {"part": "x", "rows": 5, "seed": 0}, [], {"rowz": 1}])
def test_a_bad_job_config_is_one_line_and_exit_2(tmp_path: Path, config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run("--config", "config.json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: config.json")
    assert not (tmp_path / "out").exists()
