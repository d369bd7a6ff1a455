"""Gives a worker process the jobs that take no time; a test puts this folder on its PYTHONPATH."""

from pathlib import Path

from agents.evaluator import evaluation
from agents.researcher import playbook
from agents.trainer import delivery, training

NOOP = Path(__file__).parents[1]
training.SCRIPT = NOOP / "train.py"
delivery.SCRIPT = NOOP / "merge.py"
evaluation.SCRIPT = NOOP / "evaluate.py"
playbook.LIBRARY = NOOP / "recipes.toml"
