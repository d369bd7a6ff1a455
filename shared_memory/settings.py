"""Where postgrad keeps its things, and a person's defaults: one typed object, read once."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from shared_memory.errors import BadInput
from shared_memory.records import Record
from shared_memory.run_paths import RunPaths


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

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def slots_dir(self) -> Path:
        """Locks of the devices that all runs of this home share."""
        return self.home / "slots"

    def run_paths(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs_dir / run_id)


_CONFIG_KEYS = ("brain", "database", "smoke_run", "job_memory_gib")


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
        key: environ.get(f"POSTGRAD_{key.upper()}") or config.get(key) for key in _CONFIG_KEYS if key != "database"
    }
    try:
        return Settings.model_validate(
            {
                "home": home,
                "database": home / Path(config.get("database", "postgrad.db")).expanduser(),
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
        if (not isinstance(value, str) and key != "job_memory_gib") or not value:
            raise BadInput(f'{path}: `{key}` must be text, for example {key} = "…"; mend it and run again')
    return table
