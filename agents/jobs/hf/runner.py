"""Runs jobs on Hugging Face Jobs: staged into a private repository, labelled with their key, kept from there.

A backend id is `namespace/job id`, which the Hub's own tools understand as well. What this machine remembers of a job
lies in its folder: `hf.json`, and `log.txt`, its output so far. Without them a job is found again by its labels.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from agents.jobs.base import JobStatus
from agents.jobs.flavors import hf_flavors
from agents.jobs.hf import log as hf_log
from agents.jobs.hf.client import Passing, ambiguous, hub_api, hub_errors, owner_of, patiently, status_of
from agents.jobs.hf.notes import Note, Notes
from agents.jobs.hf.order import LABEL, order_of, refuse_dearer, refuse_misfit
from agents.jobs.hf.staging import fetch_out, repo_of, stage
from agents.jobs.hf.verdict import judge, measures, state_of
from agents.jobs.log_file import piece_of, tail_of
from shared_memory.errors import BadInput, PostgradError, Unavailable, Uncertain
from shared_memory.records import JobSpec, JobState

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

GRACE = 120.0
"""Seconds within which the Hub's list of jobs may miss a new one."""
PATIENCE = 900.0
"""Seconds for which a job whose status cannot be read counts as being as it was last seen."""


class HfRunner:
    """A JobRunner over HF Jobs.

    Any method may raise BadInput (token, rights, namespace), Unavailable (no credit, nothing kept) or, while the Hub is
    busy, its subclass Passing; `submit` raises Uncertain where the job may have been taken all the same. `status` bears
    a Hub that does not answer for PATIENCE seconds, so that a passing fault is never the end of a job. Besides the
    backend id, every method takes the key.
    """

    name = "hf"
    listing_grace = GRACE

    def __init__(self, jobs: Path, run_id: str, namespace: str = "", every: float = 5.0) -> None:
        """jobs: folder of the run's job folders. namespace: whose the jobs are where a spec does not say; empty is the
        token's own user. every: seconds between two looks at one job, however often its status is asked for.
        """
        self._jobs = jobs.resolve()
        self._run_id = run_id
        self._namespace = namespace
        self._every = every
        self._notes = Notes(self._jobs)

    def submit(self, spec: JobSpec, key: str, folder: Path) -> str:
        """Stage the folder and start the job; one that the Hub lists under this key already is adopted.

        One that was sent less than GRACE seconds ago and is not listed is Uncertain again, and not sent again. Raises
        BadInput, beside what `refuse_misfit` does, where it would cost more than was approved.
        """
        refuse_misfit(spec)
        api = hub_api()
        price = hf_flavors().named(spec.flavor).usd_micro_per_minute
        owner = spec.namespace or self._owner(api)
        note = self._notes.of_key(key) or self._notes.write(
            Note(key=key, namespace=owner, timeout_seconds=spec.timeout_seconds, usd_micro_per_minute=price)
        )
        if (known := self.find(key)) is not None:
            return known
        if time.time() < note.sent + GRACE:
            raise Uncertain(f"job {key} was sent to HF Jobs a moment ago, and is not listed yet; resume in {GRACE:g} s")
        refuse_dearer(spec, price)
        repo_id = self._repo(note)
        revision = stage(api, repo_id, key, folder, [*spec.files])
        order = order_of(spec, key, self._run_id, note.namespace, repo_id, revision)
        what = f"submitting `{spec.title}` to HF Jobs for {note.namespace}"
        sent = self._notes.write(note.model_copy(update={"sent": time.time()}))
        try:
            with hub_errors(what), ambiguous(what):
                info = api.run_job(**order)
        except PostgradError as error:
            if not isinstance(error, Uncertain):
                self._notes.write(note)
            raise
        return self._notes.write(sent.model_copy(update={"job_id": info.id, "submitted": time.time()})).backend_id

    def find(self, key: str) -> str | None:
        note = self._notes.of_key(key)
        if note is not None and note.job_id:
            return note.backend_id
        api = hub_api()
        namespace = note.namespace if note else self._owner(api)
        jobs = patiently(
            lambda: [job for job in api.list_jobs(labels={LABEL: key}, namespace=namespace) if _key_of(job) == key],
            f"looking for job {key} among those of {namespace}",
        )
        if not jobs:
            return None
        return self._adopt(min(jobs, key=_created), note).backend_id

    def status(self, backend_id: str) -> JobStatus:
        """Terminal only once the whole log is here. A Hub that does not answer leaves it as it was, up to PATIENCE."""
        note = self._note(backend_id)
        if note is None or not note.job_id:
            return JobStatus(state=JobState.UNKNOWN, error=f"HF Jobs has no job {backend_id}")
        if note.status and (note.ended or time.time() < note.looked + self._every):
            return note.status
        try:
            status = self._look(note)
        except Passing as trouble:
            return self._bear(note, trouble)
        self._notes.write(note.model_copy(update={"status": status, "looked": time.time(), "trouble_since": 0.0}))
        return status

    def _look(self, note: Note) -> JobStatus:
        """The job by the Hub's record. Raises Passing while that, or the log of a job that ended, is out of reach."""
        api = hub_api()
        try:
            with hub_errors(f"reading the status of job {note.backend_id}"):
                info = api.inspect_job(job_id=note.job_id, namespace=note.namespace)
        except BadInput as missing:
            if status_of(missing) != 404:
                raise
            if time.time() < note.submitted + GRACE:
                return JobStatus(state=JobState.QUEUED)
            cost = note.status or JobStatus(state=JobState.UNKNOWN)  # what it is known to have cost stays known
            lost = f"HF Jobs has no job {note.backend_id} any more"
            return cost.model_copy(update={"state": JobState.UNKNOWN, "error": lost})
        log = self._log(note)
        if state_of(info).terminal:
            try:
                hf_log.finish(api, note, self._repo(note), log, well=state_of(info) is JobState.SUCCEEDED)
            except hf_log.NothingKept as nothing:
                if note.trouble_for(time.time()) <= PATIENCE:
                    raise
                failed = {"state": JobState.FAILED, "error": str(nothing)}
                return judge(note, info, tail_of(log)).model_copy(update=failed)
        return judge(note, info, tail_of(log))

    def _bear(self, note: Note, trouble: Passing) -> JobStatus:
        """The status as it was, while the trouble lasts no longer than PATIENCE; then raises Unavailable."""
        now = time.time()
        if note.trouble_for(now) > PATIENCE:
            raise Unavailable(f"{trouble}; job {note.backend_id} itself may go on meanwhile") from trouble
        status = note.status or JobStatus(state=JobState.QUEUED)
        self._notes.write(
            note.model_copy(
                update={"status": status, "looked": now + trouble.wait, "trouble_since": note.trouble_since or now}
            )
        )
        return status

    def logs(self, backend_id: str, offset: int) -> tuple[str, int]:
        note = self._note(backend_id)
        if note is None:
            return "", offset
        if note.job_id and not note.ended:
            hf_log.read_on(note, self._log(note), self._every)
        return piece_of(self._log(note), offset, ended=False)

    def cancel(self, backend_id: str) -> None:
        note = self._note(backend_id)
        if note is None or not note.job_id or note.ended:
            return
        job_id, namespace = note.job_id, note.namespace
        try:
            patiently(
                lambda: hub_api().cancel_job(job_id=job_id, namespace=namespace), f"cancelling job {note.backend_id}"
            )
        except BadInput as error:
            if status_of(error) not in (400, 404, 422):  # it has ended, or is gone: the status will tell
                raise
        self._notes.write(note.model_copy(update={"looked": 0.0}))

    def fetch(self, backend_id: str, folder: Path) -> None:
        """Bring what the job has kept of its `out/`: all of it after its end, its checkpoints after a failure.

        Raises Unavailable where nothing was kept, or a file came damaged; what is there already is left alone.
        """
        note = self._note(backend_id)
        if note is None:
            raise Unavailable(f"HF Jobs has no job {backend_id}; look at {folder}")
        fetch_out(hub_api(), self._repo(note), note.key, folder)

    def metrics(self, backend_id: str) -> dict[str, float]:
        """What the job uses now; empty where the Hub does not say within ten seconds."""
        note = self._note(backend_id)
        if note is None or not note.job_id or note.ended:
            return {}
        try:
            with hub_errors(f"measuring job {note.backend_id}"):
                sample = next(iter(hub_api().fetch_job_metrics(job_id=note.job_id, namespace=note.namespace)), None)
        except PostgradError:  # a figure that is missing is no reason to stop anything
            return {}
        return measures(sample or {})

    def _note(self, backend_id: str) -> Note | None:
        """What is known of a job by its backend id or its key; asked of the Hub where nothing is here."""
        if "/" not in backend_id:
            note = self._notes.of_key(backend_id)
            lost = note is not None and not note.job_id
            return self._notes.of_key(backend_id) if lost and self.find(backend_id) else note
        if note := self._notes.of_id(backend_id):
            return note
        namespace, _, job_id = backend_id.partition("/")
        try:
            info = patiently(
                lambda: hub_api().inspect_job(job_id=job_id, namespace=namespace), f"looking for job {backend_id}"
            )
        except BadInput as error:
            if status_of(error) == 404:
                return None
            raise
        return self._adopt(info, None) if _key_of(info) else None

    def _adopt(self, job: JobInfo, note: Note | None) -> Note:
        """Remember a job of ours that the Hub has."""
        if note is None:
            price = hf_flavors().named(str(job.flavor or "")).usd_micro_per_minute
            note = Note(key=_key_of(job), namespace=job.owner.name, usd_micro_per_minute=price)
        return self._notes.write(note.model_copy(update={"job_id": job.id, "submitted": _created(job)}))

    def _owner(self, api: HfApi) -> str:
        """Whose the jobs are for which a spec names nobody."""
        self._namespace = owner_of(api, self._namespace)
        return self._namespace

    def _repo(self, note: Note) -> str:
        return repo_of(note.namespace, self._run_id)

    def _log(self, note: Note) -> Path:
        return self._jobs / note.key / hf_log.LOG


def _key_of(job: JobInfo) -> str:
    """The submission key on a job's label; empty where it is none of ours."""
    return (job.labels or {}).get(LABEL, "")


def _created(job: JobInfo) -> float:
    return job.created_at.timestamp() if job.created_at else time.time()
