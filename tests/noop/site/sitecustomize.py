"""Gives a worker process the jobs that take no time; a test puts this folder on its PYTHONPATH."""

import os
import sys
from pathlib import Path

from agents.researcher import playbook

sys.path.append(str(Path(__file__).parents[3]))
from tests.noop import jobs as noop

noop.install(setattr)
playbook.LIBRARY = Path(os.environ.get("NOOP_RECIPES", noop.NOOP / "recipes.toml"))
