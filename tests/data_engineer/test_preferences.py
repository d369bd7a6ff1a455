"""Preference pairs, from files to a data set for DPO or SFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.data_engineer.formats.methods import why_not
from agents.data_engineer.formats.tables import Message, read_sources, read_tables, trains
from agents.data_engineer.prepare import prepare
from agents.data_engineer.proposal import EXACT_ONLY, DataProposal
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, read_jsonl, write_jsonl

THINGS = ("cow", "cat", "dog", "duck", "horse", "sheep", "goat", "owl", "frog", "bee")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def pairs() -> list[dict[str, Any]]:
    return [{"prompt": f"What is a {thing}?", "chosen": f"A {thing}.", "rejected": "No idea."} for thing in THINGS]


def made(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    source = write_jsonl(tmp_path / "pairs.jsonl", rows)
    proposal = DataProposal(sources=(source,), near_duplicate_threshold=EXACT_ONLY, **options)
    return prepare(proposal, benchmarks=[], folder=tmp_path / "data", seed=0)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
        {"Question": "Hi", "chosen_response": "Hello", "rejected_response": "Go", "chosen_score": 5},
        {"prompt": [user("Hi")], "chosen": [assistant("Hello")], "rejected": [assistant("Go")]},
        {"chosen": [user("Hi"), assistant("Hello")], "rejected": [user("Hi"), assistant("Go")]},
        {"prompt": "Hi", "chosen": [user("Hi"), assistant("Hello")], "rejected": [user("Hi"), assistant("Go")],
         "messages": [user("Hi"), assistant("Hello")]},
    ],
)  # fmt: skip
def test_every_form_of_a_pair_gives_the_same_row(tmp_path: Path, row: dict[str, Any]) -> None:
    (found,) = read_sources([write_jsonl(tmp_path / "pairs.jsonl", [row])])
    assert found.prompt == (Message("user", "Hi"),)
    assert (found.completion, found.rejected) == ((Message("assistant", "Hello"),), (Message("assistant", "Go"),))
    assert found.question == "Hi"
    assert trains([found]) == ("sft", "dpo", "kto", "reward")


def test_conversations_are_parted_where_their_replies_part(tmp_path: Path) -> None:
    start = [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello"), user("Bye")]
    row = {"chosen": [*start, assistant("Farewell")], "rejected": [*start, assistant("Go")]}
    (found,) = read_sources([write_jsonl(tmp_path / "pairs.jsonl", [row])])
    assert [message.content for message in found.prompt] == ["Be brief.", "Hi", "Hello", "Bye"]
    assert (found.completion[0].content, found.rejected[0].content) == ("Farewell", "Go")


def test_a_data_set_for_dpo_holds_both_replies_and_one_for_sft_the_chosen_one(tmp_path: Path) -> None:
    (first, *_) = read_jsonl(made(tmp_path, pairs(), method="dpo").path)
    assert first == {
        "prompt": [user("What is a cow?")], "chosen": [assistant("A cow.")], "rejected": [assistant("No idea.")],
    }  # fmt: skip
    again = [{**row, "rejected": "Who knows."} for row in pairs()]
    record = made(tmp_path, [*pairs(), *again], method="sft")
    assert read_jsonl(record.path)[0] == {"prompt": [user("What is a cow?")], "completion": [assistant("A cow.")]}
    assert record.rows == len(THINGS), "pairs that differ in the rejected reply only are one row to imitate"
    assert made(tmp_path, [*pairs(), *again], method="dpo").rows == 2 * len(THINGS)


def test_a_data_set_for_dpo_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    record = made(tmp_path, pairs(), method="dpo")
    assert made(tmp_path, read_jsonl(record.path), method="dpo").digest == record.digest


def test_pairs_without_a_preference_or_a_reply_are_dropped_and_told(tmp_path: Path) -> None:
    same = {"prompt": "Which?", "chosen": "This one.", "rejected": " This one.\n"}
    talk = {"prompt": "Talk?", "chosen": "yes", "rejected": "Yes"}
    blank = [{"prompt": "Blank?", "chosen": "Yes.", "rejected": rejected} for rejected in ("", None)]
    record = made(tmp_path, [*pairs(), same, talk, *blank, pairs()[0]], method="dpo")
    taken = {step.name: step.rows_in - step.rows_out for step in record.steps}
    assert (taken["drop_identical_pairs"], taken["drop_empty"], taken["drop_exact_duplicates"]) == (1, 2, 1)
    begun = [{key: [user(row["prompt"]), assistant(row[key])] for key in ("chosen", "rejected")} for row in pairs()]
    half = [{**begun[0], "rejected": rejected} for rejected in (None, begun[0]["chosen"][:1])]
    assert made(tmp_path, [*begun, *half], method="dpo").rows == len(THINGS)
    assert record.rows == len(THINGS) + 1, "a pair may be about case"
    assert [line.split(",")[0] for line in record.findings] == [
        "warning: empty", "warning: identical pairs", "warning: exact duplicates",
    ]  # fmt: skip


def test_dpo_on_rows_without_rejected_replies_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^10 of 10 rows have no rejected reply, .* use method = 'sft' or 'grpo'$"):
        made(tmp_path, [{"prompt": thing, "completion": "x"} for thing in THINGS], method="dpo")
    with pytest.raises(BadInput, match="have no rejected reply"):
        made(tmp_path, force_rows(10), method="dpo")
    assert trains([]) == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"chosen": "Human: Hi", "rejected": "Human: Hi"},
            "`chosen` is a reply and no column asks; add a column `prompt`",
        ),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]}, "do not begin alike"),
        (
            {"prompt": "Else?", "chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("d")]},
            "`prompt` is not in what `chosen` and `rejected` share",
        ),
        ({"prompt": "a", "chosen": {"text": "b"}, "rejected": "c"}, "`chosen` holds a dict, not text"),
    ],
)
def test_a_pair_that_is_none_is_named_by_its_row(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=rf"pairs\.jsonl, row 1: .*{message}"):
        read_sources([write_jsonl(tmp_path / "pairs.jsonl", [row])])


def test_transcripts_are_conversations(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello: what is it?\n\nHuman: Bye"
    row = {"chosen": f"{start}\n\nAssistant: Farewell", "rejected": f"{start}\n\nAssistant: Go\n\nHuman: Why?"}
    (found,) = read_sources([write_jsonl(tmp_path / "hh.jsonl", [row])])
    assert [(message.role, message.content) for message in found.prompt] == [
        ("user", "Hi"), ("assistant", "Hello: what is it?"), ("user", "Bye"),
    ]  # fmt: skip
    assert found.completion == (Message("assistant", "Farewell"),)
    assert [message.content for message in found.rejected] == ["Go", "Why?"]
    (found,) = read_sources([write_jsonl(tmp_path / "hh.jsonl", [{"prompt": f"{start}\n\nAssistant:", **row}])])
    assert found.question == "Bye"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "responses": ["Go", "Hello", "Hm"], "ranks": [3, 1, 2]},
        {"prompt": "Hi", "responses": ["Go", "Hello", "Hm"], "scores": [0.1, 0.9, None]},
        {"question": "Hi", "answers": '["Go", "Hello"]', "scores": "[1, 2]"},
        {"instruction": "Hi", "models": ["x"], "completions": [
            {"response": "Hello", "overall_score": 9.5}, {"response": "Hm", "overall_score": 5},
            {"response": "Go", "overall_score": "1"},
        ]},
        {"prompt": "Hi", "answers": [{"answer": "Go", "rank": 7.0}, {"answer": "Hello", "rank": 1.0}], "turns": 1},
    ],
)  # fmt: skip
def test_of_a_ranked_list_the_best_is_chosen_and_the_worst_rejected(tmp_path: Path, row: dict[str, Any]) -> None:
    (table,) = read_tables([write_jsonl(tmp_path / "ranked.jsonl", [row])])
    (found,) = table.rows
    assert found.prompt == (Message("user", "Hi"),)
    assert (found.completion, found.rejected) == ((Message("assistant", "Hello"),), (Message("assistant", "Go"),))
    assert trains(table.rows)[1] == "dpo"


def test_a_ranked_list_without_a_worst_prefers_nothing_and_one_without_numbers_is_named(tmp_path: Path) -> None:
    tied = {"prompt": "Hi", "responses": ["Go", "Hello"], "scores": [1, 1]}
    alone = {"prompt": "Hi", "responses": ["Go"], "scores": [1]}
    for found in read_sources([write_jsonl(tmp_path / "ranked.jsonl", [tied, alone])]):
        assert found.rejected == (Message("assistant", ""),)
    for row, why in (
        ({**tied, "scores": [1]}, "`scores` does not hold one number for each of `responses`"),
        ({**tied, "scores": [1, "good"]}, "`scores` holds `good`, which is no number"),
        ({**tied, "responses": "Go"}, "`responses` holds no list of replies"),
    ):
        with pytest.raises(BadInput, match=rf"row 1: {why}"):
            read_sources([write_jsonl(tmp_path / "ranked.jsonl", [row])])


def labelled(values: list[Any]) -> list[dict[str, Any]]:
    return [{"prompt": f"What is a {thing}?", "completion": f"A {thing}.", "label": values[n % len(values)]}
            for n, thing in enumerate(THINGS)]  # fmt: skip


@pytest.mark.parametrize("values", [[True, False], [1, 0], ["True", "False"], [1.0, 0.0]])
def test_labels_of_yes_and_no_train_kto_and_sft_leaves_out_what_is_not_wanted(
    tmp_path: Path, values: list[Any]
) -> None:
    rows = read_sources([write_jsonl(tmp_path / "rows.jsonl", labelled(values))])
    assert trains(rows) == ("sft", "kto")
    lines = read_jsonl(made(tmp_path, labelled(values), method="kto").path)
    assert [line["label"] for line in lines] == [True, False] * 5
    assert set(lines[0]) == {"prompt", "completion", "label"}
    doubled = labelled(values) + [{**row, "prompt": f"{row['prompt']}!"} for row in labelled(values)]
    record = made(tmp_path, doubled, method="sft")
    assert record.rows == len(THINGS)
    assert {line["completion"][0]["content"] for line in read_jsonl(record.path)} == {f"A {x}." for x in THINGS[::2]}


def test_labels_that_are_topics_or_all_alike_train_no_kto(tmp_path: Path) -> None:
    for values, why in ((["a", "b"], "10 of 10 rows are neither labelled"), ([True], "no row is labelled as unwanted")):
        rows = read_sources([write_jsonl(tmp_path / "rows.jsonl", labelled(values))])
        assert "kto" not in trains(rows)
        assert why in why_not(rows, "kto")
    rows = read_sources([write_jsonl(tmp_path / "rows.jsonl", labelled([False]))])
    assert trains(rows) == ()
    assert why_not(rows, "sft") == "all 10 rows are labelled as unwanted"


def test_pairs_are_taken_apart_for_kto_and_kept_whole_for_a_reward_model(tmp_path: Path) -> None:
    record = made(tmp_path, pairs(), method="kto")
    lines = read_jsonl(record.path)
    assert (record.rows, [line["label"] for line in lines[:2]]) == (20, [True, False])
    assert lines[1]["completion"] == [assistant("No idea.")]
    assert record.steps[-1].name == "unpair"
    assert set(read_jsonl(made(tmp_path, pairs(), method="reward").path)[0]) == {"prompt", "chosen", "rejected"}
