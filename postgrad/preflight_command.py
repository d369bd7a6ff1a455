"""`postgrad preflight`: everything that can be known of a training job before it runs, of a folder with its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postgrad.options import JsonOption, print_json
from shared_memory.errors import BadInput

if TYPE_CHECKING:
    from shared_memory.records import JobSpec

MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "fault": ("fault", "bold red"),
    "skipped": ("-", "dim"),
}
"""Status of a check → how it is shown."""
DEFAULT_HOURS = 24
"""Time-out that a folder is examined for, which names none; `--hours` names one."""


class On(StrEnum):
    """Where the job is meant to run."""

    LOCAL = "local"
    HF = "hf"
    SLURM = "slurm"


def preflight(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A script, its config.json and its data.")],
    script: Annotated[str, typer.Option(help="The script, where the folder has several; else train.py.")] = "",
    on: Annotated[On, typer.Option(help="Where the job is to run.")] = On.LOCAL,
    hours: Annotated[float | None, typer.Option(min=0.01, help="After how long it is ended.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="Variable that the job may read; may be repeated.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens that the evaluator lets an answer take.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The chat template that the evaluator renders with.")
    ] = None,
    no_smoke: Annotated[bool, typer.Option("--no-smoke", help="Look only; run nothing.")] = False,
    sandbox: Annotated[str, typer.Option(help="auto | none: how the script is kept apart when it is tried.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """What would go wrong in a training job, before it costs anything."""
    from agents.trainer.preflight import Facts, examine
    from shared_memory.settings import load_settings

    spec, files = read_folder(
        folder, script=script, on=on.value, hours=hours, secrets=tuple(secret or ()), sandbox=sandbox
    )
    facts = Facts(
        max_tokens=max_tokens,
        evaluator_template=_template(template),
        online=on is On.HF,
        cache_folder=str(load_settings().home / "preflight"),
    )
    found = examine(spec, files, facts=facts, smoke=not no_smoke)
    if as_json:
        print_json({**found.plain(), "fault": found.fault})
    else:
        _show(found.plain())
    if found.fault:
        raise typer.Exit(1)


def read_folder(
    folder: Path, *, script: str, on: str, hours: float | None, secrets: tuple[str, ...], sandbox: str
) -> tuple[JobSpec, dict[str, Path]]:
    """A folder as a training job, and where its files are. Raises BadInput where it is none."""
    from pydantic import ValidationError

    from shared_memory.records import Estimate, JobSpec, Purpose

    config = _config(folder)
    script = script or _script_in(folder)
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"out", "__pycache__"} & set(path.relative_to(folder).parts)
    }
    if script not in files:
        raise BadInput(f"{folder} has no {script}; name the script with --script")
    model = config.get("model")
    if isinstance(model, str) and not Path(model).is_absolute() and (folder / model).is_dir():
        config = {**config, "model": str((folder / model).resolve())}
    try:
        spec = JobSpec.model_validate(
            {
                "purpose": Purpose.TRAINING, "experiment": "preflight", "title": f"{folder.name}/{script}",
                "script": script, "files": dict.fromkeys(files, ""), "config": config, "runner": on,
                "timeout_seconds": round(3600 * (hours or DEFAULT_HOURS)), "secrets": secrets, "sandbox": sandbox,
                "estimate": Estimate(hours=0, usd_micro=0, memory_gib=0, basis="nothing was predicted"),
                "custom": True,
            }
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; see postgrad preflight --help") from error
    return spec, files


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give the one that holds script, config.json and data")
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{folder} has no config.json; the script is started with --config config.json") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no JSON that can be read ({error}); mend it") from error
    if not isinstance(config, dict):
        raise BadInput(f"{path} holds no JSON object; give the settings by name")
    return config


def _script_in(folder: Path) -> str:
    """train.py, or the only script that there is. Raises BadInput where that is not clear."""
    scripts = sorted(path.name for path in folder.glob("*.py"))
    if "train.py" in scripts or len(scripts) == 1:
        return "train.py" if "train.py" in scripts else scripts[0]
    raise BadInput(f"{folder} has {', '.join(scripts) or 'no script'}; name the one that trains with --script")


def _template(path: Path | None) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); give a Jinja file") from error


def _show(found: Mapping[str, Any]) -> None:
    """A line for each check, the worst last, where they are looked for; then what was not tried."""
    from rich.table import Table
    from rich.text import Text

    from postgrad.tables import plain_terminal
    from postgrad.units import duration, one_line

    terminal = plain_terminal()
    order = list(MARKS)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in sorted(found["checks"], key=lambda check: (order.index(check["status"]) + 1) % len(order)):
        mark, style = MARKS[check["status"]]
        words = one_line(check["message"]) + (f"; {one_line(check['fix'])}" if check["fix"] else "")
        grid.add_row(Text(mark, style), Text(check["name"].replace("_", " "), "dim"), Text(words, overflow="fold"))
    terminal.print(grid)
    if found["not_exercised"]:
        terminal.print(Text(f"not tried here: {', '.join(found['not_exercised'])}"), soft_wrap=True)
    terminal.print(Text(f"smoke run: {one_line(found['smoke'])}; all of it took {duration(found['seconds'])}"))
