"""Writes the answers with vLLM, on a machine that has it and a GPU: hundreds of prompts side by side."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from job_config import Config
from sampling import Policy
from texts import Text

AT_ONCE = 1024
"""Prompts between two savings of their answers; vLLM itself decides how many of them make a batch."""


def is_there() -> bool:
    """Whether vLLM is installed, and has a GPU."""
    if find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def write(model: str, texts: Sequence[Text], config: Config, ends: set[int], policy: Policy) -> Iterator[list[Text]]:
    """Texts as they end, from a folder or Hub id. vLLM keeps what prompts have in common, and fits into the memory."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    engine = LLM(
        model=model,
        tokenizer=config.model,
        revision=config.revision if model == config.model else None,
        tokenizer_revision=config.revision,
        dtype=config.dtype,
        seed=config.seed,
        max_model_len=max(len(text.asked.ids) + text.asked.limit for text in texts),
        enable_prefix_caching=True,
    )
    for start in range(0, len(texts), AT_ONCE):
        batch = [*texts[start : start + AT_ONCE]]
        prompts = [TokensPrompt(prompt_token_ids=[*text.asked.ids]) for text in batch]
        settings = [SamplingParams(**_settings(text, ends, policy)) for text in batch]
        for text, output in zip(batch, engine.generate(prompts, settings, use_tqdm=False), strict=True):
            text.tokens = [*output.outputs[0].token_ids]
        yield batch


def _settings(text: Text, ends: set[int], policy: Policy) -> dict[str, Any]:
    return {
        "temperature": policy.temperature,
        "top_k": policy.top_k,
        "top_p": policy.top_p,
        "min_p": policy.min_p,
        "repetition_penalty": policy.repetition_penalty,
        "seed": text.seed,
        "max_tokens": text.asked.limit,
        "stop_token_ids": sorted(ends),
        "detokenize": False,
    }
