"""Slurm as its programs show it: `sbatch`, `squeue`, `sacct`, `scancel`, `sinfo`, `sstat`, asked and read."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence

from shared_memory.errors import BadInput, Unavailable, Uncertain
from shared_memory.records import Record

_FOR_SLURM = (
    "PATH HOME USER LOGNAME LANG LD_LIBRARY_PATH SLURM_CONF SLURM_CONF_SERVER "
    "SBATCH_ACCOUNT SBATCH_QOS SBATCH_RESERVATION SBATCH_CONSTRAINT"
)
FOR_SLURM = frozenset(_FOR_SLURM.split())
"""Variables that Slurm's programs get: where the cluster is, and whose account pays. Not those that would change what
they print or leave out."""
ANSWER_SECONDS = 60.0
"""How long one program may take."""
PATIENCE_SECONDS = 60.0
"""How long a controller that does not answer is asked again: it may be starting anew."""
_OUT_OF_REACH = re.compile(
    r"unable to contact|connection refused|connection timed out|socket timed out|zero bytes were transmitted"
    r"|send/recv|connection reset|communication connection failure|slurm backup controller in standby",
    re.IGNORECASE,
)
"""Words of a program that did not get its answer from the controller."""
_NOTHING_SENT = re.compile(r"\(connect failure\)|connection refused|dns srv lookup failed", re.IGNORECASE)
"""Words of one that did not even get its question through."""
_WAITING = "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD"
WAITING = frozenset(_WAITING.split())
"""States of a job that has not started."""
_GIB_PER = {"": 2.0**-30, "K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}
_ACTIVE = "RUNNING SUSPENDED STOPPED SIGNALING STAGE_OUT RESIZING COMPLETING"
ACTIVE = WAITING | frozenset(_ACTIVE.split())
"""States in which Slurm still has something to do for a job."""


class Seen(Record):
    """A job as Slurm tells it."""

    slurm_id: str
    state: str
    """Slurm's word, such as PENDING, COMPLETED or NODE_FAIL."""
    detail: str = ""
    """What comes with the state: why it waits or failed, or who cancelled it."""
    ended: float | None = None
    """Seconds since the epoch, for a job that has ended."""
    nodes: str = ""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def submit(options: Sequence[str], script: Sequence[str], environment: Mapping[str, str]) -> str:
    """Hand a batch script (and its arguments) to `sbatch`; returns Slurm's id of the job.

    environment: variables of the job; they travel with it, on no command line.
    Raises Uncertain where the controller may have the job, Unavailable where it is out of reach, and BadInput for what
    it refuses and where there is no `sbatch`.
    """
    command = ["sbatch", "--parsable", "--export=ALL", *options, *script]
    try:
        answer = _run(command, {**_passed(), **environment})
    except subprocess.TimeoutExpired as error:
        raise Uncertain(f"sbatch did not answer within {ANSWER_SECONDS:g} s, and Slurm may have the job") from error
    slurm_id = answer.stdout.strip().partition(";")[0]  # `id;cluster` where there are several
    if answer.returncode == 0 and slurm_id.isdigit():
        return slurm_id
    words = _words(answer)
    if _NOTHING_SENT.search(words):
        raise Unavailable(f"Slurm's controller is out of reach ({words}); resume when it answers")
    if answer.returncode <= 0 or _OUT_OF_REACH.search(words):
        raise Uncertain(f"sbatch lost touch with the controller, which may have the job ({words})")
    raise BadInput(f"Slurm does not take the job ({words}); change what it asks for, then resume")


def jobs_named(name: str, since: float | None) -> list[Seen]:
    """This user's jobs of that name, oldest first: the controller's word, and the accounting's on those that it has
    forgotten (which it does some minutes after their end).

    since: when the first of them was submitted (seconds since the epoch); None looks at the last 30 days.
    Raises Unavailable where the controller does not answer for PATIENCE_SECONDS.
    """
    mine = f"--user={os.getuid()}"
    found = read_squeue(_ask("squeue", "--noheader", "--states=all", mine, f"--name={name}", "--format=%i|%T|%r|%e|%N"))
    start = f"now-{1 + int((time.time() - since) // 86400) if since else 30}days"
    told = {seen.slurm_id for seen in found}
    if not any(seen.active for seen in found):
        table = _accounting(mine, f"--name={name}", f"--starttime={start}")
        found += [seen for seen in read_sacct(table) if seen.slurm_id not in told]
    return sorted(found, key=lambda seen: int(seen.slurm_id))


