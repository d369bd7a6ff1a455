"""What a report says of scores: raw and completed, what was cut off, what a claim could have shown, and for whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from postgrad.report.write import write_report
from shared_memory.records import CategoryScore, ComparisonResult, EvalResult, Part
from tests.postgrad.a_run import ARun, finished_run


def markdown(run: ARun) -> str:
    write_report(run.settings, run.db, run.run_id)
    return run.paths.report_md.read_text()


def change(run: ARun, experiment: str, part: Part, **fields: object) -> None:
    result = run.journal.all(EvalResult)[f"{experiment}/physics/{part}"]
    run.journal.put(result.model_copy(update=fields))


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_tells_what_was_cut_off_from_what_holds_no_answer(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    fields = {
        "truncated": 0.77,
        "completed": 0.543,
        "unparsed": 0.04,
        "epochs": 5,
        "judge": "some/judge",
        "clusters": 40,
    }
    change(run, "e2", Part.REPORT, **fields)
    text = markdown(run)
    head = row(text, "model | items")
    assert head[2:] == ["score", "n", "completed", "truncated", "no answer", "given answered", "K"]
    cells = dict(zip(head, row(text, "e2 | report"), strict=True))
    assert (cells["completed"], cells["truncated"], cells["no answer"], cells["K"]) == (
        "54.3 %",
        "77.0 %",
        "4.0 %",
        "5",
    )
    assert "the errors are clustered by them" in text
    assert "Answers were graded by some/judge." in text


def test_a_record_without_these_figures_has_none(tmp_path: Path) -> None:
    text = markdown(finished_run(tmp_path))
    assert row(text, "e2 | report")[4] == "–"
    assert "clustered" not in text
    assert "graded by" not in text


@pytest.mark.parametrize("win", [True, False])
def test_a_claim_says_what_so_many_items_can_show(tmp_path: Path, win: bool) -> None:
    run = finished_run(tmp_path) if win else finished_run(tmp_path, delta=0.05, low=-0.03, high=0.13, p=0.21)
    claim = run.journal.all(ComparisonResult)["physics"]
    run.journal.put(claim.model_copy(update={"test": "McNemar's test, mid-p", "mde": 0.115, "discordant": 31}))
    text = markdown(run)
    assert "(McNemar's test, mid-p; 31 items differ)" in text
    assert "So many items show a true difference of 11.5 points in 80 % of cases" in text
    assert ("a true difference below 11.5 points may well have gone unseen" in text) != win


def test_the_score_that_chose_is_said_to_be_flattered(tmp_path: Path) -> None:
    assert "Had all 2 experiments been equally good, the best of them would still look" in markdown(
        finished_run(tmp_path)
    )


def test_every_family_has_its_error_and_a_small_one_is_marked(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for model in ("baseline", "e2"):
        categories = run.journal.all(EvalResult)[f"{model}/physics/report"].categories
        larger = {**categories, "speed": CategoryScore(score=0.5, n=60, stderr=0.06)}
        change(run, model, Part.REPORT, categories=larger)
    text = markdown(run)
    assert row(text, "density")[2] == "12 few"
    assert row(text, "speed")[2:4] == ["60", "50.0 ± 6.0 %"]
    assert "few: under 50 items" in text
