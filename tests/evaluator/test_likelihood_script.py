"""Likelihoods of given answers, measured by the real script in a process of its own."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluator.job import job, lines, refused, result, run

pytestmark = pytest.mark.slow

SCRIPT = "likelihood.py"


def say(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def item(number: int, prompt: str, completion: str, rejected: str = "", /, **changes: Any) -> dict[str, Any]:
    row = {
        "id": f"t{number}", "prompt": say("user", prompt), "completion": say("assistant", completion),
        "rejected": say("assistant", rejected) if rejected else [], "category": "", "part": "selection",
    }  # fmt: skip
    return row | changes


ITEMS = [
    item(1, "What net force gives a cart of mass 3 kg an acceleration of 4 m/s²?", "12 N", "12 N, I think, or more"),
    item(2, "x", "F = m × a = 3 × 4 = 12 N. " * 12, "no"),
    item(3, "How many metres are 7 km? " * 20, "7000 m", "70 m\u2028\n"),
    item(4, "  spaces, {braces} and\u0085 signs\n", "\n A) 7000 m", "B"),
    item(
        5,
        "",
        "ANSWER: A",
        "ANSWER: D",
        prompt=[*say("system", "Be short."), *say("user", "3 × 4?"), *say("assistant", "12"), *say("user", "7 km?")],
    ),
    item(6, "two turns", "", "no", completion=[*say("assistant", "7 D"), *say("user", "?"), *say("assistant", "70 m")]),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """For a model this small, threads only wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses_of_trl(model: Any, folder: Path, rows: list[dict[str, Any]], key: str, out: Path) -> list[float]:
    """transformers' own logits, row by row, on the tokens and labels that TRL's trainer makes of the rows."""
    import torch
    from datasets import Dataset, Features, Json, List, Value
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    if key == "text":
        dataset = Dataset.from_list([{"text": row["text"]} for row in rows])
    else:
        features = Features({"prompt": List(Json()), "completion": List(Json()), "tools": Value("string")})
        chats = [
            {"prompt": row["prompt"], "completion": row[key], "tools": json.dumps(row.get("tools"))} for row in rows
        ]
        dataset = Dataset.from_list(chats, features=features)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = {"max_length": None, "completion_only_loss": None, "use_cpu": True, "bf16": False, "report_to": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what the libraries tell one another
        arguments = SFTConfig(output_dir=str(out), **settings)
        # A model of its own: the trainer changes how its forward computes.
        trainer = SFTTrainer(model=str(folder), args=arguments, train_dataset=dataset, processing_class=tokenizer)
    losses = []
    for row in trainer.train_dataset:
        with torch.inference_mode():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:]))))
    return losses


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model)


@pytest.mark.parametrize("batch_tokens", [1, 300, 2048])
def test_the_loss_is_what_trl_trains_on_whatever_shares_a_batch(
    tiny_model: Path, model: Any, tmp_path: Path, batch_tokens: int
) -> None:
    expected = losses_of_trl(model, tiny_model, ITEMS, "completion", tmp_path / "trl")
    folder = job(tmp_path / "job", ITEMS, model=tiny_model, dtype="float32", batch_tokens=batch_tokens)
    done = run(folder, SCRIPT)
    outcome = result(done)
    rows = lines(folder)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-3)
    assert [row["id"] for row in rows] == [row["id"] for row in ITEMS]
    assert rows[0].keys() == {
        "id", "part", "category", "epoch", "score", "answered", "truncated", "output_tokens"
    }  # fmt: skip
    assert outcome["score"] == pytest.approx(sum(expected) / len(expected), abs=1e-3)
    assert (outcome["items"], outcome["answered"], outcome["truncated"]) == (len(ITEMS), 1.0, 0.0)
    last = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")][-2]
    assert last["step"] == last["steps"] == len(ITEMS)
    assert {path.name for path in folder.iterdir()} == {"items.jsonl", "config.json", "out", "site", "home"}
    assert not [path for path in (folder / "home").rglob("*") if path.is_file()]


