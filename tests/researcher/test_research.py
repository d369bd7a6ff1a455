"""The researcher with a language model, over real HTTP: it reads, files what it can prove, and hands that in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from agents.brain import Brain, Move, Role, choose_brain
from agents.llm import LanguageModel, Tally
from agents.researcher.findings import Filed, Notebook
from agents.researcher.proposal import ResearchProposal
from agents.researcher.shelf import Reading
from agents.researcher.tools import tools
from agents.workbench import Workbench
from graph.context import AGENTS, RULES
from shared_memory.records import Finding
from tests.agents.briefs import RECIPE, brief
from tests.servers.literature import Literature, literature
from tests.servers.literature_pages import GRPO
from tests.servers.openai_chat import ChatServer, Fault, Request, Says, openai_chat
from tests.servers.reference_sites import reference_sites
from tests.servers.researcher_replies import ROW, calls, results

MADE_UP = "Group rewards reach 52.0% on GPQA with one epoch of training."
QUESTION = "Does completion-only loss help on GPQA?"


def record(**changes: Any) -> Says:
    """Files what Table 4 says of SFT."""
    told = {
        "claim": "SFT alone reaches 30.4 on GPQA main", "source": GRPO, "quotation": ROW, "number": 30.4,
        "benchmark": "GPQA", "section": "Table 4",
    }  # fmt: skip
    return calls("record_finding", **told | changes)


def filed_in(request: Request) -> list[str]:
    """The ids of findings that were given back."""
    return [text.split("Filed as ")[1].split(".\n")[0].rstrip(".") for text in results(request) if "Filed as" in text]


def of_the_team(request: Request) -> bool:
    return "ask_team" not in {tool["function"]["name"] for tool in request.body.get("tools", ())}


def in_turn(*script: Says | Callable[[Request], Says]) -> Callable[[Request], Says]:
    """A model that goes through a script by how many results it has had."""

    def say(request: Request) -> Says:
        step = script[min(len(results(request)), len(script) - 1)]
        return step(request) if callable(step) else step

    return say


def hands_in(**proposal: Any) -> Says:
    return calls("hand_in", **proposal)


def rests_on(request: Request) -> Says:
    """A recipe that rests on everything that was filed."""
    recipe = {**RECIPE.plain(), "id": "table-4", "findings": filed_in(request), "reason": "measured", "source": ""}
    return hands_in(findings=[], recipes=[recipe])


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Literature]:
    """The services that know papers, where every client asks."""
    with literature() as served:
        served.point_client_at(monkeypatch)
        yield served


@pytest.fixture
def brain(tmp_path: Path) -> Callable[[ChatServer], Brain]:
    def make(server: ChatServer) -> Brain:
        model = LanguageModel("openai/a-model", api_base=server.base_url, cache=tmp_path / "answers", meter=Tally())
        return choose_brain(
            Workbench(model, outputs=tmp_path / "tools", library=tmp_path / "library"), RULES, AGENTS,
            stand_ins={}, on_stand_in=lambda *told: pytest.fail(f"the playbook stands in: {told}"),
        )  # fmt: skip

    return make


def proposed(made: Brain) -> ResearchProposal:
    proposal = made.propose(Role.RESEARCHER, brief(Move.RESEARCH))
    assert isinstance(proposal, ResearchProposal)
    return proposal


def test_it_searches_reads_a_table_files_a_row_and_hands_in_a_recipe_that_rests_on_it(
    brain: Callable[[ChatServer], Brain], papers: Literature, tmp_path: Path
) -> None:
    script = in_turn(
        calls("search_papers", query="group rewards small models GPQA"),
        calls("read_paper", paper=GRPO),
        calls("read_paper", paper=GRPO, section="Table 4"),
        record(quotation=MADE_UP, number=52.0),
        record(),
        rests_on,
    )
    with openai_chat(script) as server:
        proposal = proposed(brain(server))
        asked = len(server.requests)
        assert proposed(brain(server)) == proposal
    found, listed, table, refused, _ = results(server.requests[-1])
    assert "Group Rewards for Small Reasoners" in found
    assert "Table 4 (" in listed
    assert "dataset lab/science-traces" in listed
    assert ROW in table
    assert "Refused: the quotation is not in the source, word for word (2402.03300, as it was read)." in refused
    assert len(server.requests) == asked == 6, "the same again costs nothing"

    (finding,) = proposal.findings
    assert finding.verified
    assert (finding.number, finding.benchmark, finding.section) == (30.4, "GPQA", "Table 4")
    assert (finding.source, finding.quotation) == ("arXiv 2402.03300", ROW)
    (recipe,) = proposal.recipes
    assert recipe.findings == (finding.id,)
    assert recipe.source == "arXiv 2402.03300; put together by openai/a-model"
    assert recipe.expected == "SFT alone reaches 30.4 on GPQA main → 30.4 on GPQA, Table 4, arXiv 2402.03300"


def test_a_made_up_quotation_is_refused_in_what_is_handed_in_as_well(
    brain: Callable[[ChatServer], Brain], papers: Literature
) -> None:
    invented = {"id": "mine", "claim": "it is so", "source": GRPO, "quotation": MADE_UP, "verified": True}
    remembered = {"id": "mine", "claim": "it is so", "source": "a blog", "verified": True, "confidence": "high"}
    recipe = {**RECIPE.plain(), "id": "r", "findings": ["mine"]}
    script = [
        calls("read_paper", paper=GRPO),
        hands_in(findings=[invented], recipes=[recipe]),
        hands_in(findings=[remembered], recipes=[recipe]),
    ]
    with openai_chat(script) as server:
        proposal = proposed(brain(server))
    assert "finding mine: the quotation is not in the source" in server.requests[2].raw
    (finding,) = proposal.findings
    assert not finding.verified
    assert finding.confidence == "low"
    assert finding.source == "unverified, from openai/a-model's memory: a blog"
    assert proposal.recipes[0].source == "unverified, from openai/a-model's memory"


def test_a_recipe_may_expect_no_more_than_its_findings_say(
    brain: Callable[[ChatServer], Brain], papers: Literature
) -> None:
    def with_expectation(expected: str) -> Callable[[Request], Says]:
        def say(request: Request) -> Says:
            recipe = {**RECIPE.plain(), "id": "r", "findings": filed_in(request), "expected": expected}
            return hands_in(findings=[], recipes=[recipe])

        return say

    script = in_turn(
        calls("read_paper", paper=GRPO, section="4.2"),
        record(),
        with_expectation("science traces + SFT → 85.3 on GPQA"),
        with_expectation("science traces + SFT → 30.4 on GPQA"),
    )
    with openai_chat(script) as server:
        proposal = proposed(brain(server))
    assert "`expected` has 85.3, which none of its findings has" in server.requests[3].raw
    assert proposal.recipes[0].expected.endswith("30.4 on GPQA")


def test_a_team_looks_into_questions_side_by_side_and_one_that_fails_leaves_the_others(
    brain: Callable[[ChatServer], Brain], papers: Literature
) -> None:
    def script(request: Request) -> Says:
        if not of_the_team(request):
            return in_turn(calls("ask_team", questions=[QUESTION, "What is the best seed?"]), rests_on_the_team)(
                request
            )
        if "best seed" in request.said:
            return Says("I would rather not say: {")
        return in_turn(calls("read_paper", paper=GRPO, section="Table 4"), record(), answers)(request)

    def answers(request: Request) -> Says:
        return hands_in(summary="SFT alone reaches 30.4.", findings=filed_in(request))

    def rests_on_the_team(request: Request) -> Says:
        (told,) = results(request)
        name = told.split("SFT alone reaches 30.4.\n")[1].partition(":")[0]
        recipe = {**RECIPE.plain(), "id": "of-the-team", "findings": [name]}
        return hands_in(findings=[], recipes=[recipe])

    with openai_chat(script) as server:
        proposal = proposed(brain(server))
    (told,) = results([request for request in server.requests if not of_the_team(request)][-1])
    assert "What is the best seed?\nThis sub-search failed: `openai/a-model` gave no usable TeamAnswer" in told
    assert "SFT alone reaches 30.4 on GPQA main [30.4 on GPQA] (arXiv 2402.03300, Table 4)" in told
    assert [finding.verified for finding in proposal.findings] == [True]
    assert any(of_the_team(request) for request in server.requests), "sub-searches have no team of their own"


def test_a_sub_search_with_a_fault_that_nobody_foresaw_leaves_the_others(
    brain: Callable[[ChatServer], Brain], papers: Literature
) -> None:
    def script(request: Request) -> Says:
        if not of_the_team(request):
            return in_turn(calls("ask_team", questions=[QUESTION, "What is the best seed?"]), rests_on_nothing)(request)
        if "best seed" in request.said:
            return calls("read_paper", paper="\ud800")  # no text that can be written down
        return hands_in(summary="Nobody has measured it.", findings=[])

    def rests_on_nothing(request: Request) -> Says:
        return hands_in(findings=[], recipes=[{**RECIPE.plain(), "id": "r", "findings": []}])

    with openai_chat(script) as server:
        proposed(brain(server))
    (told,) = results(server.requests[-1])
    assert f"{QUESTION}\nNobody has measured it." in told
    assert "What is the best seed?\nThis sub-search failed: " in told


def test_a_model_that_is_refused_ends_the_research_and_not_the_sub_search(tmp_path: Path, papers: Literature) -> None:
    from agents.provider import Refused

    def script(request: Request) -> Says | Fault:
        if of_the_team(request):
            return Fault(401, "Incorrect API key provided", code="invalid_api_key")
        return calls("ask_team", questions=[QUESTION])

    with openai_chat(script) as server:
        model = LanguageModel("openai/a-model", api_base=server.base_url, cache=tmp_path / "answers", meter=Tally())
        bench = Workbench(model, outputs=tmp_path / "tools", library=tmp_path / "library")
        with pytest.raises(Refused, match="refuses the key"):
            AGENTS[Role.RESEARCHER](brief(Move.RESEARCH), bench)
    assert not list((tmp_path / "tools").glob("*.json")), "what was not carried out is not kept as a result"


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    """One in which a table and an abstract have been read."""
    made = Notebook(tmp_path / "notebook")
    table = "| Method | GPQA | GSM8K |\n| --- | --- | --- |\n| SFT | 30.4 | 71.2 |\n| Ours | 36.1 | 85.3 |"
    abstract = (
        "We ﬁne-tune with $\\beta = 0.04$ – a small weight – and reach $36.1\\%$ on GPQA. It takes three GPU hours."
    )
    told: dict[str, Any] = {"source": "arXiv 2402.03300", "title": "Group Rewards", "url": "https://arxiv.org/abs/1"}
    made.shelf.put(Reading(text=table, section="Table 4", fetched=1.7e9, **told))
    made.shelf.put(Reading(text=abstract, section="Abstract", fetched=1.7e9, **told))
    return made


def finding(**changes: Any) -> Finding:
    told = {"id": "", "claim": "it reaches 36.1", "source": "https://arxiv.org/abs/2402.03300v2"}
    return Finding.model_validate(told | {"quotation": "and reach 36.1% on GPQA"} | changes)


@pytest.mark.parametrize(
    "given",
    [
        finding(number=36.1, benchmark="gpqa_main"),
        finding(quotation="we fine-tune with \\beta=0.04 - a small weight", claim="beta is small"),
        finding(quotation="Ours 36.1 85.3", number=85.3, benchmark="GSM8K", claim="85.3"),
        finding(quotation="It takes three GPU hours", number=30.4, benchmark="GPQA", section="table 4", claim="c"),
        finding(claim="GRPO on Qwen2.5-7B reaches 36.1%", number=36.1, benchmark="GPQA"),
    ],
)
def test_a_quotation_is_found_whatever_typesetting_did_to_it(notebook: Notebook, given: Finding) -> None:
    filed = notebook.file(given)
    assert isinstance(filed, Filed)
    assert filed.finding.verified
    assert (filed.title, filed.fetched) == ("Group Rewards", 1.7e9)
    assert notebook.file(given) == filed, "filed once, however often"
    assert [each.finding for each in Notebook(notebook.shelf._folder.parent).all()] == [filed.finding]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (finding(source="2501.00001"), "has not been read; read it first. What was read: arXiv 2402.03300"),
        (finding(quotation="reach 36.1%"), "the quotation has 2 words; give a passage of at least 5"),
        (finding(quotation=""), "the quotation has 0 words"),
        (finding(quotation="and reach 6.1% on GPQA"), "not in the source, word for word"),
        (finding(quotation="and reach 36.1% on GPQA, by far"), "not in the source, word for word"),
        (finding(quotation="We fine-tune … and reach 36.1% on GPQA"), "leaves something out"),
        (finding(quotation="Ours 36.1"), "the quotation has 2 words"),
        (finding(quotation="It takes three GPU hours " * 50), "give the sentence or table row"),
        (finding(number=36.2, benchmark="GPQA"), "36.2 is neither in the quotation nor in that section"),
        (finding(number=71.2, benchmark="GSM8K"), "71.2 is neither in the quotation nor in that section"),
        (finding(number=36.1, benchmark="HumanEval"), "does not name HumanEval"),
        (finding(number=36.1), "say in `benchmark` what 36.1 was measured on"),
        (finding(claim="a gain of 5.7 points"), "the claim has 5.7, which is not in the source"),
        (finding(claim="so " * 200), "say it in one sentence"),
        (finding(claim="it reaches 85 on GPQA"), "the claim has 85, which is not in the source"),
        (finding(claim="At the end it reaches 85.4."), "the claim has 85.4, which is not in the source"),
        (finding(claim="it reaches .853 on GPQA"), "the claim has 0.853, which is not in the source"),
        (
            finding(quotation="Ours 36.1 85.3", number=85.3, benchmark="GPQA"),
            "85.3 stands under 'GSM8K' there, not under GPQA",
        ),
        (
            finding(quotation="It takes three GPU hours", number=71.2, benchmark="GPQA", section="Table 4"),
            "71.2 stands under 'GSM8K' there, not under GPQA",
        ),
        (finding(number=36.1, benchmark="GSM8K"), "the quotation has 36.1 on GPQA, not on GSM8K"),
    ],
)
def test_what_the_source_does_not_bear_out_is_refused_with_the_reason(
    notebook: Notebook, given: Finding, reason: str
) -> None:
    told = notebook.file(given)
    assert isinstance(told, str)
    assert reason in told
    assert notebook.all() == []


def test_secrets_in_what_was_read_are_not_kept(notebook: Notebook, tmp_path: Path) -> None:
    secret = "hf_" + "A1b2C3d4E5f6G7h8I9j0KlMnOpQrStUvWx"
    notebook.shelf.put(Reading(source="https://a.example/", text=f"the token is {secret} today", fetched=0.0))
    assert all(secret not in file.read_text() for file in tmp_path.rglob("*.json"))


SCRIPT = "from trl import GRPOConfig\n\nargs = GRPOConfig(\n    learning_rate=1e-6,\n    num_generations=16,\n)\n"


def test_code_documentation_and_installed_libraries_can_be_quoted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel("openai/x", cache=tmp_path, meter=Tally())
    notebook = Notebook(tmp_path / "notebook")
    made = {each.name: each for each in tools(Workbench(model, tmp_path, tmp_path / "library"), notebook)}

    def filed(source: str, quotation: str) -> str:
        return str(made["record_finding"].invoke({"claim": "c", "source": source, "quotation": quotation}))

    with reference_sites(monkeypatch) as sites:
        sha = sites.push("lab/recipes", {"examples/grpo.py": SCRIPT})
        sites.add_docs("toolkit", {"grpo": "# GRPO\n\nSixteen completions of a prompt are a good start."})
        assert "examples/grpo.py" in made["github"].invoke({"repo": "lab/recipes", "words": "num_generations"})
        assert "grpo.py" in made["github"].invoke({"repo": "lab/recipes", "path": "examples/"})
        code = made["github"].invoke({"repo": "lab/recipes", "path": "examples/grpo.py"})
        page = made["docs"].invoke({"package": "toolkit", "page": "grpo"})
    address = f"https://github.com/lab/recipes/blob/{sha[:12]}/examples/grpo.py"
    assert code.startswith(f"source: {address}\n")
    assert "Filed as" in filed(address, "GRPOConfig(\n    learning_rate=1e-6,\n    num_generations=16,")
    assert page.startswith("source: https://huggingface.co/docs/toolkit/grpo\n")
    assert "Filed as" in filed("huggingface.co/docs/toolkit/grpo", "Sixteen completions of a prompt are a good start")
    told = made["installed_library"].invoke({"name": "trl.GRPOConfig.beta"})
    assert told.startswith("source: trl.GRPOConfig.beta (trl ")
    assert "Filed as" in filed("trl.GRPOConfig.beta", told.splitlines()[-1][:80].rpartition(" ")[0])
    listed = made["list_findings"].invoke({}).splitlines()
    assert len(listed) == 3
    assert all(name in "\n".join(listed) for name in (address, "docs/toolkit", "trl.GRPOConfig.beta (trl "))


def test_all_tools_together_take_little_of_every_request(tmp_path: Path) -> None:
    model = LanguageModel("openai/x", cache=tmp_path, meter=Tally())
    made = tools(Workbench(model, tmp_path, tmp_path), Notebook(tmp_path))
    described = [convert_to_openai_tool(each) for each in made]
    assert len(json.dumps(described)) <= 6_000
    assert all(each["function"]["description"] for each in described)
