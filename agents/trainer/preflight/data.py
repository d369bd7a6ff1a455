"""Checks of the rows: columns, what is cut off, answers by letter, and samples that are none."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from agents.trainer.methods import METHODS, REWARD_COLUMNS
from agents.trainer.preflight.case import Case, turns
from agents.trainer.preflight.report import Check, fault, ok, skipped, warning

INSTEAD: dict[str, tuple[tuple[str, ...], ...]] = {
    "sft": (("text",), ("messages",)),
    "distill": (("messages",),),
    "dpo": (("chosen", "rejected"),),
    "reward": (("chosen", "rejected"),),
}
"""Method → other sets of columns that TRL can train it on [its documentation, dataset formats]."""
REPLIES = ("completion", "chosen", "rejected")
CUT_FAULT = 0.2
"""Share of rows with a cut answer from which on a job teaches to end in the middle: more than noise in any recipe."""
TOKENISED = 500
"""Rows that are tokenised: a share of 20 % is then known to ± 3.5 points."""
A_TURN = 6
"""Tokens of a chat template around a message, at least: role, markers, line ends."""
LETTER = re.compile(r"ANSWER:\s*\(?([A-J])\b|^\(?([A-J])\)?[.)]?$")
"""As inspect-ai's prompt asks for it, or a letter alone."""
FEWEST_LETTERS = 100
"""Answers below which an imbalance is chance."""
SURE = 1e-3
"""p-value of a χ² test below which letters are not balanced."""
FIRST_ROWS = re.compile(r"\[\s*:\s*\d+%?\s*\]")
"""In the name of a split: the first rows of it."""


def columns_fit(case: Case) -> Check:
    """The method can use the rows' columns [field fault 16]."""
    name = "columns_fit"
    if case.without_rows:
        return skipped(name, case.without_rows)
    try:
        rows = case.rows
    except ValueError as error:
        return fault(name, f"{case.data_name}: {error}", "give one JSON object a line")
    if not rows:
        return fault(name, f"{case.data_name} has no rows", "give at least one")
    if case.method not in METHODS:
        return skipped(name, f"what `{case.method}` needs is not known")
    rewards = case.config.get("rewards") or ()
    read = [column for reward in rewards for column in REWARD_COLUMNS.get(str(reward), ())]
    formats = (tuple(dict.fromkeys([*METHODS[case.method].columns, *read])), *INSTEAD.get(case.method, ()))
    for number, row in enumerate(rows, 1):
        if not any(all(row.get(column) is not None for column in needed) for needed in formats):
            needed = " | ".join(", ".join(columns) for columns in formats)
            what = f"{case.data_name} has the columns {', '.join(row) or '(none)'}"
            what += "" if number == 1 else f" in row {number} of those read"
            told = f"{what}, and {case.method} needs {needed}"
            fix = "convert them: postgrad audit shows what they can train"
            return warning(name, told, fix) if case.spec.custom else fault(name, told, fix)
    return ok(name, f"{len(rows)} rows read, all fit {case.method}")


def answer_not_cut(case: Case) -> Check:
    """max_length leaves the end of the rows, where the answer stands [field fault 8]."""
    name = "answer_not_cut"
    if case.without_rows:
        return skipped(name, case.without_rows)
    longest = case.config.get("max_length")
    if not isinstance(longest, int):
        return skipped(name, "the config names no max_length")
    how = "split" if case.config.get("packing") and case.method == "sft" else "cut off"
    file = case.model_folder / "tokenizer.json" if case.model_folder else None
    if file is None or not file.is_file():
        return skipped(name, "the model's tokenizer.json is not at hand")
    try:
        texts = [text for row in _spread(case.rows, TOKENISED) for text in _whole_texts(row)]
        lengths = _lengths(file, texts)
    except ValueError as error:
        return skipped(name, str(error))
    if not lengths:
        return skipped(name, "the rows hold no answers")
    cut = [length for length in lengths if length > longest]
    if not cut:
        return ok(name, f"the longest of {len(lengths)} rows has {max(lengths)} tokens, max_length is {longest}")
    share = len(cut) / len(lengths)
    percent = f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
    what = f"max_length {longest}: the end is {how} in {percent} of the rows (the longest has {max(lengths)} tokens)"
    fix = "raise max_length, or drop these rows"
    return fault(name, what, fix) if share >= CUT_FAULT else warning(name, what, fix)


