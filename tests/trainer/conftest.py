"""What training tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.trainer.job import SCRIPTS, Warm, warm_process

sys.path.append(str(SCRIPTS))  # scripts import one another by their bare names, as in a job's folder


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that runs training jobs without importing everything anew."""
    with warm_process(tmp_path_factory.mktemp("warm")) as process:
        yield process
