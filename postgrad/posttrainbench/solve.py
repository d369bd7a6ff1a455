"""Works on a task folder of PostTrainBench from the first minute to the last: a run, and final_model beside it."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from agents.base_model import BaseModel, find_base_model
from agents.evaluator import posttrainbench as ptb
from postgrad import api
from postgrad.events import Event
from postgrad.posttrainbench.base import POLICY, base_model_of, lay_out
from postgrad.posttrainbench.final_model import FinalModel
from postgrad.posttrainbench.goal import goal_of
from postgrad.posttrainbench.outlet import Outlet
from postgrad.session import Session
from shared_memory.database import Database
from shared_memory.errors import BadInput, PostgradError
from shared_memory.run_paths import write_atomically
from shared_memory.runs import Runs, RunStatus
from shared_memory.settings import Settings

BASELINE = "baseline"
TOLD = "posttrainbench.json"
"""What came of the work, in our folder of the home."""
OFFICIAL_SECONDS = 30 * 60.0
"""Kept back for evaluate.py: twice the "~15 minutes on an H100" that the benchmark asks of an evaluation [README,
Adding Tasks]. The score that counts is the harness's own, so a longer one is cut off rather than paid for with
training."""
OFFICIAL_SHARE = 0.08
"""Of the clock, where that is less."""
COPIES = 4
"""Times that copying the weights once is kept back: the last model is merged, checked and written."""
CLOCK_SHOWS_SECONDS = 60.0
"""timer.sh shows whole minutes, so the clock may be this much behind what the run was told before it is ended."""
BEAT_SECONDS = 30.0
"""Between two looks at the clock."""
STOP_SECONDS = 20.0
"""What a run gets to deliver after SIGTERM: the harness sends SIGKILL 30 s later."""
ENDED = (RunStatus.SUCCEEDED, RunStatus.TIMED_OUT, RunStatus.OVER_BUDGET, RunStatus.CANCELLED)

Tell = Callable[[str], None]


class Stopped(BaseException):
    """SIGTERM has come; it passes every boundary of ours but those that clean up."""


@dataclass(frozen=True)
class Place:
    """What the work on a task folder stands on."""

    task: ptb.Task
    protected: dict[str, str]
    base: BaseModel
    """Laid out for the evaluator."""
    final: FinalModel
    folder: Path
    """Ours, in the home."""
    settings: Settings
    tell: Tell

    @property
    def left(self) -> float:
        """Seconds on the clock; none where it has stopped telling."""
        try:
            return ptb.seconds_left(self.task)
        except BadInput:
            return 0.0


def solve(
    folder: Path,
    *,
    settings: Settings,
    tell: Tell,
    prompt: str = "",
    goal: Path | None = None,
    benchmark: str = "",
    model: str = "",
    brain: str = "",
    python: str = "python3",
    on_event: Callable[[Event], None] = lambda event: None,
    beat: float = BEAT_SECONDS,
) -> dict[str, Any]:
    """Work until the clock, less what is kept back, runs out, and say what came of it (also in `posttrainbench.json`):

    `{benchmark, model, run_id, status, outcome, error, champion, final_model, scores, official {score, stderr,
    attempts, error, includes_selection_items}, tampered, seconds_left}`

    `scores` are the champion's, on the items that did not select it. python: the task's own, for evaluate.py. From the
    first minute on final_model holds a whole model. The same call again goes on where it stopped. Raises BadInput for
    a folder, a model or a goal that cannot be worked on, and Stopped after SIGTERM.
    """
    task = ptb.read_task(folder, prompt, benchmark=benchmark, model=model)
    began, left = time.monotonic(), ptb.seconds_left(task)
    place = _take_place(task, settings, tell)
    kept = kept_back(left, time.monotonic() - began)
    if changed := ptb.tampered(task, place.protected):
        raise BadInput(f"{changed[0]} is not what it was when the work began; fetch the task folder again")
    run_id = _run_of(place, kept, template=goal, brain=brain)
    tell(f"{task.benchmark}, {task.model}: run {run_id}, {kept / 60:.0f} min of the clock are kept back for the end")
    with _stopped_by_sigterm():
        error = _work(place, run_id, kept, on_event, beat)
        official = ptb.official_evaluation(
            task, place.protected, python=python, folder=place.folder / "official", tell=tell, left=lambda: place.left
        )
    summary = api.show(run_id, settings=settings)
    told = {
        "benchmark": task.benchmark,
        "model": task.model,
        "run_id": run_id,
        "status": summary["status"],
        "outcome": summary["outcome"],
        "error": error or summary["error"],
        "champion": place.final.holds or BASELINE,
        "final_model": str(task.final_model),
        "scores": summary["champion"].get("score", {}),
        "official": official.plain(),
        "tampered": ptb.tampered(task, place.protected),
        "seconds_left": place.left,
    }
    try:
        write_atomically(place.folder / TOLD, (json.dumps(told, indent=2) + "\n").encode())
    except OSError as error:  # a full disk: what was found out is told all the same
        tell(f"{TOLD} could not be written ({error.strerror})")
    return told


def kept_back(left: float, placing: float) -> float:
    """Seconds of the clock that the run does not get. placing: what laying the base out as final_model took."""
    return min(OFFICIAL_SECONDS, OFFICIAL_SHARE * left) + COPIES * placing + CLOCK_SHOWS_SECONDS


def _take_place(task: ptb.Task, settings: Settings, tell: Tell) -> Place:
    """The task with its base model laid out; final_model holds the base unless there is a model in it already."""
    folder = settings.home / "posttrainbench"
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / "protected.json"
    if not notes.exists():
        found = ptb.protected_files(task, own=(settings.home, Path(sys.prefix)))
        write_atomically(notes, json.dumps(found, indent=2).encode())
    original = base_model_of(task.model)
    laid_out = lay_out(Path(original.folder), ptb.template_of(task, original.architecture), folder / "base")
    final = FinalModel(task.final_model, Path(original.folder), laid_out / POLICY)
    if not task.final_model.exists():
        final.place(BASELINE, laid_out)
    protected = json.loads(notes.read_text(encoding="utf-8"))
    return Place(task, protected, find_base_model(str(laid_out)), final, folder, settings, tell)


def _run_of(place: Place, kept: float, *, template: Path | None, brain: str) -> str:
    """The run of an earlier call, or a new one."""
    notes = place.folder / "run.txt"
    if notes.exists():
        return notes.read_text(encoding="utf-8").strip()
    left = place.left
    if left <= kept:
        raise BadInput(f"the clock leaves {left / 60:.0f} min, and {kept / 60:.0f} min are kept back for the end")
    goal = goal_of(place.task, place.base, seconds=left - kept, template=template, brain=brain)
    run_id = api.open_run(goal, place.settings)
    write_atomically(notes, f"{run_id}\n".encode())
    return run_id


def _work(place: Place, run_id: str, kept: float, on_event: Callable[[Event], None], beat: float) -> str:
    """The run to its end, with final_model kept up to date; what went wrong, in one line.

    Whatever ends the run, the best model that there is gets into final_model.
    """
    outlet = Outlet(
        place.settings, run_id, place.final, place.base, place.tell, left=lambda: place.left - CLOCK_SHOWS_SECONDS
    )

    def hear(event: Event) -> None:
        outlet.hear(event)
        on_event(event)

    error = ""
    if Runs(Database.open(place.settings.database)).get(run_id).status not in ENDED:
        with outlet:
            error = _drive(place, Session(place.settings, run_id, None, hear), run_id, kept, beat)
    try:
        _deliver(place, outlet, api.show(run_id, settings=place.settings)["champion"])
    except PostgradError as fault:
        error = error or str(fault)
    return error


def _drive(place: Place, session: Session, run_id: str, kept: float, beat: float) -> str:
    """The run, until it ends or the clock does; what broke it off, in one line."""
    ends = time.time() + place.left - kept
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgrad") as pool:
        driving = pool.submit(session.drive)
        try:
            while not _is_over(driving, beat):
                if time.time() + place.left - kept < ends - CLOCK_SHOWS_SECONDS:
                    place.tell("the clock runs out earlier than it said: the run is ended")
                    _end(place.settings, run_id)
                    break
            driving.result()
        except Stopped:
            place.tell("stopped by SIGTERM: the run is ended")
            _end(place.settings, run_id)
            if not _is_over(driving, STOP_SECONDS):
                session.park()
            raise
        except KeyboardInterrupt:
            session.park()  # the same call again goes on
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it was, the best model is delivered
            return f"the run broke off: {error}"
    return ""


def _is_over(driving: Future[Any], seconds: float) -> bool:
    """Whether the run is over, or is within some seconds."""
    try:
        driving.exception(timeout=seconds)
    except NotYet:
        return False
    return True


def _end(settings: Settings, run_id: str) -> None:
    """Have the run stop its jobs and hand its best model over."""
    Runs(Database.open(settings.database)).request_cancel(run_id)


def _deliver(place: Place, outlet: Outlet, champion: dict[str, Any]) -> None:
    """The run's own champion into final_model, whatever the outlet has put there; without one, the newest incumbent.

    Raises PostgradError where that cannot be done.
    """
    name, model = champion.get("experiment", outlet.newest), Path(champion.get("model") or place.base.folder)
    if name == BASELINE:
        place.final.place(BASELINE, Path(place.base.folder))
    elif champion and any(model.glob("*.safetensors")) and not (model / "adapter_config.json").exists():
        place.final.place(name, model)
    elif name and place.final.holds != name:
        outlet.bring(name)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """While inside, the first SIGTERM raises Stopped. Only the main thread can hear it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hear(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped

    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
