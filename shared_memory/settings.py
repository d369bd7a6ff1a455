"""Where postgrad keeps its things, and a person's defaults: one typed object, read once."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from shared_memory.errors import BadInput
from shared_memory.records import Record
from shared_memory.run_paths import RunPaths
from shared_memory.tool_servers import ToolServer, servers_in


class ModelPrice(Record):
    """What a language model costs, by who pays for it: it wins over every price list."""

    input_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    """Dollars for a million tokens of requests."""
    output_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    """Dollars for a million tokens of answers."""

    def usd_micro(self, request_tokens: int, answer_tokens: int) -> int:
        """Micro-dollars of a request and its answer, rounded up: a dollar a million is a micro-dollar a token."""
        exact = request_tokens * self.input_usd_per_million + answer_tokens * self.output_usd_per_million
        return math.ceil(round(exact, 6))  # 100 × 0.15 is a little more than 15


class Settings(Record):
    """What holds for all runs of a home."""

    home: Path
    """Absolute; the database, the runs and the device slots are in it."""
    database: Path
    """SQLite file, absolute."""
    brain: str = "playbook"
    """The brain of roles for which the goal names none."""
    smoke_run: Literal["auto", "never"] = "auto"
    """Whether a training job is tried out for two steps on this machine's processor, before anybody is asked."""
    job_memory_gib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Memory that a job of this machine may take; None leaves it all that there is."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that the researcher may read beside its own services; `*.example.org` is every host below it. In
    config.toml alone."""
    mcp: dict[str, ToolServer] = Field(default_factory=dict)
    """Servers whose tools the roles have, by name; in config.toml alone."""
    prices: dict[str, ModelPrice] = Field(default_factory=dict)
    """Of language models, by their names in a goal; in config.toml alone."""

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def slots_dir(self) -> Path:
        """Locks of the devices that all runs of this home share."""
        return self.home / "slots"

    def run_paths(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs_dir / run_id)


_CONFIG_KEYS = ("brain", "database", "smoke_run", "job_memory_gib", "allowed_hosts", "mcp", "prices")
_STRUCTURED = ("allowed_hosts", "mcp", "prices")
"""Those that the environment does not hold."""


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Defaults, then `$POSTGRAD_HOME/config.toml`, then the environment (POSTGRAD_HOME, POSTGRAD_BRAIN, …).

    Raises BadInput for a home that is a file, for a config file that is malformed or has an unknown key, and for a
    value that is none of those that are known.
    """
    home = Path(environ.get("POSTGRAD_HOME") or "~/.postgrad").expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise BadInput(f"POSTGRAD_HOME is {home}, which is a file; set it to a folder")
    config = _read_config(home / "config.toml")
    given = {
        key: environ.get(f"POSTGRAD_{key.upper()}") or config.get(key)
        for key in _CONFIG_KEYS
        if key not in ("database", *_STRUCTURED)
    }
    try:
        return Settings.model_validate(
            {
                "home": home,
                "database": home / Path(config.get("database", "postgrad.db")).expanduser(),
                "allowed_hosts": config.get("allowed_hosts", ()),
                "mcp": servers_in(config.get("mcp", {}), home / "config.toml"),
                "prices": _prices_in(config.get("prices", {}), home / "config.toml"),
                **{key: value for key, value in given.items() if value},
            }
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = str(fault["loc"][-1])
        raise BadInput(f"{key} (in {home / 'config.toml'}, or POSTGRAD_{key.upper()}): {fault['msg']}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text ({error}); mend or remove it") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}; mend that place and run again") from error
    for key, value in table.items():
        if key not in _CONFIG_KEYS:
            near = difflib.get_close_matches(key, _CONFIG_KEYS, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(_CONFIG_KEYS)}"
            raise BadInput(f"{path}: unknown key `{key}`; {hint}")
        if key == "allowed_hosts" and not isinstance(value, list):
            raise BadInput(
                f'{path}: `{key}` must be a list, for example {key} = ["example.org"]; mend it and run again'
            )
        if (not isinstance(value, str) and key not in ("job_memory_gib", *_STRUCTURED)) or not value:
            raise BadInput(f'{path}: `{key}` must be text, for example {key} = "…"; mend it and run again')
    return table


def _prices_in(tables: Any, path: Path) -> dict[str, ModelPrice]:
    """The prices in a config file. Raises BadInput for a table that is not one of them."""
    if not isinstance(tables, dict):
        raise BadInput(
            f'{path}: `prices` must be tables, for example [prices."openai/my-model"]; mend it and run again'
        )
    known, prices = tuple(ModelPrice.model_fields), {}
    for model, table in tables.items():
        where = f'{path}: [prices."{model}"]'
        if not isinstance(table, dict):
            raise BadInput(f"{where} must be a table with {' and '.join(known)}; put quotes around the model's name")
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
                raise BadInput(f"{where}: unknown key `{key}`; {hint}")
        try:
            prices[model] = ModelPrice.model_validate(table)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise BadInput(
                f"{where}: `{fault['loc'][-1]}`: {fault['msg']}; give dollars for a million tokens"
            ) from error
    return prices
