"""Prompts answered by the real script: what it refuses, what it writes, and what becomes of it when it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.multiple_choice import render_multiple_choice
from tests.evaluator.job import SCRIPTS, job, lines, refused, result, run, start

SCRIPT, ANSWERS = "generate.py", "answers.jsonl"


def prompt(number: int, **changes: Any) -> dict[str, Any]:
    question = f"What net force gives a cart of mass {number} kg an acceleration of 4 m/s²?"
    content = render_multiple_choice(question, [f"{number + i} N" for i in range(4)])
    return {"id": f"q{number}", "epoch": 1, "messages": [{"role": "user", "content": content}]} | changes


PROMPTS = [prompt(number) for number in range(2, 12)]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model": "m", "max_token": 5}, "unknown key 'max_token' in config.json; did you mean 'max_tokens'?"),
        ({"max_tokens": 5}, "lacks model"),
        ({"model": "m", "micro_batch": "4"}, "micro_batch is '4'"),
        ({"model": "m", "max_tokens": 0}, "max_tokens is 0; give at least 1"),
        ({"model": "m", "decoding": "beam"}, "decoding is 'beam'; choose greedy or model"),
        ({"model": "m", "prompts": "none.jsonl"}, "cannot read the prompts"),
        ({"model": "/nowhere"}, "there is no folder /nowhere"),
        ({"model": "m", "chat_template": "none.jinja"}, "cannot read the chat template none.jinja"),
        ({"model": "m", "engine": "vllm"}, "engine is vllm, and this machine has no vLLM or no GPU; install it there"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_2(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    refused(job(tmp_path / "job", PROMPTS, "prompts", **config), SCRIPT, words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([prompt(1), prompt(1)], "an id twice"),
        ([prompt(1), prompt(2, messages=[])], "line 2 is not a prompt"),
        ([prompt(1, messages=[{"role": "judge", "content": "x"}])], "line 1 is not a prompt"),
        ([{"id": "x"}], "line 1 is not a prompt (KeyError('messages'))"),
        ([], "line 1 is not a prompt"),
    ],
)
def test_bad_prompts_are_one_line_and_exit_2(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    refused(job(tmp_path / "job", rows, "prompts", model="m"), SCRIPT, words)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For a model this small, threads only wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scripts(one_thread: None) -> Iterator[Any]:
    """The modules of the script, as they find one another."""
    sys.path.insert(0, str(SCRIPTS))
    names = ("decoding", "generate", "job_config", "prompts", "sampling", "texts")
    yield SimpleNamespace(**{name: import_module(name) for name in names})
    sys.path.remove(str(SCRIPTS))


def drill(model: Any, tokenizer: Any, words: str) -> None:
    """Trains `model` until it answers whatever it is asked with `words`, and then ends its turn."""
    import torch

    chats = [tokenizer.apply_chat_template(p["messages"], tokenize=False, add_generation_prompt=True) for p in PROMPTS]
    tokenizer.padding_side = "left"
    batch = tokenizer([chat + words + "<|im_end|>" for chat in chats], padding=True, return_tensors="pt")
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
def answers_b(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A model that always answers `12 N.`, `ANSWER: B`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("answers-b")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    drill(model, tokenizer, "12 N.\nANSWER: B")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_prompts_are_answered_and_nothing_leaves_the_job_folder(answers_b: Path, tmp_path: Path) -> None:
    twice = [*PROMPTS, *(row | {"epoch": 2} for row in PROMPTS)]
    folder = job(tmp_path / "job", twice, "prompts", model=answers_b, max_tokens=40, micro_batch=4)
    done = run(folder, SCRIPT)
    outcome = result(done)
    assert (outcome["prompts"], outcome["taken_over"], outcome["truncated"]) == (20, 0, 0.0)
    assert outcome["engine"] == "transformers"
    found = lines(folder, ANSWERS)
    assert sorted((line["id"], line["epoch"]) for line in found) == sorted((row["id"], row["epoch"]) for row in twice)
    assert outcome["tokens"] * 2 == sum(line["output_tokens"] for line in found), "a prompt is answered once, not twice"
    assert all(line["output"] == "12 N.\nANSWER: B" and not line["truncated"] for line in found)
    assert all(5 < line["output_tokens"] < 40 < line["prompt_tokens"] for line in found)
    events = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")][:-1]
    assert events[-1]["step"] == events[-1]["steps"] == len(PROMPTS)
    assert {path.name for path in folder.iterdir()} == {"prompts.jsonl", "config.json", "out", "site", "home"}
    assert not [path for path in (folder / "home").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_adapter_is_asked_on_top_of_its_base(answers_b: Path, tmp_path: Path) -> None:
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
    expected = {}
    for row in PROMPTS[:3]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
        read = tokenizer(text, return_tensors="pt")
        answer = model.generate(**read, do_sample=False, max_new_tokens=8)[0, read["input_ids"].shape[1] :]
        expected[row["id"]] = tokenizer.decode(answer, skip_special_tokens=True)
    assert not any("ANSWER: B" in text for text in expected.values())

    config = {"adapter": tmp_path / "adapter", "max_tokens": 8, "dtype": "float32"}
    folder = job(tmp_path / "job", PROMPTS[:3], "prompts", model=answers_b, **config)
    result(run(folder, SCRIPT))
    assert {line["id"]: line["output"] for line in lines(folder, ANSWERS)} == expected


@pytest.mark.slow
def test_a_killed_job_goes_on_from_the_answers_that_it_has(tiny_model: Path, tmp_path: Path) -> None:
    """A model of random weights never ends its turn: every answer has 60 tokens."""
    rows = [prompt(number) for number in range(2, 42)]
    config = {"model": tiny_model, "max_tokens": 60, "micro_batch": 2, "dtype": "float32"}
    folder = job(tmp_path / "job", rows, "prompts", **config)
    path = folder / "out" / ANSWERS
    with start(folder, SCRIPT) as process:
        while not (path.exists() and path.read_bytes().count(b"\n") >= 6):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = lines(folder, ANSWERS)
    assert 6 <= len(before) < len(rows)
    with path.open("a") as stream:
        stream.write('{"id": "q41", "epoch": 1, "outp')  # as a machine leaves it that loses its power

    outcome = result(run(folder, SCRIPT))
    assert outcome["taken_over"] == len(before)
    assert outcome["tokens"] == 60 * (len(rows) - len(before)), "nothing that was answered is answered again"
    assert outcome["truncated"] == 1.0
    after = lines(folder, ANSWERS)
    assert after[: len(before)] == before
    assert sorted(line["id"] for line in after) == sorted(row["id"] for row in rows)

    elsewhere = job(tmp_path / "elsewhere", rows, "prompts", **config | {"resume_from": folder / "out"})
    outcome = result(run(elsewhere, SCRIPT))
    assert (outcome["taken_over"], "tokens" in outcome) == (len(rows), False)
    assert lines(elsewhere, ANSWERS) == after

    other = job(tmp_path / "other", rows[:2], "prompts", **config | {"resume_from": folder / "out", "max_tokens": 5})
    done = run(other, SCRIPT)
    assert result(done)["taken_over"] == 0
    assert "is of other prompts or settings, and is not taken over" in done.stdout
    assert {line["output_tokens"] for line in lines(other, ANSWERS)} == {5}


@pytest.mark.slow
def test_an_answer_is_shortened_to_what_the_context_leaves_and_a_prompt_that_fills_it_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    long = {"role": "user", "content": "kg " * 980}
    rows = [prompt(1, messages=[long]), prompt(2)]
    folder = job(tmp_path / "job", rows, "prompts", model=tiny_model, max_tokens=50, dtype="float32")
    done = run(folder, SCRIPT)
    outcome = result(done)
    assert (outcome["shortened"], outcome["truncated"]) == (1, 1.0)
    assert "1 of 2 answers may take fewer than 50 tokens" in done.stdout
    first, second = sorted(lines(folder, ANSWERS), key=lambda line: line["id"])
    assert first["prompt_tokens"] + first["output_tokens"] == 1024
    assert second["output_tokens"] == 50

    rows = [prompt(1, messages=[long | {"content": "kg " * 1100}]), prompt(2)]
    folder = job(tmp_path / "full", rows, "prompts", model=tiny_model)
    refused(folder, SCRIPT, "1 of 2 prompts fill the context of 1024 tokens")


@pytest.mark.slow
def test_a_model_that_cannot_be_asked_is_one_line_and_exit_2(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    folder = job(tmp_path / "job", PROMPTS, "prompts", model=tmp_path / "mute")
    refused(folder, SCRIPT, "has no chat template; choose an instruct model")


@pytest.mark.slow
def test_tools_reach_the_chat_template_and_a_file_takes_its_place(
    scripts: Any, tiny_model: Path, tmp_path: Path
) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ tools[0].function.name }}: {{ messages[0].content }}{{ raise_exception('no') if no }}")
    config = scripts.job_config.Config(model=str(tiny_model), prompts="", chat_template=str(template))
    tokenizer = scripts.prompts.load_tokenizer(config)
    row = {"id": "a", "epoch": 1, "messages": [{"role": "user", "content": "3 kg"}]}
    tools = [{"type": "function", "function": {"name": "force", "description": "f", "parameters": {}}}]
    asked = scripts.prompts.Prompt(row | {"tools": tools})
    (encoded,) = scripts.prompts.encode([asked], tokenizer, config)
    assert tokenizer.decode(encoded.ids) == "force: 3 kg"
    with pytest.raises(scripts.job_config.JobError, match="the chat template cannot render prompt a"):
        scripts.prompts.encode([scripts.prompts.Prompt(row)], tokenizer, config)


WORDS = ("3 kg", "3 kg of A) B)", "x", "7000 m B) 70", "x y z", "m/s²")


def texts(scripts: Any, tokenizer: Any, limit: int = 24, seed: int = 0) -> list[Any]:
    """The model was not drilled on these prompts: their answers have different lengths."""
    made = []
    for number, words in enumerate(WORDS):
        asked = scripts.prompts.Prompt({"id": str(number), "epoch": 1})
        ids = tokenizer(f"<|im_start|>user\n{words}")["input_ids"]
        made.append(scripts.texts.text_of(scripts.prompts.Encoded(asked, tuple(ids), limit), seed))
    return made


def written(scripts: Any, model: Any, tokenizer: Any, micro_batch: int = 16, seed: int = 0, **policy: Any) -> Any:
    """The answers in the prompts' order, and the decoder."""
    decoder = scripts.decoding.Decoder(model, {tokenizer.eos_token_id}, scripts.sampling.Policy(**policy), micro_batch)
    asked = texts(scripts, tokenizer, seed=seed)
    ended = [text for some in decoder.write(asked) for text in some]
    assert len(ended) == len(asked)
    return [text.tokens for text in asked], decoder


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def generated(model: Any, tokenizer: Any, **settings: Any) -> list[list[int]]:
    """One prompt at a time, by transformers."""
    import torch

    answers = []
    for words in WORDS:
        ids = tokenizer(f"<|im_start|>user\n{words}", return_tensors="pt")["input_ids"]
        given = {"max_new_tokens": 24, "do_sample": False, "attention_mask": torch.ones_like(ids)} | settings
        answers.append(model.generate(ids, **given)[0, ids.shape[1] :].tolist())
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [1, 3, 16])
def test_what_joins_and_leaves_a_batch_and_shared_beginnings_change_no_token(
    scripts: Any, answers_b: Path, micro_batch: int
) -> None:
    model, tokenizer = loaded(answers_b)
    expected = generated(model, tokenizer)
    assert len({len(answer) for answer in expected}) > 1
    answers, decoder = written(scripts, model, tokenizer, micro_batch)
    assert decoder.plain_cache
    assert answers == expected


