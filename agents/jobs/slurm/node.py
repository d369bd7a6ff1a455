"""The program that owns a job on the first of its nodes. Standard library only; `batch.sh` starts it.

    python -I node.py FOLDER

It is `supervise.py` in the foreground, under Slurm. What it finds and leaves in the job folder besides that one's:

    order.json   what to start, and how long it may run
    claim.json   made once and for all by the first that starts the job, or that gives it up

File locks do not reach from node to node on every file system, the creation of a file does. So of two Slurm jobs for
one key, or of one that Slurm starts again, only the first ever runs the script.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # Run as a file, and with -I: the packages beside it are not on the path.
    sys.path.append(str(Path(__file__).parents[3]))

from agents.jobs.supervise import Status, Supervisor, write_status

ORDER, CLAIM = "order.json", "claim.json"
HELD = 75
"""Exit code of a Slurm job whose key was claimed before: EX_TEMPFAIL of <sysexits.h>."""


def claim(folder: Path, slurm_id: str) -> bool:
    """Take the job for good; False where it was taken before."""
    try:
        file = os.open(folder / CLAIM, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with open(file, "w") as stream:  # noqa: PTH123  an open file, not a path
        json.dump({"slurm_id": slurm_id, "node": platform.node()}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return True


def claimed_by(folder: Path) -> str | None:
    """Slurm's id of the job that took the key; empty where it was given up, None where it is free."""
    try:
        return str(json.loads((folder / CLAIM).read_text())["slurm_id"])
    except FileNotFoundError:
        return None
    except ValueError:
        return ""  # made this very moment, or by one that died over it


def main() -> None:
    folder = Path(sys.argv[1])
    if not claim(folder, os.environ["SLURM_JOB_ID"]):
        print("this job was started or given up before; it does not run again")
        sys.exit(HELD)
    status = Status(supervisor=os.getpid(), queued=time.time())
    write_status(folder, status)
    Supervisor(json.loads((folder / ORDER).read_text()), status).run()
    # Slurm's record has to say the same.
    sys.exit(0 if status.state == "succeeded" else 1)


if __name__ == "__main__":
    main()
