"""The packages of PostTrainBench's evaluator, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

EVALUATORS_PACKAGES = ("transformers==4.57.3", "tokenizers==0.22.2", "huggingface-hub==0.36.0")
"""PostTrainBench's own, as its containers/requirements-direct.txt has them."""


@pytest.fixture(scope="session")
def evaluators_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the evaluator's transformers, over our torch and what else it stands on."""
    folder = tmp_path_factory.mktemp("evaluator")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
    installed = subprocess.run([*pip, packages, *EVALUATORS_PACKAGES], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"the package index is out of reach: {installed.stderr.strip().splitlines()[-1]}")
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "after_its_own.pth").write_text(ours)
    return folder / "bin" / "python"
