"""Gives a process the jobs that take no time, with a merge that leaves a whole model; a test puts it on PYTHONPATH."""

import sys
from pathlib import Path

from agents.trainer import delivery

sys.path.append(str(Path(__file__).parents[3]))
from tests.noop import jobs as noop
from tests.noop.site import sitecustomize  # noqa: F401 - it sets the library of recipes

noop.install(setattr)
delivery.SCRIPT = Path(__file__).parents[1] / "merge.py"
