"""Documentation of the Hugging Face libraries: found by name and by content, read by section."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.researcher.library import Library
from agents.researcher.reference import documentation
from agents.researcher.reference.modules import version_of
from shared_memory.errors import BadInput
from tests.servers.reference_sites import Sites, reference_sites

SFT = """# SFT Trainer

How to fine-tune on examples.

## Quick start

```python
# not a heading
SFTTrainer(model="tiny")
```

## Packing

Put several rows into one.

### Strategies

Best fit comes first.

## SFTConfig[[trl.SFTConfig]]

What it takes.
"""


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    with reference_sites(monkeypatch) as served:
        yield served


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def test_pages_are_found_by_name_title_and_content(sites: Sites, library: Library) -> None:
    sites.add_docs("trl", {"sft_trainer": SFT, "guides/speed": "# Faster training", "index": "# TRL"})
    section = {
        "text": "<p>Put <b>several</b> rows into one.</p>", "product": "trl", "heading1": "SFT Trainer",
        "source_page_url": "https://huggingface.co/docs/trl/main/en/sft_trainer#packing", "heading2": "Packing",
    }  # fmt: skip
    sites.docs_found["trl"] = [section]
    assert documentation.find_pages(library, "trl").splitlines() == [
        "trl: 3 pages", "- sft_trainer — SFT Trainer", "- guides/speed — Faster training", "- index — TRL",
    ]  # fmt: skip
    assert documentation.find_pages(library, "trl", "faster").splitlines()[1:] == [
        "- guides/speed — Faster training",
        "- sft_trainer, section “Packing” — Put several rows into one.",
    ]


def test_a_section_is_read_by_its_heading_a_part_of_it_or_its_number(sites: Sites, library: Library) -> None:
    sites.add_docs("trl", {"sft_trainer": SFT})
    whole = documentation.read_page(library, "trl", "sft_trainer")
    assert whole.startswith("trl (newest): sft_trainer (")
    for name in ("Packing", "pack", "3"):
        text = documentation.read_page(library, "trl", "sft_trainer", name)
        assert "section 3 “Packing”" in text
        assert "Best fit comes first." in text
        assert "What it takes." not in text
    assert "“SFTConfig”" in documentation.read_page(library, "trl", "sft_trainer", "SFTConfig")
    with pytest.raises(BadInput, match="no section `Pricing`; there are `"):
        documentation.read_page(library, "trl", "sft_trainer", "Pricing")


def test_the_page_of_the_installed_release_is_read_first(sites: Sites, library: Library) -> None:
    release = f"v{version_of('trl')}"
    sites.add_docs("trl", {"sft_trainer": "# SFT Trainer\n\nOf tomorrow."})
    sites.add_docs("trl", {"sft_trainer": "# SFT Trainer\n\nOf this release."}, release)
    sites.add_docs("trl", {"sft_trainer": "# SFT Trainer\n\nOf the main branch."}, "main")
    assert documentation.read_page(library, "trl", "sft_trainer").startswith(f"trl {release}: sft_trainer")
    assert "Of this release." in documentation.read_page(library, "trl", "sft_trainer")
    assert "Of the main branch." in documentation.read_page(library, "trl", "sft_trainer", version="main")


def test_a_release_that_has_no_markdown_is_read_as_a_web_page(sites: Sites, library: Library) -> None:
    html = "<html><body><nav>menu</nav><main><h1>Old</h1><p>As it <em>was</em>.</p></main></body></html>"
    sites.add_page("/docs/trl/v0.9.6/en/dpo_trainer", html)
    text = documentation.read_page(library, "trl", "dpo_trainer", version="v0.9.6")
    assert text.splitlines()[2:] == ["# Old", "", "As it *was*."]


def test_a_page_that_is_not_there_names_those_that_are(sites: Sites, library: Library) -> None:
    sites.add_docs("trl", {"sft_trainer": SFT, "dpo_trainer": "# DPO Trainer"})
    with pytest.raises(BadInput, match="trl has no page `sft_trainr`; nearest: sft_trainer"):
        documentation.read_page(library, "trl", "sft_trainr")
    with pytest.raises(BadInput, match="no documentation of `trlx`"):
        documentation.find_pages(library, "trlx", "anything")
    for name in ("../../etc/passwd", "a b", "https://elsewhere.example/x"):
        with pytest.raises(BadInput):
            documentation.read_page(library, "trl", name)
        with pytest.raises(BadInput):
            documentation.find_pages(library, name)


def test_a_long_page_begins_with_its_contents_and_is_read_on_by_offset(sites: Sites, library: Library) -> None:
    parts = "\n\n".join(f"## Part {number}\n\n{'word ' * 400}" for number in range(1, 8))
    sites.add_docs("peft", {"long": f"# Long\n\n{parts}"})
    text = documentation.read_page(library, "peft", "long")
    assert "Contents, with characters:\n1. Long (" in text
    assert "\n  8. Part 7 (" in text
    assert text.endswith("more characters: offset 5500")
    more = documentation.read_page(library, "peft", "long", offset=5500)
    assert "Contents" not in more
    assert len(more) < 6000
    with pytest.raises(BadInput, match="give an offset below that"):
        documentation.read_page(library, "peft", "long", offset=10**6)
