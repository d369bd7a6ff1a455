# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0"]
# ///
"""Answers prompts with a language model.

    python generate.py --config config.json

    {"model": folder or Hub id, "prompts": "prompts.jsonl", "revision": null, "adapter": null, "chat_template": null,
     "decoding": "greedy", "max_tokens": 256, "micro_batch": 64, "seed": 0, "dtype": "auto", "engine": "auto",
     "resume_from": null}

`model` and `prompts` are required; job_config.py says what each setting means, and lies beside this file with the
others that it imports. A line of the prompts file: {"id", "epoch", "messages": [{"role", "content"}, ...], "tools"
(optional)}; the chat template renders both.

Prints a progress event every few seconds and {"result": ...} at the end. Appends to out/answers.jsonl as answers end,
in any order, a line a prompt: {"id", "epoch", "output", "output_tokens", "prompt_tokens", "truncated"}. Killed and
started again in the same folder, or elsewhere with `resume_from`, it goes on with the prompts that have no answer yet.
Exit 2: the config, the model or the prompts cannot be used as they are.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import by_vllm
from answers import Answer, Answers
from job import OUT, JobError, placed, prepare_environment
from job_config import Config, read_config
from prompts import Encoded, Prompt, encode, load_tokenizer, read_prompts, unloadable
from sampling import Policy, policy_of
from texts import text_of

MERGED = Path("merged")
"""A model with its adapter, as vLLM reads it; no part of what the job makes."""
PROGRESS_SECONDS = 2.0


def answer(config: Config) -> dict[str, Any]:
    """Runs the job and returns its result. Raises JobError."""
    started = time.monotonic()
    prompts = read_prompts(Path(config.prompts))
    with_vllm = uses_vllm(config)
    prepare_environment(config.model, config.adapter)
    answers = Answers(config, prompts, OUT)
    waiting = [prompt for prompt in prompts if prompt.key not in answers.given]
    if answers.taken_over:
        print(f"{answers.taken_over} of {len(prompts)} prompts have an answer from before", flush=True)
    told = write(config, waiting, answers, with_vllm=with_vllm) if waiting else {}
    answers.close()
    return {
        "prompts": len(prompts),
        "taken_over": answers.taken_over,
        "truncated": round(sum(each.truncated for each in answers.given.values()) / len(prompts), 6),
        "seconds": round(time.monotonic() - started, 1),
        **told,
    }


def uses_vllm(config: Config) -> bool:
    """Raises JobError where it is asked for and missing."""
    there = config.engine != "transformers" and by_vllm.is_there()
    if config.engine == "vllm" and not there:
        raise JobError("engine is vllm, and this machine has no vLLM or no GPU; install it there, or take auto")
    return there


def write(config: Config, prompts: Sequence[Prompt], answers: Answers, *, with_vllm: bool) -> dict[str, Any]:
    """Has the model answer and keeps each answer as it ends; returns what there is to tell. Raises JobError."""
    tokenizer = load_tokenizer(config)
    encoded = encode(prompts, tokenizer, config)
    shortened = tell_shortened(encoded, config.max_tokens)
    given = generation_config(config)
    eos = given.eos_token_id
    ends = {*(eos if isinstance(eos, list) else [eos]), tokenizer.eos_token_id} - {None}
    policy = policy_of(given) if config.decoding == "model" else Policy()
    # Where nothing is drawn, a prompt that is asked several times is answered once.
    askers: dict[Any, list[Encoded]] = defaultdict(list)
    for each in encoded:
        askers[each.ids if policy.is_greedy else each.prompt.key].append(each)
    texts = {text_of(same[0], config.seed): same for same in askers.values()}
    print(f"loading {config.model}" + (f" with adapter {config.adapter}" if config.adapter else ""), flush=True)
    if with_vllm:
        stream, told = by_vllm.write(merged(config), [*texts], config, ends, policy), {"engine": "vllm"}
    else:
        from decoding import Decoder

        model = placed(with_adapter(config), config.dtype)
        stream = Decoder(model, ends, policy, config.micro_batch).write([*texts])
        told = {"engine": "transformers", "dtype": str(model.dtype).removeprefix("torch.")}
    progress = Progress(len(texts))
    for ended in stream:
        progress.add(len(ended), sum(len(text.tokens) for text in ended))
        answers.add([answer_to(each, text.tokens, ends, tokenizer) for text in ended for each in texts[text]])
    rate = {"tokens": progress.tokens, "tokens_per_second": progress.tokens_per_second}
    return {"shortened": shortened, **rate, **told}


def tell_shortened(encoded: Sequence[Encoded], max_tokens: int) -> int:
    """How many answers get fewer tokens than asked for; the log says why."""
    shorter = [each.limit for each in encoded if each.limit < max_tokens]
    if shorter:
        print(
            f"{len(shorter)} of {len(encoded)} answers may take fewer than {max_tokens} tokens, the shortest "
            f"{min(shorter)}: prompt and answer fill the model's context",
            flush=True,
        )
    return len(shorter)


def answer_to(asked: Encoded, tokens: list[int], ends: set[int], tokenizer: Any) -> Answer:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Answer(*asked.prompt.key, str(text), len(tokens), len(asked.ids), truncated=tokens[-1] not in ends)


class Progress:
    """Counts what has been written and prints it, at most every PROGRESS_SECONDS."""

    def __init__(self, steps: int) -> None:
        """`steps`: different prompts to answer."""
        self.steps, self.answered, self.tokens = steps, 0, 0
        self.started, self.shown, self.seconds = time.monotonic(), 0.0, 0.0

    def add(self, answered: int, tokens: int) -> None:
        self.answered, self.tokens = self.answered + answered, self.tokens + tokens
        self.seconds = time.monotonic() - self.started
        if self.seconds - self.shown >= PROGRESS_SECONDS or (answered and self.answered == self.steps):
            self.shown = self.seconds
            event = {"step": self.answered, "steps": self.steps, "seconds": round(self.seconds, 1)}
            print(json.dumps(event | {"tokens_per_second": self.tokens_per_second}), flush=True)

    @property
    def tokens_per_second(self) -> float:
        return round(self.tokens / self.seconds, 1) if self.seconds else 0.0


def with_adapter(config: Config) -> Any:
    """The model as the checkpoint has it, with the adapter merged in. Raises JobError."""
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(config.model, revision=config.revision, dtype="auto")
        if config.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, config.adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as e:
        raise unloadable(config.adapter or config.model, e) from e
    return model


def merged(config: Config) -> str:
    """What vLLM is to load: the model, or a folder of it with its adapter merged in."""
    if not config.adapter:
        return config.model
    with_adapter(config).save_pretrained(MERGED)
    return str(MERGED)


def generation_config(config: Config) -> Any:
    """The model's, as its generation_config.json or else its config.json has it."""
    from transformers import AutoConfig, GenerationConfig

    try:
        return GenerationConfig.from_pretrained(config.model, revision=config.revision)
    except OSError:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(config.model, revision=config.revision))


def main() -> int:
    parser = argparse.ArgumentParser(description="Answers prompts with a language model.")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    try:
        result = answer(read_config(parser.parse_args().config))
    except JobError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
