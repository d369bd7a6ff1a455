"""Runs training jobs, each in a fork of a process that has paid for the heavy imports.

`python warm.py SCRIPTS` reads a line [folder, config] for every job, and answers with its exit status. What the job
writes to standard output and standard error is in the folder's `stdout` and `stderr`.
"""

import json
import os
import sys
import traceback

sys.path.insert(0, sys.argv[1])

import datasets  # noqa: F401
import peft  # noqa: F401
import trackio  # noqa: F401
import train
import trl

for method in train.METHODS.values():
    getattr(trl, f"{method.trl}Trainer")


def work(folder: str, config: str) -> int:
    """What the script would have done and returned, had it been started in this folder."""
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    sys.argv = ["train.py", "--config", config]
    try:
        train.main()
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter would have
        traceback.print_exc()
        return 1
    return 0


for line in sys.stdin:
    child = os.fork()
    if not child:
        status = work(*json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
