"""Everything that can be known of a job before money is spent: `examine` it.

Checks are small functions of a `Case`, grouped by what they look at. Those that need to see rows as the trainer makes
them come after the smoke run; all others come before it, and a fault among those spares it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agents.trainer.preflight import data, keywords, output, remote, tokens
from agents.trainer.preflight.case import Case
from agents.trainer.preflight.report import Check, Facts, Preflight, line, skipped
from agents.trainer.preflight.smoke import Smoke, not_exercised, smoke_check, smoke_run
from shared_memory.records import JobSpec

__all__ = ["Check", "Facts", "Preflight", "examine", "line"]

BEFORE: tuple[Callable[[Case], Check], ...] = (
    keywords.script_parses,
    remote.no_literal_secret,
    keywords.requirements_valid,
    keywords.requirements_quoted,
    remote.no_local_path,
    remote.secrets_named,
    output.output_kept,
    output.time_enough,
    output.four_bits_on_a_gpu,
    data.columns_fit,
    data.answer_not_cut,
    data.letters_balanced,
    data.limit_is_a_sample,
    tokens.context_window,
    remote.access_granted,
    remote.output_repo_writable,
    keywords.imports_found,
    keywords.known_keywords,
)
AFTER: tuple[Callable[[Case], Check], ...] = (
    tokens.template_matches,
    tokens.loss_mask,
    tokens.pad_is_not_stop,
    tokens.stop_token_learned,
    tokens.new_tokens_trained,
    tokens.packing_keeps_rows_apart,
    tokens.generation_config,
)
OF_TRAINING = (
    output.four_bits_on_a_gpu, data.columns_fit, data.answer_not_cut, data.letters_balanced, tokens.context_window,
    *AFTER,
)  # fmt: skip
"""Checks that say nothing of other jobs."""


def examine(spec: JobSpec, files: Mapping[str, Path], *, facts: Facts, smoke: bool = True) -> Preflight:
    """All checks of a job, and the smoke run unless `smoke` is off or a fault is known already.

    files: name in the job folder → where its content lies on this machine.
    """
    began = time.monotonic()
    case = Case(spec, files, facts)
    before = [_checked(check, case) for check in BEFORE if case.trains or check not in OF_TRAINING]
    known = any(check.status == "fault" for check in before)
    if not smoke or known or not case.trains:
        why = "a fault is known already" if known else "not asked for" if not smoke else "no training"
        ran = Smoke(status="skipped", words=why)
    else:
        ran = smoke_run(case)
    case.seen = ran.seen
    after = [_checked(check, case) for check in AFTER] if case.trains else []
    # What the rows show is the cause of a failure, and is told before it.
    return Preflight(
        checks=(*before, *after, smoke_check(ran)),
        smoke=ran.told,
        not_exercised=not_exercised(case) if case.trains else (),
        seconds=round(time.monotonic() - began, 2),
    )


def _checked(check: Callable[[Case], Check], case: Case) -> Check:
    """A check of rows or files that turn out not to be what they should is skipped; another one tells of them."""
    try:
        return check(case)
    except ValueError as error:
        return skipped(check.__name__, str(error).partition("\n")[0])
