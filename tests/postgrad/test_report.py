from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from postgrad.report.families import share_of
from postgrad.report.write import escape_markdown, linked, write_report
from shared_memory.records import Experiment, Part, Purpose, Verdict
from shared_memory.runs import Outcome, RunStatus
from tests.postgrad.a_run import QUESTION, SECRET, UNSEEN, ARun, a_spec, baseline, finished_run, new_run

LOADS = {"src", "srcset", "poster", "data", "action", "formaction", "background", "ping"}
"""Attributes by which a page loads something, or sends something off; `href` does so except on `<a>`."""


class Page(HTMLParser):
    """A page's headings, ids, links, text, and whatever it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: Counter[str] = Counter()
        self.headings: list[str] = []
        self.captions = self.tables = 0
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._tag = tag
        self.ids.update([str(named["id"])] if "id" in named else [])
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if named.get("role") == "img":
            self.images.append(named)
        for name, value in attrs:
            if name in LOADS or (name in ("href", "xlink:href") and tag != "a" and not str(value).startswith("#")):
                self.loads.append(f"<{tag} {name}={value}>")
            elif tag == "a" and name == "href":
                self.links.append(str(value))
        if tag in ("script", "link", "iframe", "object", "embed", "img", "base", "form"):
            self.loads.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in ("h1", "h2"):
            self.headings.append(data)
        if self._tag == "style" and re.search(r"url\(|@import", data):
            self.loads.append(data)
        if self._tag != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(run: ARun) -> tuple[str, str, dict[str, object]]:
    """HTML, Markdown and JSON of a run's report."""
    path = write_report(run.settings, run.db, run.run_id)
    assert path == run.paths.report_html
    return path.read_text(), run.paths.report_md.read_text(), json.loads(run.paths.report_json.read_text())


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = Page(written(finished_run(tmp_path))[0])
    assert page.loads == []
    assert {link for link in page.links if not link.startswith("#")} == {
        "https://arxiv.org/abs/2603.08640",
        "https://thinkingmachines.ai/blog/lora/",
    }


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    page = Page(written(finished_run(tmp_path))[0])
    assert page.tables == page.captions > 5
    assert page.headings[:3] == [
        "Teach SmolLM2-135M-Instruct to answer four-choice physics questions",
        "The question",
        "Baseline against champion",
    ]
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.images) == 3
    assert all("e1" in str(image["aria-label"]) for image in page.images)


def test_the_plots_take_the_colour_of_the_page(tmp_path: Path) -> None:
    html = written(finished_run(tmp_path))[0]
    assert html.count("<svg") == 3
    assert "currentColor" in html
    assert "#010203" not in html
    assert "<?xml" not in html
    assert "<metadata>" not in html
    assert "<text" in html


def test_a_win_says_what_it_rests_on(tmp_path: Path) -> None:
    html, markdown, data = written(finished_run(tmp_path))
    for text in (Page(html).text, markdown):
        for part in (
            "Improved: on the report items of physics",
            "+61.5 to +78.5",
            "given answered",
            "unseen families",
            "momentum, power",
            "another epoch from e1's checkpoint",
            "LoRA r16 α32",
            "ab" * 32,
            "5e" * 32,
            "rows in",
            "Apache-2.0",
            "python train.py --config config.json",
            "training of e2, as shown at the gate",
            "2,210",
        ):
            assert part in text
    assert data["answer"] == re.search(r"\*\*(Improved: .*)\*\*", markdown)[1]  # type: ignore[index]
    assert isinstance(data["records"], dict)
    assert len(data["records"]["jobs"]) == 9


@pytest.mark.parametrize("low", [-0.03, 0.0])
def test_a_difference_that_proves_nothing_is_nowhere_called_an_improvement(tmp_path: Path, low: float) -> None:
    html, markdown, _ = written(finished_run(tmp_path, delta=0.05, low=low, high=0.13, p=0.21))
    for text in (Page(html).text, markdown):
        assert "No improvement was shown" in text
        assert "Improved" not in text
        assert "improved" not in text
        assert "this proves no gain" in text
    assert 'class="answer improved"' not in html


def test_policy_approval_is_said_plainly(tmp_path: Path) -> None:
    html, markdown, _ = written(finished_run(tmp_path))
    said = "No person approved the jobs of this run: all 9 were approved by policy (--approve auto)."
    assert said in Page(html).text
    assert said in markdown