def test_a_pair_is_won_by_the_text_with_fewer_nats_a_token_and_says_by_how_much(
    tiny_model: Path, model: Any, tmp_path: Path
) -> None:
    chosen = losses_of_trl(model, tiny_model, ITEMS, "completion", tmp_path / "chosen")
    rejected = losses_of_trl(model, tiny_model, ITEMS, "rejected", tmp_path / "rejected")
    margins = [no - yes for yes, no in zip(chosen, rejected, strict=True)]
    folder = job(tmp_path / "job", ITEMS, model=tiny_model, metric="preference", dtype="float32")
    outcome = result(run(folder, SCRIPT))
    assert [row["margin"] for row in lines(folder)] == pytest.approx(margins, abs=1e-3)
    assert [row["score"] for row in lines(folder)] == [int(margin > 0) for margin in margins]
    assert 0 < outcome["score"] < 1


CALL = {"type": "function", "function": {"name": "convert", "arguments": {"km": 7}}}
TOOLS = [{"type": "function", "function": {"name": "convert", "parameters": {"km": {"type": "number"}}}}]


def test_tools_are_shown_and_calls_are_measured(tiny_model: Path, model: Any, tmp_path: Path) -> None:
    import trl

    shutil.copytree(tiny_model, tmp_path / "calling")
    template = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"
    shutil.copy(template, tmp_path / "calling" / "chat_template.jinja")
    calls = [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    answered = [*say("user", "7 km?"), *calls, {"role": "tool", "content": "7000", "name": "convert"}]
    items = [
        item(1, "7 km?", "", completion=calls, tools=TOOLS),
        item(2, "", "7000 m", prompt=answered, tools=TOOLS),
        item(3, "7 km?", "7000 m"),
    ]
    expected = losses_of_trl(model, tmp_path / "calling", items, "completion", tmp_path / "trl")
    folder = job(tmp_path / "job", items, model=tmp_path / "calling", dtype="float32")
    result(run(folder, SCRIPT))
    assert [row["score"] for row in lines(folder)] == pytest.approx(expected, abs=1e-3)

    mute = job(tmp_path / "mute", items, model=tiny_model)
    refused(mute, SCRIPT, "the chat template does not render tools of item t1; choose a model whose template does")


def test_a_text_is_measured_from_its_beginning_to_its_end(tiny_model: Path, model: Any, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()  # a text needs none
    texts = ["A cart of mass 3 kg is pulled.", "  7 km\n\nare 7000 m\u2028", "How many metres? " * 30]
    items = [{"id": f"t{n}", "text": text, "category": "", "part": "report"} for n, text in enumerate(texts)]
    expected = losses_of_trl(model, tmp_path / "base", items, "text", tmp_path / "trl")
    folder = job(tmp_path / "job", items, model=tmp_path / "base", dtype="float32")
    result(run(folder, SCRIPT))
    assert [row["score"] for row in lines(folder)] == pytest.approx(expected, abs=1e-3)


def test_an_adapter_is_measured_on_top_of_its_base(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, lora_alpha=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers under a name that is going away
        adapted: Any = get_peft_model(base, lora)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    expected = losses_of_trl(adapted, tiny_model, ITEMS, "completion", tmp_path / "trl")
    folder = job(tmp_path / "job", ITEMS, model=tiny_model, adapter=tmp_path / "adapter", dtype="float32")
    result(run(folder, SCRIPT))
    assert [row["score"] for row in lines(folder)] == pytest.approx(expected, abs=1e-3)
    plain = job(tmp_path / "plain", ITEMS, model=tiny_model, dtype="float32")
    result(run(plain, SCRIPT))
    assert lines(plain)[0]["score"] != pytest.approx(expected[0], abs=1e-2)


def test_a_text_beyond_the_models_context_is_cut_and_says_so(tiny_model: Path, tmp_path: Path) -> None:
    long = "7000 m B) 70 m " * 200
    items = [item(1, long, "12 N"), item(2, "x", long), item(3, long, long), item(4, "x", "12 N")]
    folder = job(tmp_path / "job", items, model=tiny_model)
    outcome = result(run(folder, SCRIPT))
    rows = lines(folder)
    assert [row["truncated"] for row in rows] == [True, True, True, False]
    assert outcome["truncated"] == 0.75
    assert rows[0]["output_tokens"] == rows[3]["output_tokens"]
    assert 900 < rows[1]["output_tokens"] < 1024
    assert rows[2]["output_tokens"] == 512


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model": "m", "batch_token": 5}, "unknown key 'batch_token' in config.json; did you mean 'batch_tokens'?"),
        ({"metric": "loss"}, "lacks model"),
        ({"model": "m", "batch_tokens": 0}, "batch_tokens is 0; give at least 1"),
        ({"model": "m", "metric": "exact"}, "metric is 'exact'; choose loss or preference"),
        ({"model": "m", "items": "none.jsonl"}, "cannot read the items"),
        ({"model": "/nowhere/at/all"}, "there is no folder"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_2(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    refused(job(tmp_path / "job", ITEMS, **config), SCRIPT, words)


@pytest.mark.parametrize(
    ("items", "metric", "words"),
    [
        ([item(1, "x", "y"), item(1, "x", "y")], "loss", "an id twice"),
        ([item(1, "x", "y"), item(2, "x", "y", completion=[])], "loss", "line 2: give at least one message"),
        ([item(1, "x", "y")], "preference", "line 1: give at least one message as completion and as rejected"),
        ([item(1, "x", "y", completion="y")], "loss", "line 1 is not an item"),
        ([{"id": "x"}], "loss", "line 1 is not an item"),
        ([], "loss", "line 1 is not an item"),
    ],
)
def test_bad_items_are_one_line_and_exit_2(
    tmp_path: Path, items: list[dict[str, Any]], metric: str, words: str
) -> None:
    refused(job(tmp_path / "job", items, model="m", metric=metric), SCRIPT, words)


def test_a_chat_template_that_refuses_or_swallows_the_answer_is_one_line_and_exit_2(
    tiny_model: Path, tmp_path: Path
) -> None:
    templates = {
        "has no chat template; choose an instruct model": None,
        "the chat template refuses item t1 (no system, please)": "{{ raise_exception('no system, please') }}",
        "leaves nothing of item t1's completion": "{{ messages[0]['content'] }}",
    }
    for number, (words, template) in enumerate(templates.items()):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_model, folder)
        (folder / "chat_template.jinja").unlink()
        if template:
            (folder / "chat_template.jinja").write_text(template)
        refused(job(tmp_path / f"job{number}", ITEMS[:1], model=folder), SCRIPT, words)


def test_a_reward_model_prefers_what_it_scores_higher(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)  # of the head, which the checkpoint does not have
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1, dtype=torch.float32)
    model.save_pretrained(tmp_path / "judge")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(tmp_path / "judge")
    pairs = [item(n, f"How far is {n} km?", f"{n * 1000} m", f"{n} m, I think") for n in range(6)]
    folder = job(tmp_path / "job", pairs, model=tmp_path / "judge", metric="preference", dtype="float32")
    outcome, rows = result(run(folder, SCRIPT)), lines(folder)

    def reward(asked: list[Any], said: list[Any]) -> float:
        ids = tokenizer.apply_chat_template(asked + said, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.inference_mode():
            return float(model(input_ids=ids).logits[0, 0])

    margins = [reward(p["prompt"], p["completion"]) - reward(p["prompt"], p["rejected"]) for p in pairs]
    assert [row["margin"] for row in rows] == pytest.approx(margins, abs=0.05)
    assert outcome["score"] == pytest.approx(sum(margin > 0 for margin in margins) / len(margins), abs=1e-6)
    refused(job(tmp_path / "loss", pairs, model=tmp_path / "judge"), SCRIPT, "measure it on pairs, by preference")


def test_a_model_whose_weights_are_broken_has_no_score(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_model, tmp_path / "broken")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.norm.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    refused(job(tmp_path / "job", ITEMS[:1], model=tmp_path / "broken"), SCRIPT, "item t1 has nan nats a token")
