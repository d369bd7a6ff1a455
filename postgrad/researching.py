"""A question about the literature, answered with citations. No run and no gate: it only reads; its caps hold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postgrad.events import Event, parse_event
from postgrad.research_folder import alone, folder_of, make, one_line, put_aside, read_report, written
from shared_memory.errors import BadInput, BudgetSpent, ContextExhausted, PostgradError, TimeOver
from shared_memory.redaction import redact_plain
from shared_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from agents.researcher.allowance import Allowance
    from agents.researcher.findings import Notebook
    from agents.researcher.question import Question
    from shared_memory.recipes import Recipe

STEPS = 40
LLM_TOKENS = 1_000_000
USD = 5.0
LONGEST_QUESTION = 2000
"""Characters."""
PLAYBOOK = "playbook"
COMPLETE = "complete"
STATUS_OF = {BudgetSpent: "over_budget", TimeOver: "timed_out", ContextExhausted: "context_exhausted"}
"""What ends a piece of research early, and leaves a report of what was found."""
EXIT_CODES = {
    COMPLETE: 0,
    "incomplete": 0,
    "over_budget": 4,
    "timed_out": 5,
    "context_exhausted": 7,
    "interrupted": 130,
}
INTERRUPTED = "it was interrupted; the same command goes on"

OnEvent = Callable[[Event], None]


class _Interrupted(TimeOver):
    """The person has had enough: no further request is sent, and no tool is said to have failed by that."""


@dataclass
class _Work:
    """One attempt at a question: what it stands on, and what it has come to."""

    question: Question
    brain: str
    folder: Path
    notebook: Notebook
    meter: Allowance
    started: float = field(default_factory=time.time)
    result: dict[str, Any] = field(default_factory=dict)
    """Of the report: `summary`, `findings`, `recipes`, `papers`, `missing`; what is not there has not been reached."""
    error: BaseException | None = None
    incomplete: str = ""
    """What it lacks, where the same question is worth asking again."""
    stand_in: bool = False
    """Whether the playbook answered for the model."""


def research(
    question: str,
    *,
    brain: str | None = None,
    api_base: str = "",
    out: str | Path | None = None,
    steps: int = STEPS,
    llm_tokens: int = LLM_TOKENS,
    usd: float = USD,
    fresh: bool = False,
    on_event: OnEvent | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Read the literature on a question; the JSON of `postgrad research --json`.

    brain: a LiteLLM model, or `playbook`, which finds and quotes without a language model; None takes the home's.
    `steps` caps the requests of the main loop (each sub-search has its own, smaller cap), `llm_tokens` and `usd` what
    all of it may take. The same question again is the same report, from disk; `fresh` asks anew. `out` is a folder for
    a copy of the report.

    `{id, question, by, by_model, status, why, summary, findings [{id, claim, source, confidence, number, benchmark,
    section, quotation, verified, title, url, fetched}], recipes [{…}], sources [{n, source, title, url, fetched}],
    papers, missing, spent {usd, llm_tokens, replayed_tokens}, seconds, at, report}`; status is complete, incomplete,
    over_budget, timed_out or context_exhausted. Raises BadInput for an empty question, Conflict while another process
    answers it, and Unavailable where the model cannot be used; what was found until then, and until Ctrl-C, is in the
    report on disk all the same.
    """
    settings = settings or load_settings()
    asked = one_line(question)
    if not asked:
        raise BadInput('the question is empty; ask one: postgrad research "GRPO for small models on GPQA"')
    if len(asked) > LONGEST_QUESTION:
        raise BadInput(f"the question has {len(asked):,} characters; ask in {LONGEST_QUESTION:,} at most")
    if steps < 1 or llm_tokens < 0 or usd < 0 or not math.isfinite(usd):
        raise BadInput("the caps are numbers from 0 up, and steps from 1 up; correct them")
    if out is not None:
        make(Path(out))
    brain = brain or settings.brain
    folder = folder_of(asked, settings, brain, api_base)
    if not fresh and (kept := read_report(folder)) and kept["status"] == COMPLETE:
        kept |= {"spent": {"usd": 0.0, "llm_tokens": 0, "replayed_tokens": 0}, "report": str(folder / "report.md")}
        return written(kept, [Path(out)]) if out else kept
    with alone(folder):
        if fresh:
            put_aside(folder)
        work = _work(asked, brain, folder, llm_tokens, usd)
        tell = _told(on_event)
        stop = threading.Event()
        _in_a_thread(partial(_do, work, settings, api_base, steps, tell, stop), work, stop)
        return _ended(work, out)


def _work(question: str, brain: str, folder: Path, llm_tokens: int, usd: float) -> _Work:
    from agents.researcher.allowance import Allowance
    from agents.researcher.findings import Notebook
    from agents.researcher.question import Question

    folder.mkdir(parents=True, exist_ok=True)
    return _Work(Question(question), brain, folder, Notebook(folder / "tools"), Allowance(llm_tokens, usd))


