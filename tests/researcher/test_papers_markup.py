"""What LaTeXML and PDF writers make of a paper, and what is read out of it: formulas, numbers, lists and headings."""

from __future__ import annotations

from io import BytesIO

import pytest

from agents.researcher.checks import says_number
from agents.researcher.library import Library, NotFound
from agents.researcher.papers.quotations import quotes
from agents.researcher.papers.reading import contents, section
from tests.servers.literature import Literature, Sends
from tests.servers.literature_pages import GRPO

OLD = "hep-th/9901001"


def publish(served: Literature, body: str, name: str = GRPO) -> None:
    """A paper whose article, as LaTeXML writes it, holds `body`."""
    title = '<h1 class="ltx_title ltx_title_document">A Paper</h1>'
    page = f'<html><body><article class="ltx_document">{title}{body}</article></body></html>'
    served.texts[f"/html/{name}"] = Sends(page, media_type="text/html; charset=utf-8")


def one(number: str, title: str, body: str, kind: str = "section") -> str:
    """A section with its heading."""
    tag = f'<span class="ltx_tag">{number} </span>' if number else ""
    return f'<section class="ltx_{kind}"><h2 class="ltx_title">{tag}{title}</h2>{body}</section>'


def p(text: str) -> str:
    return f'<div class="ltx_para"><p class="ltx_p">{text}</p></div>'


def test_a_formula_that_is_broken_over_lines_is_read_whole(served: Literature, library: Library) -> None:
    """LaTeXML breaks a long one with a comment of TeX."""
    formula = '<math alttext="\\pi_{%\n\\theta_{old}}(O|q)" class="ltx_Math"></math>'
    rows = '<math alttext="a\\\\%\nb" class="ltx_Math"></math>'
    publish(served, one("1", "Loss", p(f"We sample from {formula} in 50\\% of cases, and {rows}.")))
    text = section(library, GRPO, "1").text
    assert r"from $\pi_{\theta_{old}}(O|q)$ in" in text
    assert r"$a\\b$" in text
    assert quotes(text, r"We sample from $\pi_{\theta_{old}}(O|q)$")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("85.3<sup class='ltx_sup'>1</sup>", "85.3^1"),
        ("85.3<sub class='ltx_sub'>0.8</sub>", "85.3_0.8"),
        ("10<sup class='ltx_sup'>-5</sup>", "10^-5"),
        ("accuracy<sup class='ltx_sup'>12</sup>", "accuracy^12"),
        ("85.3<sup class='ltx_sup'>†</sup>", "85.3†"),
        ("the 5<sup class='ltx_sup'>th</sup>", "the 5th"),
        ("H<sub class='ltx_sub'>2</sub>O", "H2O"),
        ("85.3<sub class='ltx_sub'>±0.8</sub>", "85.3±0.8"),
    ],
)
def test_a_raised_number_is_not_read_as_more_digits(
    served: Literature, library: Library, written: str, read: str
) -> None:
    table = f'<table class="ltx_tabular"><tr class="ltx_tr"><td class="ltx_td">SFT</td><td>{written}</td></tr></table>'
    publish(served, one("1", "Results", p(f"It has {written} here.") + table))
    text = section(library, GRPO, "1").text
    assert f"It has {read} here." in text
    assert f"| SFT | {read} |" in text


def test_a_list_of_terms_keeps_its_words_apart(served: Literature, library: Library) -> None:
    item = f'<dt class="ltx_item"><span class="ltx_tag">Pass@1</span></dt><dd class="ltx_item">{p("one answer")}</dd>'
    publish(served, one("1", "Metrics", f'<dl class="ltx_description">{item}</dl>'))
    assert "Pass@1 one answer" in section(library, GRPO, "1").text


def test_sections_of_one_name_are_told_apart_and_each_can_be_read(served: Literature, library: Library) -> None:
    setups = "".join(one("", "Setup", p(f"Of {what}."), "subsection") for what in ("training", "evaluation"))
    publish(served, one("1", "Runs", setups) + one("2", "Setup", p("Of both.")))
    names = [entry.name for entry in contents(library, GRPO).entries]
    assert names == ["1 Runs", "Setup", "Setup (2)", "2 Setup"]
    assert "Of training." in section(library, GRPO, "Setup").text
    second = section(library, GRPO, "Setup (2)")
    assert second.section == "Setup (2)"
    assert "Of evaluation." in second.text
    assert "Of both." in section(library, GRPO, "2").text