def read_squeue(table: str) -> list[Seen]:
    """Rows `id|state|reason|end|nodes`."""
    found = []
    for row in table.splitlines():
        slurm_id, state, reason, end, nodes = row.split("|", 4)
        ended = None if state in ACTIVE else _epoch(end)
        detail = "" if reason == "None" else reason
        found.append(Seen(slurm_id=slurm_id, state=state, detail=detail, ended=ended, nodes=nodes))
    return found


def read_sacct(table: str) -> list[Seen]:
    """Rows `id|state|reason|end|nodes`; the state may go on: `CANCELLED by 1000`."""
    found = []
    for row in table.splitlines():
        slurm_id, state, reason, end, nodes = row.split("|", 4)
        word, _, more = state.partition(" ")
        detail = more or ("" if reason == "None" else reason)
        found.append(
            Seen(
                slurm_id=slurm_id,
                state=word,
                detail=detail,
                ended=None if word in ACTIVE else _epoch(end),
                nodes="" if nodes == "None assigned" else nodes,
            )
        )
    return found


def cancel(name: str) -> None:
    """End this user's jobs of that name; nothing where there are none."""
    _ask("scancel", f"--user={os.getuid()}", f"--name={name}")


def memory_gib(slurm_id: str) -> float | None:
    """What a running job's processes use, over all its nodes; None where Slurm does not measure it."""
    try:
        answer = _run(
            ["sstat", "--noheader", "--parsable2", "--allsteps", f"--jobs={slurm_id}", "--format=AveRSS,NTasks"],
            _environment(),
        )
    except (BadInput, subprocess.TimeoutExpired):
        return None
    sizes = [read_size(row) for row in answer.stdout.splitlines()]
    return round(sum(sizes), 3) if answer.returncode == 0 and any(sizes) else None


def read_size(row: str) -> float:
    """GiB in a row `10644K|2` of sstat: a mean, and of how many."""
    match = re.fullmatch(r"([\d.]+)([KMGT]?)\|(\d+)", row.strip())
    if match is None:
        return 0.0
    number, unit, tasks = match.groups()
    return float(number) * int(tasks) * _GIB_PER[unit]


def nodes_of_partitions() -> str:
    """Rows `partition|cores|MiB|gres|time limit`, one a node of every partition that is up."""
    rows = _ask("sinfo", "--noheader", "--Node", "--format=%a|%R|%c|%m|%G|%l").splitlines()
    return "\n".join(row.removeprefix("up|") for row in rows if row.startswith("up|"))


def takes_images() -> bool:
    """Whether Slurm itself starts containers here, by the plug-in Pyxis."""
    return "--container-image" in _ask("srun", "--help")


def _accounting(*options: str) -> str:
    """What sacct prints; nothing where the cluster keeps no accounts, or they do not answer."""
    command = ["sacct", "--allocations", "--noheader", "--parsable2", *options]
    try:
        answer = _run([*command, "--format=JobIDRaw,State,Reason,End,NodeList"], _environment())
    except (BadInput, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _ask(program: str, *arguments: str) -> str:
    """What a program prints that only asks, and may be asked again.

    Raises Unavailable where it gets no answer for PATIENCE_SECONDS, or an error.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = _run([program, *arguments], _environment())
            words = _words(answer)
        except subprocess.TimeoutExpired:
            answer, words = None, f"{program} took more than {ANSWER_SECONDS:g} s"
        if answer is not None and answer.returncode == 0:
            return answer.stdout
        if answer is not None and not _OUT_OF_REACH.search(words):
            raise Unavailable(f"{program} failed ({words}); mend that, then resume")
        if time.monotonic() > give_up_at:
            raise Unavailable(f"Slurm does not answer ({words}); resume when it does, the job goes on by itself")
        time.sleep(1)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
        )
    except FileNotFoundError as error:
        raise BadInput(
            f"`{command[0]}` is not on this machine; run postgrad on a login node of the cluster, or --on local"
        ) from error


def _passed() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in FOR_SLURM}


def _environment() -> dict[str, str]:
    """For a program that is read: its times are seconds since the epoch."""
    return {**_passed(), "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


def _words(answer: subprocess.CompletedProcess[str]) -> str:
    """The last line of what went wrong, without the program's name before it."""
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    words = lines[-1] if lines else f"exit code {answer.returncode}"
    return re.sub(r"^\w+: (error: |fatal: )?", "", words)


def _epoch(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+", text) else None
