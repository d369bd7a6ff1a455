"""Rubrics: criteria with points, and what an answer that meets some of them scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from shared_memory.records import Record

KEY = "rubric"
"""Of an item's metadata: its criteria as plain data."""


class Criterion(Record):
    """What an answer should do, or with negative points should not."""

    criterion: str = Field(min_length=1)
    points: float = Field(default=1.0, allow_inf_nan=False)


def criteria_of(given: Any) -> tuple[Criterion, ...]:
    """The criteria of a row: a list of texts (a point each) or of `{"criterion", "points"}`, or that as JSON text.

    Other keys of a criterion are left out. Raises ValueError, with the reason, where no score could come of them.
    """
    try:
        entries = json.loads(given) if isinstance(given, str) else given
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError("it is no list of criteria")
    criteria = []
    for number, entry in enumerate(entries, 1):
        plain = {"criterion": entry} if isinstance(entry, str) else entry
        if not isinstance(plain, dict):
            raise ValueError(f"criterion {number} is neither a text nor an object")
        known = {key: plain[key] for key in Criterion.model_fields if key in plain}
        try:
            criteria.append(Criterion.model_validate(known))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "criterion"
            raise ValueError(f"criterion {number}, `{where}`: {fault['msg']}") from error
    if not any(each.points > 0 for each in criteria):
        raise ValueError("no criterion has positive points, so nothing could be earned")
    return tuple(criteria)


def most_points(criteria: Sequence[Criterion]) -> float:
    """What an answer earns that meets every wanted criterion, and none of the unwanted ones."""
    return sum(each.points for each in criteria if each.points > 0)


def earned_points(criteria: Sequence[Criterion], met: Sequence[bool]) -> float:
    """What an answer earns; below 0 where it does more harm than good.

    An item scores this over `most_points`, and a benchmark the mean over its items, which alone is held between 0 and 1
    [HealthBench, arXiv 2505.08775, section 3; `scoring.py` of PostTrainBench].
    """
    return sum(each.points for each, is_met in zip(criteria, met, strict=True) if is_met)
