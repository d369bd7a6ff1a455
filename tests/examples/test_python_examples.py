"""The Python that the documents and the notebook show, run as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import MakeGoal
from tests.servers.literature import literature
from tests.servers.openai_chat import openai_chat
from tests.servers.researcher_replies import researcher

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.usefixtures("noop_jobs")
@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_python_of_a_document_runs_from_top_to_bottom(
    document: str,
    make_goal: MakeGoal,
    recipe: Callable[..., None],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe()
    make_goal(approve="ask", experiments=1)
    (tmp_path / "my-model").symlink_to(tiny_model)
    rows = "".join(f"What is {n} + {n}?,{2 * n}\n" for n in range(200))
    (tmp_path / "rows.csv").write_text(f"question,answer\n{rows}")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks

    names: dict[str, Any] = {}
    with literature() as papers, openai_chat(researcher) as model:
        papers.point_client_at(monkeypatch)
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
        for block in blocks:
            exec(compile(block, document, "exec"), names)

    assert capsys.readouterr().out
    assert names["summary"]["status"] == "succeeded"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_top_to_bottom_and_is_kept_without_its_outputs(notebook: Path, tmp_path: Path) -> None:
    read = nbformat.read(notebook, as_version=4)
    code = [cell for cell in read.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)

    NotebookClient(read, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    told = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "succeeded improved" in told
    assert "report.html" in told