@pytest.mark.slow
def test_a_model_with_sliding_windows_is_asked_as_well(scripts: Any, answers_b: Path) -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    _, tokenizer = loaded(answers_b)
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    answers, decoder = written(scripts, model, tokenizer, micro_batch=4)
    assert not decoder.plain_cache
    assert answers == generated(model, tokenizer, eos_token_id=tokenizer.eos_token_id)
    assert written(scripts, model, tokenizer, temperature=0.7, top_k=1)[0] == answers
    sampled = written(scripts, model, tokenizer, temperature=2.0)[0]
    assert answers != sampled == written(scripts, model, tokenizer, temperature=2.0)[0]


@pytest.mark.slow
@pytest.mark.parametrize("plain_cache", [True, False])
def test_where_memory_runs_out_fewer_prompts_go_on_with_what_they_had(
    scripts: Any, answers_b: Path, capsys: pytest.CaptureFixture[str], plain_cache: bool
) -> None:
    import torch

    model, tokenizer = loaded(answers_b)
    expected, forward, calls = generated(model, tokenizer), model.forward, 0

    def room_for(rows: int) -> Any:
        def limited(input_ids: Any = None, **given: Any) -> Any:
            nonlocal calls
            calls += 1
            if len(input_ids) > rows and calls > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(input_ids=input_ids, **given)

        return limited

    def write() -> Any:
        decoder = scripts.decoding.Decoder(model, {tokenizer.eos_token_id}, scripts.sampling.Policy(), 16)
        decoder.plain_cache = plain_cache
        asked = texts(scripts, tokenizer)
        for _ in decoder.write(asked):
            pass
        return [text.tokens for text in asked], decoder.most

    model.forward = room_for(2)
    answers, most = write()
    assert answers == expected
    assert most <= 2
    assert re.search(r"out of memory with [3-6] prompts at a time: going on with \d", capsys.readouterr().out)
    model.forward = room_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        write()


