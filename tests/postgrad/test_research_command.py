"""`postgrad research` and `postgrad.research`: a cited report, with and without a language model, and from disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import postgrad
from agents.provider import Refused
from agents.researcher.library import Library, Page
from agents.researcher.library import _write as keep_page
from postgrad.events import Event, NoteEvent, ToolEvent
from shared_memory.errors import BadInput, Conflict
from shared_memory.settings import ModelPrice, Settings
from tests.servers.literature import Literature, Sends, literature
from tests.servers.literature_pages import GRPO
from tests.servers.openai_chat import WRONG_KEY, Request, Says, openai_chat
from tests.servers.researcher_replies import QUESTION, ROW, calls, researcher, results

MODEL = "openai/a-model"


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Literature]:
    with literature() as served:
        served.point_client_at(monkeypatch)
        yield served


def test_a_model_answers_with_a_cited_report_and_the_second_time_it_comes_from_disk(papers: Literature) -> None:
    events: list[Event] = []
    with openai_chat(researcher) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url, on_event=events.append)
        address = server.base_url
    assert (report["status"], report["by"], report["by_model"], report["why"]) == ("complete", MODEL, True, "")
    found, remembered = report["findings"]
    assert (found["verified"], found["number"], found["section"]) == (True, 30.4, "Table 4")
    assert (found["title"], found["url"]) == ("Group Rewards for Small Reasoners", f"https://arxiv.org/abs/{GRPO}")
    assert found["fetched"].startswith("20")
    assert (remembered["verified"], remembered["confidence"]) == (False, "low")
    assert [recipe["id"] for recipe in report["recipes"]] == ["after-sft"]
    assert [source["source"] for source in report["sources"]] == [f"arXiv {GRPO}"]
    assert report["spent"]["llm_tokens"] == 4 * 120
    assert any(isinstance(event, NoteEvent) and "found: SFT alone" in event.text for event in events)
    assert [event.name for event in events if isinstance(event, ToolEvent)][:2] == ["search_papers", "read_paper"]

    papers.trouble(".*", Sends("gone", 500), -1)
    again = postgrad.research(f"  {QUESTION}\n", brain=MODEL, api_base=address)
    assert {**again, "spent": 0} == {**report, "spent": 0}
    assert again["spent"] == {"usd": 0.0, "llm_tokens": 0, "replayed_tokens": 0}


def test_the_report_cites_by_number_and_what_came_from_outside_does_nothing(papers: Literature, tmp_path: Path) -> None:
    with openai_chat(researcher) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url, out=tmp_path / "mine")
    assert report["report"] == str(tmp_path / "mine" / "report.md")
    assert json.loads((tmp_path / "mine" / "report.json").read_text()) == report
    text = Path(report["report"]).read_text()
    assert "SFT is the start [1]." in text
    assert "| 1 | after-sft | GRPO | SFT alone reaches 30.4" in text
    assert "| 3 GPU hours | five seeds only | [1] |" in text
    assert "> \\| SFT \\| 30.4 \\| 28.0 \\| 71.2 \\|" in text
    assert f"1. [arXiv {GRPO}](https://arxiv.org/abs/{GRPO}): Group Rewards for Small Reasoners (fetched 20" in text
    assert "## Not verified\n\n- **higher ranks do not help**" in text
    assert "<script" not in text
    assert "](https://evil" not in text
    assert "https://evil" not in text
    assert "\u202e" not in text


def test_without_a_model_recipes_that_fit_and_results_as_they_stand_are_reported(papers: Literature) -> None:
    report = postgrad.research(QUESTION, brain="playbook")
    assert (report["status"], report["by_model"], report["spent"]["llm_tokens"]) == ("complete", False, 0)
    assert {recipe["method"] for recipe in report["recipes"]} == {"grpo"}
    quoted = [each for each in report["findings"] if each["verified"]]
    assert {(each["number"], each["benchmark"], each["confidence"]) for each in quoted} == {
        (30.4, "GPQA", "low"), (36.1, "GPQA", "low"), (4.2, "GPQA", "low"),
    }  # fmt: skip
    assert any(each["quotation"] == ROW and each["section"] == "Table 4" for each in quoted)
    assert report["papers"][0]["title"] == "Group Rewards for Small Reasoners"
    text = Path(report["report"]).read_text()
    assert "No language model read this" in text
    assert "## From the built-in library" in text
    assert "Of the recipes none rest on a result on GPQA; such come first" in text
    assert "**grpo-medium**, for models of 1B to 20B: " in text


def test_recipes_that_rest_on_a_result_for_the_benchmark_come_first(papers: Literature) -> None:
    report = postgrad.research("GRPO on AIME24", brain="playbook")
    ids = [recipe["id"] for recipe in report["recipes"]]
    assert ids[:4] == ["open-rs", "dr-grpo", "dapo", "grpo-small"]
    assert report["recipes"][0]["fits"]["benchmarks"] == ["aime2025"]
    assert "Of the recipes 3 rest on a result on AIME24; such come first" in report["summary"]


def test_a_search_that_nobody_answers_says_so_and_is_made_again_the_next_time(papers: Literature) -> None:
    papers.trouble(".*", Sends("no", 403), -1)
    report = postgrad.research(QUESTION, brain="playbook")
    assert report["status"] == "incomplete"
    assert "no source of papers answers" in report["why"]
    assert report["recipes"], "the built-in library needs no network"
    papers.calm()
    complete = postgrad.research(QUESTION, brain="playbook")
    assert complete["status"] == "complete"
    assert postgrad.research(QUESTION, brain="playbook", fresh=True)["at"] > complete["at"]
    assert len(list(Path(complete["report"]).parents[1].glob(f"{complete['id']}*"))) == 2, "the earlier one is kept"


def test_a_cap_ends_it_with_what_was_found_until_then(papers: Literature) -> None:
    def long_winded(request: Request) -> Says:
        return Says("", calls=researcher(request).calls, completion_tokens=80_000)

    with openai_chat(long_winded) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url, llm_tokens=255_000)
        assert report["status"] == "over_budget"
        assert report["why"].startswith("--llm-tokens is 255,000: 240,300 used")
        assert [each["number"] for each in report["findings"]] == [30.4]
        assert "**Not complete:** --llm-tokens is" in Path(report["report"]).read_text()
        assert report["summary"] == "It ended before anything was concluded. Quotations filed until then: 1."
        asked = len(server.requests)
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url, llm_tokens=500_000)
        assert len(server.requests) == asked + 1, "a raised cap goes on where it ended"
    assert (report["status"], report["spent"]["replayed_tokens"]) == ("complete", 240_300)


def test_a_cap_in_dollars_holds_before_the_first_request(papers: Literature, settings: Settings) -> None:
    dear = ModelPrice(input_usd_per_million=1_000, output_usd_per_million=1_000)
    with openai_chat(researcher) as server:
        report = postgrad.research(
            QUESTION, brain=MODEL, api_base=server.base_url, usd=1.0,
            settings=settings.model_copy(update={"prices": {MODEL: dear}}),
        )  # fmt: skip
    assert server.requests == []
    assert report["status"] == "over_budget"
    assert report["why"].startswith("--budget-usd is 1: 0 used, and the next request may take ")


def test_a_model_that_hands_in_nothing_of_use_leaves_what_it_filed_and_the_playbooks_part(papers: Literature) -> None:
    def useless(request: Request) -> Says:
        return researcher(request) if len(results(request)) < 3 else Says("[]{")

    with openai_chat(useless) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)
    assert report["by"] == f"playbook, standing in for {MODEL}"
    assert (report["status"], report["by_model"]) == ("incomplete", False)
    assert "gave no usable Answer" in report["why"]
    assert any("SFT alone" in each["claim"] for each in report["findings"])
    assert report["papers"]


def test_a_summary_cites_only_findings_that_are_there(papers: Literature) -> None:
    given = iter(("Good [2402.03300-fffff0].", "It gains 55.5 points.", "Nothing was measured."))

    with openai_chat(lambda request: calls("hand_in", summary=next(given), findings=[], recipes=[])) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)
        assert "the summary cites '2402.03300-fffff0', which is no finding" in server.requests[1].raw
        assert report["status"] == "incomplete"
        assert "`summary` has 55.5, which no finding has" in report["why"]
        again = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)
    assert (again["status"], again["summary"]) == ("complete", "Nothing was measured.")


def test_a_figure_in_the_summary_stands_beside_the_finding_that_has_it(papers: Literature) -> None:
    def careless(request: Request) -> Says:
        done = results(request)
        if len(done) < 3:
            return researcher(request)
        (name,) = [text.split("Filed as ")[1].split(".\n")[0].rstrip(".") for text in done if "Filed as" in text]
        summaries = (f"SFT was tried [{name}]. It has 30.4.", f"It has 30.4. [{name}] Then came RL.")
        return calls("hand_in", summary=summaries["without the id" in request.raw], findings=[], recipes=[])

    with openai_chat(careless) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)
    assert (
        "the summary says 'It has 30.4.' without the id of the finding that has this figure" in server.requests[-1].raw
    )
    assert (report["status"], report["summary"].endswith("Then came RL.")) == ("complete", True)


def test_a_key_that_is_refused_is_one_line_and_the_question_is_asked_again(papers: Literature) -> None:
    with openai_chat([WRONG_KEY]) as server, pytest.raises(Refused, match=r"refuses the key; .*, then ask again"):
        postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)


@pytest.mark.parametrize(
    ("question", "steps", "usd"),
    [("  ", 4, 1.0), ("why", 0, 1.0), ("why", 4, float("inf")), ("why", 4, float("nan")), ("why " * 501, 4, 1.0)],
)
def test_a_question_that_cannot_be_asked_says_what_to_do(question: str, steps: int, usd: float) -> None:
    with pytest.raises(BadInput, match=r"ask one|correct them|ask in 2,000 at most"):
        postgrad.research(question, steps=steps, usd=usd)


def test_bytes_of_a_question_that_are_no_text_do_no_harm(papers: Literature) -> None:
    assert postgrad.research("GRPO \udcff on GPQA", brain="playbook")["question"] == "GRPO ? on GPQA"


def test_a_host_that_a_person_allows_is_read_and_no_other(papers: Literature, settings: Settings) -> None:
    """The page lies in the library: to ask a public host is beyond a test."""
    library = Library(settings.home / "library")
    page = Page("https://blog.example/grpo", b"Group rewards help small models most.", "text/plain", 1.7e9)
    keep_page(library._file(page.url, {}, ""), page)

    def reader(request: Request) -> Says:
        done = results(request)
        if len(done) < 2:
            return calls("read_web", url=("https://other.example/x", page.url)[len(done)])
        return calls("hand_in", summary="Read.", findings=[], recipes=[])

    allowing = settings.model_copy(update={"allowed_hosts": ("blog.example",)})
    with openai_chat(reader) as server:
        postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url, settings=allowing)
    refused, read = results(server.requests[-1])
    assert (
        "other.example is not among the sources that may be read; add it to `allowed_hosts` in config.toml" in refused
    )
    assert "Group rewards help small models most." in read


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_asked(
    papers: Literature, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is no folder that can be written"):
        postgrad.research(QUESTION, brain="playbook", out=tmp_path / "file" / "mine")
    assert not papers.requests


def test_a_question_is_answered_by_one_process_at_a_time(papers: Literature) -> None:
    refused: list[str] = []

    def nosy(request: Request) -> Says:
        if not refused:
            with pytest.raises(Conflict) as raised:
                postgrad.research(f" {QUESTION.lower()}", brain=MODEL, api_base=server.base_url)
            refused.append(str(raised.value))
        return researcher(request)

    with openai_chat(nosy) as server:
        report = postgrad.research(QUESTION, brain=MODEL, api_base=server.base_url)
    assert refused == ["this question is being answered by another process; ask again when it is done"]
    assert (report["status"], len(server.requests)) == ("complete", 4)


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "postgrad", "research", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_the_command_prints_the_report_and_its_progress_elsewhere(papers: Literature) -> None:
    done = cli(QUESTION, "--brain", "playbook")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# {QUESTION}\n")
    assert "reading Group Rewards for Small Reasoners" in done.stderr
    again = cli(QUESTION, "--brain", "playbook", "--json")
    assert json.loads(again.stdout)["status"] == "complete"
    assert "reading" not in again.stderr, "it came from disk"


@pytest.mark.slow  # a program that imports everything, and a request that takes its time
def test_ctrl_c_keeps_what_was_found(papers: Literature, home: Path) -> None:
    waiting = Path(home).parent / "waiting"

    def slow(request: Request) -> Says:
        if len(results(request)) < 3:
            return researcher(request)
        waiting.touch()
        return Says("", calls=researcher(request).calls, pause=6.0)

    with openai_chat(slow) as server:
        command = [sys.executable, "-m", "postgrad", "research", QUESTION, "--json"]
        command += ["--brain", MODEL, "--api-base", server.base_url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        wait_for(waiting.exists)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=15)
    assert process.returncode == 130, stderr
    report = json.loads(stdout)
    assert report["status"] == "interrupted"
    assert [each["number"] for each in report["findings"]] == [30.4]
    assert "interrupted: it was interrupted; the same command goes on" in stderr
    assert "Traceback" not in stderr


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
