"""What every record has in common: frozen, strict, plain JSON, with a digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


def canonical_digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`: sorted keys, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def plain(self) -> dict[str, Any]:
        """The record as JSON-able plain data, which is what state and database hold."""
        return self.model_dump(mode="json")