@pytest.mark.slow
def test_sampling_depends_on_the_seed_and_on_nothing_else(scripts: Any, answers_b: Path) -> None:
    model, tokenizer = loaded(answers_b)
    policy = {"temperature": 3.0, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}
    first, _ = written(scripts, model, tokenizer, **policy)
    assert first == written(scripts, model, tokenizer, micro_batch=2, **policy)[0]
    assert first != written(scripts, model, tokenizer, seed=1, **policy)[0]
    greedy = generated(model, tokenizer)
    assert first != greedy
    assert written(scripts, model, tokenizer, temperature=1.0, top_k=1)[0] == greedy
    penalised = generated(model, tokenizer, repetition_penalty=1.5)
    assert penalised != greedy
    assert written(scripts, model, tokenizer, repetition_penalty=1.5)[0] == penalised


@pytest.mark.slow
def test_tokens_are_drawn_as_often_as_the_model_finds_them_likely(scripts: Any, answers_b: Path) -> None:
    """Against the probabilities of `top_k` 4 at a temperature of 2, four standard errors wide."""
    import torch

    model, tokenizer = loaded(answers_b)
    ids = tokenizer("<|im_start|>user\nx")["input_ids"]
    with torch.inference_mode():
        likely = (model(torch.tensor([ids])).logits[0, -1] / 2).topk(4)
    shares = likely.values.softmax(-1).tolist()
    count = 2000
    decoder = scripts.decoding.Decoder(model, set(), scripts.sampling.Policy(temperature=2.0, top_k=4), 500)
    asked = [scripts.prompts.Prompt({"id": "x", "epoch": epoch}) for epoch in range(count)]
    drawn = [scripts.texts.text_of(scripts.prompts.Encoded(each, tuple(ids), 1), 0) for each in asked]
    for _ in decoder.write(drawn):
        pass
    for token, share in zip(likely.indices.tolist(), shares, strict=True):
        found = sum(text.tokens == [token] for text in drawn) / count
        assert abs(found - share) < 4 * (share * (1 - share) / count) ** 0.5


