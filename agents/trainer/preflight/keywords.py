"""Checks of the script against the libraries that it will meet: syntax, imports, names and keywords."""

from __future__ import annotations

import ast
import difflib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from agents.trainer.preflight.case import Case
from agents.trainer.preflight.environment import ask, requirements_of, unmet
from agents.trainer.preflight.report import Check, fault, ok, skipped, warning
from agents.trainer.preflight.script import Script

LIBRARIES = ("trl", "transformers", "peft", "accelerate", "datasets")
"""Whose names and keywords are looked up. They change theirs with every few releases."""
RENAMED = {
    "max_seq_length": "max_length",
    "tokenizer": "processing_class",
    "evaluation_strategy": "eval_strategy",
    "gradient_checkpointing": "activation_checkpointing",
    "no_cuda": "use_cpu",
}
"""Keywords of earlier releases → what took their place."""
SHELLS = ("system", "popen", "getoutput", "getstatusoutput")
INSTALL = re.compile(r"\b(?:pip|uv|conda)\b.{0,40}?\b(?:install|add|run|--with)\b|(?<!\w)uv\s+run\b")


def script_parses(case: Case) -> Check:
    name = "script_parses"
    if case.spec.script not in case.files:
        return fault(name, f"the job has no file {case.spec.script}", "add it to the job's files")
    for script in case.scripts:
        if script.error:
            return fault(name, script.error, "mend the script")
    return ok(name, f"{', '.join(script.name for script in case.scripts)}: Python")


def requirements_valid(case: Case) -> Check:
    """The header's requirements, and whether the job's environment meets them."""
    name = "requirements_valid"
    try:
        wanted = requirements_of(case.script)
        missing = unmet(case.script)
    except ValueError as error:
        return fault(name, f"the header of {case.script.name} is no PEP 723 metadata: {error}", "mend the header")
    if not wanted:
        return ok(name, "the script names no requirements")
    if case.spec.runner == "local" and missing:
        return warning(
            name, f"this environment does not have what the script's header asks for: {', '.join(missing[:4])}",
            "install it, or mind the difference",
        )  # fmt: skip
    if not missing:
        return ok(name, f"{len(wanted)} requirements, met by what is installed here")
    if case.environment.exact:
        return ok(name, f"{len(wanted)} requirements, resolved by uv from its cache")
    return skipped(
        name, f"no index was asked whether {missing[0].split(' (')[0]} can be had: nothing is downloaded here"
    )


def requirements_quoted(case: Case) -> Check:
    """No requirement reaches a shell that would read its `<` as a redirection [field fault 18]."""
    name = "requirements_quoted"
    fix = "quote the requirement, or pass it as an argument of its own"
    if (bare := _unquoted(case.facts.command)) and INSTALL.search(case.facts.command):
        return fault(name, f"a shell would read the `{bare}` of the job's command line for itself", fix)
    for script, call in _calls(case):
        dotted = script.dotted(call.func)
        shell = any(k.arg == "shell" and isinstance(k.value, ast.Constant) and k.value.value for k in call.keywords)
        by_subprocess = dotted.startswith("subprocess.") and shell
        if not by_subprocess and dotted.rpartition(".")[2] not in SHELLS:
            continue
        for text in (node.value for arg in call.args[:1] for node in ast.walk(arg) if isinstance(node, ast.Constant)):
            if isinstance(text, str) and INSTALL.search(text) and (bare := _unquoted(text)):
                where = f"{script.name}, line {call.lineno}"
                return fault(name, f"{where}: a shell would read the `{bare}` of `{text}` for itself", fix)
    return ok(name, "no requirement passes through a shell")


