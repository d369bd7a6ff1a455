"""Gives a worker process the jobs that take no time; a test puts this folder on its PYTHONPATH."""

import os
from pathlib import Path

from agents.evaluator import evaluation
from agents.researcher import playbook
from agents.trainer import delivery, training

NOOP = Path(__file__).parents[1]
training.SCRIPT = NOOP / "train.py"
delivery.SCRIPT = NOOP / "merge.py"
evaluation.SCRIPTS = dict.fromkeys(evaluation.SCRIPTS, NOOP / "evaluate.py")
playbook.LIBRARY = Path(os.environ.get("NOOP_RECIPES", NOOP / "recipes.toml"))
