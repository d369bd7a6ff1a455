"""Reading papers by section from HTML and PDF, and checking quotations against what was read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agents.researcher.library import Library, NotFound
from agents.researcher.papers.quotations import normalise, quotes
from agents.researcher.papers.reading import contents, section
from shared_memory.errors import BadInput, Unavailable
from tests.servers.literature import Literature, Sends, leads_to
from tests.servers.literature_pages import ABSTRACT_PAGE, GRPO, PUBLISHED, RECIPES, SHA, scholar_paper

PAGES = [
    """Data Recipes for Open Reasoning Models
Cy Ode
Abstract
We ablate 1,000 data recipes and find that two good
sources beat a broad mix.
1 Introduction
Open models lag behind closed ones, and the reason is the
data. We look for the reasons in the data, not in the opti-
mizer, which is the same in all runs.
2 Method
2.1 Sources
We draw questions from 27 public sources and answer each
of them sixteen times.""",
    """As Many as Needed
Table 1: Accuracy in percent on three tests.
Source GPQA AIME MATH
Math only 41.2 33.0 88.1
Broad mix 39.9 30.1 86.4
2.2 Filters
Filtering by verified answers gives no gain.
3
Results
The best two sources reach 54.0 on GPQA Diamond.
References
[1] Di Meer. On the Variance of Group Baselines. 2023.
A Prompts
Think before you answer, and end with the letter.""",
]


def plain_text(library: Library, name: str) -> str:
    """All of a paper."""
    sections = [entry.name for entry in contents(library, name).entries if entry.level == 1]
    return "\n".join(section(library, name, one, limit=40_000).text for one in sections)


@pytest.fixture(scope="module")
def pdf() -> bytes:
    """Two pages of text, with a running head and page numbers, as a PDF writer sets them."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}), PdfPages(stream) as file:
        for number, page in enumerate(PAGES, 1):
            figure = Figure(figsize=(6, 8))
            for row, line in enumerate([*page.splitlines(), str(number)]):
                figure.text(0.1, 0.95 - row * 0.04, line, fontsize=9)
            file.savefig(figure)
    return stream.getvalue()


def test_the_contents_come_first_with_numbers_sizes_and_tables(served: Literature, library: Library) -> None:
    found = contents(library, GRPO)
    assert (found.title, found.source) == ("Group Rewards for Small Reasoners", "arxiv_html")
    assert [(entry.name, entry.level) for entry in found.entries] == [
        ("Abstract", 1), ("1 Introduction", 1), ("4 Experiments", 1), ("4.1 Setup", 2), ("4.2 Main results", 2),
        ("Table 4", 3), ("References", 1), ("A Prompts", 1),
    ]  # fmt: skip
    table = found.entries[5]
    assert table.caption == "Accuracy in percent, mean of five seeds."
    for entry in found.entries:
        assert section(library, GRPO, entry.name).total == entry.chars > 0


@pytest.mark.parametrize("name", ["4.2", "Main results", "section 4.2", "4.2 Main Results", "§4.2", "4.2 main"])
def test_a_section_is_found_by_number_or_title(served: Literature, library: Library, name: str) -> None:
    passage = section(library, GRPO, name)
    assert passage.section == "4.2 Main results"
    assert "Group rewards help most where the base model fails on format." in passage.text


def test_a_section_holds_what_is_below_it(served: Literature, library: Library) -> None:
    text = section(library, GRPO, "Experiments").text
    assert text.startswith("## 4 Experiments\n\nAll runs take one GPU.\n\n### 4.1 Setup")
    assert "**Optimizer.**\n\nThe learning rate is 1e-6." in text
    assert r"$A_{i}=r_{i}-\bar{r}$ (1)" in text
    assert "Figure 2: Reward over steps." in text
    assert "Prompts" not in text


def test_a_table_stays_readable_with_its_merged_cells(served: Literature, library: Library) -> None:
    passage = section(library, GRPO, "table 4")
    assert passage.text.splitlines()[2:] == [
        "| Method | GPQA | GPQA | GSM8K 0-shot |",
        "| --- | --- | --- | --- |",
        "| Method | main | diamond | GSM8K 0-shot |",
        "| Models of 1.7B |  |  |  |",
        "| SFT | 30.4 | 28.0 | 71.2 |",
        r"| SFT \| group | 36.1 ± 0.8 | 33.5 | 85.3 |",
    ]


def test_sentences_are_whole_and_notes_stand_after_them(served: Literature, library: Library) -> None:
    text = section(library, GRPO, "1").text
    assert r"Small models gain little from imitation alone, as Meer (2023) found. We draw $\beta=0.04$ from" in text
    assert "[note: Code is open.]\n\n- One model, eight answers a prompt.\n- No value network." in text
    assert "It reaches 36.1% on GPQA." in section(library, GRPO, "Abstract").text
    assert "```\nAnswer the question.\nANSWER: $LETTER\n```" in section(library, GRPO, "Appendix A").text


def test_a_long_section_is_read_in_cuts_that_join_to_the_whole(served: Literature, library: Library) -> None:
    whole = section(library, GRPO, "4").text
    text, offset, cuts = "", 0, 0
    while offset is not None:
        passage = section(library, GRPO, "4", offset=offset, limit=200)
        assert 0 < len(passage.text) <= 200
        text, offset, cuts = text + passage.text, passage.next_offset, cuts + 1
    assert text == whole
    assert cuts >= 3
    assert section(library, GRPO, "4", offset=10**9).text == ""