@pytest.mark.slow
def test_a_checkpoint_says_how_it_is_decoded_and_what_ends_an_answer(
    scripts: Any, answers_b: Path, tmp_path: Path
) -> None:
    """As vLLM reads it: `do_sample` is not looked at, and a temperature that is not given is 1."""
    from transformers import AutoTokenizer

    policy_of, config = scripts.sampling.policy_of, scripts.generate.generation_config
    folder = tmp_path / "model"
    shutil.copytree(answers_b, folder)
    given = scripts.job_config.Config(model=str(folder), prompts="")
    assert policy_of(config(given)) == scripts.sampling.Policy(temperature=1.0)
    dot = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(".")
    said = {"temperature": 0.0, "top_k": 5, "repetition_penalty": 1.06, "eos_token_id": [2, dot], "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(said))
    assert policy_of(config(given)) == scripts.sampling.Policy(top_k=5, repetition_penalty=1.06)

    asked = job(tmp_path / "job", PROMPTS[:2], "prompts", model=folder, max_tokens=40, dtype="float32")
    assert result(run(asked, SCRIPT))["truncated"] == 0.0
    assert {line["output"] for line in lines(asked, ANSWERS)} == {"12 N."}, "greedy leaves the penalty out"


@pytest.mark.slow
def test_prompts_that_share_much_are_read_together_and_others_by_length(scripts: Any) -> None:
    def text(name: str, *ids: int) -> Any:
        asked = scripts.prompts.Prompt({"id": name, "epoch": 1})
        return scripts.texts.text_of(scripts.prompts.Encoded(asked, ids, 5), 0)

    passage, other = tuple(range(100, 120)), tuple(range(200, 230))
    rows = [
        text("short", 1, 1, 5), text("a1", 1, 1, *passage, 7), text("b1", 1, 1, *other, 7, 8),
        text("long", 1, 1, *range(300, 325)), text("a2", 1, 1, *passage, 8, 9), text("b2", 1, 1, *other, 9),
    ]  # fmt: skip
    ordered = scripts.texts.in_order(rows)
    assert [row.asked.prompt.key[0] for row in ordered] == ["b1", "b2", "long", "short", "a2", "a1"]
    assert [row.group for row in ordered] == [0, 0, 1, 1, 2, 2]
