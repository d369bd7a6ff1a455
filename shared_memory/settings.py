"""Where postgrad keeps its things, and a person's defaults: one typed object, read once."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

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

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def slots_dir(self) -> Path:
        """Locks of the devices that all runs of this home share."""
        return self.home / "slots"

    def run_paths(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs_dir / run_id)


_CONFIG_KEYS = ("brain", "database")


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Defaults, then `$POSTGRAD_HOME/config.toml`, then the environment (POSTGRAD_HOME, POSTGRAD_BRAIN).

    Raises BadInput for a home that is a file and for a config file that is malformed or has an unknown key.
    """
    home = Path(environ.get("POSTGRAD_HOME") or "~/.postgrad").expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise BadInput(f"POSTGRAD_HOME is {home}, which is a file; set it to a folder")
    config = _read_config(home / "config.toml")
    return Settings(
        home=home,
        database=home / Path(config.get("database", "postgrad.db")).expanduser(),
        brain=environ.get("POSTGRAD_BRAIN") or config.get("brain", "playbook"),
    )


def _read_config(path: Path) -> dict[str, str]:
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
        if not isinstance(value, str) or not value:
            raise BadInput(f'{path}: `{key}` must be text, for example {key} = "…"; mend it and run again')
    return table
