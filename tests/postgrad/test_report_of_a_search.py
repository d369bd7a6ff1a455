"""What a report says of a goal without a benchmark, and of a search in which everything happened."""

from __future__ import annotations

import re
from pathlib import Path

from shared_memory.goal_reading import read_goal
from tests.postgrad.a_tree import tree_of_experiments
from tests.postgrad.test_report import Page, written


def test_without_a_benchmark_it_says_what_was_measured_and_what_that_proves(tmp_path: Path) -> None:
    html, markdown, data = written(tree_of_experiments(tmp_path))
    for text in (Page(html).text, markdown):
        assert "40 of 520 rows were held out of training before anything else" in text
        assert "how many nats a token the model needs for the reference answers; lower is better" in text
        assert "It does not show that its answers are right" in text
        assert "2.300 ± 0.020 nats" in text
        assert "−0.800 nats a token, 95 % interval −0.900 to −0.700, p < 0.001; lower is better." in text
        assert "The interval lies below 0." in text
        assert "given answered" not in text, "nothing was answered"
        assert "not checked against any benchmark" not in text
    assert 'class="answer improved"' in html
    assert data["goal"]["benchmark"] == [], "the goal stays as it was written"  # type: ignore[index]


def test_a_loss_that_rose_is_nowhere_called_an_improvement(tmp_path: Path) -> None:
    html, markdown, _ = written(tree_of_experiments(tmp_path, low=0.1, high=0.3))
    for text in (Page(html).text, markdown):
        assert "scores worse than the base model" in text
        assert "this proves no gain" in text
        assert "mproved" not in text
    assert 'class="answer improved"' not in html


def test_the_tree_tells_of_every_experiment_its_branch_its_fate_and_its_score(tmp_path: Path) -> None:
    html, markdown, _ = written(tree_of_experiments(tmp_path))
    tree = [line for line in markdown.splitlines() if re.match(r" *- \*\*e\d", line)]
    assert [line.split(": ")[0].strip() for line in tree] == [
        "- **e1** (draft, discard, 2.013 ± 0.020 nats)",
        "- **e2** (draft, rejected, –)",
        "- **e3** (draft, crash, –)",
        "- **e4** (debug, keep, 1.914 ± 0.020 nats)",
        "- **e5** (improve, champion, 1.511 ± 0.020 nats)",
        "- **e6** (ablate, discard, 1.804 ± 0.020 nats)",
    ]
    assert [len(line) - len(line.lstrip()) for line in tree] == [0, 0, 0, 2, 4, 6]
    for text in (Page(html).text, markdown):
        assert "A person refused it: it costs too much" in text
        assert "It crashed (diverged): loss is nan at step 3" in text


def test_what_failed_is_told_with_what_was_done_about_it(tmp_path: Path) -> None:
    html, markdown, _ = written(tree_of_experiments(tmp_path))
    rows = [
        line for line in markdown.splitlines() if line.startswith(("| training of e1, att", "| training of e3, att"))
    ]
    assert "out of memory | trained again with micro batch 16 → 8, the mathematics as before" in rows[0]
    assert rows[0].endswith(": succeeded |")
    assert "diverged | mended as e4 (e3 with learning rate 0.02 → 0.00667): keep" in rows[1]
    assert "| e2, refused by a person | it costs too much |" in markdown
    assert "The playbook stood in for the data engineer's language model: `some/model` gave" in Page(html).text


def test_what_a_change_was_worth_is_evidence_and_no_claim(tmp_path: Path) -> None:
    _, markdown, _ = written(tree_of_experiments(tmp_path))
    assert "evidence for the search, no claim; null and negative results stay. Lower is better" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| epochs | 2 → 1 |")]
    assert [row.split(" | ")[-1] for row in rows] == ["e5 against e4 |", "e5 against e6 |"], "the largest first"
    assert re.search(r"\| −0\.293 ± 0\.\d{3} \| −0\.3\d\d to −0\.2\d\d \| < 0\.001 \| 20 \| e5 against e6 \|$", rows[1])


def test_consent_is_told_with_its_grounds_and_its_reach(tmp_path: Path) -> None:
    html, markdown, _ = written(tree_of_experiments(tmp_path))
    for text in (Page(html).text, markdown):
        assert "Jobs approved by a person: 2; covered by a person's earlier consent: 1;" in text
        assert "covered by the consent to “training of e1, as shown at the gate”" in text
        assert "$0.00, 3.0 h for 3 attempts at the same mathematics" in text
        assert "2026-12-24T18:00:00" in text
        assert "up to 3 experiments, once a first one has worked" in text
    assert "| researcher | 0 | 0 s | 1,234 | $0.00 |" in markdown


def test_it_says_how_to_do_it_again_and_leaves_the_goal_as_a_file(tmp_path: Path) -> None:
    run = tree_of_experiments(tmp_path, text='say "é" \\ 🙂')
    html, markdown, _ = written(run)
    for text in (Page(html).text, markdown):
        assert text.index(f"postgrad reproduce {run.run_id}") < text.index(f"postgrad run {run.paths.goal}")
        assert "torch 2.13.0" in text, "the packages that the jobs stood on, not those of today"
    assert read_goal(run.paths.goal) == run.goal
    run.journal.note("reproduced", "20261122-again", {"verdict": "agrees", "reason": "20 of 20 items score as before"})
    assert "20261122-again: agrees; 20 of 20 items score as before" in Page(written(run)[0]).text
