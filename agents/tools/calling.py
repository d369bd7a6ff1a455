"""A function as LangChain calls a tool; imported only where a loop begins, for LangChain takes long to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.tools import BaseTool


class Calling(BaseTool):
    """Its `args_schema` is a JSON Schema; what it raises is for the loop to tell."""

    on_call: Callable[[Mapping[str, Any]], str]

    def _run(self, /, **arguments: Any) -> str:  # so an argument may have any name
        return self.on_call(arguments)


def calling(
    name: str, description: str, parameters: dict[str, Any], on_call: Callable[[Mapping[str, Any]], str]
) -> BaseTool:
    return Calling(name=name, description=description, args_schema=parameters, on_call=on_call)
