"""What the documents say is true: the map of files, the commands, the links, the packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("postgrad", "graph", "agents", "shared_memory")


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def test_every_file_has_its_line_in_the_readme() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            line = first_sentence(path)
            name = path.relative_to(ROOT / package).as_posix()
            if line:
                assert f"| `{name}` | {line} |" in README, (
                    f"{package}/{name} is not in the README's map as it describes itself"
                )


def test_every_command_of_the_readme_exists() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "postgrad", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = set(re.findall(r"`postgrad (\w+)", README)) | set(re.findall(r"^postgrad ([a-z]\w*)", README, re.M))
    assert commands
    for command in commands:
        assert re.search(rf"│ {command} ", told), f"the README names `postgrad {command}`"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in re.findall(r"^make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M):
        assert re.search(rf"^{word}:", makefile, re.M), f"`make {word}`"


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_top_level_packages_are_ours_and_the_exported_names_exist() -> None:
    import agents
    import postgrad

    assert Path(agents.__file__ or "").is_relative_to(ROOT)
    for name in postgrad.__all__:
        assert getattr(postgrad, name) is not None
    with pytest.raises(AttributeError):
        _ = postgrad.nothing_of_the_kind


def test_importing_postgrad_brings_no_heavy_library() -> None:
    heavy = ("torch", "langgraph", "transformers", "polars")
    code = f"import sys, postgrad, postgrad.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
