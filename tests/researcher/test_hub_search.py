"""Models and data sets on the Hub, searched and described through its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.researcher.library import Library
from agents.researcher.reference import hub as reference
from shared_memory.errors import BadInput, Unavailable
from tests.servers.hub import TOKEN, Fails, HubServer, hub, point_client_at
from tests.servers.reference_sites import at, listing

CARD = """---
license: apache-2.0
language: [en]
base_model: org/tiny-base
---
# Tiny

A small model.

## Training

It saw eleven tokens.
"""
DATA_CARD = """---
license: other
license_name: open-but-ours
dataset_info:
- config_name: main
  features:
  - name: question
    dtype: string
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
  splits:
  - name: train
    num_examples: 7473
    num_bytes: 3963202
---
# Sums
"""
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 28, "hidden_size": 2048,
    "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 40960, "vocab_size": 151936,
    "dtype": "bfloat16", "tie_word_embeddings": True,
}  # fmt: skip


def entry(repo_id: str, **more: Any) -> dict[str, Any]:
    return {"id": repo_id, "gated": False, "createdAt": "2026-03-01T00:00:00.000Z", **more}


MODELS = (
    entry(
        "org/tiny-1b", tags=["license:apache-2.0", "en", "transformers", "dataset:org/sums"], downloads=1_200_000,
        likes=30, pipeline_tag="text-generation", safetensors={"parameters": {"BF16": 10**9}, "total": 10**9},
    ),
    entry(
        "org/tiny-8b", tags=["license:llama3", "en", "transformers"], downloads=900, likes=4000, gated="manual",
        pipeline_tag="text-generation", safetensors={"parameters": {"BF16": 8 * 10**9}, "total": 8 * 10**9},
    ),
    entry("other/seer", tags=["license:mit"], downloads=5, likes=1, pipeline_tag="image-classification"),
)  # fmt: skip
DATASETS = (
    entry("org/sums", tags=["license:mit", "size_categories:1K<n<10K", "language:en"], downloads=7000, likes=12),
    entry("org/poems", tags=["license:cc-by-4.0", "size_categories:n<1K", "language:de"], downloads=70, likes=120),
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub() as served:
        served.services += [listing("models", MODELS), listing("datasets", DATASETS)]
        point_client_at(served, monkeypatch, tmp_path / "hf")
        monkeypatch.setenv("POSTGRAD_DATASETS_SERVER", served.viewer)
        yield served


def ids(text: str) -> list[str]:
    return [line.split(" ")[1] for line in text.splitlines() if line.startswith("- ")]


def test_models_are_listed_with_size_licence_use_and_access(server: HubServer) -> None:
    assert reference.find_models("tiny").splitlines() == [
        "2 models for tiny, by downloads:",
        "- org/tiny-1b · 1B parameters · text-generation · apache-2.0 · 1.2M downloads · 30 likes · made 2026-03",
        "- org/tiny-8b · 8B parameters · text-generation · llama3 · 900 downloads · 4,000 likes · gated · made 2026-03",
    ]


def test_models_are_filtered_and_sorted_by_the_hub(server: HubServer) -> None:
    assert ids(reference.find_models("tiny", sort="likes")) == ["org/tiny-8b", "org/tiny-1b"]
    assert ids(reference.find_models(max_parameters=4, task="text-generation")) == ["org/tiny-1b"]
    assert ids(reference.find_models(licence="mit")) == ["other/seer"]
    assert ids(reference.find_models(library="transformers", language="en", trained_on="org/sums")) == ["org/tiny-1b"]
    assert ids(reference.find_models(author="org", limit=1)) == ["org/tiny-1b"]
    assert "no models fit nonsense" in reference.find_models("nonsense")
    with pytest.raises(BadInput, match="not sorted by `beauty`; give one of downloads, likes, trending"):
        reference.find_models(sort="beauty")


def test_data_sets_are_listed_and_filtered(server: HubServer) -> None:
    assert reference.find_datasets("sums").splitlines()[1:] == [
        "- org/sums · 1K<n<10K · mit · 7k downloads · 12 likes · made 2026-03"
    ]
    assert ids(reference.find_datasets(language="de")) == ["org/poems"]
    assert ids(reference.find_datasets(size="1K<n<10K", licence="mit")) == ["org/sums"]


def test_a_model_is_described_by_its_configuration_size_and_licence(server: HubServer) -> None:
    files = {"README.md": CARD, "config.json": json.dumps(CONFIG), "model.safetensors": b"0" * 3000}
    sha = server.add("org/tiny", {**files, "chat_template.jinja": "{{ messages }}"}, kind="models").head.oid
    text = reference.describe_model("org/tiny").splitlines()
    assert text[0].startswith(f"org/tiny at {sha[:12]}: model")
    assert text[1] == "Licence: apache-2.0 · open to all"
    assert text[2] == "Parameters: unknown · weights 3 kB in 1 files"
    assert text[3] == (
        "Architecture: Qwen3ForCausalLM (qwen3) · layers 28 · hidden 2,048 · attention heads 16 · key-value heads 8 · "
        "context 40,960 · vocabulary 151,936 · bfloat16 · tied embeddings · chat template in the repository"
    )


def test_what_the_api_knows_of_a_model_is_told(server: HubServer) -> None:
    repo = server.add("org/tiny", {"config.json": json.dumps({"text_config": CONFIG})}, kind="models")
    more = {
        "safetensors": {"parameters": {"BF16": 1_720_000_000}, "total": 1_720_000_000},
        "downloads": 1234567, "likes": 3,
        "tags": ["base_model:org/base", "base_model:finetune:org/base", "arxiv:2505.09388"],
        "pipeline_tag": "text-generation", "library_name": "transformers",
    }  # fmt: skip
    server.services.append(at("/api/models/org/tiny", {**repo.info(repo.head), **more}))
    text = reference.describe_model("org/tiny")
    assert "model, text-generation, transformers\n" in text
    assert "Parameters: 1.72B (BF16 1.72B)" in text
    assert "layers 28" in text
    assert "arxiv: 2505.09388" in text
    assert "Downloads 1,234,567 in a month · likes 3" in text


def test_a_gated_model_is_described_as_far_as_it_is_open(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.add("meta/closed", {"config.json": json.dumps(CONFIG)}, kind="models", gated=True)
    text = reference.describe_model("meta/closed")
    assert "gated: its owners say who may read it, at " in text
    assert "Configuration: meta/closed is gated; ask for access at" in text
    assert "vocabulary" not in text


def test_a_data_set_is_described_by_the_viewer(server: HubServer, tmp_path: Path) -> None:
    server.add("org/sums", {"README.md": "# Sums", "train.jsonl": '{"question": "1 + 1"}\n'})
    features = {
        "question": {"dtype": "string", "_type": "Value"},
        "messages": [{"role": {"dtype": "string", "_type": "Value"}, "content": {"dtype": "string", "_type": "Value"}}],
        "label": {"names": ["a", "b"], "_type": "ClassLabel"},
    }
    split = {"name": "train", "num_bytes": 5_000_000, "num_examples": 7473}
    answer = {"dataset_info": {"main": {"features": features, "splits": {"train": split}}}, "partial": True}
    server.services.append(at("/viewer/info", answer))
    text = reference.describe_dataset("org/sums", library=Library(tmp_path / "library"))
    assert "Configs: 1 (as the viewer has it, the first 5 GB of it)" in text
    assert "- main: train 7,473 rows of 5 MB" in text
    assert "  columns: question string, messages list of {role, content}, label classlabel" in text


def test_a_data_set_that_the_viewer_does_not_have_is_described_by_its_card(server: HubServer, tmp_path: Path) -> None:
    server.add("org/sums", {"README.md": DATA_CARD})
    server.trouble("GET /viewer/info", Fails(404))
    text = reference.describe_dataset("org/sums", library=Library(tmp_path / "library"))
    assert "Licence: open-but-ours · open to all" in text
    assert "Configs: 1 (as its card has it; the viewer: " in text
    assert "- main: train 7,473 rows of 3.96 MB" in text
    assert "  columns: question string, messages list of {role, content}" in text
    assert "as its card has it)" in reference.describe_dataset("org/sums")


@pytest.mark.parametrize("odd", ["5", "{a: 1}", "[1, null]", "[{features: 5, splits: true}]", "text"])
def test_a_card_or_a_configuration_of_any_shape_is_described(server: HubServer, odd: str, tmp_path: Path) -> None:
    """Anybody may write one."""
    server.add("org/odd", {"README.md": f"---\nlicense: mit\ndataset_info: {odd}\n---\n# Odd\n"})
    server.services.append(at("/viewer/info", {"dataset_info": {"main": 5}}))
    text = reference.describe_dataset("org/odd", library=Library(tmp_path / "library"))
    assert "Licence: mit · open to all" in text
    assert "in a shape that is not known" in text
    server.add("org/bent", {"config.json": '{"architectures": 5, "text_config": [], "vocab_size": "x"}'}, kind="models")
    assert "Architecture: unnamed (?)" in reference.describe_model("org/bent")


def test_the_token_goes_to_the_hub_and_its_viewer(server: HubServer, tmp_path: Path) -> None:
    server.add("org/sums", {"README.md": DATA_CARD})
    reference.describe_dataset("org/sums", library=Library(tmp_path / "library"))
    assert {request.token for request in server.requests if request.host == "hub"} == {TOKEN}


def test_a_card_is_read_by_section_with_its_metadata_apart(server: HubServer) -> None:
    server.add("org/tiny", {"README.md": CARD}, kind="models")
    text = reference.read_card("org/tiny")
    assert text.startswith("card of org/tiny at ")
    assert "\n\n# Tiny\n\nA small model." in text
    assert text.endswith('Metadata: license: "apache-2.0"; language: ["en"]; base_model: "org/tiny-base"')
    part = reference.read_card("org/tiny", section="training")
    assert part.endswith("## Training\n\nIt saw eleven tokens.")
    server.add("org/bare", {"a.txt": "x"})
    with pytest.raises(BadInput, match="org/bare has no card"):
        reference.read_card("org/bare", "dataset")


def test_what_the_hub_does_not_know_or_does_not_answer_is_one_line(server: HubServer) -> None:
    for call in (reference.describe_model, reference.describe_dataset, reference.read_card):
        with pytest.raises(BadInput, match="the Hub has no ") as unknown:
            call("org/nothing")
        assert "\n" not in str(unknown.value)
    server.trouble("GET /api/models", Fails(418))
    with pytest.raises(Unavailable, match="answers 418 for a list of models"):
        reference.find_models("tiny")


def test_offline_the_hub_is_not_asked(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRAD_OFFLINE", "1")
    with pytest.raises(Unavailable, match="the Hub is not asked where POSTGRAD_OFFLINE is set; unset it"):
        reference.find_models("tiny")
    assert not server.requests
