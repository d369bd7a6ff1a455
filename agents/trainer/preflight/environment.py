"""The environment that a job runs in, or the nearest one to it on this machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from agents.trainer.preflight.script import Script
from shared_memory.record import Record

PROGRAM = Path(__file__).parent / "scripts" / "signatures.py"
UV_SECONDS = 120
"""That uv may take to make an environment from its cache: links, no downloads and no builds."""
ASK_SECONDS = 120
"""That importing TRL may take on a slow disk."""
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


class Environment(Record):
    """A Python with packages."""

    python: str
    readable: tuple[str, ...] = ()
    """Folders that it needs beside those of the Python that runs this."""
    packages: dict[str, str]
    """Canonical name → version."""
    exact: bool
    """Whether it is what the job will have, as far as its header says."""
    note: str = ""
    """How it differs, where it does."""

    def named(self, *names: str) -> str:
        """`trl 1.16.0, peft 0.21.2`: those that it has."""
        return ", ".join(f"{name} {self.packages[name]}" for name in names if name in self.packages)

    @property
    def digest(self) -> str:
        text = json.dumps([self.python, sorted(self.packages.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def requirements_of(script: Script) -> list[Requirement]:
    """The dependencies of a script's header. Raises ValueError for one that is none, or a header that is no TOML."""
    listed = script.header.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise ValueError("`dependencies` is no list of texts")
    found = []
    for entry in listed:
        try:
            found.append(Requirement(entry))
        except InvalidRequirement as error:
            raise ValueError(f"`{entry}` is no requirement ({str(error).splitlines()[0]})") from error
    return found


def environment_of(script: Script, *, here: bool, cache_folder: str = "") -> Environment:
    """What the job will have: this environment where it runs `here`, else one with what its header asks for.

    That is this one, where it satisfies the header; else what uv makes of its own cache, without a download; else this
    one again, and `note` says how it differs.
    """
    packages = installed()
    own = Environment(python=sys.executable, packages=packages, exact=True)
    try:
        wanted = [entry for entry in requirements_of(script) if entry.marker is None or entry.marker.evaluate()]
    except ValueError:
        return own  # `requirements_valid` tells of it
    differing = [entry for entry in wanted if not _satisfies(entry, packages)]
    if here or not differing:
        return own
    if cache_folder and (made := _by_uv(wanted, Path(cache_folder))):
        return made
    first = differing[0]
    version = packages.get(canonicalize_name(first.name))
    has = f"{first.name} {version}" if version else f"no {first.name}"
    return own.model_copy(update={"exact": False, "note": f"with {has} here, where its header asks for {first}"})


@functools.cache
def installed() -> dict[str, str]:
    """Canonical name → version of all that this environment has."""
    return {canonicalize_name(found.name): found.version for found in importlib.metadata.distributions()}


def unmet(script: Script) -> list[str]:
    """Requirements of the header that this environment does not meet, each with what it has instead."""
    packages = installed()
    lacking = []
    for entry in requirements_of(script):
        if (entry.marker is None or entry.marker.evaluate()) and not _satisfies(entry, packages):
            lacking.append(f"{entry} (here: {packages.get(canonicalize_name(entry.name), 'not installed')})")
    return lacking


def ask(environment: Environment, names: list[str], modules: list[str], cache_folder: str = "") -> dict[str, Any]:
    """What an environment's callables take and which modules it has, as `scripts/signatures.py` tells it.

    Importing TRL takes seconds, so answers are kept by versions, and only what is new is asked. Raises OSError,
    ValueError or subprocess.SubprocessError where it does not answer.
    """
    key = hashlib.sha256(f"{environment.digest} {PROGRAM.read_text()}".encode()).hexdigest()[:32]
    kept = Path(cache_folder) / f"signatures-{key}.json" if cache_folder else None
    told: dict[str, Any] = {"names": {}, "modules": {}}
    if kept is not None and kept.is_file():
        told = json.loads(kept.read_text(encoding="utf-8"))
    new = {
        "names": sorted(set(names) - told["names"].keys()),
        "modules": sorted(set(modules) - told["modules"].keys()),
    }
    if not any(new.values()):
        return told
    answer = subprocess.run(
        [environment.python, "-I", str(PROGRAM)], input=json.dumps(new), capture_output=True, text=True,
        timeout=ASK_SECONDS, check=True, env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said = json.loads(answer.stdout)
    told = {part: told[part] | said[part] for part in told}
    if kept is not None:
        keep(kept, json.dumps(told))
    return told


def keep(file: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".half")
    half.write_text(text, encoding="utf-8")
    half.replace(file)


def _satisfies(entry: Requirement, packages: dict[str, str]) -> bool:
    version = packages.get(canonicalize_name(entry.name))
    # `2.13.0+cpu` is 2.13.0, built for another device.
    return version is not None and entry.specifier.contains(version.partition("+")[0], prereleases=True)


def _by_uv(wanted: list[Requirement], cache: Path) -> Environment | None:
    """An environment of what uv's cache holds; None where uv is missing, or its cache lacks something."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    listed = sorted(map(str, wanted))
    folder = (cache / f"environment-{hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]}").resolve()
    python = folder / "bin" / "python"
    commands = [
        [uv, "venv", "--offline", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        # A source distribution runs its own code when it is built: never here, outside of the sandbox.
        [uv, "pip", "install", "--offline", "--quiet", "--no-build", "--python", str(python), *listed],
    ]
    try:
        if not (folder / "complete").exists():
            for command in commands:
                subprocess.run(command, check=True, capture_output=True, timeout=UV_SECONDS)
            (folder / "complete").touch()
        asked = subprocess.run(
            [str(python), "-I", "-c", VERSIONS], check=True, capture_output=True, text=True, timeout=UV_SECONDS
        )
        found = {str(canonicalize_name(name)): version for name, version in json.loads(asked.stdout).items()}
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Environment(python=str(python), readable=(str(folder),), packages=found, exact=True)
