"""Questions with choices and with short answers, asked by the real script in a process of its own."""

import importlib.util
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agents.multiple_choice import render_multiple_choice
from tests.evaluator.job import SCRIPTS, job, lines, refused, result, run

pytestmark = pytest.mark.slow

SCRIPT = "evaluate.py"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """For a model this small, threads only wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def item(number: int, answer: str = "A", **changes: Any) -> dict[str, Any]:
    choices = [f"{number + i} N" for i in range(4)]
    question = f"What net force gives a cart of mass {number} kg an acceleration of 4 m/s²?"
    part = "report" if number % 2 else "selection"
    row = {"id": f"q{number}", "question": question, "choices": choices, "answer": answer}
    return row | {"category": "force", "part": part} | changes


ITEMS = [item(number, "ABCD"[number % 4]) for number in range(2, 12)]


def chat(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": render_multiple_choice(row["question"], row["choices"])}]


def drill(model: Any, tokenizer: Any, words: str) -> None:
    """Trains `model` until it answers whatever it is asked with `words`, and then ends its turn."""
    import torch

    prompts = [tokenizer.apply_chat_template(chat(row), tokenize=False, add_generation_prompt=True) for row in ITEMS]
    tokenizer.padding_side = "left"
    batch = tokenizer([prompt + words + "<|im_end|>" for prompt in prompts], padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    count = len(tokenizer(words + "<|im_end|>")["input_ids"])
    labels[:, -count:] = batch["input_ids"][:, -count:]
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(60):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.fixture(scope="module")
def answers_b(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that always answers `12 N.`, `ANSWER: B`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("answers-b")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    drill(model, tokenizer, "12 N.\nANSWER: B")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_answers_are_scored_and_counted_and_nothing_leaves_the_job_folder(answers_b: Path, tmp_path: Path) -> None:
    folder = job(tmp_path / "job", ITEMS, model=answers_b, max_tokens=40, batch_size=4)
    done = run(folder, SCRIPT)
    outcome = result(done)
    assert outcome.keys() == {"items", "score", "answered", "truncated", "seconds", "tokens_per_second", "dtype"}
    right = sum(row["answer"] == "B" for row in ITEMS)
    assert 0 < right < len(ITEMS)
    assert (outcome["items"], outcome["score"]) == (len(ITEMS), right / len(ITEMS))
    assert (outcome["answered"], outcome["truncated"]) == (1.0, 0.0)
    for row, line in zip(ITEMS, lines(folder), strict=True):
        tokens = line.pop("output_tokens")
        assert 5 < tokens < 40
        assert line == {
            "id": row["id"], "part": row["part"], "category": "force", "epoch": 1, "score": int(row["answer"] == "B"),
            "answered": True, "truncated": False, "answer": "B", "output": "12 N.\nANSWER: B",
        }  # fmt: skip
    events = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")][:-1]
    assert events[-1]["step"] == events[-1]["steps"] == len(ITEMS)
    assert {path.name for path in folder.iterdir()} == {"items.jsonl", "config.json", "out", "site", "home"}
    assert not [path for path in (folder / "home").rglob("*") if path.is_file()]


def test_an_adapter_is_evaluated_on_top_of_its_base_and_epochs_repeat_the_items(
    answers_b: Path, tmp_path: Path
) -> None:
    """Against PEFT's own model, with an adapter that changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(answers_b)
    base = AutoModelForCausalLM.from_pretrained(answers_b)
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, lora_alpha=256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers under a name that is going away
        model: Any = get_peft_model(base, lora)
    model.save_pretrained(str(tmp_path / "adapter"))
    items, expected = ITEMS[:3], []
    for row in items:
        text = tokenizer.apply_chat_template(chat(row), tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, return_tensors="pt")
        answer = model.generate(**prompt, do_sample=False, max_new_tokens=8)[0, prompt["input_ids"].shape[1] :]
        expected.append(tokenizer.decode(answer, skip_special_tokens=True))
    assert not any("ANSWER: B" in text for text in expected)

    config = {"adapter": tmp_path / "adapter", "max_tokens": 8, "epochs": 2, "dtype": "float32"}
    folder = job(tmp_path / "job", items, model=answers_b, **config)
    assert result(run(folder, SCRIPT))["items"] == 3
    assert [(line["id"], line["epoch"]) for line in lines(folder)] == [(f"q{n}", e) for n in (2, 3, 4) for e in (1, 2)]
    assert [line["output"] for line in lines(folder)[::2]] == expected


def test_a_model_that_rambles_is_truncated_and_has_not_answered_and_its_prompt_was_inspects(
    tiny_model: Path, tmp_path: Path
) -> None:
    from inspect_ai.log import read_eval_log

    odd = "  Leading space, {braces}, {question}, \\alpha, \u2028 and\u0085 a trailing line\n"
    items = [*ITEMS[:2], item(50, question=odd, choices=["{x}", " b ", "$c$", "d\n"])]
    folder = job(tmp_path / "job", items, model=tiny_model, max_tokens=6, dtype="float32")
    outcome = result(run(folder, SCRIPT))
    assert (outcome["score"], outcome["answered"], outcome["truncated"]) == (0.0, 0.0, 1.0)
    assert [(line["answer"], line["output_tokens"]) for line in lines(folder)] == [(None, 6)] * 3

    log = read_eval_log(str(next((folder / "out" / "inspect").glob("*.eval"))))
    sent = {sample.id: sample.messages[0].text for sample in log.samples or ()}
    for row in items:
        assert sent[row["id"]].encode() == render_multiple_choice(row["question"], row["choices"]).encode()