def _in_a_thread(do: Callable[[], None], work: _Work, stop: threading.Event) -> None:
    """Do it beside the main thread, which Ctrl-C reaches: a request on its way may take minutes to come back."""

    def attempt() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, which raises it
            work.error = error

    thread = threading.Thread(target=attempt, name="research", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt as interrupt:
        stop.set()
        thread.join(timeout=1.0)
        work.error = interrupt


def _do(
    work: _Work, settings: Settings, api_base: str, steps: int, tell: Callable[..., None], stop: threading.Event
) -> None:
    """Answer the question, by the model or by rule, into `work.result`."""
    from agents.researcher.survey import library_for

    findings, recipes = library_for(work.question)
    built_in = {"findings": tuple(findings.values()), "recipes": tuple(recipes.values())}
    if work.brain == PLAYBOOK:
        work.result |= built_in
        _survey(work, settings, tell, stop)
        return
    from agents.llm import InvalidAnswer, LanguageModel
    from agents.researcher.question import answer
    from agents.workbench import Workbench

    def heed() -> None:
        if stop.is_set():
            raise _Interrupted("it was interrupted")

    model = LanguageModel(
        work.brain, api_base=api_base, cache=work.folder / "answers", meter=work.meter, heed=heed,
        prices=settings.prices,
    )  # fmt: skip
    bench = Workbench(
        model, outputs=work.folder / "tools", library=settings.home / "library", steps=steps, tell=tell,
        allowed_hosts=settings.allowed_hosts,
    )  # fmt: skip
    try:
        said = answer(work.question, bench, work.notebook, findings, recipes)
    except InvalidAnswer as error:
        model.forget(error)
        work.stand_in, work.incomplete = True, str(error)
        work.result |= built_in
        _survey(work, settings, tell, stop)
    else:
        work.result |= {"summary": said.summary, "findings": said.findings, "recipes": said.recipes}


def _survey(work: _Work, settings: Settings, tell: Callable[..., None], stop: threading.Event) -> None:
    from agents.researcher.reading_room import NotedLibrary, ReadingRoom
    from agents.researcher.survey import survey

    def note(text: str) -> None:
        if stop.is_set():
            raise _Interrupted("it was interrupted")
        tell("note", text=text)

    library = NotedLibrary(settings.home / "library", allowed=settings.allowed_hosts)
    try:
        found = survey(work.question, ReadingRoom(library, work.notebook), work.notebook, note)
    finally:
        library.close()
    work.result |= {"papers": found.papers, "missing": found.missing}
    if not found.searched:
        work.incomplete = work.incomplete or found.missing[0]


def _ended(work: _Work, out: str | Path | None) -> dict[str, Any]:
    """The report of an attempt; raises what ended it where that is no end of its own."""
    error, why, status = work.error, "", COMPLETE
    if isinstance(error, KeyboardInterrupt | _Interrupted):
        status, why = "interrupted", INTERRUPTED
    elif error is not None:
        status = next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), "failed")
        why = str(error).replace("resume the run", "ask again")  # there is no run here
        if isinstance(error, PostgradError):
            error.args = (why,)
    elif work.incomplete:
        status, why = "incomplete", work.incomplete
    report = written(_report(work, status, why), [work.folder, *([Path(out)] if out else [])])
    if status in ("interrupted", "failed"):
        raise error or KeyboardInterrupt
    return report


def _report(work: _Work, status: str, why: str) -> dict[str, Any]:
    from agents.researcher import report as reporting

    filed = work.notebook.all()
    findings = reporting.findings_of(filed, work.result.get("findings", ()))
    recipes = work.result.get("recipes", ())
    missing = work.result.get("missing", [])
    by = f"playbook, standing in for {work.brain}" if work.stand_in else work.brain
    meter = work.meter
    report: dict[str, Any] = redact_plain({
        "id": work.folder.name,
        "question": work.question.text,
        "by": by,
        "by_model": by == work.brain != PLAYBOOK,
        "status": status,
        "why": why,
        "summary": work.result.get("summary") or _in_figures(work, len(filed), recipes),
        "findings": findings,
        "recipes": reporting.recipes_of(recipes),
        "sources": reporting.sources_of(findings),
        "papers": reporting.papers_of(work.result.get("papers", ())),
        "missing": missing,
        "spent": {
            "usd": None if meter.unpriced else meter.usd,
            "llm_tokens": meter.tokens,
            "replayed_tokens": meter.tokens_kept,
        },
        "seconds": round(time.time() - work.started, 1),
        "at": work.started,
    })  # fmt: skip
    return report


def _in_figures(work: _Work, filed: int, recipes: Sequence[Recipe]) -> str:
    """What stands for a summary where no model has written one."""
    named = ", ".join(work.question.benchmarks)
    quoted = f"{filed} quotations with a number" + (f" for {named}" if named else "")
    if work.error is not None:
        return f"It ended before anything was concluded. Quotations filed until then: {filed}."
    papers = len(work.result.get("papers", ()))
    return (
        f"No language model has drawn conclusions from this. There are {len(recipes)} recipes of the built-in library "
        f"that fit by method and size, {papers} papers that a search found, and {quoted}, each as it stands in its "
        f"source: whether it answers the question is for you to judge.{_order(work, recipes)}"
    )


def _order(work: _Work, recipes: Sequence[Recipe]) -> str:
    """How the library's recipes are ranked for a question with a benchmark: by rule, which is no judgement."""
    from agents.researcher.survey import is_measured

    named = " or ".join(work.question.benchmarks)
    if not named or not recipes:
        return ""
    findings = {each.id: each for each in work.result.get("findings", ())}
    measured = sum(is_measured(recipe, findings, work.question) for recipe in recipes)
    return (
        f" Of the recipes {measured or 'none'} rest{'s' if measured == 1 else ''} on a result on {named}; such come "
        "first, then those for any goal, then those for other benchmarks."
    )


def _told(on_event: OnEvent | None) -> Callable[..., None]:
    def tell(kind: str, **fields: Any) -> None:
        if on_event is not None:
            on_event(parse_event({"kind": kind, "at": time.time(), **redact_plain(fields)}))

    return tell
