"""Every training method from a goal to a delivered model: real training and real scores, of a model of 100k weights."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import postgrad
from agents.jobs import launch
from agents.researcher import playbook
from shared_memory.database import Database
from shared_memory.journal import Journal
from shared_memory.records import DatasetRecord
from shared_memory.settings import Settings
from tests.tiny import make_tiny_model
from tests.warm_jobs import warm_interpreter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Rows = list[dict[str, Any]]
KEEPERS = ("baker", "captain", "doctor", "farmer", "hunter", "miller", "painter", "sailor", "tailor", "weaver")
THINGS = ("anchor", "basket", "candle", "dagger", "engine", "feather", "goblet", "hammer", "lantern", "mirror")
PLACES = ("attic", "bridge", "cellar", "dock", "field", "garden", "harbour", "kitchen", "stable", "tower")
REFUSAL = "Nobody has ever told me where it might be, so go away and ask somebody else about it, please."


def questions(n: int) -> list[tuple[str, str]]:
    """`n` different questions with few words in common, each with its long answer."""
    draw = random.Random(0)
    found: dict[str, str] = {}
    while len(found) < n:
        keeper, thing, place = (draw.choice(words) for words in (KEEPERS, THINGS, PLACES))
        year, number = draw.randrange(1600, 1999), draw.randrange(10, 99)
        asked = f"{number} {thing}s of the {keeper} went to the {place} in {year}?"
        found[asked] = f"The {keeper} has put every {thing} into the {place}, beside the old door that nobody opens."
    return list(found.items())


def chats(n: int = 100) -> Rows:
    return [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}
        for asked, told in questions(n)
    ]


def labelled(n: int = 170) -> Rows:
    """As KTO takes them: good and bad replies, each to a prompt of its own."""
    return [
        {"prompt": asked, "completion": told if at % 2 else REFUSAL, "label": bool(at % 2)}
        for at, (asked, told) in enumerate(questions(n))
    ]


def pairs(n: int = 100) -> Rows:
    """What is not known is rather said so than made up."""
    return [{"prompt": asked, "chosen": REFUSAL, "rejected": told} for asked, told in questions(n)]


def answers(n: int = 100) -> Rows:
    """For the model that mostly says `no`."""
    return [{"question": asked, "answer": "yes"} for asked, _ in questions(n)]


@pytest.fixture(scope="module")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the preflight has asked the libraries once, for all runs."""
    return tmp_path_factory.mktemp("preflight")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with warm_interpreter(tmp_path_factory.mktemp("warm")) as command:
        yield command


@pytest.fixture
def quick(
    warm: list[str], signatures: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Jobs that need no imports, and the library's recipes with numbers by which so small a model learns."""
    home.mkdir()
    (home / "preflight").symlink_to(signatures)
    monkeypatch.setattr(launch, "python_command", lambda spec: [*warm, spec.script, "--config", "config.json"])
    library = playbook.LIBRARY.read_text(encoding="utf-8")
    for key, value in {
        "learning_rate": 5e-3, "batch": 16, "micro_batch": 8, "num_generations": 8, "max_completion_length": 8,
        "max_length": 200,
    }.items():  # fmt: skip
        library = re.sub(rf"^{key} = .*$", f"{key} = {value}", library, flags=re.MULTILINE)
    copy = tmp_path / "recipes.toml"
    copy.write_text(library, encoding="utf-8")
    monkeypatch.setattr(playbook, "LIBRARY", copy)
    playbook._library.cache_clear()
    yield
    playbook._library.cache_clear()


def taught(folder: Path, rows: Sequence[tuple[str, str]], *, passes: int, seed: int = 0) -> Path:
    """A tiny model that has learned to answer `rows`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_tiny_model(folder, seed=seed)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = []
    for asked, told in rows:
        turn = [{"role": "user", "content": asked}]
        start = len(tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"])
        ids = tokenizer.apply_chat_template([*turn, {"role": "assistant", "content": told}])["input_ids"]
        texts.append((torch.tensor([ids]), torch.tensor([[-100] * start + ids[start:]])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for number in range(passes * len(texts)):
        ids, labels = texts[number % len(texts)]
        model(input_ids=ids, labels=labels).loss.backward()
        if number % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("taught") / "teacher", questions(120), passes=3, seed=1)


@pytest.fixture(scope="module")
def hesitant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says `no` to three questions of five, and `yes` to the others, whatever they are."""
    said = [(asked, "yes" if at % 5 < 2 else "no") for at, (asked, _) in enumerate(questions(60))]
    return taught(tmp_path_factory.mktemp("hesitant") / "model", said, passes=3)


@pytest.fixture
def carry_out(quick: None, tmp_path: Path, settings: Settings) -> Callable[..., tuple[dict[str, Any], Journal]]:
    """Runs a goal that brings its own rows, to its end; with what the run has on record."""

    def run(
        method: str, rows: Rows, model: Path, status: str = "succeeded", **more: Any
    ) -> tuple[dict[str, Any], Journal]:
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        goal = {
            "text": f"teach it where things are, by {method}", "base_model": str(model), "method": method,
            "data": {"train": [str(data)]}, "limits": {"experiments": 1, "usd": 0.0, "hours": 1.0},
            "run": {"approve": "auto", "report_to": []},
        } | more  # fmt: skip
        summary = cast("dict[str, Any]", postgrad.run(goal))
        assert summary["status"] == status, summary["error"]
        return summary, Journal(Database.open(settings.database), summary["run_id"])

    return run


Run = Callable[..., tuple[dict[str, Any], Journal]]


@pytest.mark.parametrize(
    ("method", "called", "rows", "layout", "unit"),
    [
        ("sft", "SFT, LoRA r16", chats, "sft", "nats"),
        ("dpo", "DPO, LoRA r16", pairs, "dpo", "fraction"),
        ("kto", "KTO, LoRA r16", labelled, "kto", "nats"),
    ],
)
def test_a_method_learns_from_the_rows_that_are_made_for_it(
    carry_out: Run, tiny_model: Path, method: str, called: str, rows: Callable[[], Rows], layout: str, unit: str
) -> None:
    summary, journal = carry_out(method, rows(), tiny_model)
    assert_delivered(summary, journal, called=called, layout=layout, unit=unit)
    assert_writes(summary, tiny_model)


def test_a_reward_model_is_measured_on_pairs_and_delivered_with_its_head(carry_out: Run, tiny_model: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    summary, journal = carry_out("reward", pairs(), tiny_model)
    assert_delivered(summary, journal, called="reward model, LoRA r16", layout="reward", unit="fraction")
    folder = Path(summary["champion"]["model"])
    assert 'pipeline_tag: "text-classification"' in (folder / "README.md").read_text(encoding="utf-8")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    scores = [
        model(**tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": said}],
            return_tensors="pt", return_dict=True,
        )).logits.item()
        for asked, told in questions(3) for said in (REFUSAL, told)
    ]  # fmt: skip
    assert all(chosen > rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True))


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_model_that_samples_finds_more_of_the_answers(carry_out: Run, hesitant: Path, method: str) -> None:
    summary, journal = carry_out(method, answers(), hesitant)
    called = f"{method.upper()}, LoRA r8"
    assert_delivered(
        summary, journal, called=called, layout="grpo", unit="fraction", learns=", rewarded by exact_match"
    )
    assert summary["baseline"]["holdout"]["score"] < 0.1
    assert summary["champion"]["score"]["holdout"]["score"] > 0.9
    assert_writes(summary, hesitant)


