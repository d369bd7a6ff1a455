"""How the next token is chosen: the likeliest, or as a model's generation_config.json says."""

from dataclasses import dataclass, fields
from typing import Any

NO_SAMPLING = 1e-5
"""Temperatures below are 0, as for vLLM [sampling_params.py: _SAMPLING_EPS]."""


@dataclass(frozen=True)
class Policy:
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """The likeliest tokens to choose from; 0 or less is all of them."""
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature < NO_SAMPLING


def policy_of(given: Any) -> Policy:
    """What a transformers GenerationConfig says, read as vLLM does [ModelConfig.get_diff_sampling_param]: these five
    fields whatever `do_sample` is, and a temperature of 1 where there is none."""
    said = {field.name: getattr(given, field.name, None) for field in fields(Policy)}
    return Policy(**({"temperature": 1.0} | {name: value for name, value in said.items() if value is not None}))


def processors_of(policy: Policy) -> Any:
    """transformers' LogitsProcessorList for all but the choice itself, in vLLM's order [v1/sample/sampler.py]."""
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps: list[Any] = []
    if policy.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(policy.repetition_penalty))
    if not policy.is_greedy:
        steps += [TemperatureLogitsWarper(policy.temperature)] if policy.temperature != 1 else []
        steps += [MinPLogitsWarper(policy.min_p)] if policy.min_p > 0 else []
        steps += [TopKLogitsWarper(policy.top_k)] if policy.top_k > 0 else []
        steps += [TopPLogitsWarper(policy.top_p)] if policy.top_p < 1 else []
    return LogitsProcessorList(steps)