def test_a_section_that_is_not_there_is_refused_with_those_that_are(served: Literature, library: Library) -> None:
    with pytest.raises(BadInput, match=r"no section `Main result table`; take one of: `4\.2 Main results`"):
        section(library, GRPO, "Main result table")
    with pytest.raises(BadInput, match="`Abstract`, `1 Introduction`"):
        section(library, GRPO, "9")


def test_ar5iv_stands_in_for_a_missing_html(served: Literature, library: Library, tmp_path: Path) -> None:
    del served.texts[f"/html/{GRPO}"]
    assert contents(library, GRPO).source == "ar5iv"
    assert [request.path for request in served.requests] == [f"/html/{GRPO}", f"/ar5iv/html/{GRPO}"]
    assert section(library, GRPO, "4.2").text
    assert len(served.requests) == 2  # what is not there is not asked for again with every section
    assert contents(Library(tmp_path / "another"), GRPO).source == "ar5iv"


def test_a_paper_that_was_never_converted_is_read_from_its_pdf(
    served: Literature, library: Library, pdf: bytes
) -> None:
    served.texts[f"/abs/{RECIPES}"] = Sends(ABSTRACT_PAGE, media_type="text/html")
    served.trouble("/ar5iv", leads_to(f"/abs/{RECIPES}"))  # as ar5iv does for what it could not convert
    served.texts[f"/pdf/{RECIPES}"] = Sends(pdf, media_type="application/pdf")
    found = contents(library, RECIPES)
    assert (found.source, found.title) == ("pdf", "Data Recipes for Open Reasoning Models")
    assert [(entry.name, entry.level) for entry in found.entries] == [
        ("Text", 1), ("Abstract", 1), ("1 Introduction", 1), ("2 Method", 1), ("2.1 Sources", 2), ("Table 1", 3),
        ("2.2 Filters", 2), ("3 Results", 1), ("References", 1), ("A Prompts", 1),
    ]  # fmt: skip
    table = section(library, RECIPES, "Table 1").text
    assert table.splitlines() == [
        "Table 1: Accuracy in percent on three tests.", "Source GPQA AIME MATH", "Math only 41.2 33.0 88.1",
        "Broad mix 39.9 30.1 86.4",
    ]  # fmt: skip
    text = plain_text(library, RECIPES)
    assert quotes(text, "not in the optimizer, which is the same in all runs")
    assert quotes(text, "We ablate 1,000 data recipes and find that two good sources beat a broad mix.")


def test_a_paper_whose_text_nobody_has_is_not_found_and_one_out_of_reach_is_not_to_be_had_now(
    served: Literature, library: Library, tmp_path: Path
) -> None:
    served.texts[f"/pdf/{RECIPES}"] = Sends(b"%PDF-1.4 broken", media_type="application/pdf")
    with pytest.raises(NotFound, match=r"nobody has the text of 2506\.04178 .*read its abstract instead"):
        contents(library, RECIPES)
    served.trouble("/ar5iv", Sends("down", 503), times=-1)
    with pytest.raises(Unavailable, match="not to be had now"):
        contents(Library(tmp_path / "another", backoff=0.01), RECIPES)


def test_a_paper_at_a_publisher_is_read_only_where_the_person_allows_its_host(
    served: Literature, library: Library
) -> None:
    with pytest.raises(BadInput, match="is not on arXiv and no open PDF of it is known"):
        contents(library, f"DOI:{PUBLISHED}")
    pdf_at = {"openAccessPdf": {"url": "https://journal.example/77.pdf", "status": "GOLD"}}
    served.trouble(f"/paper/{SHA[PUBLISHED]}", Sends(scholar_paper(PUBLISHED, **pdf_at)))
    with pytest.raises(BadInput, match=r"journal\.example is not among the sources .* add it to `allowed_hosts`"):
        contents(library, SHA[PUBLISHED])


def test_what_was_read_is_there_without_a_network(
    served: Literature, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = section(library, GRPO, "4.2")
    monkeypatch.setenv("POSTGRAD_OFFLINE", "1")
    assert section(Library(tmp_path / "library"), GRPO, "4.2") == before
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "quotation",
    [
        "Group rewards help most where the base model fails on format",
        "group  rewards help most\nwhere the base model",
        "“Group rewards help most where the base model fails on format.”",
        "| SFT \\| group | 36.1 ± 0.8 | 33.5 | 85.3 |",
        "SFT group 36.1±0.8",
        "It reaches 36.1\\% on GPQA",
        "We train a model … It reaches 36.1% on GPQA.",
        "Small models gain little from imitation alone, as Meer (2023) found.",
        "We draw $\\beta = 0.04$ from a sweep",
    ],
)
def test_a_quotation_word_for_word_is_found_whatever_its_marks(
    served: Literature, library: Library, quotation: str
) -> None:
    assert quotes(plain_text(library, GRPO), quotation)


@pytest.mark.parametrize(
    "quotation",
    [
        "Group rewards help least where the base model fails on format",
        "It reaches 6.1% on GPQA",
        "It reaches 36% on GPQA",
        "6.1",
        "85",
        "on GPQA … We train a model",
        "",
        "…",
        "of",
        "roup rewards help",
    ],
)
def test_a_quotation_that_is_not_there_is_not_found(served: Literature, library: Library, quotation: str) -> None:
    assert not quotes(plain_text(library, GRPO), quotation)


def test_both_sides_of_a_comparison_are_normalised_alike() -> None:
    text = "The fine-\ntuned model — “small” — gains 4.2 % on|GPQA (p < .05)."
    assert normalise(normalise(text)) == normalise(text)
    assert quotes(text, 'the finetuned model - "small" - gains 4.2% on')