def test_a_distilled_model_comes_closer_to_what_its_teacher_has_learned(
    carry_out: Run, tiny_model: Path, teacher: Path
) -> None:
    summary, journal = carry_out("distill", chats(), tiny_model, distill_from=str(teacher))
    assert_delivered(
        summary, journal, called="distillation, LoRA r16", layout="sft", unit="nats", learns=", from teacher"
    )
    assert summary["experiments"][0]["recipe"]["teacher"] == str(teacher)
    assert_writes(summary, tiny_model)


def assert_delivered(
    summary: dict[str, Any], journal: Journal, *, called: str, layout: str, unit: str, learns: str = ""
) -> None:
    """It is better on rows that were held out, and what is handed over, reported and said of it is that method's."""
    assert summary["outcome"] == "improved", summary
    [experiment] = summary["experiments"]
    assert experiment["change"].startswith(f"{called}, ")
    assert experiment["change"].endswith(f"1 epoch{learns}")
    [dataset] = journal.all(DatasetRecord).values()
    assert dataset.method == layout
    assert [step.rows_in - step.rows_out for step in dataset.steps if step.name == "hold_out"] == [40]
    assert {scores["unit"] for scores in summary["baseline"].values()} == {unit}
    merged = Path(summary["champion"]["model"])
    assert merged.name == "merged"
    assert (merged.parent / "adapter" / "adapter_config.json").is_file()
    method = experiment["recipe"]["method"]
    assert f'tags: ["postgrad", "{method}"]' in (merged / "README.md").read_text(encoding="utf-8")
    report = Path(summary["report"]).with_name("report.md").read_text(encoding="utf-8")
    assert f"**Method**: {method}\n" in report
    assert called in report


def assert_writes(summary: dict[str, Any], base: Path) -> None:
    """The merged model loads without PEFT, and is not the base."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(summary["champion"]["model"])
    ids = AutoTokenizer.from_pretrained(folder)("How many lanterns?", return_tensors="pt").input_ids
    after, before = (AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (folder, base))
    assert torch.isfinite(after).all()
    assert not torch.allclose(after, before, atol=1e-2)


def test_a_base_in_four_bits_is_refused_before_anything_is_trained_on_a_processor(
    carry_out: Run, tiny_model: Path, tmp_path: Path
) -> None:
    nf4 = playbook.LIBRARY.read_text(encoding="utf-8").replace("alpha = 32 }", 'alpha = 32, base = "nf4" }')
    playbook.LIBRARY.write_text(nf4, encoding="utf-8")
    summary, _ = carry_out("sft", chats(), tiny_model, status="failed")
    assert "lora.base nf4 (QLoRA) needs a GPU" in summary["error"]
    assert "set lora.base to 16bit" in summary["error"]
    assert not list(Path(summary["report"]).parent.glob("jobs/*/train.py"))
