# /// script
# requires-python = ">=3.10"
# dependencies = ["huggingface_hub>=1.0"]
# ///
"""Runs a job on a machine whose disk is gone at the end, and keeps what it makes in a repository of the Hub.

    python keep.py --repo anna/postgrad-r1 --folder KEY --inputs /job --every 600 -- uv run /job/train.py --config …

The command runs in a folder of its own, with links to everything in `--inputs`; its output is passed on as it comes.
`out/` of that folder and the output, as `log.txt`, are uploaded to `--folder` of the data set repository: every
`--every` seconds what has not changed for a while, and of a `.jsonl` that grows its whole lines; at the end, after a
failure too, all of it. The exit status is the command's, and KEEP_FAILED where the command succeeded and its output
could not be kept. A SIGTERM is passed on. The token is `POSTGRAD_KEEP_TOKEN`, which the command does not get to see in
its environment.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = "POSTGRAD_KEEP_TOKEN"  # noqa: S105 - the name of a variable
OUT, LOG = "out", "log.txt"
KEEP_FAILED = 75
"""EX_TEMPFAIL of <sysexits.h>."""
TRIES = 6
LONGEST_WAIT = 60
"""Seconds between two tries at an upload."""
SETTLED_SECONDS = 10
"""What changed more recently may be half written, and waits for the next upload; the last one takes everything."""
GRACE_SECONDS = 20
"""That the command has to end after a SIGTERM."""


class Keeper:
    """Uploads what is in the job's folder."""

    def __init__(self, repo: str, folder: str, work: Path, token: str) -> None:
        self._repo, self._folder, self._work, self._token = repo, folder, work, token
        self._uploading = threading.Lock()

    def keep(self, final: bool) -> None:
        """One commit of `out/` and the log. Raises what the client raises once its patience is at an end."""
        from huggingface_hub import HfApi

        api = HfApi(token=self._token)
        with self._uploading:
            for attempt in range(TRIES):
                try:
                    api.upload_folder(
                        repo_id=self._repo,
                        repo_type="dataset",
                        folder_path=self._work,
                        path_in_repo=self._folder,
                        allow_patterns=[f"{OUT}/**", LOG],
                        ignore_patterns=self._left_out(final),
                        delete_patterns=[f"{OUT}/**"] if final else None,
                        commit_message="Keep what the job made" + ("" if final else " so far"),
                    )
                    if not final:
                        self._keep_growing(api)
                    return
                except Exception as error:
                    if attempt == TRIES - 1 or not final or not _may_pass(error):
                        raise
                    time.sleep(min(LONGEST_WAIT, 2**attempt))

    def _keep_growing(self, api: "HfApi") -> None:
        """The whole lines of files right in `out/` that are written to all the time, as answers and metrics are."""
        for path in sorted((self._work / OUT).glob("*.jsonl")):
            # A copy: what is uploaded must not change meanwhile.
            lines, end, _ = path.read_bytes().rpartition(b"\n") if not path.is_symlink() else (b"", b"", b"")
            if end and path.stat().st_mtime > time.time() - SETTLED_SECONDS:
                api.upload_file(
                    repo_id=self._repo,
                    repo_type="dataset",
                    path_or_fileobj=lines + end,
                    path_in_repo=f"{self._folder}/{OUT}/{path.name}",
                    commit_message=f"Keep {path.name} so far",
                )

    def _left_out(self, final: bool) -> list[str]:
        """Links, which may point anywhere; before the end, entries of `out/` that something was just written to."""
        out = self._work / OUT
        left_out = [_escaped(path.relative_to(self._work)) for path in out.rglob("*") if path.is_symlink()]
        if not final:
            newest = time.time() - SETTLED_SECONDS
            for entry in out.iterdir() if out.is_dir() else ():
                if max(path.lstat().st_mtime for path in (entry, *entry.rglob("*"))) > newest:
                    name = _escaped(entry.relative_to(self._work))
                    left_out += [name, f"{name}/**"]
        return left_out


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs a job and keeps what it makes.")
    parser.add_argument("--repo", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--every", type=float, default=600.0)
    parser.add_argument("--each-time", action="store_true", help="keep every run in a folder of its own, by its time")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    token = os.environ.pop(TOKEN, "")
    work = Path(tempfile.mkdtemp(prefix="job-"))
    for entry in asked.inputs.iterdir():
        (work / entry.name).symlink_to(entry)
    folder = f"{asked.folder}/{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}" if asked.each_time else asked.folder
    keeper = Keeper(asked.repo, folder, work, token)
    code = run(asked.command, work, keeper, asked.every)
    try:
        keeper.keep(final=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, a job whose output is lost has not succeeded
        say(f"error: what the job made could not be kept: {_one_line(error)}")
        return code or KEEP_FAILED
    return code


def run(command: list[str], work: Path, keeper: Keeper, every: float) -> int:
    """The exit status of the command as a shell has it; meanwhile its output is passed on, and kept now and then."""
    try:
        job = subprocess.Popen(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        say(f"error: {command[0]} could not be started: {error.strerror}")
        return 127

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL if number == signal.SIGALRM else number)
        if number != signal.SIGALRM:
            signal.alarm(GRACE_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, pass_on)
    forwarder = threading.Thread(target=forward, args=(job, work / LOG), daemon=True)
    forwarder.start()
    ended = threading.Event()
    threading.Thread(target=keep_now_and_then, args=(keeper, every, ended), daemon=True).start()
    code = job.wait()
    signal.alarm(0)
    ended.set()
    # Whoever is left of its processes would hold the pipe open.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    forwarder.join(timeout=10)
    return code if code >= 0 else 128 - code


def forward(job: "subprocess.Popen[bytes]", log: Path) -> None:
    """Pass the output on byte by byte, and write it down."""
    assert job.stdout is not None  # noqa: S101 - it was opened as a pipe
    with log.open("wb", buffering=0) as copy:
        while data := os.read(job.stdout.fileno(), 2**16):
            copy.write(data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def keep_now_and_then(keeper: Keeper, every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        try:
            keeper.keep(final=False)
        except Exception as error:  # noqa: BLE001 - the job goes on, and the next time may be better
            print(f"keep: {_one_line(error)}; trying again in {every:g} s", file=sys.stderr, flush=True)


def say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)


def _may_pass(error: Exception) -> bool:
    """Whether the same upload may work a little later."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is None or status >= 500 or status in (408, 409, 412, 429)


def _escaped(path: Path) -> str:
    """The path as a pattern of itself."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path.as_posix())


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


if __name__ == "__main__":
    sys.exit(main())
