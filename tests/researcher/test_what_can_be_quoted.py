"""What counts as a source's own words: not those of a tool, not those of the one who asks, not another source's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.researcher.checks import names
from agents.researcher.findings import Filed, Notebook
from agents.researcher.reading_room import NotedLibrary, ReadingRoom
from agents.researcher.shelf import Reading, Shelf, key_of
from shared_memory.errors import Unavailable
from shared_memory.records import Finding
from tests.servers.literature import Literature, Sends, literature
from tests.servers.literature_pages import GRPO
from tests.servers.reference_sites import Sites, reference_sites

LONG = "# Notes\n\n" + "\n\n".join(f"## Part {part}\n\n{'Rows were filtered by length. ' * 60}" for part in range(8))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    with reference_sites(monkeypatch) as served:
        yield served


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Literature]:
    with literature() as served:
        served.point_client_at(monkeypatch)
        yield served


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path / "notebook")


@pytest.fixture
def room(tmp_path: Path, notebook: Notebook) -> ReadingRoom:
    return ReadingRoom(NotedLibrary(tmp_path / "library"), notebook)


def filed(notebook: Notebook, source: str, quotation: str) -> Filed | str:
    return notebook.file(Finding(id="", claim="c", source=source, quotation=quotation))


def test_what_a_tool_writes_around_a_page_is_not_the_pages(sites: Sites, room: ReadingRoom, notebook: Notebook) -> None:
    address = sites.add_page("/notes", LONG, "text/plain")
    shown = room.web(address, "", 0)
    assert isinstance(filed(notebook, address, "Rows were filtered by length."), Filed)
    for line in ("Contents, with characters: 1. Notes", "more characters: offset 5500", f"{address} (14"):
        assert " ".join(line.split()) in " ".join(shown.split())
        assert isinstance(filed(notebook, address, line), str)


def test_what_a_tool_says_of_a_file_or_an_object_is_not_its_own(
    sites: Sites, room: ReadingRoom, notebook: Notebook
) -> None:
    sites.push("lab/recipes", {"a.py": "rate = 1e-6  # as in the paper\n"})
    source = room.code("lab/recipes", "", "a.py", 1, 0).splitlines()[0].removeprefix("source: ")
    assert isinstance(filed(notebook, source, "rate = 1e-6 # as in the paper"), Filed)
    assert isinstance(filed(notebook, source, "a.py, lines 1–1 of 1"), str)
    head = room.installed("json.dumps").splitlines()[1]
    assert head.startswith("json.dumps: function of json ")
    assert isinstance(filed(notebook, "json.dumps", head), str)


def test_a_page_that_says_back_what_it_was_asked_is_no_source(
    sites: Sites, room: ReadingRoom, notebook: Notebook
) -> None:
    claim = "GRPO reaches 99.9 on GPQA with two rows"
    sites.add_page("/search", f"<p>Nothing was found for {claim}.</p>")
    address = f"{sites.url}/search?q={claim.replace(' ', '+')}"
    assert "cannot be quoted" in room.web(address, "", 0)
    told = filed(notebook, address, claim)
    assert isinstance(told, str)
    assert "has not been read" in told
    sites.add_page("/forum", "<p>Nothing was found for the second of the seeds.</p>")
    room.web(f"{sites.url}/forum?id=aB3-x_9", "", 0)
    assert isinstance(filed(notebook, f"{sites.url}/forum?id=aB3-x_9", "found for the second of the seeds"), Filed)


@pytest.mark.parametrize(
    "source",
    [
        f"https://github.com/anyone/notes/blob/main/arxiv-{GRPO}.md",
        f"https://a.example/arxiv/{GRPO}",
        f"github.com/anyone/arxiv.{GRPO}",
        f"https://huggingface.co/papers/{GRPO}",  # people write their comments there
        f"DOI:10.1234/arxiv.{GRPO}",
    ],
)
def test_a_page_that_has_a_papers_number_in_its_address_is_not_that_paper(notebook: Notebook, source: str) -> None:
    notebook.shelf.put(Reading(source=source, text="Group rewards reach 52.0% on GPQA.", fetched=0.0))
    told = filed(notebook, f"arXiv {GRPO}", "Group rewards reach 52.0% on GPQA")
    assert isinstance(told, str)
    assert "has not been read" in told
    assert isinstance(filed(notebook, source, "Group rewards reach 52.0% on GPQA"), Filed)


@pytest.mark.parametrize(
    "source",
    [
        GRPO, f"arXiv {GRPO}", f"arxiv:{GRPO}v2", f"https://arxiv.org/abs/{GRPO}v1", f"arxiv.org/pdf/{GRPO}.pdf",
        f"https://ar5iv.labs.arxiv.org/html/{GRPO}", f"Lang et al., arXiv {GRPO} (2024)", f"DOI:10.48550/arXiv.{GRPO}",
        f"https://doi.org/10.48550/arXiv.{GRPO}",
    ],
)  # fmt: skip
def test_a_paper_is_one_source_however_it_is_written(source: str) -> None:
    assert key_of(source) == f"arxiv {GRPO}"


@pytest.mark.parametrize(
    "source",
    [
        "hep-th/9901001", "arXiv hep-th/9901001", "arXiv:hep-th/9901001v2", "https://arxiv.org/abs/hep-th/9901001v1",
        "arxiv.org/pdf/hep-th/9901001", "HEP-TH/9901001",
    ],
)  # fmt: skip
def test_an_old_paper_is_one_source_however_it_is_written(source: str) -> None:
    assert key_of(source) == "arxiv hep-th/9901001"


def test_what_cannot_be_kept_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "notebook").write_text("in the way")
    with pytest.raises(Unavailable, match=r"what was read was not kept \(Not a directory\); make room in"):
        Shelf(tmp_path / "notebook").put(Reading(source="s", text="t", fetched=0.0))


@pytest.mark.parametrize(
    ("text", "name", "holds"),
    [
        ("36.1 on gpqa_main", "GPQA", True),
        ("GSM-8K, 0-shot", "gsm8k", True),
        ("AIME24 and AIME'25", "AIME 2024", True),
        ("on MATH500", "MATH-500", True),
        ("we claimed 85.3% for it", "AIME", False),
        ("our research reaches 85.3%", "ARC", False),
        ("SuperGPQA 36.1", "GPQA", False),
        ("with dropout 0.1", "DROP", False),
    ],
)
def test_a_benchmark_is_named_by_a_word_of_its_own(text: str, name: str, holds: bool) -> None:
    assert names(text, name) is holds


def test_what_was_shown_of_a_very_long_section_can_be_quoted(
    papers: Literature, room: ReadingRoom, notebook: Notebook
) -> None:
    from agents.researcher.papers.reading import LONGEST

    prose = " ".join(f"Run {run} takes one seed of many." for run in range(3000))
    page = f'<article class="ltx_document"><section class="ltx_section"><h2 class="ltx_title">Runs</h2><p>{prose}</p>'
    papers.texts[f"/html/{GRPO}"] = Sends(f"{page}</section></article>", media_type="text/html")
    shown = room.section(GRPO, "Runs", offset=LONGEST + 20_000)
    sentence = shown.split(". ")[5]
    assert sentence.startswith("Run ")
    assert isinstance(filed(notebook, GRPO, sentence), Filed)


def test_a_page_that_other_threads_took_from_disk_says_when_it_came(papers: Literature, tmp_path: Path) -> None:
    """A search asks its services in threads of its own."""
    earlier = NotedLibrary(tmp_path / "library")
    earlier.begin()
    ReadingRoom(earlier, Notebook(tmp_path / "first")).search_papers("group rewards")
    came = earlier.fetched()
    later = Notebook(tmp_path / "second")
    ReadingRoom(NotedLibrary(tmp_path / "library"), later).search_papers("group rewards")
    assert {each.fetched for each in later.shelf.of(GRPO)} == {came}


def test_a_team_files_the_same_at_the_same_time(notebook: Notebook) -> None:
    together = threading.Barrier(8)
    reading = Reading(source="arXiv 2402.03300", text="It reaches 36.1% on GPQA. " * 200, fetched=1.0)

    def work(_: int) -> Filed | str:
        together.wait()
        notebook.shelf.put(reading)
        return filed(notebook, GRPO, "It reaches 36.1% on GPQA")

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            told = list(pool.map(work, range(8)))
            assert len({each.at if isinstance(each, Filed) else each for each in told}) == 1
