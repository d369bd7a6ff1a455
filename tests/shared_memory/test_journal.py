from __future__ import annotations

from pathlib import Path

import pytest

from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.journal import Journal
from shared_memory.recipes import SftRecipe
from shared_memory.records import (
    CategoryScore,
    ComparisonResult,
    DatasetRecord,
    EvalResult,
    Experiment,
    Finding,
    Job,
    JobState,
    Part,
    Purpose,
    Record,
    Step,
    Verdict,
)

EXPERIMENT = Experiment(id="e1", parent="baseline", change="LoRA r16", recipe=SftRecipe(id="lora"), dataset="d1")
RESULT = EvalResult(
    experiment="e1",
    benchmark="physics",
    part=Part.REPORT,
    score=0.5,
    stderr=0.05,
    n=100,
    answered=0.9,
    accuracy_given_answered=0.55,
    truncated=0.1,
    categories={"units": CategoryScore(score=0.5, n=10)},
    settings_digest="d",
    items="items.jsonl",
    job="k1",
    seconds=40.0,
)
JOB = Job(key="k1", spec_digest="d", purpose=Purpose.TRAINING, experiment="e1")
DATASET = DatasetRecord(
    id="d1", source="s", path="p", digest="x", rows=1, steps=(Step(name="a", rows_in=2, rows_out=1),)
)
COMPARISON = ComparisonResult(
    benchmark="physics", experiment="e1", delta=0.3, ci_low=0.2, ci_high=0.4, p_value=0.001, n=100
)
RECORDS: list[tuple[Record, str]] = [
    (Finding(id="f1", claim="LoRA works", source="arXiv 2106.09685"), "f1"),
    (SftRecipe(id="lora"), "lora"),
    (DATASET, "d1"),
    (EXPERIMENT, "e1"),
    (RESULT, "e1/physics/report"),
    (COMPARISON, "physics"),
    (JOB, "k1"),
]


@pytest.fixture
def journal(db: Database) -> Journal:
    return Journal(db, "r1")


@pytest.mark.parametrize(("record", "id"), RECORDS, ids=lambda value: type(value).__name__)
def test_every_kind_of_record_comes_back_as_it_was_put(journal: Journal, record: Record, id: str) -> None:
    assert journal.put(record) == id
    assert journal.get(type(record), id) == record
    assert journal.all(type(record)) == {id: record}
    assert journal.get(type(record), "nothing") is None


def test_the_latest_version_counts_and_the_order_is_of_first_appearance(journal: Journal) -> None:
    second = EXPERIMENT.model_copy(update={"id": "e2", "parent": "e1"})
    discarded = EXPERIMENT.model_copy(update={"status": "evaluated", "verdict": Verdict.DISCARD})
    for record in (EXPERIMENT, second, discarded):
        journal.put(record)
    assert list(journal.all(Experiment).items()) == [("e1", discarded), ("e2", second)]
    assert journal.get(Experiment, "e1") == discarded
    assert journal.history(Experiment, "e1") == (EXPERIMENT, discarded)


def test_putting_an_identical_record_adds_nothing_but_going_back_is_a_version(journal: Journal) -> None:
    failed = JOB.model_copy(update={"state": JobState.FAILED, "result": {"b": 1, "a": 2}})
    same = failed.model_copy(update={"result": {"a": 2, "b": 1}})
    for record in (JOB, JOB, failed, same, JOB):
        journal.put(record)
    assert journal.history(Job, "k1") == (JOB, failed, JOB)


def test_a_record_can_be_filed_under_another_id(journal: Journal) -> None:
    assert journal.put(SftRecipe(id="lora"), id="plan/1") == "plan/1"
    assert list(journal.recipes()) == ["plan/1"]


def test_notes_hold_text_and_plain_data_beside_the_records(journal: Journal) -> None:
    journal.note("recipe", "n1", "text: größer")
    journal.note("recipe", "n2", {"rows": 3, "nested": [1, None]})
    journal.note("recipe", "n1", "new text")
    assert journal.notes("recipe") == {"n1": "new text", "n2": {"rows": 3, "nested": [1, None]}}
    assert list(journal.notes("recipe")) == ["n1", "n2"]
    assert journal.recipes() == {}


def test_runs_keep_apart_and_outlive_the_process(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "db")
    Journal(db, "r1").put(JOB)
    assert Journal(db, "r2").all(Job) == {}
    db.close()
    db = Database.open(tmp_path / "db")
    assert Journal(db, "r1").all(Job) == {"k1": JOB}
    db.close()


def test_a_journal_of_another_version_is_said_in_one_line(db: Database, journal: Journal) -> None:
    journal.put(JOB)
    db.execute("UPDATE journal SET body = '{\"old\": 1}'")
    with pytest.raises(PostgradError, match="another version of postgrad"):
        journal.all(Job)