def test_short_answers_are_matched_without_case_blanks_and_the_punctuation_around_them(
    answers_b: Path, tmp_path: Path
) -> None:
    """The model says `12 N.`, `ANSWER: B`."""
    from inspect_ai.log import read_eval_log

    prompt = chat(ITEMS[0])
    answers = {"12 n.\nanswer: b": 1, " «12 N.\nANSWER: B!": 0, "  12 N.\nANSWER: B?  ": 1, "12 N": 0, "B": 1, "12": 0}
    items = [
        {"id": f"t{number}", "prompt": prompt, "completion": [{"role": "assistant", "content": answer}],
         "rejected": [], "category": "", "part": "report"}
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    folder = job(tmp_path / "job", items, model=answers_b, template="exact", max_tokens=40)
    outcome = result(run(folder, SCRIPT))
    assert [line["score"] for line in lines(folder)] == list(answers.values())
    assert (outcome["score"], outcome["answered"], outcome["truncated"]) == (0.5, 1.0, 0.0)
    assert lines(folder)[0]["output"] == "12 N.\nANSWER: B"
    log = read_eval_log(str(next((folder / "out" / "inspect").glob("*.eval"))))
    assert {sample.messages[0].text for sample in log.samples or ()} == {prompt[0]["content"]}


@pytest.mark.parametrize(
    ("answer", "said", "right"),
    [
        ("-5", "5", False),
        ("-5", "-5.", True),
        ("1000", "1,000", True),
        ("2.50", "2.5", True),
        ("123456", "123457", False),
        ("A", "a)", True),
        ("Paris, France", "paris, france", True),
        ("Paris", "It is Paris", False),
        ("yes", "", False),
        ("12", "3 times 4 is 12.\n#### 12", True),
        ("12", "First \\\\boxed{11}, no: \\\\boxed{12}", True),
        ("B", "It is the second.\nANSWER: B", True),
        ("B", "ANSWER: B\nANSWER: C", False),
        ("#### 12", "#### 12", True),
    ],
)
def test_numbers_are_matched_by_value_and_words_as_words(
    evaluate: ModuleType, answer: str, said: str, right: bool
) -> None:
    import anyio
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    output = ModelOutput.from_content("m", said)
    state = TaskState(model="m", sample_id=1, epoch=1, input="", messages=[], output=output)  # type: ignore[arg-type]
    mark = anyio.run(evaluate.exact_match(), state, Target(answer))
    assert (mark.value == "C") is right


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evaluate", SCRIPTS / SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["evaluate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_rows_that_leave_their_batch_and_shared_beginnings_change_no_token(
    evaluate: ModuleType, answers_b: Path, batch_size: int
) -> None:
    """Against `generate`, with answers of different lengths: the model was not drilled on these prompts."""
    config = evaluate.Config(model=str(answers_b), items="", max_tokens=24, batch_size=batch_size, dtype="float32")
    model, tokenizer = evaluate.load(config)
    prompts = [
        f"<|im_start|>user\n{words}" for words in ("3 kg", "3 kg of A) B)", "x", "7000 m B) 70", "x y z", "m/s²")
    ]
    fast = evaluate.GreedyDecoder(model, tokenizer, config, evaluate.Progress())
    assert fast.plain_cache
    plain = evaluate.GreedyDecoder(model, tokenizer, config, evaluate.Progress())
    plain.plain_cache = False
    assert fast(prompts) == plain(prompts)
    assert len({answer.tokens for answer in fast(prompts)}) > 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model": "m", "max_token": 5}, "unknown key 'max_token' in config.json; did you mean 'max_tokens'?"),
        ({"max_tokens": 5}, "lacks model"),
        ({"model": "m", "batch_size": "4"}, "batch_size is '4'"),
        ({"model": "m", "max_tokens": 0}, "max_tokens is 0; give at least 1"),
        ({"model": "m", "template": "mmlu"}, "template is 'mmlu'; choose gpqa or exact"),
        ({"model": "m", "template": "exact"}, "line 1 is not an item (KeyError('prompt'))"),
        ({"model": "m", "items": "none.jsonl"}, "cannot read the items"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_2(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    refused(job(tmp_path / "job", ITEMS, **config), SCRIPT, words)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([item(1), item(1)], "an id twice"),
        ([item(1), item(2, answer="E")], "line 2: give distinct choices"),
        ([item(1, choices=["a", "a", "b", "c"])], "line 1: give distinct choices"),
        ([{"id": "x"}], "line 1 is not an item"),
        ([], "line 1 is not an item"),
    ],
)
def test_bad_items_are_one_line_and_exit_2(tmp_path: Path, items: list[dict[str, Any]], words: str) -> None:
    refused(job(tmp_path / "job", items, model="m"), SCRIPT, words)


def test_a_model_that_cannot_be_asked_is_one_line_and_exit_2(tiny_model: Path, tmp_path: Path) -> None:
    refused(job(tmp_path / "nowhere", ITEMS, model=tmp_path / "nothing"), SCRIPT, "there is no folder")
    refused(
        job(tmp_path / "long", ITEMS, model=tiny_model, max_tokens=2000),
        SCRIPT,
        "the model reads 1024; lower max_tokens",
    )
    shutil.copytree(tiny_model, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    refused(
        job(tmp_path / "job", ITEMS, model=tmp_path / "mute"), SCRIPT, "has no chat template; choose an instruct model"
    )
