"""An audit in a terminal: the verdict, the facts, what was found, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from agents.reading.files import short_place
from postgrad.tables import plain_terminal
from postgrad.units import duration, one_line, percent

VERDICTS = {"fit": "bold green", "fixable": "bold yellow", "unfit": "bold red"}
SEVERITIES = {"error": "red", "warning": "yellow", "info": "cyan"}
MOST_LANGUAGES = 4


def show_audit(found: Mapping[str, Any], terminal: Terminal | None = None) -> None:
    """The verdict first, then facts, then findings from the worst on, then what to do."""
    terminal = terminal or plain_terminal()
    wide = not terminal.is_terminal
    terminal.print(
        Text.assemble((found["verdict"], VERDICTS[found["verdict"]]), f": {found['reason']}"), soft_wrap=wide
    )
    terminal.print()
    facts = list(facts_of(found))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        terminal.print(Text.assemble((f"{name:<{width}}  ", "dim"), one_line(value)), soft_wrap=True)
    if found["findings"]:
        terminal.print()
        _show_findings(found["findings"], terminal)
    terminal.print()
    for line in next_moves(found):
        terminal.print(Text(line), soft_wrap=True)


def facts_of(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what there is to know beside the findings."""
    splits = {name or "no split": count for name, count in found["splits"].items()}
    parts = [f"{found['rows']:,}", found["format"].replace("_", " "), ", ".join(found["columns"])]
    if len(splits) > 1:
        parts.insert(1, ", ".join(f"{name} {count:,}" for name, count in splits.items()))
    yield "rows", " · ".join(filter(None, parts))
    yield "trains", ", ".join(method.upper() for method in found["methods"]) or "nothing"
    yield "length", length_of(found["tokens"])
    duplicates = found["duplicates"]
    yield "duplicates", f"{duplicates['exact']:,} exact, {duplicates['near']:,} more that are nearly so"
    for entry in found["contamination"]:
        rows = f"{entry['flagged']:,} row{'' if entry['flagged'] == 1 else 's'}"
        told = (
            f"{rows} with {entry['items']:,} of its items ({percent(entry['rate'])})" if entry["flagged"] else "clean"
        )
        yield "benchmark", f"{entry['benchmark']}: {told}"
    languages = {name: share for name, share in found["histograms"]["languages"].items() if name != "?"}
    if languages:
        told = ", ".join(f"{name} {percent(share)}" for name, share in list(languages.items())[:MOST_LANGUAGES])
        sampled = found["sampled"]["languages"]
        yield (
            "languages",
            f"{told} of {sampled['n']:,} replies"
            + (f" sampled from {sampled['of']:,}" if sampled["of"] > sampled["n"] else ""),
        )
    if found["licence"]:
        yield "licence", found["licence"]
    yield "took", duration(found["seconds"])


def length_of(tokens: Mapping[str, Any]) -> str:
    """`median 148, 95 % up to 166, longest 189; 7,401,311 words in all`; of a sample also how sure that is."""
    unit = "words" if tokens["tokenizer"] == "words" else f"tokens of {tokens['tokenizer']}"
    told = (
        f"median {tokens['p50']:,}, 95 % up to {tokens['p95']:,}, longest {tokens['max']:,}; "
        f"{tokens['total']:,} {unit} in all"
    )
    if sample := tokens.get("sample"):
        low, high = sample["p95"]
        told += f" (from {sample['n']:,} random rows: the 95 % mark lies between {low:,} and {high:,})"
    return told


def _show_findings(findings: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    """Severity; beside it kind and count, what it means, and an example. A pipe gets whole lines."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        severity = Text(finding["severity"], SEVERITIES[finding["severity"]])
        for line in _lines(finding):
            if terminal.is_terminal:
                grid.add_row(severity, line)
            else:
                terminal.print(Text.assemble(f"{severity.plain:<7}  ", line), soft_wrap=True)
            severity = Text("")
    if grid.row_count:
        terminal.print(grid)


def _lines(finding: Mapping[str, Any]) -> Iterator[Text]:
    head = Text(finding["kind"].replace("_", " "), "bold")
    if count := counted(finding):
        head.append(f"  {count}", "not bold dim")
    yield head
    yield Text(one_line(finding["advice"]))
    for example in finding["examples"][:1]:
        yield Text(f"{place_of(example)}  {one_line(example['text'])}".rstrip(), "dim")


def place_of(example: Mapping[str, Any]) -> str:
    """`train.jsonl:17`, or `train.csv row 17`: a row may take several lines there."""
    return one_line(short_place(example["source"], example["row"]))


def counted(finding: Mapping[str, Any]) -> str:
    """`12 rows, 0.4 %`; `1 file` for faults of whole files; empty where a finding is about the data as a whole."""
    if not finding["count"]:
        return ""
    if finding["examples"] and not any(example["row"] for example in finding["examples"]):
        return f"{finding['count']:,} file{'' if finding['count'] == 1 else 's'}"
    share = "< 0.1 %" if finding["share"] < 0.001 else percent(finding["share"])
    return f"{finding['count']:,} row{'' if finding['count'] == 1 else 's'}, {share}"


def next_moves(found: Mapping[str, Any]) -> Iterator[str]:
    """What to do about it, as commands."""
    if cleaned := found.get("cleaned"):
        left_out = cleaned["left_out"] + cleaned["unreadable"]
        yield f"cleaned: {cleaned['path']} has {cleaned['rows']:,} rows; {left_out:,} left out, " \
            f"{cleaned['mended']:,} mended"  # fmt: skip
        if cleaned["not_copied"]:
            yield f"  {cleaned['not_copied']:,} rows of splits to measure on are not copied"
    elif found["fix_command"]:
        yield f"mend what can be mended ({len(found['fixes'])} of {len(found['findings'])}), as a new file:"
        yield f"  {found['fix_command']}"
    elif found["fixes"]:
        yield f"what can be mended takes one file for each: {found['not_cleanable']}"
    if found["findings"]:
        yield "more: --html FILE shows three rows of each kind and histograms, --json has everything"
