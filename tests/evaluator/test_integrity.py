"""What a certificate is made of, piece by piece; whole runs are certified in tests/graph/test_certificate.py."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest

from agents.evaluator.benchmarks.benchmark import Benchmark, load_benchmark
from agents.evaluator.integrity import answer_tables, measurement
from agents.evaluator.integrity.certify import Certificate, Check, certify
from agents.evaluator.integrity.facts import Facts, Kept
from agents.evaluator.integrity.lineage import Lineage
from shared_memory.goal import BenchmarkGoal

QUESTION = 'Which of the three vessels "Aurora", Bermuda and Clio left the harbour of Ålesund first in 1907?'


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    rows = [
        {"id": f"vessel-{n:03}", "question": f"{QUESTION} Count from {n}.", "answer": f"number {n}", "part": part}
        for part in ("selection", "report")
        for n in (range(3) if part == "selection" else range(3, 6))
    ]
    (tmp_path / "vessels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(BenchmarkGoal(path=str(tmp_path / "vessels.jsonl")))


@pytest.mark.parametrize(
    "text",
    [
        f"{QUESTION} Count from 2.",
        json.dumps({"table": {f"{QUESTION} Count from 2.": "number 2"}}),
        json.dumps(json.dumps([f"{QUESTION} Count from 2."])),
        f"ANSWERS = {{{f'{QUESTION} Count from 2.'!r}: 2}}",
        f"{{# {QUESTION.upper()}\n   COUNT FROM 2! #}}",
    ],
)
def test_a_question_is_recognised_however_it_is_written_down(text: str, benchmark: Benchmark) -> None:
    assert answer_tables.items_in(text, benchmark) == 1


def test_record_ids_make_a_table_where_there_are_several_of_them(benchmark: Benchmark) -> None:
    assert answer_tables.items_in("see vessel-001", benchmark) == 0
    assert answer_tables.items_in("{'vessel-000': 'A', 'vessel-001': 'B', 'vessel-002': 'C'}", benchmark) == 3


def test_a_template_of_the_same_form_is_no_table(benchmark: Benchmark) -> None:
    assert answer_tables.items_in(f"{QUESTION} Count from {{n}}.", benchmark) == 0


def test_what_a_finding_names_are_files_and_numbers_and_no_items(benchmark: Benchmark) -> None:
    found = answer_tables.tables({"table.py": f"{QUESTION} Count from 2."}, [benchmark])
    assert found == {"table.py": "1 item of vessels"}


def test_the_worst_check_decides_and_its_reasons_come_first() -> None:
    checks = (
        Check(name="a", verdict="clean", found=""),
        Check(name="b", verdict="suspect", found="", reasons=("it is gone",)),
        Check(name="c", verdict="violated", found="", reasons=("it is another one",)),
    )
    certificate = Certificate(champion="e1", checks=checks)

    assert certificate.verdict == "violated"
    assert certificate.reasons == ("c: it is another one", "b: it is gone")
    assert Certificate(champion="e1", checks=checks[:2]).verdict == "suspect"


def facts(benchmark: Benchmark, **more: object) -> Facts:
    promised = {benchmark.name: benchmark.digest}
    return Facts(champion="e1", promised=promised, benchmarks={benchmark.name: benchmark}, lost={}, measured=(), **more)  # type: ignore[arg-type]


def test_a_lineage_that_fails_violates_and_one_that_cannot_be_told_is_suspect(benchmark: Benchmark) -> None:
    found = Lineage(model="weights", tensors=1, unchanged=0, distance=1.4, cosine=0.0)
    other = found.model_copy(update={"faults": ("it is another model",)})

    assert certify(facts(benchmark, lineages=[found])).verdict == "clean"
    assert certify(facts(benchmark, lineages=[other])).reasons == ("lineage: weights: it is another model",)
    assert certify(facts(benchmark, unknown=["the delivered model is gone"])).verdict == "suspect"


def test_weights_that_nobody_noted_are_no_evidence_and_lost_ones_are_a_doubt(benchmark: Benchmark) -> None:
    kept = [Kept("the base model", "1", "1"), Kept("what e1 left", "", "2")]
    assert certify(facts(benchmark, kept=kept)).verdict == "clean"
    assert certify(facts(benchmark, kept=[Kept("the base model", "1", "")])).reasons == (
        "weights: the base model is gone",
    )


def test_a_question_that_selects_and_reports_under_two_ids_is_told(benchmark: Benchmark) -> None:
    twice = benchmark.items[0].model_copy(update={"id": "other", "part": benchmark.items[-1].part})
    certificate = certify(facts(benchmark.model_copy(update={"items": (*benchmark.items, twice)})))

    assert certificate.reasons == (
        "benchmark: 1 questions of vessels are among the items that select and among those that report",
    )


def test_an_installed_evaluator_that_was_edited_is_told_by_the_wheel_s_own_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution in front of the one that is installed, as a wheel leaves it; one of its two files was edited."""
    code = tmp_path / "agents" / "evaluator"
    code.mkdir(parents=True)
    record = ""
    for name in ("scorers.py", "tasks.py"):
        (code / name).write_text("right = 1\n")
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"right = 1\n").digest()).rstrip(b"=").decode()
        record += f"agents/evaluator/{name},sha256={digest},10\n"
    info = tmp_path / "postgrad-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postgrad\nVersion: 9.9\n")
    (info / "RECORD").write_text(record)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()

    assert measurement.edited_since_release() == []
    (code / "scorers.py").write_text("right = 2\n")
    assert measurement.edited_since_release() == ["agents/evaluator/scorers.py"]
