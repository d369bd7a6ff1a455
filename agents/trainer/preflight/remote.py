"""Checks of what the job meets elsewhere: repositories, other machines' disks, and secrets that must not travel."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from agents.jobs.hf.staging import FOLDERS
from agents.trainer.preflight.case import Case
from agents.trainer.preflight.output import pushes
from agents.trainer.preflight.report import Check, fault, ok, skipped, warning
from shared_memory.redaction import REDACTED, redact

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
THERE = ("/job", "/data", "/dev")
"""Places that a runner mounts, or that every machine has."""
LOCAL = re.compile(
    r"(?:~|[A-Za-z]:\\|/(?:home|Users|root|mnt|media|srv|scratch|work|workspace|content|private)(?:/|$)).*"
)
"""How paths of one machine begin: homes, mounts, other systems' drives."""
SMALL = 2**20
"""Bytes up to which a file of the job is searched for secrets; larger ones are data."""


def no_local_path(case: Case) -> Check:
    """A job elsewhere reads no path of this machine but the folders that travel with it [field fault 17]."""
    name = "no_local_path"
    if case.spec.runner != "hf":
        return ok(name, "the job runs on this machine's disk")
    fix = "put the file into the job, or on the Hub"
    for key, value in _texts(case.config):
        if _is_path(value) and not (key in FOLDERS and Path(value).is_dir()):
            return fault(name, f"config `{key}` is a path of this machine: {value}", fix)
    for script, constant in case.strings:
        if LOCAL.fullmatch(constant.value):
            where = f"{script.name}, line {constant.line}"
            return fault(name, f"{where}: a path of this machine: {constant.value}", fix)
    return ok(name, "no path of this machine")


def no_literal_secret(case: Case) -> Check:
    """No key or password stands in what is sent."""
    name = "no_literal_secret"
    texts = {"config.json": json.dumps(case.config)}
    for file, path in case.files.items():
        if path.is_file() and path.stat().st_size <= SMALL and not file.endswith((".jsonl", ".safetensors")):
            texts[file] = path.read_text(encoding="utf-8", errors="replace")
    for file, text in texts.items():
        for number, (line, safe) in enumerate(zip(text.splitlines(), redact(text).splitlines(), strict=False), 1):
            if line != safe and REDACTED in safe:
                what = f"{file}, line {number} holds a secret"
                return fault(name, what, "read it from the environment, and name the variable in the job's secrets")
    return ok(name, f"none in {len(texts)} files")


def access_granted(case: Case) -> Check:
    """The token may read the models and data sets that the job loads [field fault 15]."""
    name = "access_granted"
    wanted = dict.fromkeys(_loaded(case))
    if not wanted:
        return ok(name, "everything the job loads is at hand")
    if not case.facts.online:
        return skipped(name, f"the Hub was not asked about {', '.join(repo for repo, _ in wanted)}")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    for repo, kind in wanted:
        try:
            HfApi().auth_check(repo, repo_type=kind)
        except GatedRepoError:
            return fault(name, f"{repo} is gated", "accept its terms on its Hub page, with the account of HF_TOKEN")
        except RepositoryNotFoundError:
            return fault(name, f"the Hub has no {kind} `{repo}`, or it is private", "check the name, or set HF_TOKEN")
        except (HfHubHTTPError, OSError) as error:
            return skipped(name, f"the Hub did not say whether {repo} may be read ({_short(error)})")
    return ok(name, f"{', '.join(repo for repo, _ in wanted)} may be read")


def output_repo_writable(case: Case) -> Check:
    """The token may write to where the job pushes. Nothing is created to find out."""
    name = "output_repo_writable"
    named = case.config.get("hub_model_id") if pushes(case) else None
    repos = [*case.facts.pushes_to, *([named] if isinstance(named, str) and named else [])]
    if not repos:
        return ok(name, "the job pushes nowhere") if not pushes(case) else skipped(name, "where it pushes is not known")
    if not case.facts.online:
        return skipped(name, f"the Hub was not asked whether {repos[0]} may be written to")
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if not get_token():
        return fault(name, f"there is no token to write to {repos[0]} with", "set HF_TOKEN")
    api = HfApi()
    for repo in repos:
        try:
            api.auth_check(repo, write=True)
        except RepositoryNotFoundError:
            owner = repo.partition("/")[0] if "/" in repo else ""
            try:
                user = api.whoami()
            except (HfHubHTTPError, OSError) as error:
                return fault(name, f"the Hub does not know the token ({_short(error)})", "set HF_TOKEN to a valid one")
            if owner and owner not in (user["name"], *(org["name"] for org in user.get("orgs", []))):
                return fault(name, f"{user['name']} may not create {repo}", "name a repository of your own")
        except (HfHubHTTPError, OSError) as error:
            if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
                return fault(name, f"the token may not write to {repo}", "set HF_TOKEN to one with write access")
            return skipped(name, f"the Hub did not say whether {repo} may be written to ({_short(error)})")
    return ok(name, f"{', '.join(repos)} may be written to")


def secrets_named(case: Case) -> Check:
    """Variables of the environment that the script cannot do without are among the job's secrets."""
    name = "secrets_named"
    for node in ast.walk(case.script.tree):
        if isinstance(node, ast.Subscript) and case.script.dotted(node.value) == "os.environ":
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            secret = isinstance(key, str) and re.search(r"TOKEN$|_KEY$|SECRET|PASSWORD", key)
            if secret and isinstance(node.ctx, ast.Load) and key not in case.spec.secrets:
                where = f"{case.script.name}, line {node.lineno}"
                return warning(name, f"{where}: the job does not get {key!s}", "name it in the job's secrets")
    return ok(name, f"{len(case.spec.secrets)} secrets by name")


def _loaded(case: Case) -> Iterator[tuple[str, str]]:
    """Hub repositories that config and script load: id and kind."""
    for key in ("model", "teacher", "adapter"):
        value = case.config.get(key)
        if isinstance(value, str) and HUB_ID.fullmatch(value) and value not in case.files:
            yield value, "model"
    kinds = {"load_dataset": "dataset", "from_pretrained": "model", "snapshot_download": "model"}
    for call in case.script.called(*kinds):
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and HUB_ID.fullmatch(first.value):
            yield first.value, kinds[case.script.dotted(call.func).rpartition(".")[2]]


def _is_path(value: str) -> bool:
    """Whether a text of the config is a path that only this machine has."""
    if "\n" in value:
        return False
    if LOCAL.fullmatch(value):
        return True
    return value.startswith("/") and not any(PurePosixPath(value).is_relative_to(place) for place in THERE)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts in plain data, with the key that leads to each."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for inner, entry in value.items():
            yield from _texts(entry, f"{key}.{inner}".strip("."))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry, key)


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
