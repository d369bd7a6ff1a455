"""What is waited for, and what is not: a rate limit, a run that ends meanwhile, another's first request, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from agents.llm import LanguageModel, Tally
from shared_memory.errors import TimeOver, Unavailable
from tests.agents.chat_models import WIRES, Models
from tests.servers.openai_chat import Fault, HangUp, Reply, Request, Says, busy, openai_chat


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "sk-canary-1234567890abcdefghij")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "answers")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of the main thread's waits, which take no time."""
    seconds: list[float] = []
    main = threading.current_thread()

    def sleep(for_so_long: float) -> None:
        if threading.current_thread() is main:
            seconds.append(for_so_long)

    monkeypatch.setattr("agents.provider.time.sleep", sleep)
    return seconds


def turn(model: LanguageModel, text: str = "hello") -> str:
    return str(model.reply([HumanMessage(text)], {}).content)


def limited(until: str | float) -> Fault:
    """A rate limit, as its header says it; a number is so many seconds from now, told as a date."""
    said = until if isinstance(until, str) else formatdate(time.time() + until, usegmt=True)
    return Fault(429, "Rate limit reached", headers={"Retry-After": said})


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("on_words", [None, lambda text: None], ids=["whole", "streamed"])
def test_a_wait_until_a_date_is_as_long_as_one_in_seconds(
    models: Models, slept: list[float], name: str, on_words: object
) -> None:
    def script(request: Request) -> Reply:
        return Says("hello") if slept else limited(61)

    with openai_chat(script) as server:
        assert turn(models(server, name, on_words=on_words)) == "hello"
    assert 30 < sum(slept) <= 61


@pytest.mark.parametrize("said", ["-5", "nan", "soon", "", -60])
def test_a_wait_that_nobody_can_keep_is_a_second(models: Models, slept: list[float], said: str | float) -> None:
    with openai_chat([limited(said), Says("hello")]) as server:
        assert turn(models(server)) == "hello"
    assert slept == [1.0]


@pytest.mark.parametrize("said", ["121", "1e9", "inf", 3600])
def test_a_wait_of_more_than_two_minutes_is_left_to_who_resumes(
    models: Models, slept: list[float], said: str | float
) -> None:
    with openai_chat([limited(said)]) as server, pytest.raises(Unavailable, match="over its rate limit"):
        turn(models(server))
    assert (len(server.requests), slept) == (1, [])


class Holds(Tally):
    def __init__(self) -> None:
        super().__init__()
        self.held: list[str] = []

    def reserve(self, key: str, tokens: int, usd_micro: int | None) -> bool:
        if key in self.held:
            return False
        self.held.append(key)
        return True

    def release(self, key: str) -> None:
        self.held.remove(key)


@pytest.mark.parametrize(("fault", "held"), [(busy(60), 0), (HangUp(), 1)], ids=["turned down", "lost"])
def test_a_run_that_ends_while_it_waits_sends_nothing_more_and_holds_what_may_be_billed(
    models: Models, slept: list[float], fault: Reply, held: int
) -> None:
    asked: list[float] = []

    def heed() -> None:
        asked.append(sum(slept))
        if len(asked) > 1:
            raise TimeOver("limits.hours is used up")

    holds = Holds()
    with openai_chat([fault]) as server, pytest.raises(TimeOver):
        turn(models(server, heed=heed, meter=holds))
    assert len(server.requests) == 1
    assert asked == [0, 1.0], "looked at after a second of the wait, not at its end"
    assert len(holds.held) == held


def test_the_first_request_to_a_server_goes_alone_and_the_others_side_by_side(models: Models) -> None:
    together = threading.Barrier(3)
    under_way: list[int] = []

    def script(request: Request) -> Reply:
        first = not under_way
        under_way.append(1)
        if first:
            time.sleep(0.5)
            return Says("hello") if len(under_way) == 1 else Fault(400, "another came in")
        together.wait(10)
        return Says("hello")

    with openai_chat(script) as server, ThreadPoolExecutor(4) as threads:
        said = list(threads.map(lambda number: turn(models(server), f"question {number}"), range(4)))
    assert said == ["hello"] * 4


def test_a_server_that_is_slow_keeps_nobody_waiting_for_another(models: Models) -> None:
    answered = threading.Event()

    def script(request: Request) -> Reply:
        answered.wait(20)
        return Says("late")

    with openai_chat(script) as slow, openai_chat([Says("at once")]) as other, ThreadPoolExecutor(1) as thread:
        late = thread.submit(turn, models(slow))
        while not slow.requests:
            time.sleep(0.01)
        assert turn(models(other)) == "at once"
        assert not late.done()
        answered.set()
        assert late.result() == "late"


def test_nobody_waits_for_a_rate_limit_but_who_has_met_it(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    met, answered = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        if threading.current_thread().name.startswith("late"):
            met.set()
            assert answered.wait(20)

    monkeypatch.setattr("agents.provider.time.sleep", sleep)
    with openai_chat([busy(1), Says("hello")]) as server, ThreadPoolExecutor(1, "late") as thread:
        late = thread.submit(turn, models(server), "first")
        assert met.wait(60)
        assert turn(models(server), "second") == "hello"
        answered.set()
        assert late.result() == "hello"


@pytest.mark.slow  # another process, which imports LiteLLM
def test_ctrl_c_does_not_wait_for_a_model_that_says_nothing(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from langchain_core.messages import HumanMessage
        from agents.llm import LanguageModel, Tally
        model = LanguageModel("openai/gpt-4o", api_base=sys.argv[1], cache=Path(sys.argv[2]), meter=Tally())
        model.reply([HumanMessage("hello")], {})
    """
    released = threading.Event()

    def script(request: Request) -> Reply:
        released.wait(120)
        return Says("hello")

    with openai_chat(script) as server:
        arguments = [sys.executable, "-c", code, server.base_url, str(tmp_path / "answers")]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ)
        try:
            while not server.requests and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
            released.set()
    assert "KeyboardInterrupt" in told
