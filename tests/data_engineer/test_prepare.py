"""From files to a data set, through the front door of the data engineer."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from agents.data_engineer.contamination.decontaminate import BenchmarkText
from agents.data_engineer.formats.layouts import as_measured
from agents.data_engineer.formats.methods import answers_of, reference_of
from agents.data_engineer.formats.tables import Message, Row, trains
from agents.data_engineer.prepare import generated_file, generation_job, prepare
from agents.data_engineer.proposal import EXACT_ONLY, DataProposal, Generate
from agents.multiple_choice import render_multiple_choice
from shared_memory.errors import BadInput
from shared_memory.records import Job, Purpose
from shared_memory.run_paths import RunPaths
from tests.data_engineer.rows import FORCE, force_row, force_rows, read_jsonl, write_jsonl

GIVEN = 0.7


def proposal(*sources: str, threshold: float = EXACT_ONLY, rows: int | None = None) -> DataProposal:
    return DataProposal(sources=sources, near_duplicate_threshold=threshold, rows=rows)


def test_the_same_files_and_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", force_rows(40))
    first = prepare(proposal(source), benchmarks=[], folder=tmp_path / "a", seed=1)
    again = prepare(proposal(source), benchmarks=[], folder=tmp_path / "b", seed=1)
    other = prepare(proposal(source), benchmarks=[], folder=tmp_path / "a", seed=2)
    assert first.digest == again.digest != other.digest
    assert first.rows == 40
    assert Path(first.path).name == f"{first.digest[:16]}.jsonl"
    assert hashlib.sha256(Path(first.path).read_bytes()).hexdigest() == first.digest


def test_rows_are_rendered_byte_exact_as_the_evaluator_asks(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", force_rows(16))
    record = prepare(proposal(source), benchmarks=[], folder=tmp_path / "data", seed=0)
    asked: dict[str, tuple[dict[str, str], str]] = {}
    for row in read_jsonl(record.path):
        (prompt,), (completion,) = row["prompt"], row["completion"]
        assert (prompt["role"], completion["role"]) == ("user", "assistant")
        choices = re.findall(r"^[A-D]\) (.*)$", prompt["content"], re.MULTILINE)
        question = next(r["Question"] for r in force_rows(16) if r["Question"] in prompt["content"])
        assert prompt["content"] == render_multiple_choice(question, choices)
        asked[question] = dict(zip("ABCD", choices, strict=True)), completion["content"]
    assert len(asked) == 16
    for row in force_rows(16):
        shown, reply = asked[row["Question"]]
        explanation, letter = reply.split("\n\nANSWER: ")
        assert explanation == row["Explanation"]
        assert shown[letter] == row["Correct Answer"]


def test_without_an_explanation_the_reply_is_the_answer_line_alone(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [force_row(2, a, explanation=False) for a in range(3, 13)])
    record = prepare(proposal(source), benchmarks=[], folder=tmp_path, seed=0)
    replies = Counter(row["completion"][0]["content"] for row in read_jsonl(record.path))
    assert set(replies) == {"ANSWER: A", "ANSWER: B", "ANSWER: C", "ANSWER: D"}
    assert max(replies.values()) - min(replies.values()) <= 1


def test_leaks_are_dropped_and_the_template_with_other_numbers_stays_and_letters_end_balanced(tmp_path: Path) -> None:
    benchmark = [
        BenchmarkText("quick", row["Record ID"], row["Question"], (row["Correct Answer"],))
        for row in force_rows(60, start=50)
    ]
    leaks = [
        force_row(50, 2),
        force_row(50, 3) | {"Question": FORCE.format(m=50, a=3).upper()},
        force_row(50, 4) | {"Question": FORCE.format(m=50, a=4).replace(".", " -").replace("?", " ...")},
        force_row(50, 5) | {"Correct Answer": "1 N", "Incorrect Answer 1": "250 N"},
    ]
    hard_negatives = force_rows(200)
    source = write_jsonl(tmp_path / "rows.jsonl", [*hard_negatives[:100], *leaks, *hard_negatives[100:]])
    record = prepare(proposal(source), benchmarks=benchmark, folder=tmp_path / "data", seed=0)
    text = Path(record.path).read_text(encoding="utf-8")
    assert record.rows == 200
    assert all(row["Question"] in text for row in hard_negatives)
    assert record.contamination == {"quick": pytest.approx(4 / 60)}
    step = next(step for step in record.steps if step.name == "decontaminate")
    assert (step.rows_in, step.rows_out) == (204, 200)
    letters = Counter(re.findall(r"ANSWER: ([A-D])\"", text))
    assert dict(letters) == dict.fromkeys("ABCD", 50)


def test_planted_duplicates_go_and_every_step_says_what_it_let_through(tmp_path: Path) -> None:
    rows = force_rows(30)
    shuffled = rows[4] | {
        "Incorrect Answer 1": rows[4]["Incorrect Answer 3"],
        "Incorrect Answer 3": rows[4]["Incorrect Answer 1"],
    }
    reworded = rows[5] | {"Question": rows[5]["Question"].replace("the net force", "the total force")}
    planted = [rows[0], rows[1] | {"Question": f"  {rows[1]['Question'].upper()}\n"}, shuffled, reworded]
    blank = rows[6] | {"Correct Answer": " "}
    doubled = rows[7] | {"Incorrect Answer 2": rows[7]["Correct Answer"]}
    source = write_jsonl(tmp_path / "rows.jsonl", [*rows, *planted, blank, doubled])
    record = prepare(proposal(source, threshold=GIVEN), benchmarks=[], folder=tmp_path / "data", seed=0)
    taken = {step.name: step.rows_in - step.rows_out for step in record.steps}
    assert taken == {
        "convert": 0, "repair_text": 0, "drop_empty": 1, "drop_ambiguous": 1, "drop_secrets": 0,
        "drop_exact_duplicates": 3, "drop_near_duplicates": 1,
        "decontaminate": 0, "balance_letters": 0,
    }  # fmt: skip
    assert record.rows == 30
    assert [line.split(",")[0] for line in record.findings] == [
        "warning: empty", "warning: ambiguous", "warning: exact duplicates",
    ]  # fmt: skip


def test_generated_rows_of_one_template_survive_and_the_step_says_why_similarity_is_off(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", force_rows(120))
    record = prepare(proposal(source, rows=100), benchmarks=[], folder=tmp_path / "data", seed=0)
    assert record.rows == 100
    near = next(step for step in record.steps if step.name == "drop_near_duplicates")
    assert near.rows_out == 120
    assert "template" in near.note


def test_chat_rows_of_several_files_are_joined_as_they_stand(tmp_path: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"Name the colour of {thing}."},
                {"role": "assistant", "content": colour},
            ]
        }
        for thing, colour in [("snow", "White."), ("coal", "Black."), ("blood", "Red."), ("grass", "Green.")]
    ]
    pairs = [{"prompt": f"What does a {animal} say?", "completion": sound} for animal, sound in
             [("cow", "Moo."), ("cat", "Meow."), ("dog", "Woof."), ("duck", "Quack.")]]  # fmt: skip
    sources = (write_jsonl(tmp_path / "chats.jsonl", chats), write_jsonl(tmp_path / "pairs.jsonl", pairs))
    record = prepare(proposal(*sources, threshold=GIVEN), benchmarks=[], folder=tmp_path / "data", seed=0)
    rows = read_jsonl(record.path)
    assert len(rows) == 8
    assert rows[0] == {"prompt": chats[0]["messages"][:2], "completion": chats[0]["messages"][2:]}
    assert rows[4] == {
        "prompt": [{"role": "user", "content": "What does a cow say?"}],
        "completion": [{"role": "assistant", "content": "Moo."}],
    }
    again = prepare(proposal(record.path, threshold=GIVEN), benchmarks=[], folder=tmp_path / "data", seed=0)
    assert again.digest == record.digest


def test_too_few_rows_is_one_line_that_says_which_step_took_how_many(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*force_rows(7), *force_rows(5)])
    with pytest.raises(BadInput, match=r"^7 of 12 rows can be used \(drop_exact_duplicates took 5\) and 8 are needed;"):
        prepare(proposal(source), benchmarks=[], folder=tmp_path, seed=0)


def test_a_generation_job_is_complete_and_the_same_twice(tmp_path: Path) -> None:
    script = tmp_path / "questions.py"
    script.write_text("print('rows')\n")
    paths = RunPaths(tmp_path / "run")
    generate = Generate(script=str(script), rows=480, seed=3)
    spec = generation_job(generate, paths=paths, timeout_seconds=600)
    assert spec.purpose is Purpose.GENERATION
    assert spec.config == {"part": "train", "rows": 480, "seed": 3}
    assert paths.stored(spec.files[spec.script]).read_text() == "print('rows')\n"
    assert 0 < spec.estimate.hours <= 600 / 3600
    assert spec.digest == generation_job(generate, paths=paths, timeout_seconds=600).digest


def test_a_missing_generator_and_missing_or_empty_output_are_bad_input(tmp_path: Path) -> None:
    absent = Generate(script=str(tmp_path / "gone.py"), rows=8, seed=0)
    with pytest.raises(BadInput, match=r"gone\.py does not exist; check `data\.generator`"):
        generation_job(absent, paths=RunPaths(tmp_path / "run"), timeout_seconds=60)
    job = Job(key="k", spec_digest="d", purpose=Purpose.GENERATION, experiment="data", folder=str(tmp_path))
    with pytest.raises(BadInput, match="is missing"):
        generated_file(job)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.jsonl").touch()
    with pytest.raises(BadInput, match="is empty"):
        generated_file(job)
    write_jsonl(tmp_path / "out" / "data.jsonl", force_rows(1))
    assert generated_file(job) == tmp_path / "out" / "data.jsonl"


def test_a_small_model_reads_the_letters_where_it_will_look_for_them(tmp_path: Path) -> None:
    rows = [{**force_row(m, a), "Explanation": f"F = {m} * {a} = {m * a} N."} for m in range(2, 12) for a in (3, 7)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    proposal = DataProposal(sources=(str(source),), near_duplicate_threshold=EXACT_ONLY, place_choice=True)
    record = prepare(proposal, benchmarks=[], folder=tmp_path / "out", seed=0)

    for line in Path(record.path).read_text().splitlines():
        row = json.loads(line)
        prompt, reply = row["prompt"][0]["content"], row["completion"][0]["content"]
        listed, working, _, last = reply.split("\n")
        letter = last.removeprefix("ANSWER: ")
        assert working.endswith(f" N {letter}")
        assert f"{letter}) {working.split('= ')[-1].removesuffix(f' {letter}')}" in prompt
        assert [entry[-1] for entry in listed.split(", ")] == ["A", "B", "C", "D"]


def test_the_first_step_says_which_column_became_what(tmp_path: Path) -> None:
    asked = [{"patient_query": f"What helps against cough {n}?", "doctor_response": "Tea."} for n in range(8)]
    source = write_jsonl(tmp_path / "asked.jsonl", asked)
    first, *_ = prepare(proposal(source), benchmarks=[], folder=tmp_path / "data", seed=0).steps
    assert (first.name, first.rows_in, first.rows_out) == ("convert", 8, 8)
    assert first.note == "question ← patient_query, answer ← doctor_response"
    told = [{"instruction": f"Name number {n}.", "input": "", "output": n, "system": "Be brief."} for n in range(8)]
    sources = (source, write_jsonl(tmp_path / "told.jsonl", told))
    first, *_ = prepare(proposal(*sources), benchmarks=[], folder=tmp_path / "data", seed=0).steps
    assert first.note == (
        "asked.jsonl: question ← patient_query, answer ← doctor_response; "
        "told.jsonl: question ← instruction, context ← input, answer ← output, system ← system"
    )


def test_contamination_stops_the_making_where_that_is_the_rule(tmp_path: Path) -> None:
    rows = force_rows(20)
    leaked = BenchmarkText("quick", "q1", rows[3]["Question"], (rows[3]["Correct Answer"],))
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        BadInput, match=r"^1 of 20 rows contain items of quick, the first 1:4; .* contaminated = 'drop'$"
    ):
        prepare(proposal(source), benchmarks=[leaked], folder=tmp_path / "d", seed=0, on_contamination="stop")
    record = prepare(proposal(source), benchmarks=[leaked], folder=tmp_path / "d", seed=0)
    assert record.evidence is not None
    assert (record.rows, record.evidence.rows_flagged, record.contamination) == (19, 1, {"quick": 1.0})
    clean = prepare(proposal(source), benchmarks=[], folder=tmp_path / "d", seed=0, on_contamination="stop")
    assert clean.rows == 20


def test_a_few_rows_that_cannot_be_used_are_left_out_and_told_and_many_are_refused(tmp_path: Path) -> None:
    source = Path(write_jsonl(tmp_path / "rows.jsonl", force_rows(300)))
    source.write_text(source.read_text() + 'nope\n{"Question": ["x"]}\n')
    first, second, *_ = prepare(proposal(str(source)), benchmarks=[], folder=tmp_path / "d", seed=0).steps
    assert (first.name, first.rows_in, first.rows_out) == ("drop_unusable", 302, 300)
    assert (first.note, second.name) == ("not json 1, not text 1", "convert")
    source.write_text(source.read_text() + "nope\n" * 9)
    with pytest.raises(BadInput, match=r"^11 of 311 rows cannot be used, the first: .*line 301 is not JSON"):
        prepare(proposal(str(source)), benchmarks=[], folder=tmp_path / "d", seed=0)


def test_broken_text_is_mended_and_rows_with_secrets_are_left_out(tmp_path: Path) -> None:
    pairs = [{"prompt": f"What is thing {n}?", "completion": f"A cafÃ© {n}."} for n in range(9)]
    leak = {"prompt": "How do I log in?", "completion": "With hf_" + "aB3" * 11}
    record = prepare(
        proposal(write_jsonl(tmp_path / "r.jsonl", [*pairs, leak])), benchmarks=[], folder=tmp_path, seed=0
    )
    assert [row["completion"][0]["content"] for row in read_jsonl(record.path)] == [f"A café {n}." for n in range(9)]
    taken = {step.name: step.rows_in - step.rows_out for step in record.steps}
    assert taken["drop_secrets"] == 1


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    sources = [
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {n}?", "completion": name} for n in range(20)])
        for name in ("a", "b")
    ]
    weights = dict(zip(sources, (1, 3), strict=True))
    record = prepare(proposal(*sources, rows=40), benchmarks=[], folder=tmp_path / "d", seed=0, weights=weights)
    assert Counter(row["completion"][0]["content"] for row in read_jsonl(record.path)) == {"a": 10, "b": 30}
    few = write_jsonl(tmp_path / "few.jsonl", [{"prompt": f"few {n}?", "completion": "few"} for n in range(4)])
    with pytest.raises(BadInput, match=r"^4 of 4 rows can be used .* and 8 are needed"):
        prepare(proposal(few, rows=16), benchmarks=[], folder=tmp_path / "d", seed=0, weights={few: 1})
    with pytest.raises(BadInput, match="the weights are for"):
        prepare(proposal(*sources), benchmarks=[], folder=tmp_path / "d", seed=0, weights={"c": 1})


def test_tools_texts_and_answers_to_check_are_laid_out_as_trl_takes_them(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "say", "parameters": {}}}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "say", "arguments": '{"a": 1}'}}]}
    chats = [{"messages": [{"role": "user", "content": f"Say {n}."}, call], "tools": tools} for n in range(8)]
    (row, *_) = read_jsonl(
        prepare(proposal(write_jsonl(tmp_path / "t.jsonl", chats)), benchmarks=[], folder=tmp_path, seed=0).path
    )
    assert json.loads(row["tools"]) == tools
    said = {"name": "say", "arguments": {"a": 1}}
    assert row["completion"][0]["tool_calls"] == [{"type": "function", "function": said}]
    texts = [{"text": f"Cow {n} says moo."} for n in range(8)]
    record = prepare(proposal(write_jsonl(tmp_path / "x.jsonl", texts)), benchmarks=[], folder=tmp_path, seed=0)
    assert read_jsonl(record.path) == texts
    sums = [{"question": f"{n} + 1?", "answer": f"Well: {n} + 1\n#### {n + 1}"} for n in range(8)]
    wanted = DataProposal(sources=(write_jsonl(tmp_path / "s.jsonl", sums),), method="grpo")
    (row, *_) = read_jsonl(prepare(wanted, benchmarks=[], folder=tmp_path, seed=0).path)
    assert row == {"prompt": [{"role": "user", "content": "0 + 1?"}], "answer": "1"}


@pytest.mark.parametrize(
    ("completion", "reference"),
    [
        ("It is so.\n#### 1,000", "1,000"),
        (r"So \boxed{\frac{1}{2}} it is, or \boxed{0.5}.", "0.5"),
        ("Because.\n\nANSWER: C", "C"),
        ("Paris", "Paris"),
        ("word " * 21, ""),
        ("  ", ""),
    ],
)
def test_the_answer_to_check_against_is_the_last_marked_one_or_a_short_reply(completion: str, reference: str) -> None:
    row = Row(id="1:1", question="?", prompt=(Message("user", "?"),), completion=(Message("assistant", completion),))
    assert reference_of(row) == reference
    assert ("grpo" in trains([row])) is bool(reference)


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        (["#### 1,000", r"So \boxed{\frac{1}{2}}.", "It is so.\n#### -2"], "mathematics"),
        (["#### 12", "#### yes"], "text"),
        ([r"\boxed{not at all}"] * 2, "text"),
        (["#### 12", "12"], "text"),
        (["Because.\nANSWER: C", "ANSWER: A"], "letter"),
        (["Paris", "12"], "text"),
    ],
)
def test_the_data_say_how_their_answers_are_compared(tmp_path: Path, replies: list[str], kind: str) -> None:
    asked = [{"question": f"What is number {n}?", "answer": replies[n % len(replies)]} for n in range(12)]
    source = write_jsonl(tmp_path / "s.jsonl", asked)
    made = [
        prepare(DataProposal(sources=(source,), method=method), benchmarks=[], folder=tmp_path, seed=0)
        for method in ("grpo", "sft")
    ]
    assert [record.answers for record in made] == [kind, ""]


def test_choices_are_answered_by_letters_and_calls_of_tools_cannot_be_checked() -> None:
    row = Row(id="1:1", question="?", choices=("1", "2"), answer="A")
    assert answers_of([row, row]) == "letter"
    said = (Message("assistant", "12"),)
    calls = Row(id="1:1", question="?", prompt=(Message("user", "?"),), completion=said, tools="[]")
    assert reference_of(calls) == ""
    assert as_measured(row, "sft") == row
    measured = as_measured(Row(id="1:1", question="?", completion=(Message("assistant", "6 + 6\n#### 12"),)), "grpo")
    assert measured.completion == said
