"""`postgrad compare`: what it says of two models and more, what it shows, and what it leaves open."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

import postgrad
from postgrad.cli import app
from shared_memory.errors import BadInput
from shared_memory.records import EvalResult, Part, Verdict
from tests.postgrad.a_run import QUESTION, ARun, baseline, new_run

CATEGORIES = ("algebra", "algebra", "algebra", "geometry")


def records(path: Path, rate: float, *, n: int = 224, k: int = 1, cluster: int = 0, seed: int = 0) -> Path:
    """Item records of a model that is right on the easiest items up to `rate`; a fifth of what is wrong is cut off, and
    a fifth of it holds no answer. `cluster`: items that share a passage."""
    draw = Random(seed)
    rows: list[dict[str, Any]] = []
    for item in range(n):
        hard = Random(item).random()
        for epoch in range(1, k + 1):
            right, how = hard + draw.uniform(-0.2, 0.2) < rate, draw.random()
            rows.append(
                {
                    "id": f"q{item}",
                    "category": CATEGORIES[item % 4],
                    "cluster": f"p{item // cluster}" if cluster else "",
                    "epoch": epoch,
                    "score": float(right),
                    "answered": right or how > 0.4,
                    "truncated": not right and how < 0.2,
                    "output": f"{QUESTION}\u2028",
                }
            )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def shown(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_where_no_difference_is_shown_the_sentence_says_what_could_have_been(tmp_path: Path) -> None:
    many = postgrad.compare(
        records(tmp_path / "a.jsonl", 0.4, n=1000), records(tmp_path / "b.jsonl", 0.41, n=1000, seed=1)
    )
    assert not many["shown"]
    assert "No difference between" in many["sentence"]
    assert f"a true difference below {100 * many['mde']:.1f} points may well have gone unseen" in many["sentence"]
    assert "too few items" not in many["sentence"]

    few = postgrad.compare(records(tmp_path / "a.jsonl", 0.4, n=30), records(tmp_path / "b.jsonl", 0.45, n=30, seed=1))
    assert few["mde"] > 0.1
    assert "these are too few items to show much" in few["sentence"]

    two = postgrad.compare(records(tmp_path / "a.jsonl", 0.4, n=2), records(tmp_path / "b.jsonl", 0.45, n=2))
    assert "these are too few items to show anything" in two["sentence"]


def test_what_was_cut_off_and_what_holds_no_answer_are_told_apart(tmp_path: Path) -> None:
    compared = postgrad.compare(records(tmp_path / "a.jsonl", 0.3), records(tmp_path / "b.jsonl", 0.6))
    for model in compared["models"]:
        assert model["truncated"] > 0
        assert model["unparsed"] > 0
        assert model["completed"] == pytest.approx(model["score"] / (1 - model["truncated"]))
        assert model["answered"] + model["truncated"] + model["unparsed"] == pytest.approx(1)
        assert (model["n"], model["epochs"], model["clusters"]) == (224, 1, 0)
    assert compared["shown"]
    assert "may well have gone unseen" not in compared["sentence"]


def test_what_records_do_not_tell_is_not_made_up(tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({"id": f"q{n}", "score": n % 2}) + "\n" for n in range(20)))
    compared = postgrad.compare(bare, records(tmp_path / "a.jsonl", 0.5))
    assert compared["models"][0]["truncated"] is None
    assert compared["models"][0]["completed"] is None
    assert compared["models"][1]["truncated"] is not None
    assert "only 20 of 224 items were scored on both" in compared["sentence"]
    for score in ('"high"', "NaN", "null"):
        bare.write_text(f'{{"id": "q1", "score": {score}}}\n')
        with pytest.raises(BadInput, match="without `id` or `score`"):
            postgrad.compare(bare, tmp_path / "a.jsonl")


def test_answers_to_the_same_item_count_as_one_and_another_number_of_them_is_said(tmp_path: Path) -> None:
    once, often = records(tmp_path / "a.jsonl", 0.4), records(tmp_path / "b.jsonl", 0.4, k=4)
    compared = postgrad.compare(once, often)
    assert compared["n"] == 224
    assert f"{once} was asked once an item, {often} 4 times" in compared["sentence"]
    assert [model["epochs"] for model in compared["models"]] == [1, 4]
    assert compared["models"][0]["within"] is None
    assert 0 < compared["models"][1]["within"] < 1


def test_items_of_a_passage_are_taken_as_a_whole(tmp_path: Path) -> None:
    alone = postgrad.compare(records(tmp_path / "a.jsonl", 0.4), records(tmp_path / "b.jsonl", 0.6))
    shared = postgrad.compare(
        records(tmp_path / "a.jsonl", 0.4, cluster=8), records(tmp_path / "b.jsonl", 0.6, cluster=8)
    )
    assert (alone["clusters"], shared["clusters"]) == (0, 28)
    assert alone["delta"] == shared["delta"]
    assert shared["test"] == "permutation of signs by cluster"
    one_tells = postgrad.compare(tmp_path / "a.jsonl", records(tmp_path / "b.jsonl", 0.6))
    assert one_tells["clusters"] == 28


def test_several_models_are_each_compared_with_the_first_and_the_p_values_corrected(tmp_path: Path) -> None:
    base = records(tmp_path / "a.jsonl", 0.40)
    others = [records(tmp_path / f"{n}.jsonl", 0.40 + rise, seed=n) for n, rise in enumerate((0.02, 0.2, 0.055), 1)]
    compared = postgrad.compare(base, *others)
    pairs = [compared, *compared["others"]]
    assert [pair["b"] for pair in pairs] == [str(other) for other in others]
    assert all(pair["a"] == str(base) and pair["looked_at"] == 3 for pair in pairs)
    assert all(pair["p_corrected"] >= pair["p_value"] for pair in pairs)
    best = min(pairs, key=lambda pair: pair["p_value"])
    assert best["p_corrected"] == pytest.approx(3 * best["p_value"])
    assert best["shown"]
    alone = postgrad.compare(base, others[2])
    assert alone["p_corrected"] == alone["p_value"] == pairs[2]["p_value"]
    text = shown(base, *others)
    assert text.count(" items: ") == 3
    assert "corrected for 3 candidates looked at" in text


def test_an_experiment_on_the_items_that_chose_it_answers_for_all_that_were_looked_at(home: Path) -> None:
    run = baseline(new_run(home))
    recipe = run.prepare()
    for name, rate in (("e1", 0.04), ("e2", 0.4), ("e3", 0.1)):
        run.train(name, "baseline", recipe, Verdict.KEEP, "LoRA", loss=1.0)
        run.score(name, Part.SELECTION, rate, 0.9, n=100)
    compared = postgrad.compare(f"{run.run_id}/baseline", f"{run.run_id}/e3")
    assert (compared["n"], compared["looked_at"]) == (100, 3)
    assert compared["p_corrected"] == pytest.approx(min(1, 3 * compared["p_value"]))
    assert "corrected for 3 candidates looked at" in compared["sentence"]
    assert "these items chose an experiment, and flatter it" in compared["sentence"]


def with_settings(run: ARun, result: EvalResult, digest: str, epochs: int) -> None:
    run.journal.put(result.model_copy(update={"settings_digest": digest, "epochs": epochs}))


def test_scores_by_other_settings_are_refused_with_what_differs(home: Path) -> None:
    for name, epochs in (("20261121-once-a1b2", 1), ("20261121-often-c3d4", 5)):
        run = new_run(home, run_id=name)
        with_settings(run, run.score("baseline", Part.REPORT, 0.4, 0.9), digest=f"{epochs}e" * 32, epochs=epochs)
    with pytest.raises(BadInput, match=r"measured on physics with different settings \(K 1 against 5\); evaluate both"):
        postgrad.compare("20261121-once", "20261121-often")


def test_a_terminal_shows_a_sentence_a_table_and_the_difference_drawn(tmp_path: Path) -> None:
    a, b = records(tmp_path / "a.jsonl", 0.4), records(tmp_path / "b.jsonl", 0.6, seed=1)
    text = shown(a, b)
    compared = postgrad.compare(a, b)
    assert text.startswith(compared["sentence"])
    for part in ("completed", "truncated", "no answer", "McNemar", "shows in 80 % of cases", "224", "hints, no claims"):
        assert part in text
    assert [row["category"] for row in compared["categories"]] == ["algebra", "geometry"]
    lines = [line for line in text.splitlines() if line.startswith(("all items", "algebra", "geometry"))]
    drawings = [line.rstrip()[-25:] for line in lines]
    assert len(drawings) == 3
    for drawing in drawings:
        assert set(drawing) <= set("·├─┤┼│●")
        assert drawing.count("●") == 1
        assert drawing[12] in "│┼├┤●"
    assert "56 " in lines[2]
    assert "few" not in lines[2]
    assert QUESTION not in text


def test_a_category_of_few_items_is_marked(tmp_path: Path) -> None:
    text = shown(records(tmp_path / "a.jsonl", 0.4, n=120), records(tmp_path / "b.jsonl", 0.6, n=120))
    assert "30 few" in text
    assert "90 few" not in text


@pytest.mark.parametrize("name", ["plot.svg", "plot.png"])
def test_the_differences_are_drawn_into_a_file(tmp_path: Path, name: str) -> None:
    a, b = records(tmp_path / "a.jsonl", 0.4), records(tmp_path / "b.jsonl", 0.6)
    told = json.loads(shown(a, b, "--plot", tmp_path / name, "--json"))
    assert told["delta"] > 0
    start = (tmp_path / name).read_bytes()[:2000]
    assert b"<svg" in start if name.endswith("svg") else start.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--plot", "plot.gif"], "a plot is saved as"),
        (["--plot", "/proc/none/plot.svg"], "cannot be written"),
    ],
)
def test_a_plot_that_cannot_be_made_is_one_line(tmp_path: Path, more: list[str], said: str) -> None:
    a = records(tmp_path / "a.jsonl", 0.4)
    with pytest.raises(BadInput, match=said):
        CliRunner().invoke(app, ["compare", str(a), str(a), *more], catch_exceptions=False)


def test_one_model_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least two models"):
        CliRunner().invoke(app, ["compare", str(records(tmp_path / "a.jsonl", 0.4))], catch_exceptions=False)
