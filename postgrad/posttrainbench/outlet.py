"""Brings every new incumbent out of a run while the run goes on, so that a death at any moment leaves the best one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from agents.base_model import BaseModel
from agents.jobs.launch import job_environment
from agents.trainer import delivery
from postgrad.events import Event, VerdictEvent
from postgrad.posttrainbench.final_model import FinalModel
from shared_memory.database import Database
from shared_memory.errors import PostgradError
from shared_memory.journal import Journal
from shared_memory.records import Experiment, Verdict
from shared_memory.run_paths import RunPaths
from shared_memory.settings import Settings


class Outlet:
    """Listens to a run. An adapter is merged here, on the processor, while the GPU goes on with the next experiment.

    The merge is the one that delivers a champion, outside of the jobs door: it spends nothing, takes no device, and
    what it makes is no part of the run.
    """

    def __init__(
        self, settings: Settings, run_id: str, final: FinalModel, base: BaseModel, tell: Callable[[str], None],
        left: Callable[[], float],
    ) -> None:  # fmt: skip
        """base: what the run trains from. left: seconds that a merge may take."""
        self._settings, self._run_id = settings, run_id
        self._final, self._base = final, base
        self._tell, self._left = tell, left
        self.newest = ""
        """The incumbent, as far as was heard."""
        self._paths = RunPaths(settings.home / "posttrainbench" / "merges")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outlet")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)

    def hear(self, event: Event) -> None:
        """An event of the run; a new incumbent is brought out in a thread of its own."""
        if isinstance(event, VerdictEvent) and event.verdict == Verdict.KEEP:
            self.newest = event.experiment
            self._thread.submit(self._bring_if_newest, event.experiment)

    def _bring_if_newest(self, name: str) -> None:
        if name != self.newest:
            return  # while the one before was merged, a better one has come
        try:
            self.bring(name)
        except PostgradError as error:
            self._tell(f"{name} is the best so far, and not in {self._final.folder.name} yet: {error}")

    def bring(self, name: str) -> None:
        """Put an experiment's model into final_model. Raises PostgradError where that cannot be done."""
        experiment = Journal(Database.open(self._settings.database), self._run_id).all(Experiment)[name]
        if not experiment.adapter:
            self._final.place(name, Path(experiment.model))
        else:
            folder = self._paths.job(name)
            try:
                self._final.place(name, self._merged(experiment, folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)  # final_model has the weights, as links or as copies
        self._tell(f"{name} is in {self._final.folder.name}")

    def _merged(self, experiment: Experiment, folder: Path) -> Path:
        """The folder of the whole model that merge.py makes of an adapter."""
        try:
            spec = delivery.merge_job(experiment, self._base, self._paths)
            self._paths.fill_job_folder(experiment.id, spec.files, json.dumps(spec.config))
            ran = subprocess.run(
                [sys.executable, spec.script, "--config", "config.json"],
                cwd=folder,
                env={**job_environment((), trackio=Path(os.devnull)), "CUDA_VISIBLE_DEVICES": ""},
                capture_output=True,
                text=True,
                timeout=max(1.0, min(self._left(), spec.timeout_seconds)),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostgradError(f"its adapter was not merged ({error}); it is tried again at the end") from error
        if ran.returncode:
            words = ran.stderr.strip().splitlines()
            raise PostgradError(
                f"its adapter was not merged ({words[-1] if words else f'exit status {ran.returncode}'}); it is tried "
                "again at the end"
            )
        return folder / "out" / "model"