def letters_balanced(case: Case) -> Check:
    """No letter is the answer much more often than the others [field fault 9]."""
    name = "letters_balanced"
    if case.without_rows:
        return skipped(name, case.without_rows)
    try:
        found = Counter(letter for row in case.rows if (letter := _letter(row)))
    except ValueError as error:
        return skipped(name, str(error))
    total = found.total()
    if total < FEWEST_LETTERS:
        return ok(name, "the rows are no multiple choice") if not total else ok(name, f"only {total} answers by letter")
    choices = max(2, ord(max(found)) - ord("A") + 1)
    most, times = found.most_common(1)[0]
    if _chance(found, choices) >= SURE:
        return ok(name, f"{total} answers, the letters are balanced")
    what = f"`{most}` is the answer of {100 * times / total:.0f} % of {total} rows, of {choices} letters"
    fix = "drop rows of the frequent letters; shuffle choices only where no reasoning names them"
    if "balance_letters" in case.facts.left_out:
        return warning(name, what, "it was left out to learn what it is worth")
    return fault(name, what, fix) if times / total >= min(2 / choices, 0.95) else warning(name, what, fix)


def limit_is_a_sample(case: Case) -> Check:
    """`--limit N` and its like score, or train on, a sample, not the first N [field fault 7]."""
    name = "limit_is_a_sample"
    if case.facts.limit and case.facts.limit_sampled is False:
        what = f"the evaluator scores the first {case.facts.limit} items, which are often of one kind"
        return fault(name, what, "draw them at random, with a fixed seed")
    fix = "shuffle with a seed before"
    for script, constant in case.strings:
        if FIRST_ROWS.search(constant.value) and re.match(r"[\w.+-]+\[", constant.value):
            what = f"{script.name}, line {constant.line}: `{constant.value}` are the first rows, not a sample"
            return warning(name, what, fix)
    for call in case.script.called("select", "take", "head"):
        if isinstance(call.func, ast.Attribute) and _takes_first(case, call) and not _is_shuffled(call):
            where = f"{case.script.name}, line {call.lineno}"
            return warning(name, f"{where}: `.{call.func.attr}(…)` takes the first rows, not a sample", fix)
    if case.facts.limit and case.facts.limit_sampled is None:
        return skipped(name, "whether the evaluator's limit is a sample is not known")
    return ok(name, "nothing takes the first rows for a sample")


def _takes_first(case: Case, call: ast.Call) -> bool:
    """Whether it is `.select(range(N))`, or `.take(N)` of a data set."""
    if not case.script.dotted(call.func).endswith(".select"):
        return bool(case.script.modules.get("datasets")) and bool(call.args)
    argument = call.args[0] if call.args else None
    if not isinstance(argument, ast.Call) or not isinstance(argument.func, ast.Name) or argument.func.id != "range":
        return False
    start = argument.args[0] if len(argument.args) > 1 else None
    return start is None or (isinstance(start, ast.Constant) and start.value == 0)


def _is_shuffled(call: ast.Call) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in ("shuffle", "sample") for node in ast.walk(call))


def _spread(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    step = max(1, len(rows) // most)
    return list(rows[::step][:most])


def _whole_texts(row: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Each text that a row becomes, answer included, with the tokens that a template puts around its turns."""
    if isinstance(row.get("text"), str):
        yield row["text"], 1
    elif "messages" in row:
        parts = turns(row["messages"])
        yield "".join(parts), A_TURN * len(parts)
    else:
        before = turns(row.get("prompt")) + turns(row.get("tools"))
        for reply in REPLIES:
            if row.get(reply):
                parts = before + turns(row[reply]) + list(_calls(row[reply]))
                yield "".join(parts), A_TURN * len(parts)


def _calls(reply: Any) -> Iterator[str]:
    """Calls of tools, which a template writes out."""
    for turn in reply if isinstance(reply, list) else ():
        if isinstance(turn, dict) and turn.get("tool_calls"):
            yield json.dumps(turn["tool_calls"])


def _lengths(tokenizer: Any, texts: Sequence[tuple[str, int]]) -> list[int]:
    """Tokens of texts, by a tokenizer.json. Raises ValueError where it cannot be used."""
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as error:
        raise ValueError(f"{tokenizer} is no tokenizer that can be read ({error})") from error
    loaded.no_truncation()
    loaded.no_padding()
    encoded = loaded.encode_batch_fast([text for text, _ in texts], add_special_tokens=False)
    return [len(ids) + around for ids, (_, around) in zip(encoded, texts, strict=True)]


def _letter(row: dict[str, Any]) -> str:
    """The letter that a row's reply answers with; empty without one."""
    reply = row.get("completion", row.get("chosen", row.get("answer", row.get("messages"))))
    texts = turns(reply)
    found = LETTER.search(texts[-1].strip().rpartition("\n")[2]) if texts else None
    return (found[1] or found[2]) if found else ""


def _chance(found: Counter[str], choices: int) -> float:
    """p-value of Pearson's χ² test that all letters are equally likely."""
    from scipy.stats import chisquare

    counts = [found.get(chr(ord("A") + place), 0) for place in range(choices)]
    return float(chisquare(counts).pvalue)
