"""What runs pass on to later ones: filed once, found by conditions and words, and never in anybody else's words."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared_memory import database
from shared_memory.database import Database
from shared_memory.errors import Unavailable
from shared_memory.lessons import Conditions, Lesson, Lessons, Measured, family_of

GAIN = Measured(against="baseline", delta=0.042, ci_low=-0.01, ci_high=0.094, n=224)
HERE = Conditions(benchmark="gpqa_main", method="sft", family="qwen3", parameters=1_700_000_000)


def lesson(run: str, experiment: str = "e1", tried: str = "SFT, LoRA r16", **changes: object) -> Lesson:
    conditions = HERE.model_copy(update=changes)
    return Lesson(run=run, experiment=experiment, tried=tried, conditions=conditions, outcome="keep", effect=GAIN)


def ids(found: tuple[Lesson, ...]) -> list[str]:
    return [f"{each.run}/{each.experiment}" for each in found]


def test_a_lesson_is_one_line_with_its_conditions_and_its_interval() -> None:
    assert lesson("r1", data="org/rows", rows=23_500).line == (
        "r1 e1: SFT, LoRA r16 [on gpqa_main; sft; qwen3 of 1700M; org/rows, 23500 rows] → keep: "
        "+4.2 points against baseline (95 % interval -1.0 to +9.4, n 224, selection items)"
    )
    nats = Measured(against="e1", delta=-0.2, ci_low=-0.3, ci_high=-0.1, n=9, unit="nats", higher_is_better=False)
    bare = Lesson(run="r", experiment="e2", tried="t", effect=nats).line
    assert bare.endswith(
        "measured: -0.200 nats a token against e1 "
        "(95 % interval -0.300 to -0.100, n 9, selection items, lower is better)"
    )


def test_filing_a_lesson_again_replaces_it(db: Database) -> None:
    lessons = Lessons(db)
    lessons.put("r1", lesson("r1", tried="with zebras"))
    lessons.put("r1", lesson("r1", tried="with giraffes"))
    assert [each.tried for each in lessons.find()] == ["with giraffes"]
    assert not lessons.find("zebras"), "what was replaced is not found by its words"
    assert ids(lessons.find('Giraffes, or AND NOT ("')) == ["r1/e1"]


def test_what_was_learned_under_the_same_conditions_comes_first(db: Database) -> None:
    lessons = Lessons(db)
    lessons.put("other-benchmark", lesson("other-benchmark", benchmark="gsm8k"))
    lessons.put("other-method", lesson("other-method", method="dpo"))
    lessons.put("other-size", lesson("other-size", parameters=8_000_000_000))
    lessons.put("the-same", lesson("the-same"))
    lessons.put("elsewhere", lesson("elsewhere", benchmark="ifeval", method="grpo"))
    lessons.put("another-model", lesson("another-model", benchmark="ifeval", family="llama", parameters=70_000_000_000))
    found = ids(lessons.find(like=HERE))
    assert found == ["the-same/e1", "other-size/e1", "other-method/e1", "other-benchmark/e1"]
    assert ids(lessons.find(like=HERE, limit=1)) == ["the-same/e1"]


def test_a_run_is_not_told_what_it_has_said_itself(db: Database) -> None:
    lessons = Lessons(db)
    lessons.put("r1", lesson("r1"))
    lessons.put("r2", lesson("r2"))
    assert ids(lessons.find(like=HERE, but="r1")) == ["r2/e1"]


def test_among_equals_the_rarer_word_decides_and_then_the_newest(db: Database) -> None:
    lessons = Lessons(db)
    for number in range(4):
        lessons.put(f"r{number}", lesson(f"r{number}", tried="a lower learning rate"))
    lessons.put("packed", lesson("packed", tried="a lower learning rate, packing"))
    lessons.put("r9", lesson("r9", tried="a lower learning rate"))
    assert ids(lessons.find("rate packing"))[0] == "packed/e1"
    assert ids(lessons.find("rate"))[:1] == ["r9/e1"]


def test_without_conditions_that_match_there_is_nothing(db: Database) -> None:
    lessons = Lessons(db)
    assert lessons.find() == ()
    lessons.put("r1", lesson("r1", benchmark="", method="dpo"))
    assert lessons.find(like=Conditions(method="sft", family="qwen3")) == ()
    assert ids(lessons.find(like=Conditions(method="dpo", family="qwen3"))) == ["r1/e1"]


@pytest.mark.parametrize("signs", ['"', "*", "🎉", "---", "_", "²", "(", "\ud800"])
def test_signs_alone_find_nothing(db: Database, signs: str) -> None:
    Lessons(db).put("r1", lesson("r1"))
    assert Lessons(db).find(signs) == ()
    assert Lessons(db).find(signs, like=HERE) == ()
    assert ids(Lessons(db).find(f"{signs} LoRA {signs}")) == ["r1/e1"]
    assert Lessons(db).find("zebras", like=HERE) == (), "nor do words, where its conditions alone are like it"


@pytest.mark.parametrize("words", ["NEAR(LoRA)", 'lora" AND "zebra', "tried:LoRA", "^lora*", "-lora", "NOT lora"])
def test_no_word_is_an_operator(db: Database, words: str) -> None:
    Lessons(db).put("r1", lesson("r1"))
    assert ids(Lessons(db).find(words)) == ["r1/e1"]


def test_a_lesson_that_another_version_wrote_is_left_out(db: Database) -> None:
    lessons = Lessons(db)
    for run in ("r1", "r2"):
        lessons.put(run, lesson(run))
    db.execute("UPDATE lessons SET body = json_insert(body, '$.mood', 'good') WHERE run_id = 'r1'")
    assert ids(lessons.find(like=HERE)) == ["r2/e1"]


def test_runs_that_write_at_once_lose_none_of_their_lessons(tmp_path: Path) -> None:
    def write(run: str) -> None:
        lessons = Lessons(Database.open(tmp_path / "postgrad.db"))
        for number in range(20):
            lessons.put(run, lesson(run, f"e{number}", tried=f"with {run} {number}"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, ["r1", "r2", "r3", "r1"]))
    db = Database.open(tmp_path / "postgrad.db")
    assert len(Lessons(db).find(limit=100)) == 60
    assert ids(Lessons(db).find("r3"))[0].startswith("r3/")
    assert db.execute("SELECT count(*) AS n FROM lesson_words")[0]["n"] == 60, "one entry of words for each"


def test_secrets_are_taken_out_before_a_lesson_is_filed(db: Database) -> None:
    token = "hf_" + "Ab3" * 11
    Lessons(db).put("r1", lesson("r1", tried=f"with {token}"))
    rows = db.execute("SELECT body FROM lessons UNION SELECT words FROM lesson_words")
    assert all(token not in row["body"] for row in rows)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen3-1.7B-Base", "qwen3"), ("HuggingFaceTB/SmolLM2-135M", "smollm2"),
        ("google/gemma-3-4b-pt", "gemma-3"), ("meta-llama/Llama-3.1-8B", "llama-3.1"),
        ("/models/tiny-llama", "tiny-llama"), ("", ""),
    ],
)  # fmt: skip
def test_a_models_name_says_what_family_it_is_of(name: str, family: str) -> None:
    assert family_of(name) == family


def test_sizes_are_told_by_class() -> None:
    sizes = [Conditions(parameters=count).size for count in (0, 135_000_000, 1_700_000_000, 3_000_000_000,
                                                             8_000_000_000, 70_000_000_000)]  # fmt: skip
    assert sizes == ["", "up to 0.5B", "0.5B to 2B", "2B to 5B", "5B to 15B", "over 15B"]


def test_a_home_of_an_earlier_version_gets_its_lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "postgrad.db"
    with monkeypatch.context() as then:
        then.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        Database.open(file).close()
    Lessons(Database.open(file)).put("r1", lesson("r1"))
    assert ids(Lessons(Database.open(file)).find()) == ["r1/e1"]


def test_an_sqlite_without_full_text_search_is_named_as_such() -> None:
    error = sqlite3.OperationalError("no such module: fts5")
    explained = database._explained(Path("/home/postgrad.db"), error)
    assert isinstance(explained, Unavailable)
    assert "FTS5" in str(explained)
