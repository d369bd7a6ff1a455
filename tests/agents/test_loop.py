"""A role's loop over real HTTP: what it hands in, what goes back to the model, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.tools import tool
from langgraph.errors import GraphDrained

from agents.llm import InvalidAnswer
from agents.tool_outputs import ToolFault
from shared_memory.errors import BudgetSpent, TimeOver, Unavailable
from tests.agents.loops import TASK, Choice, Loop, calls, hands_in, results_of, tools_of, turns_of
from tests.servers.openai_chat import NO_TOOLS, Request, Says, openai_chat


@tool
def look(place: str) -> str:
    """Look at a place."""
    return f"there is a stone at {place}"


@tool
def count() -> str:
    """Count all stones."""
    return "there are 7 stones"


@tool
def break_down(place: str) -> str:
    """Look at a place that is not there."""
    raise ValueError(f"no {place}")


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path, [look, count, break_down])


def test_a_model_looks_things_up_and_hands_in_a_record(loop: Loop) -> None:
    with openai_chat([calls(("look", {"place": "home"})), hands_in(4)]) as server:
        assert loop.run(server.base_url) == Choice(number=4, why="it is round")
    first, second = server.requests
    assert first.messages[0]["content"].startswith("You choose.")
    assert first.messages[1]["content"] == TASK
    assert tools_of(first) == ["look", "count", "break_down", "read_output", "take_note", "hand_in"]
    assert "there is a stone at home" in results_of(second)[0]


def test_a_record_that_is_refused_goes_back_once_with_the_reason(loop: Loop) -> None:
    def fault(choice: Choice) -> str:
        return f"{choice.number} is taken" if choice.number == 4 else ""

    with openai_chat([hands_in(4), hands_in(5)]) as server:
        assert loop.run(server.base_url, fault).number == 5
    assert "4 is taken" in results_of(server.requests[1])[-1]
    assert [message["role"] for message in server.requests[1].messages] == ["system", "user", "assistant", "tool"]
    with openai_chat([hands_in(4)]) as server, pytest.raises(InvalidAnswer, match="4 is taken") as refused:
        Loop(loop.folder / "again", loop.tools).run(server.base_url, fault)
    assert len(server.requests) == 2
    assert len(refused.value.key.split("+")) == 2


def test_refused_answers_can_be_put_aside_and_the_question_asked_anew(loop: Loop) -> None:
    from agents.llm import LanguageModel, Tally

    with openai_chat([hands_in(4), hands_in(4), hands_in(5)]) as server:
        with pytest.raises(InvalidAnswer) as refused:
            loop.run(server.base_url, lambda choice: "" if choice.number == 5 else "it is taken")
        LanguageModel("openai/a-model", cache=loop.folder / "answers", meter=Tally()).forget(refused.value)
        assert loop.run(server.base_url, lambda choice: "" if choice.number == 5 else "it is taken").number == 5
    assert len(server.requests) == 3


def test_a_record_in_the_text_is_taken_too(loop: Loop) -> None:
    with openai_chat([Says('Here it is: {"number": 3, "why": ""}')]) as server:
        assert loop.run(server.base_url).number == 3


def test_who_only_talks_is_asked_to_act_and_is_not_refused_for_it(loop: Loop) -> None:
    with openai_chat([Says("I will look around."), Says(""), calls(("count", {})), hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    assert server.requests[1].messages[-1]["content"].startswith("Nobody reads that.")
    assert "Nobody reads that." in server.requests[2].messages[-1]["content"]
    with openai_chat([Says("La la la.")]) as server, pytest.raises(InvalidAnswer):
        Loop(loop.folder / "again", loop.tools).run(server.base_url)
    assert len(server.requests) == 5


def test_one_tools_exception_is_its_own_error_and_its_siblings_results_are_kept(loop: Loop) -> None:
    together = calls(("look", {"place": "home"}), ("break_down", {"place": "Atlantis"}), ("count", {}))
    with openai_chat([together, hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    home, atlantis, stones = results_of(server.requests[1])
    assert "there is a stone at home" in home
    assert "`break_down` failed: ValueError: no Atlantis" in atlantis
    assert "there are 7 stones" in stones
    assert [bool(told["error"]) for told in sorted(loop.told("tool"), key=lambda told: told["name"])] == [True, 0, 0]


@pytest.mark.parametrize("cut_off", [True, False])
def test_malformed_or_cut_off_arguments_are_that_calls_error_and_the_loop_goes_on(loop: Loop, cut_off: bool) -> None:
    half = calls(("look", '{"place": "ho'), finish_reason="length" if cut_off else "tool_calls")
    with openai_chat([half, calls(("look", {"place": "home"}), ("count", '{"pla')), hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    _, second, third = server.requests
    assert ("write less" if cut_off else "no complete JSON object") in results_of(second)[0]
    assert second.messages[-2]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert {"there is a stone" in result for result in results_of(third)[1:]} == {True, False}


def test_a_record_that_is_cut_off_is_not_a_refused_one(loop: Loop) -> None:
    half = calls(("hand_in", '{"number": 4, "wh'), finish_reason="length")
    with openai_chat([half, half, hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4


def test_a_record_that_is_cut_off_again_and_again_is_a_refused_one(loop: Loop) -> None:
    half = calls(("hand_in", '{"number": 4, "wh'), finish_reason="length")
    with openai_chat([half]) as server, pytest.raises(InvalidAnswer, match="no complete JSON object"):
        loop.run(server.base_url)
    assert len(server.requests) == 5


def test_several_records_at_once_are_sent_back_once_unless_they_are_the_same(loop: Loop) -> None:
    one, other = ("hand_in", {"number": 1, "why": ""}), ("hand_in", {"number": 2, "why": ""})
    look_too = calls(("look", {"place": "home"}), one, other)
    with openai_chat([look_too, hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    assert "several records came at once" in results_of(server.requests[1])[-1]
    with openai_chat([calls(one, other)]) as server, pytest.raises(InvalidAnswer, match="several records"):
        Loop(loop.folder / "again", loop.tools).run(server.base_url)
    assert len(server.requests) == 2
    with openai_chat([calls(one, one)]) as server:
        assert Loop(loop.folder / "same", loop.tools).run(server.base_url).number == 1


def test_a_name_that_no_tool_can_have_goes_back_as_one_that_it_can(loop: Loop) -> None:
    """Providers refuse the whole conversation for it, and would again after every resumption."""
    names = ("functions.look", "", "x" * 100)
    with openai_chat([calls(*((name, {}) for name in names), ("look up", '{"pla')), hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    sent = [call["function"]["name"] for call in server.requests[1].messages[-5]["tool_calls"]]
    assert sent == ["functions_look", "unknown", "x" * 64, "look_up"]
    assert "functions_look is not a valid tool, try one of [look" in results_of(server.requests[1])[1]


def test_a_call_beyond_its_limit_is_not_carried_out_and_a_malformed_one_does_not_count(loop: Loop) -> None:
    def script(request: Request) -> Says:
        turn = turns_of(request)
        if turn == 4:
            return hands_in(4)
        return calls(("look", '{"place": "ho' if turn == 1 else {"place": f"place {turn}"}), ("count", {}))

    with openai_chat(script) as server:
        loop.run(server.base_url, limits={"look": 2})
    looked = [told for told in loop.told("tool") if told["name"] == "look"]
    assert [bool(told["error"]) for told in looked] == [False, True, False, True]
    assert "`look` may be called 2 times" in looked[-1]["error"]
    assert not any(told["error"] for told in loop.told("tool") if told["name"] == "count")


def test_no_arguments_are_empty_arguments(loop: Loop) -> None:
    with openai_chat([calls(("count", "")), hands_in(4)]) as server:
        loop.run(server.base_url)
    assert "there are 7 stones" in results_of(server.requests[1])[0]


def test_unknown_tools_and_wrong_arguments_are_told_to_the_model(loop: Loop) -> None:
    with openai_chat([calls(("fly", {}), ("look", {"plaice": "sea"})), hands_in(4)]) as server:
        assert loop.run(server.base_url).number == 4
    unknown, wrong = results_of(server.requests[1])
    assert "fly is not a valid tool" in unknown
    assert "place" in wrong
    assert "Field required" in wrong


def test_the_last_request_leaves_only_the_handing_in(loop: Loop) -> None:
    def script(request: Request) -> Says:
        return hands_in(4) if tools_of(request) == ["hand_in"] else calls(("look", {"place": str(turns_of(request))}))

    with openai_chat(script) as server:
        assert loop.run(server.base_url, steps=5).number == 4
    assert len(server.requests) == 5
    assert "This is your last request" in results_of(server.requests[-1])[-1]
    assert "This is your last request" not in server.requests[-2].said


def test_who_does_not_hand_in_at_the_last_request_is_asked_once_more_and_then_it_ends(loop: Loop) -> None:
    with openai_chat(lambda request: calls(("look", {"place": str(turns_of(request))}))) as server:
        with pytest.raises(InvalidAnswer):
            loop.run(server.base_url, steps=4)
        assert len(server.requests) == 5


def test_a_record_that_is_refused_at_the_last_request_can_still_be_mended(loop: Loop) -> None:
    with openai_chat([hands_in(4), hands_in(5)]) as server:
        assert loop.run(server.base_url, lambda choice: "" if choice.number == 5 else "taken", steps=1).number == 5


def test_a_tool_can_have_a_limit_of_its_own(loop: Loop) -> None:
    four = calls(*(("look", {"place": str(place)}) for place in range(4)))
    with openai_chat([four, hands_in(4)]) as server:
        loop.run(server.base_url, limits={"look": 2})
    allowed = ["there is a stone" in result for result in results_of(server.requests[1])]
    assert allowed == [True, True, False, False]
    assert "`look` may be called 2 times" in results_of(server.requests[1])[-1]


def test_a_server_without_tools_is_asked_for_the_record_at_once(loop: Loop) -> None:
    def script(request: Request) -> object:
        return NO_TOOLS["vllm"] if "tools" in request.body else Says({"number": 6, "why": ""})

    with openai_chat(script) as server:  # type: ignore[arg-type]
        assert loop.run(server.base_url).number == 6
    assert loop.told("turn")[-1]["calls"] == []


@pytest.mark.parametrize("end", [BudgetSpent("no dollars"), TimeOver("no time"), GraphDrained("parked")])
def test_what_ends_the_run_ends_it_from_inside_a_tool_too(tmp_path: Path, end: Exception) -> None:
    @tool
    def search(question: str) -> str:
        """Ask another model."""
        raise end

    with openai_chat([calls(("search", {"question": "?"}))]) as server, pytest.raises(type(end)):
        Loop(tmp_path, [search]).run(server.base_url)


@pytest.mark.parametrize("fault", [ToolFault("no such paper"), Unavailable("arxiv.org is out of reach")])
def test_what_a_tool_cannot_do_is_told_in_its_own_words(tmp_path: Path, fault: Exception) -> None:
    @tool
    def read(paper: str) -> str:
        """Read a paper."""
        raise fault

    with openai_chat([calls(("read", {"paper": "x"})), hands_in(4)]) as server:
        Loop(tmp_path, [read]).run(server.base_url)
    assert f"`read` failed: {fault}\n" in results_of(server.requests[1])[0]


def test_calls_without_ids_get_one_each(loop: Loop) -> None:
    """Some servers of one's own forget them."""

    class Forgetful(Says):
        @property
        def arguments(self) -> Iterator[tuple[str, str, str]]:
            return (("", name, given) for _, name, given in super().arguments)

    both = Forgetful("", calls=(("look", {"place": "a"}), ("look", {"place": "b"})))
    with openai_chat([both, hands_in(4)]) as server:
        loop.run(server.base_url)
    keys = [message["tool_call_id"] for message in server.requests[1].messages if message["role"] == "tool"]
    assert len(set(keys)) == 2


def test_every_turn_and_every_call_is_told(loop: Loop) -> None:
    with openai_chat([Says("Let me see.", calls=(("look", {"place": "home"}),)), hands_in(4)]) as server:
        loop.run(server.base_url)
    turn, end = loop.told("turn")
    assert turn["role"] == "trainer"
    assert turn["model"] == "openai/a-model"
    assert turn["tokens"] == 120
    assert turn["usd"] is None
    assert turn["kept"] is False
    assert turn["text"] == "Let me see."
    assert (turn["calls"], end["calls"]) == (["look"], ["hand_in"])
    assert turn["request"] != end["request"]
    (call,) = loop.told("tool")
    assert call["name"] == "look"
    assert "home" in call["arguments"]
    assert call["characters"] == len("there is a stone at home")
    assert (loop.folder / "tools" / f"{call['handle']}.json").exists()
    assert call["error"] == ""
