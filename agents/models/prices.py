"""What a model's tokens cost: by the home's own prices, else by LiteLLM's map, else nobody knows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from agents.models.lite import load_litellm
from shared_memory.records import MICRO_USD
from shared_memory.settings import ModelPrice, load_settings


class Prices:
    """Of one model, by its name in the goal."""

    def __init__(self, model: str, of_the_home: Mapping[str, ModelPrice] | None = None) -> None:
        """of_the_home: prices that a person has set, by model; None reads them from the home's config.toml."""
        self.model = model
        self._of_the_home = of_the_home

    @cached_property
    def _own(self) -> ModelPrice | None:
        prices = load_settings().prices if self._of_the_home is None else self._of_the_home
        return prices.get(self.model)

    @cached_property
    def listed(self) -> Mapping[str, Any]:
        """The model's entry in LiteLLM's price map; empty where it has none."""
        known: Mapping[str, Mapping[str, Any]] = load_litellm().model_cost
        return known.get(self.model) or known.get(self.model.partition("/")[2]) or {}

    def most_usd_micro(self, request_tokens: int, answer_tokens: int) -> int | None:
        """The worst case of a request's cost; None where there is no price."""
        if self._own:
            return self._own.usd_micro(request_tokens, answer_tokens)
        asked, answered = (_dearest(self.listed, way, request_tokens) for way in ("input", "output"))
        if asked is None and answered is None:
            return None
        return math.ceil((request_tokens * (asked or 0) + answer_tokens * (answered or 0)) * MICRO_USD)

    def usd_micro(self, request_tokens: int, answer_tokens: int, usd: float | None) -> int | None:
        """What an answer cost that LiteLLM has priced at `usd`: it says 0, or nothing, of some that are listed."""
        if self._own:
            return self._own.usd_micro(request_tokens, answer_tokens)
        if usd is not None and 0 < usd < math.inf:
            return math.ceil(usd * MICRO_USD)
        return self.most_usd_micro(request_tokens, answer_tokens)


def _dearest(prices: Mapping[str, Any], way: str, request_tokens: int) -> float | None:
    """Dollars per token of the dearest tier that a request can reach; None where there is no price.

    LiteLLM writes tiers as keys (`input_cost_per_token_above_200k_tokens`) or as a list with ranges of tokens. What is
    put into a provider's cache may cost more than what is read.
    """
    tiers = [tier for tier in prices.get("tiered_pricing") or () if tier["range"][0] < request_tokens]
    kept = "|cache_creation_input_token_cost" if way == "input" else ""
    key = re.compile(rf"(?:{way}_cost_per_(?:reasoning_)?token{kept})(?:_above_(\d+)k_tokens)?")
    prices_of = [(key.fullmatch(name), price) for table in (prices, *tiers) for name, price in table.items()]
    reached = [price for tier, price in prices_of if tier and int(tier[1] or 0) * 1000 < request_tokens]
    return max((float(price) for price in reached if price is not None), default=None)