def test_four_levels_of_headings_stay_in_their_order(served: Literature, library: Library) -> None:
    deepest = one("", "Seeds", p("Five seeds."), "paragraph")
    third = one("A.1.1", "Runs", deepest, "subsubsection")
    publish(
        served,
        one("1", "Text", p("Words.")) + one("Appendix A", "More", one("A.1", "Setup", third, "subsection"), "appendix"),
    )
    levels = {entry.name: entry.level for entry in contents(library, GRPO).entries}
    assert levels == {"1 Text": 1, "A More": 1, "A.1 Setup": 2, "A.1.1 Runs": 3}
    assert section(library, GRPO, "Appendix A").text.endswith(
        "### A.1 Setup\n\n#### A.1.1 Runs\n\n**Seeds**\n\nFive seeds."
    )


def test_a_paper_without_sections_is_read_as_one_text(served: Literature, library: Library) -> None:
    publish(served, p("A letter has no headings, and it reaches 36.1% on GPQA. " * 60))
    (entry,) = contents(library, GRPO).entries
    assert quotes(section(library, GRPO, entry.name).text, "it reaches 36.1% on GPQA")


def test_an_old_paper_and_a_version_are_read_under_their_own_names(served: Literature, library: Library) -> None:
    for name in (OLD, f"{GRPO}v2"):
        publish(served, one("1", "Intro", p(f"This is {name}.")), name)
        assert f"This is {name}." in section(library, name, "Intro").text
    assert contents(library, f"https://arxiv.org/abs/{OLD}").paper_id == OLD


def test_what_arxiv_refuses_is_read_elsewhere(served: Literature, library: Library) -> None:
    served.trouble(f"/html/{GRPO}$", Sends("Forbidden", 403), times=1)
    assert contents(library, GRPO).source == "ar5iv"


def pdf_of(password: str = "") -> bytes:
    """A PDF of one blank page, locked where a password is given."""
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    if password:
        writer.encrypt(password)
    stream = BytesIO()
    writer.write(stream)
    return stream.getvalue()


@pytest.mark.parametrize("content", [pdf_of("x"), pdf_of(), b"%PDF-1.7 cut"], ids=["locked", "blank", "cut"])
def test_a_pdf_that_holds_no_text_for_us_is_no_text(served: Literature, library: Library, content: bytes) -> None:
    served.texts["/pdf/2001.00001"] = Sends(content, media_type="application/pdf")
    with pytest.raises(NotFound, match=r"nobody has the text of 2001\.00001"):
        contents(library, "2001.00001")


@pytest.mark.parametrize(
    ("text", "quotation", "there"),
    [
        ("We gain −3.1 points on GPQA.", "3.1 points on GPQA", False),
        ("We gain (−3.1 points) on GPQA.", "3.1 points", False),
        ("We gain −3.1 points on GPQA.", "−3.1 points on GPQA", True),
        ("We gain 2–3.1 points on GPQA.", "3.1 points on GPQA", True),
        ("a result — 3.1 points on GPQA", "3.1 points on GPQA", True),
        ("The rate is $10^{-5}$ for all.", "rate is 10^-5 for all", True),
        ("An eﬃcient ﬁlter helps.", "An efficient filter helps.", True),
        ("It reaches 85.3¹ on GPQA.", "It reaches 85.31 on GPQA", False),
        ("It reaches 85.3¹ on GPQA.", "It reaches 85.3", True),
        ("It reaches 85.3₀.₈ on GPQA.", "It reaches 85.30", False),
        ("The rate is 10⁻⁵ for all.", "rate is 10^-5 for all", True),
        ("We drink H₂O at night.", "We drink H2O at night", True),
    ],
)
def test_a_quotation_has_the_number_as_it_stands_there(text: str, quotation: str, there: bool) -> None:
    assert quotes(text, quotation) is there


def test_a_raised_number_is_no_digit_of_a_result() -> None:
    assert says_number("It reaches 85.3¹ on GPQA.", 85.3)
    assert not says_number("It reaches 85.3¹ on GPQA.", 85.31)