def _unquoted(command: str) -> str:
    """The first sign of META that stands outside of quotes in what is installed; joining commands is meant."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|\\.|&&|\|\||;|2>&1|>\s*/dev/null", " ", command)
    # A version's bound follows the name at once, or after one blank: `torch<2.9`, `torch <2.9`.
    found = re.search(r"[A-Za-z0-9\])]\s?([<>!])=?\s?\d|\$\(|`", bare)
    return (found[1] or found[0]) if found else ""


def imports_found(case: Case) -> Check:
    """Whether the job's environment has what the script imports."""
    name = "imports_found"
    own = {file.partition(".")[0].partition("/")[0] for file in case.files}
    wanted = {
        module: f"{script.name}, line {line}"
        for script in case.scripts
        for module, line in script.modules.items()
        if module not in own
    }
    told = _told(case)
    if isinstance(told, str):
        return skipped(name, told)
    missing = [module for module in wanted if not told["modules"].get(module, True)]
    if not missing:
        return ok(name, f"all {len(wanted)} modules are there")
    what = f"{wanted[missing[0]]}: `{missing[0]}` is not installed where the job runs"
    fix = "add it to the script's header, or install it"
    return fault(name, what, fix) if case.environment.exact else warning(name, f"{what} ({_differs(case)})", fix)


def known_keywords(case: Case) -> Check:
    """Every name and keyword of TRL, transformers and peft against their signatures in the job's environment."""
    name = "known_keywords"
    told = _told(case)
    if isinstance(told, str):
        return skipped(name, told)
    found = None
    count = 0
    for script, call in _calls(case):
        dotted = script.dotted(call.func)
        if dotted.partition(".")[0] not in LIBRARIES or dotted not in told["names"]:
            continue
        count += 1
        found = found or _unknown(case, script, call, told["names"][dotted])
    if found is None:
        return ok(name, f"{count} calls fit {case.environment.named(*LIBRARIES) or 'the libraries'}")
    what, fix = found
    return fault(name, what, fix) if case.environment.exact else warning(name, f"{what} ({_differs(case)})", fix)


def _calls(case: Case) -> Iterator[tuple[Script, ast.Call]]:
    return ((script, call) for script in case.scripts for call in script.calls)


def _unknown(case: Case, script: Script, call: ast.Call, signature: dict[str, Any] | None) -> tuple[str, str] | None:
    """What is wrong with a call, and what to write instead; None where it fits."""
    dotted = script.dotted(call.func)
    library, short = dotted.partition(".")[0], dotted.rpartition(".")[2]
    has = case.environment.named(library) or library
    if signature is None:
        return f"{script.name}, line {call.lineno}: {has} has no `{dotted}`", "use what this release has"
    if signature["open"]:
        return None
    for keyword in script.keywords_of(call):
        if keyword.name in signature["keywords"]:
            continue
        renamed = RENAMED.get(keyword.name)
        near = [renamed] if renamed in signature["keywords"] else []
        near = near or difflib.get_close_matches(keyword.name, signature["keywords"], 1)
        what = f"{script.name}, line {keyword.line}: {short} of {has} takes no `{keyword.name}`"
        return what, f"write `{near[0]}`" if near else "leave it out"
    return None


def _differs(case: Case) -> str:
    return case.environment.note or "the job's environment is not at hand"


def _told(case: Case) -> dict[str, Any] | str:
    """What the environment answers; a text where it does not."""
    if any(script.error for script in case.scripts):
        return "the script is no Python"
    names = {script.dotted(call.func) for script, call in _calls(case)}
    asked = [name for name in names if name.partition(".")[0] in LIBRARIES and "." in name]
    modules = list({m for script in case.scripts for m in script.modules if m not in sys.stdlib_module_names})
    if not asked and not modules:
        return {"names": {}, "modules": {}}
    try:
        return ask(case.environment, asked, modules, case.facts.cache_folder)
    except subprocess.CalledProcessError as error:
        return f"the job's libraries do not load here ({(error.stderr or '').strip().rpartition(chr(10))[2][:200]})"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"the job's libraries could not be asked ({str(error)[:200]})"