def test_approvals_of_a_person_and_refusals_are_told_apart(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    run.job(Purpose.GENERATION, "data", by="person")
    run.decide(a_spec(Purpose.TRAINING, "e1"), by="person", approved=False)
    markdown = written(run)[1]
    assert "Jobs approved by a person: 1; approved by policy (--approve auto): 1." in markdown
    assert "| training of e1, as shown at the gate | rejected by a person |" in markdown
    assert "too long" in markdown


def test_no_question_and_no_answer_of_a_benchmark_is_printed(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for text in written(run)[:2]:
        assert QUESTION not in text
    assert QUESTION not in run.paths.report_json.read_text()


def test_a_failed_run_says_what_failed_and_what_is_missing(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    error = "train.py ran out of memory; lower micro_batch and resume"
    run.job(Purpose.TRAINING, "e1", error=error)
    recipe = run.prepare()
    run.journal.put(
        Experiment(
            id="e1",
            parent="baseline",
            change="LoRA",
            recipe=recipe,
            dataset="d1",
            status="crashed",
            verdict=Verdict.CRASH,
            error=error,
        )
    )
    run.ended(RunStatus.FAILED, error=f"e1 crashed: {error}")
    html, markdown, _ = written(run)
    for text in (Page(html).text, markdown):
        assert f"The run failed: e1 crashed: {error}." in text
        assert "training of e1, attempt 1, failed" in text
        assert error in text
        assert "No loss curve was recorded for e1." in text
        assert "the one experiment crashed, so the base model stays." in text


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    html, markdown, data = written(new_run(tmp_path))
    assert Page(html).loads == []
    assert data["missing"] == ["The base model was not scored.", "No recipe was chosen.", "No training data was made."]
    assert "The run is still going on." in markdown
    assert "No job was approved." in markdown


def test_a_run_cut_short_says_what_was_left(tmp_path: Path) -> None:
    run = baseline(new_run(tmp_path))
    run.train("e1", "baseline", run.prepare(), None, "LoRA", loss=1.0)
    run.ended(RunStatus.TIMED_OUT, Outcome.NONE, "2 min are left")
    _, markdown, data = written(run)
    assert data["missing"] == ["e1 was trained but not scored."]
    assert "its time was used up: 2 min are left." in markdown


def test_texts_of_others_stay_text(tmp_path: Path) -> None:
    run = new_run(tmp_path, text=f"<script>alert(1)</script> ![x](http://tracker/x.png) {SECRET} \x1b[31m| *bold*")
    html, markdown, _ = written(run)
    assert Page(html).loads == []
    assert "<script" not in html
    assert SECRET not in html + markdown + run.paths.report_json.read_text()
    assert "&lt;script>" in markdown
    assert "<script" not in markdown
    assert "![" not in markdown
    assert "\x1b" not in html + markdown


def test_writing_the_report_again_replaces_it(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    assert written(run)[0] == written(run)[0]
    assert sorted(path.name for path in run.paths.root.glob("*report*")) == ["report.html", "report.json", "report.md"]


def test_unseen_families_are_measured_from_the_item_records(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    result = run.score("e1", Part.REPORT, 0.7, 0.9)
    share = share_of(result, frozenset(UNSEEN))
    assert share is not None
    assert share.n == 24
    assert share.stderr is not None
    assert share.answered is not None
    rows = [row for row in map(json.loads, Path(result.items).read_text().splitlines()) if row["category"] in UNSEEN]
    assert share.score == pytest.approx(sum(row["score"] for row in rows) / 24)
    Path(result.items).unlink()
    without = share_of(result, frozenset(UNSEEN))
    assert without is not None
    assert without.score == pytest.approx(share.score)
    assert without.stderr is None


def test_only_web_addresses_and_arxiv_numbers_become_links() -> None:
    assert linked("see https://a.b/c.") == 'see <a href="https://a.b/c" rel="noreferrer">https://a.b/c</a>.'
    assert (
        linked("arXiv 2603.08640, § 4")
        == '<a href="https://arxiv.org/abs/2603.08640" rel="noreferrer">arXiv 2603.08640</a>, § 4'
    )
    assert linked('javascript:alert(1) <a href="x">') == "javascript:alert(1) &lt;a href=&#34;x&#34;&gt;"


def test_markdown_shows_text_as_it_is() -> None:
    assert escape_markdown("a|b [x](y) <i> p < 0.001\n* z") == r"a\|b \[x\](y) &lt;i> p < 0.001 \* z"
