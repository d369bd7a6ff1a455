"""`postgrad audit`: every kind of fault is planted into sound rows and found, and nothing is found in sound rows."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import postgrad
from postgrad.audit_table import counted
from shared_memory.errors import BadInput
from tests.data_engineer.rows import force_rows, write_jsonl
from tests.data_engineer.sound_rows import chat, sentence, sound_rows
from tests.postgrad.test_cli import COMMAND, Cli, cli, environment

__all__ = ["cli", "environment"]

ROWS = 60
TOKEN = "hf_" + "AbCdEfGhIj0123456789KlMnOpQrStUvWx"  # no secret: it has the shape of one
FRENCH = (
    "Le chat de la voisine dort toute la journée devant la fenêtre, et quand le soleil se couche il se lève pour "
    "chercher quelque chose à manger dans la cuisine."
)
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Bern"}}}

Row = dict[str, Any]
Plant = Callable[[Row], Any]


def audit(tmp_path: Path, rows: Sequence[Any], name: str = "rows.jsonl", **options: Any) -> dict[str, Any]:
    return postgrad.audit(write_jsonl(tmp_path / name, rows), **options)


def found_in(report: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {finding["kind"]: (finding["severity"], finding["count"]) for finding in report["findings"]}


def answered(row: Row, text: str) -> Row:
    return chat(row["messages"][0]["content"], text)


def with_message(row: Row, at: int, **message: Any) -> Row:
    return {"messages": [*row["messages"][:at], message, *row["messages"][at:]]}


# Sound rows


@pytest.mark.parametrize(
    "rows",
    [
        sound_rows(ROWS),
        [{"prompt": row["messages"][0]["content"], "chosen": one["messages"][1]["content"],
          "rejected": other["messages"][1]["content"]}
         for row, one, other in zip(sound_rows(ROWS), sound_rows(ROWS, 1), sound_rows(ROWS, 2), strict=True)],
        [{"prompt": row["messages"][0]["content"], "completion": row["messages"][1]["content"], "label": at % 2 == 0}
         for at, row in enumerate(sound_rows(ROWS))],
        [{"question": row["messages"][0]["content"], "choices": [f"{at} m", f"{at} s", f"{at} kg", f"{at} V"],
          "answer": at % 4} for at, row in enumerate(sound_rows(ROWS))],
        force_rows(ROWS),
    ],
    ids=["chat", "preference", "kto", "choices", "gpqa"],
)  # fmt: skip
def test_nothing_is_found_in_sound_rows(tmp_path: Path, rows: list[Row]) -> None:
    report = audit(tmp_path, rows)
    assert report["findings"] == []
    assert (report["verdict"], report["rows"], report["fix_command"]) == ("fit", ROWS, "")


# One row with a fault, and exactly that is found


@pytest.mark.parametrize(
    ("kind", "severity", "plant"),
    [
        ("unknown_role", "error", lambda row: with_message(row, 1, role="narrator", content="Meanwhile.")),
        ("no_reply", "error", lambda row: {"messages": row["messages"][:1]}),
        ("not_text", "error", lambda row: answered(row, {"said": "yes"})),  # type: ignore[arg-type]
        ("bad_message", "error", lambda row: {"messages": [*row["messages"], {"speaker": "me"}]}),
        ("other_columns", "error", lambda row: {"prompt": "What is it?", "completion": "It is a mill."}),
        ("nulls", "warning", lambda row: {"messages": None}),
        ("empty", "warning", lambda row: answered(row, "")),
        ("whitespace", "warning", lambda row: answered(row, " \n\t ")),
        ("not_alternating", "warning", lambda row: with_message(row, 1, role="user", content="Be brief, please.")),
        ("empty_turn", "warning",
         lambda row: {"messages": [*row["messages"], *chat("", "Is there anything else to be told?")["messages"]]}),
        ("system_position", "warning", lambda row: with_message(row, 1, role="system", content="Be brief.")),
        ("tool_calls", "warning", lambda row: with_message(row, 1, role="tool", content="12 °C")),
        ("mojibake", "warning", lambda row: answered(row, "It was the cafÃ© where we met, itâ€™s closed, dÃ©jÃ  vu.")),
        ("control_characters", "warning", lambda row: answered(row, "A bell \x07 and a colour \x1b[31m in a row.")),
        ("refusals", "warning", lambda row: answered(row, "I’m sorry, but I can't help with that, whatever it is.")),
        ("placeholders", "warning", lambda row: answered(row, "[TODO]")),
        ("echoes", "warning", lambda row: answered(row, row["messages"][0]["content"])),
        ("lost_characters", "warning", lambda row: answered(row, "It was the caf\ufffd where we met in the autumn.")),
        ("emails", "warning", lambda row: answered(row, "Write to jane.doe@example.org about the old mill today.")),
        ("secrets", "warning", lambda row: answered(row, f"export HF_TOKEN={TOKEN}")),
        ("urls", "info", lambda row: answered(row, "The old mill is at https://example.org/mill as you may see.")),
        ("languages", "info", lambda row: answered(row, FRENCH)),
    ],
)  # fmt: skip
def test_a_fault_in_one_row_is_found_and_nothing_else(tmp_path: Path, kind: str, severity: str, plant: Plant) -> None:
    english = [
        answered(row, f"It was a quiet morning in the old village, and {n} people came to the market.")
        for n, row in enumerate(sound_rows(ROWS))
    ]
    rows = english if kind == "languages" else sound_rows(ROWS)
    rows[41] = plant(rows[41])
    report = audit(tmp_path, rows)
    assert found_in(report) == {kind: (severity, 1)}
    (finding,) = report["findings"]
    assert (finding["examples"][0]["source"], finding["examples"][0]["row"]) == (str(tmp_path / "rows.jsonl"), 42)
    assert finding["advice"]
    assert finding["share"] == pytest.approx(1 / ROWS, abs=1e-6)
    assert "jane" not in json.dumps(report)
    assert TOKEN not in json.dumps(report)


@pytest.mark.parametrize(
    ("kind", "severity", "line"),
    [
        ("not_json", "error", b'{"messages": [{"role": "user"'),
        ("not_an_object", "error", b'["a", "list"]'),
        ("not_utf8", "error", b'{"messages": "caf\xe9"}'),
        ("not_finite", "warning", None),
        ("mixed_types", "warning", None),
    ],
)
def test_a_bad_line_is_found_and_the_others_are_read(
    tmp_path: Path, kind: str, severity: str, line: bytes | None
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [row | {"score": 0.5 + at} for at, row in enumerate(sound_rows(ROWS))]
    rows[41]["score"] = {"not_finite": float("nan"), "mixed_types": "high"}.get(kind, 0.5)
    lines = [json.dumps(row).encode() for row in rows]
    lines[41] = line or lines[41]
    path.write_bytes(b"\n".join(lines) + b"\n")
    report = postgrad.audit(path)
    assert found_in(report) == {kind: (severity, 1)}
    assert report["findings"][0]["examples"][0]["row"] == 42
    assert report["rows"] == ROWS


# Faults of several rows


def test_duplicates_are_told_with_what_they_repeat(tmp_path: Path) -> None:
    rows = sound_rows(ROWS)
    rows.append(chat(rows[3]["messages"][0]["content"].upper(), rows[3]["messages"][1]["content"]))
    rows.append(chat(rows[5]["messages"][0]["content"], f"Perhaps {rows[5]['messages'][1]['content']}"))
    report = audit(tmp_path, rows)
    assert report["duplicates"] == {"exact": 1, "near": 1}
    assert found_in(report) == {"exact_duplicates": ("warning", 1), "near_duplicates": ("warning", 1)}
    texts = {finding["kind"]: finding["examples"][0]["text"] for finding in report["findings"]}
    assert texts["exact_duplicates"].startswith(f"like {tmp_path / 'rows.jsonl'}:4: ")
    assert texts["near_duplicates"].startswith(f"like {tmp_path / 'rows.jsonl'}:6: ")


def test_rows_to_measure_on_that_are_trained_on_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = sound_rows(ROWS)
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "test.jsonl", [*sound_rows(20, seed=1), rows[7], rows[8]])
    report = postgrad.audit(folder)
    assert found_in(report) == {"across_splits": ("error", 2)}
    assert report["splits"] == {"train": ROWS, "test": 22}
    assert postgrad.audit(folder, split="test")["rows"] == 22
    with pytest.raises(BadInput, match="no split `dev`; there is test, train"):
        postgrad.audit(folder, split="dev")
    cleaned = postgrad.audit(folder, clean=tmp_path / "clean.jsonl")["cleaned"]
    assert (cleaned["rows"], cleaned["left_out"]) == (ROWS - 2, 2)


def test_pairs_that_prefer_nothing_or_length_are_told(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [{"prompt": f"{sentence(rng, 9)}?", "chosen": sentence(rng, rng.randint(18, 30)),
             "rejected": sentence(rng, rng.randint(8, 20))} for _ in range(ROWS)]  # fmt: skip
    rows[4]["rejected"] = rows[4]["chosen"]
    report = audit(tmp_path, rows)
    assert set(found_in(report)) == {"identical_pairs", "length_bias"}
    assert found_in(report)["identical_pairs"] == ("warning", 1)
    assert report["methods"] == ["sft", "dpo", "kto", "reward"]
    bias = next(finding for finding in report["findings"] if finding["kind"] == "length_bias")
    assert bias["severity"] == "warning"
    assert "Wilcoxon p < 0.001" in bias["advice"]
    of_sft = found_in(audit(tmp_path, rows, method="sft"))
    assert {severity for severity, _ in of_sft.values()} == {"info"}, "SFT imitates the chosen reply alone"


def test_pairs_about_other_prompts_are_no_pairs(tmp_path: Path) -> None:
    rows = [{"chosen": one["messages"], "rejected": [one["messages"][0], other["messages"][1]]}
            for one, other in zip(sound_rows(ROWS), sound_rows(ROWS, 1), strict=True)]  # fmt: skip
    rows[3]["rejected"] = sound_rows(1, seed=9)[0]["messages"]
    assert found_in(audit(tmp_path, rows)) == {"prompt_mismatch": ("error", 1)}


def test_multiple_choice_faults_are_told_apart(tmp_path: Path) -> None:
    questions = [row["messages"][0]["content"] for row in sound_rows(ROWS)]
    rows = [{"question": question, "choices": [f"{at} m", f"{at} s", f"{at} kg"], "answer": f"{at} s"}
            for at, question in enumerate(questions)]  # fmt: skip
    rows[5]["answer"] = "none of these"
    rows[6]["choices"] = ["1 m", "6 s", "6 s"]
    rows.append({**rows[7], "answer": "7 kg"})
    assert found_in(audit(tmp_path, rows)) == {
        "answer_not_among_choices": ("error", 1), "ambiguous": ("warning", 1), "contradictions": ("warning", 2),
        "letters": ("warning", 59),
    }  # fmt: skip


def test_letters_at_the_end_of_replies_are_multiple_choice_too(tmp_path: Path) -> None:
    rng = random.Random(0)
    asked = "{}\n\nA) red {}\nB) green {}\nC) blue {}\nD) grey {}"
    rows = [chat(asked.format(sentence(rng, 12), at, at, at, at), f"{sentence(rng, 9)}\nANSWER: {'BBBC'[at % 4]}")
            for at in range(ROWS)]  # fmt: skip
    rows[3]["messages"][1]["content"] = f"{sentence(rng, 9)}\nANSWER: F"
    rows[8]["messages"][0]["content"] = f"{sentence(rng, 12)}\n\nA) red\nB) red\nC) blue"
    report = audit(tmp_path, rows)
    assert set(found_in(report)) == {"answer_not_among_choices", "ambiguous", "letters"}
    assert report["histograms"]["letters"] == {"B": 45, "C": 14, "F": 1}


def test_labels_that_are_nearly_always_the_same_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": row["messages"][0]["content"], "completion": row["messages"][1]["content"], "label": at > 2}
            for at, row in enumerate(sound_rows(ROWS))]  # fmt: skip
    report = audit(tmp_path, rows)
    assert found_in(report) == {"label_imbalance": ("warning", 57)}
    assert "kto" in report["methods"]
    assert report["histograms"]["labels"] == {"label": {"true": 57, "false": 3}}
    classes = [row | {"category": "sport" if at else "art"} for at, row in enumerate(sound_rows(ROWS))]
    assert found_in(audit(tmp_path, classes)) == {"label_imbalance": ("warning", 59)}
    answers = [answered(row, "yes" if at else "no") for at, row in enumerate(sound_rows(ROWS))]
    assert found_in(audit(tmp_path, answers)) == {"label_imbalance": ("warning", 59)}


def test_a_sentence_that_begins_every_reply_is_boilerplate(tmp_path: Path) -> None:
    rows = [answered(row, f"Certainly, here is my answer! {row['messages'][1]['content']}") for row in sound_rows(ROWS)]
    report = audit(tmp_path, rows)
    assert found_in(report) == {"boilerplate": ("warning", ROWS)}
    assert "“Certainly, here is my answer!”" in report["findings"][0]["advice"]


def test_a_call_of_a_tool_that_is_answered_is_sound_and_one_of_an_unknown_tool_is_not(tmp_path: Path) -> None:
    def calling(row: Row, offered: str) -> Row:
        question, answer = row["messages"]
        call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        tools = [{"type": "function", "function": {"name": offered, "parameters": {}}}]
        return {"messages": [question, call, {"role": "tool", "content": "12 °C"}, answer], "tools": tools}

    rows = [calling(row, "weather") for row in sound_rows(ROWS)]
    assert audit(tmp_path, rows)["findings"] == []
    rows[9] = calling(sound_rows(ROWS)[9], "calendar")
    assert found_in(audit(tmp_path, rows)) == {"tool_calls": ("warning", 1)}


def test_calls_that_are_written_into_the_text_are_matched_with_their_results(tmp_path: Path) -> None:
    def calling(row: Row, *results: str) -> Row:
        question, answer = row["messages"]
        call = '<tool_call>\n{"name": "weather", "arguments": {"town": "Bern"}}\n</tool_call>'
        said = [{"role": "tool", "content": f"<tool_response>\n{result}\n</tool_response>"} for result in results]
        return {"messages": [question, {"role": "assistant", "content": f"Let me see.\n{call}"}, *said, answer]}

    rows = [calling(row, "12 °C") for row in sound_rows(ROWS)]
    assert "tool_calls" not in found_in(audit(tmp_path, rows))
    rows[9] = calling(sound_rows(ROWS)[9], "12 °C", "13 °C")
    assert found_in(audit(tmp_path, rows))["tool_calls"] == ("warning", 1)


def test_a_template_that_leaves_out_tools_and_calls_is_told(tmp_path: Path, tiny_model: Path) -> None:
    def calling(row: Row) -> Row:
        question, answer = row["messages"]
        call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
        return {"messages": [question, call, {"role": "tool", "content": "12 °C"}, answer], "tools": tools}

    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / file).write_bytes((tiny_model / file).read_bytes())
    template = folder / "chat_template.jinja"
    rows = [*map(calling, sound_rows(9)), *sound_rows(ROWS, 1)]
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    report = audit(tmp_path, rows, model=folder)
    assert found_in(report) == {"template_leaves_out": ("warning", 9)}
    assert "leaves out their tool calls and tools" in report["findings"][0]["advice"]
    template.write_text(
        "{{ tools | tojson }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls or '' }}{% endfor %}"
    )
    assert found_in(audit(tmp_path, rows, model=folder)) == {}


def test_few_rows_are_unfit(tmp_path: Path) -> None:
    report = audit(tmp_path, sound_rows(5))
    assert found_in(report) == {"too_few": ("error", 5)}
    assert report["verdict"] == "unfit"
    assert audit(tmp_path, [*sound_rows(20), *[chat("Why?", "")] * 30])["verdict"] == "unfit", "less than half stays"


# Lengths, templates, methods, benchmarks


def test_a_limit_tells_what_it_cuts_in_words_and_in_the_models_own_tokens(tmp_path: Path, tiny_model: Path) -> None:
    rows = sound_rows(ROWS)
    rows[2] = answered(rows[2], sentence(random.Random(0), 300))
    rows[3] = chat(sentence(random.Random(1), 300), "Yes, they do so.")
    in_words = audit(tmp_path, rows, max_length=100)
    assert found_in(in_words) == {"cut": ("warning", 2)}
    assert in_words["tokens"]["tokenizer"] == "words"
    report = audit(tmp_path, rows, model=tiny_model, max_length=400, clean=tmp_path / "short.jsonl")
    assert found_in(report) == {"answer_cut": ("error", 1), "cut": ("warning", 2)}
    assert (report["verdict"], report["cleaned"]["left_out"]) == ("fixable", 1), "one long row spoils no set"
    assert "--max-length=400" in report["fix_command"]
    assert report["tokens"]["tokenizer"] == str(tiny_model)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    lengths = [len(tokenizer.apply_chat_template(row["messages"], return_dict=False)) for row in rows]
    assert (report["tokens"]["max"], report["tokens"]["total"]) == (max(lengths), sum(lengths))


def test_beyond_a_hundred_thousand_rows_a_stated_sample_is_tokenised(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents.data_engineer.checks import lengths

    monkeypatch.setattr(lengths, "ALL", 5_000)
    monkeypatch.setattr(lengths, "SAMPLE", 1_000)
    rows = [{"prompt": f"What is {n} and {n}?", "completion": "It is so. " * (n % 40 + 1)} for n in range(6_000)]
    sampled = audit(tmp_path, rows, model=tiny_model)["tokens"]
    exact = audit(tmp_path, rows, model=tiny_model, exact=True)["tokens"]
    assert "sample" not in exact
    assert (sampled["sample"]["n"], sampled["sample"]["of"]) == (1_000, 6_000)
    for name in ("p50", "p95", "total"):
        low, high = sampled["sample"][name]
        assert low <= exact[name] <= high, name
        assert low <= sampled[name] <= high
    assert sampled == audit(tmp_path, rows, model=tiny_model)["tokens"], "the same seed, the same sample"


def test_a_template_that_refuses_a_row_says_why(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / file).write_bytes((tiny_model / file).read_bytes())
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    rows = sound_rows(ROWS)
    rows[11] = with_message(rows[11], 0, role="system", content="Be brief.")
    report = audit(tmp_path, rows, model=folder)
    assert found_in(report) == {"template_fails": ("error", 1)}
    assert report["findings"][0]["examples"] == [
        {"source": str(tmp_path / "rows.jsonl"), "row": 12, "text": "no system role"}
    ]
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(BadInput, match="no Jinja template"):
        audit(tmp_path, rows, model=folder)


def test_a_method_that_the_rows_cannot_train_is_an_error_with_the_reason(tmp_path: Path) -> None:
    report = audit(tmp_path, sound_rows(ROWS), method="dpo")
    assert (report["verdict"], found_in(report)) == ("unfit", {"cannot_train": ("error", 0)})
    assert "rejected" in report["findings"][0]["advice"]
    assert report["methods"] == ["sft"]
    assert "rejected" in report["not_trainable"]["dpo"]
    with pytest.raises(BadInput, match="`ppo` is no method; give one of sft, dpo"):
        audit(tmp_path, sound_rows(ROWS), method="ppo")


def test_a_benchmarks_items_are_found_and_never_quoted(tmp_path: Path) -> None:
    items = force_rows(30)
    benchmark = write_jsonl(tmp_path / "physics.jsonl", items)
    rows = sound_rows(ROWS)
    rows[17] = chat(items[4]["Question"].upper(), "It is so.")
    report = audit(tmp_path, rows, benchmark=benchmark)
    assert found_in(report) == {"contamination": ("error", 1)}
    (entry,) = report["contamination"]
    assert (entry["benchmark"], entry["flagged"], entry["items"], entry["rate"]) == ("physics", 1, 1, 0.033333)
    assert entry["examples"][0]["row"] == 18
    assert "crate" not in json.dumps([entry, report["findings"]]).lower()
    assert audit(tmp_path, sound_rows(ROWS), benchmark=benchmark)["contamination"][0]["flagged"] == 0


def test_the_licence_of_a_data_set_is_judged() -> None:
    from agents.data_engineer.checks.card import Card
    from agents.data_engineer.checks.check import Whole
    from agents.reading.sources import Source

    def judged(licence: str, gated: bool = False) -> list[tuple[str, str]]:
        source = Source(
            Path("train.parquet"), "train", "org/set/train.parquet", origin="org/set", licence=licence, gated=gated
        )
        return [(found.kind, found.severity) for found in Card([source]).findings(Whole(1, lambda _: ()))]

    assert judged("apache-2.0") == []
    assert judged("cc-by-nc-4.0") == [("licence", "warning")]
    assert judged("cc-by-nc-nd-4.0") == [("licence", "warning"), ("licence", "warning")]
    assert judged("", gated=True) == [("licence", "info"), ("gated", "info")]


# The cleaned copy


def test_the_cleaned_copy_has_nothing_left_to_mend(tmp_path: Path) -> None:
    rows = sound_rows(ROWS)
    bad = [
        answered(rows[1], ""), rows[2], {"messages": rows[3]["messages"][:1]},
        chat("Where was it?", "It was the cafÃ© where we met every day in the autumn."),
        chat("What colour is it?", "It is \x1b[31mred\x1b[0m, as all of them are."),
        chat("Which token is it?", f"Take HF_TOKEN={TOKEN}, it is mine."),
    ]  # fmt: skip
    copy = tmp_path / "clean.jsonl"
    report = audit(tmp_path, [*rows, *bad], clean=copy)
    assert report["verdict"] == "fixable"
    assert report["cleaned"] == {
        "path": str(copy), "rows": ROWS + 3, "left_out": 3, "unreadable": 0, "mended": 3, "not_copied": 0,
    }  # fmt: skip
    again = postgrad.audit(copy)
    assert (again["verdict"], again["findings"]) == ("fit", [])
    kept = [json.loads(line) for line in copy.read_text().splitlines()]
    assert kept[:ROWS] == rows
    assert [row["messages"][1]["content"] for row in kept[ROWS:]] == [
        "It was the café where we met every day in the autumn.", "It is red, as all of them are.",
        "Take HF_TOKEN=[redacted], it is mine.",
    ]  # fmt: skip
    with pytest.raises(BadInput, match="is there already"):
        audit(tmp_path, rows, clean=copy)


# Sources that break off


def test_a_truncated_gzip_is_a_finding_and_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in sound_rows(400)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    report = postgrad.audit(path)
    assert report["verdict"] == "unfit"
    assert report["findings"][0]["kind"] == "truncated"
    assert report["findings"][0]["examples"][0]["row"] == 0, "the end of a file is no row"
    assert counted(report["findings"][0]) == "1 file"
    assert 0 < report["rows"] < 400


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "a.jsonl", sound_rows(ROWS))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 or not")
    report = postgrad.audit([good, tmp_path / "b.parquet"])
    assert (report["rows"], report["verdict"], report["findings"][0]["kind"]) == (ROWS, "unfit", "unreadable")
    with pytest.raises(BadInput, match=r"b\.parquet"):
        postgrad.audit(tmp_path / "b.parquet")


# The command line and the page


def test_the_command_says_the_verdict_first_and_how_to_mend(cli: Cli, tmp_path: Path) -> None:
    rows = sound_rows(ROWS)
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0], chat("Why?", "")])
    done = cli("audit", "rows.jsonl")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == "fixable: empty and exact duplicates can be mended, and 60 of 62 rows stay"
    assert "warning  exact duplicates  1 row, 1.6 %" in lines
    assert any(line.strip().startswith("rows.jsonl:61  like rows.jsonl:1: ") for line in lines)
    command = next(line.strip() for line in lines if "--clean" in line)
    assert command == "postgrad audit rows.jsonl --clean rows-clean.jsonl"
    assert cli(*command.split()[1:]).returncode == 0
    assert postgrad.audit(tmp_path / "rows-clean.jsonl")["verdict"] == "fit"


def test_fail_on_and_bad_options_have_their_exit_codes(cli: Cli, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [*sound_rows(ROWS), chat("Why?", "")])
    assert cli("audit", "rows.jsonl", "--fail-on", "error").returncode == 0
    failed = cli("audit", "rows.jsonl", "--fail-on", "warning", "--json")
    assert (failed.returncode, json.loads(failed.stdout)["verdict"]) == (1, "fixable")
    done = cli("audit", "rows.jsonl", "--benchmark", "none.jsonl")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    for options in ({"split": "dev"}, {"model": "./none"}, {"max_length": 0}):
        with pytest.raises(BadInput):
            postgrad.audit(tmp_path / "rows.jsonl", **options)  # type: ignore[arg-type]


def test_the_page_shows_rows_as_text_and_loads_nothing(cli: Cli, tmp_path: Path) -> None:
    rows = sound_rows(ROWS)
    rows[3] = chat("<script>alert(1)</script>", "")
    rows[4] = {"messages": rows[4]["messages"], "<img src=x>": 1}
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert cli("audit", "rows.jsonl", "--html", "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_the_page_overwrites_nothing_but_an_earlier_page(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = Path(write_jsonl(folder / "rows.jsonl", [*sound_rows(ROWS), chat("Why?", "")]))
    before = rows.read_bytes()
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    (tmp_path / "link.html").symlink_to(rows)
    for data, page, why in (
        (rows, rows, "is data that are audited"), (rows, "link.html", "is data that are audited"),
        (folder, folder / "page.html", "lies among them"), (rows, "notes.html", "is no page of an audit"),
        (rows, tmp_path / "gone" / "page.html", "is no folder"),
    ):  # fmt: skip
        done = cli("audit", data, "--html", page)
        assert (done.returncode != 0, done.stdout, why in done.stderr) == (True, "", True), done.stderr
    assert "name for the page" in cli("audit", rows, "--html", "a.html", "--clean", "a.html").stderr
    assert rows.read_bytes() == before
    assert (tmp_path / "notes.html").read_text() == "<p>mine</p>"
    for _ in range(2):
        assert cli("audit", rows, "--html", "page.html").returncode == 0


def test_a_reader_that_stops_reading_ends_the_command_quietly(environment: dict[str, str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [*sound_rows(ROWS), chat("Why?", "")])
    process = subprocess.Popen(
        [*COMMAND, "audit", "rows.jsonl"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == -signal.SIGPIPE


def test_ctrl_c_leaves_with_130_and_no_half_written_copy(environment: dict[str, str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", sound_rows(ROWS) * 2_000)
    process = subprocess.Popen(
        [*COMMAND, "audit", "rows.jsonl", "--clean", "clean.jsonl"], env=environment, cwd=tmp_path,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.glob("*clean*")) == []
