"""Finding papers, describing them and following their citations, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.researcher.library import Library, NotFound
from agents.researcher.papers.citations import cited, citing
from agents.researcher.papers.describe import details
from agents.researcher.papers.ids import paper_id
from agents.researcher.papers.search import search, snippets
from shared_memory.errors import BadInput, Unavailable
from tests.servers.literature import Literature, Sends
from tests.servers.literature_pages import GRPO, PUBLISHED, RECIPES, SHA, TITLES, atom

QUERY = "group rewards for small reasoners"


def test_a_search_merges_what_three_services_find_and_says_who_found_it(served: Literature, library: Library) -> None:
    found = search(library, QUERY)
    assert [paper.id for paper in found.papers] == [GRPO, RECIPES, SHA[PUBLISHED]]
    best, second, published = found.papers
    assert best.found_by == ("hub", "semantic_scholar", "arxiv")
    assert (best.citations, best.influential, best.upvotes, best.venue) == (812, 97, 41, "ICML")
    assert (best.title, best.authors, best.published) == (TITLES[GRPO], ("Ada Lang", "Bo Zhu"), "2024-02-05")
    assert second.found_by == ("hub", "semantic_scholar")
    assert published.doi == PUBLISHED
    assert published.found_by == ("semantic_scholar",)
    assert best.score > second.score > published.score > 0
    assert found.missing == ()


def test_a_search_is_kept_and_works_without_a_network(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(library, QUERY)
    asked = len(served.requests)
    monkeypatch.setenv("POSTGRAD_OFFLINE", "1")
    assert search(library, QUERY) == first
    assert len(served.requests) == asked
    with pytest.raises(Unavailable, match=r"no source of papers answers .*Semantic Scholar: .*POSTGRAD_OFFLINE"):
        search(library, "something else")


def test_a_service_that_is_down_leaves_the_others_results_and_is_named(served: Literature, library: Library) -> None:
    served.trouble("/graph/v1/paper/search", Sends("down", 503), times=-1)
    found = search(library, QUERY)
    assert [paper.id for paper in found.papers] == [GRPO, RECIPES]
    (missing,) = found.missing
    assert missing.source == "semantic_scholar"
    assert "answers 503" in missing.reason
    assert "run again" in missing.reason


def test_an_answer_in_an_unknown_shape_is_a_service_that_is_missing(served: Literature, library: Library) -> None:
    served.trouble("/api/query", Sends("<!DOCTYPE x [<!ENTITY e 'boom'>]><feed>&e;</feed>"), times=-1)
    served.trouble("/api/papers/search", Sends([["no", "paper"]]), times=-1)
    found = search(library, QUERY)
    assert [paper.id for paper in found.papers] == [RECIPES, GRPO, SHA[PUBLISHED]]
    assert {missing.source for missing in found.missing} == {"hub", "arxiv"}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/graph/v1/paper/search", "<html>Down for maintenance</html>"),
        ("/graph/v1/paper/search", {"data": [{"title": TITLES[GRPO], "authors": [None]}]}),
        ("/graph/v1/paper/search", [1]),
        ("/api/papers/search", {"error": "soon back"}),
        ("/api/papers/search", [{"paper": {"id": GRPO, "title": 7}}]),
        ("/api/query", atom([GRPO]).replace("<entry>", "<!--").replace("</entry>", "-->")),
    ],
)
def test_an_answer_that_is_none_is_not_kept(served: Literature, library: Library, path: str, answer: Any) -> None:
    """A service that is being mended, or answers half, would be missing for a week."""
    served.trouble(path, Sends(answer))
    assert len(search(library, QUERY).missing) == 1
    assert search(library, QUERY).missing == ()


def test_without_a_network_nothing_that_is_kept_is_thrown_away(
    served: Literature, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.texts["/notice"] = Sends("read by no release but the next")
    library.get(f"{served.url}/notice")
    (file,) = (path for path in (tmp_path / "library" / "pages").rglob("*") if path.is_file())
    monkeypatch.setenv("POSTGRAD_OFFLINE", "1")
    with pytest.raises(Unavailable, match="no JSON"):
        library.understood(lambda page: page.json(), f"{served.url}/notice")
    assert file.exists()


def test_a_paper_that_its_authors_took_back_says_so(served: Literature, library: Library) -> None:
    notice = "This paper has been withdrawn by the authors: the test set was trained on"
    served.trouble("/api/query", Sends(atom([GRPO]).replace("12 pages", notice)))
    assert details(library, GRPO).paper.abstract.startswith(f"[{notice}] We train a model")


def test_when_no_service_answers_the_error_names_them_all_in_one_line(served: Literature, library: Library) -> None:
    served.trouble("", Sends("down", 502), times=-1)
    with pytest.raises(Unavailable) as raised:
        search(library, QUERY)
    for name in ("Hugging Face", "Semantic Scholar", "arXiv"):
        assert f"{name}: 127.0.0.1 answers 502" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_arxiv_is_asked_for_all_the_words_and_then_for_some(served: Literature, library: Library) -> None:
    found = search(library, "Which open data-recipes beat GRPO?")
    wanted = [request.query["search_query"] for request in served.asked("/api/query")]
    words = ["open", "data", "recipes", "beat", "GRPO"]
    assert wanted == [" AND ".join(f"all:{word}" for word in words), " OR ".join(f"all:{word}" for word in words)]
    assert "arxiv" in next(paper for paper in found.papers if paper.id == RECIPES).found_by
    (asked,) = served.asked("/graph/v1/paper/search")
    assert asked.query["query"] == "Which open data recipes beat GRPO?"  # a hyphen finds nothing there


def test_a_search_for_nothing_is_refused_before_anybody_is_asked(served: Literature, library: Library) -> None:
    with pytest.raises(BadInput, match="give words"):
        search(library, "  ")
    with pytest.raises(BadInput, match="give words"):
        snippets(library, "")
    assert not served.requests


def test_a_snippet_names_its_paper_and_section(served: Literature, library: Library) -> None:
    (snippet,) = snippets(library, "completion-only loss", papers=["https://arxiv.org/abs/2402.03300v2"], limit=5)
    assert snippet.text.startswith("Completion-only loss is worth 4.2 points")
    assert (snippet.paper_id, snippet.section, snippet.kind) == (GRPO, "Ablations", "body")
    (asked,) = served.asked("/snippet/search")
    assert asked.query == {"query": "completion-only loss", "paperIds": f"ARXIV:{GRPO}", "limit": "5"}


def test_details_join_the_services_and_lead_to_models_data_and_code(served: Literature, library: Library) -> None:
    known = details(library, f"arXiv:{GRPO}v3")
    assert (known.paper.id, known.paper.citations, known.paper.upvotes) == (GRPO, 812, 41)
    assert known.paper.found_by == ("arxiv", "semantic_scholar", "hub")
    assert {(one.kind, one.id) for one in known.linked} == {
        ("code", "https://github.com/lab/group-rewards"),
        ("model", "lab/reasoner-1.7b"),
        ("dataset", "lab/science-traces"),
    }
    assert next(one for one in known.linked if one.kind == "model").downloads == 1200
    assert known.missing == ()


def test_a_paper_without_a_hugging_face_page_lacks_nothing_else(served: Literature, library: Library) -> None:
    known = details(library, RECIPES)
    assert known.paper.found_by == ("arxiv", "semantic_scholar")
    assert known.linked == known.missing == ()


def test_a_paper_at_a_publisher_is_found_by_its_doi(served: Literature, library: Library) -> None:
    known = details(library, f"https://doi.org/{PUBLISHED.upper()}")
    assert (known.paper.title, known.paper.id) == (TITLES[PUBLISHED], SHA[PUBLISHED])
    assert [request.path for request in served.requests] == [f"/graph/v1/paper/DOI:{PUBLISHED}"]


def test_an_unknown_paper_is_told_from_services_that_are_down(served: Literature, library: Library) -> None:
    with pytest.raises(NotFound, match=r"no source knows the paper 2401\.99999; check the id"):
        details(library, "2401.99999")
    served.trouble("/graph", Sends("down", 503), times=-1)
    with pytest.raises(Unavailable, match=r"Semantic Scholar: .* 503"):
        details(library, "2401.99998")


def test_citing_papers_come_by_influence_then_by_date_and_in_pages(served: Literature, library: Library) -> None:
    first = citing(library, GRPO, limit=4)
    assert first.total == 9
    assert not first.more
    assert [edge.influential for edge in first.edges] == [True, True, True, False]
    dates = [edge.paper.published for edge in first.edges]
    assert dates == ["2025-09-01", "2025-05-01", "2025-01-01", "2025-08-01"]
    assert first.edges[0].intents == ("methodology",)
    assert first.edges[0].sentences == ("We follow the group rewards of Lang and Zhu (8).",)
    second = citing(library, GRPO, limit=4, offset=4)
    assert not {edge.paper.id for edge in first.edges} & {edge.paper.id for edge in second.edges}
    assert len(served.asked("/citations")) == 1


def test_no_more_than_a_cap_of_citations_is_fetched(served: Literature, library: Library) -> None:
    served.citing = 2600
    found = citing(library, GRPO, limit=1)
    assert (found.total, found.more) == (2000, True)
    assert [request.query["offset"] for request in served.asked("/citations")] == ["0", "500", "1000", "1500"]
    assert found.edges[0].influential


def test_cited_papers_say_what_they_are_cited_for(served: Literature, library: Library) -> None:
    found = cited(library, GRPO)
    assert [edge.paper.title for edge in found.edges] == [TITLES[PUBLISHED], "A technical report"]
    assert found.edges[0].intents == ("background", "result")
    assert found.edges[0].sentences == ("The bound of Meer is used throughout.",)
    assert found.edges[1].sentences == ()


def test_a_publisher_that_hides_its_references_leaves_none(served: Literature, library: Library) -> None:
    served.trouble("/references", Sends({"offset": 0, "data": None}))
    assert cited(library, GRPO).edges == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2402.03300", "2402.03300"),
        (" arXiv: 2402.03300v2 ", "2402.03300v2"),
        ("https://arxiv.org/pdf/2402.03300v1.pdf", "2402.03300v1"),
        ("https://arxiv.org/html/2402.03300#S4", "2402.03300"),
        ("https://huggingface.co/papers/2402.03300", "2402.03300"),
        ("cs/0112017", "cs/0112017"),
        ("https://arxiv.org/abs/hep-th/9901001v3", "hep-th/9901001v3"),
        ("http://arxiv.org/abs/math.GT/0309136v1", "math.GT/0309136v1"),
        ("10.48550/arXiv.2402.03300", "2402.03300"),
        ("doi:10.18653/v1/N18-3011", "DOI:10.18653/v1/n18-3011"),
        ("https://doi.org/10.18653/v1/N18-3011", "DOI:10.18653/v1/n18-3011"),
        ("649def34f8be52c8b66281af98ae884c09aef38b", "649def34f8be52c8b66281af98ae884c09aef38b"),
        ("CorpusId:215416146", "CorpusId:215416146"),
    ],
)
def test_a_paper_may_be_named_in_many_ways(text: str, wanted: str) -> None:
    assert paper_id(text) == wanted


@pytest.mark.parametrize("text", ["", "GRPO", "https://example.org/2402.03300", "../../etc/passwd", "2402.033"])
def test_what_names_no_paper_is_refused_with_the_forms_that_do(text: str) -> None:
    with pytest.raises(BadInput, match=r"names no paper; write an arXiv id \(2402\.03300\)"):
        paper_id(text)
