"""The answer of a run in one honest sentence, from its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postgrad.units import p_value, percent, signed

BASELINE = "baseline"
"""What the base model is called among the experiments."""

ENDED_EARLY = {
    "failed": "The run failed",
    "over_budget": "The run stopped because a cap of the goal was reached",
    "timed_out": "The run stopped because its time was used up",
    "cancelled": "The run was cancelled",
    "waiting": "The run waits for approval",
    "interrupted": "The run is parked",
    "running": "The run is still going on",
}
"""Status → the words for it, where a run has not simply come to its end."""

UNFINISHED = ("running", "waiting", "interrupted")


def improved(summary: Mapping[str, Any]) -> bool:
    """Whether the primary benchmark was won: the paired 95 % interval on the report items lies above 0."""
    _, claim = claim_of(summary)
    return claim is not None and claim["ci_low"] > 0


def answer(summary: Mapping[str, Any]) -> str:
    """One sentence on the goal's primary benchmark. It says "improved" only of a win."""
    sentence = _sentence(summary)
    if summary["status"] in UNFINISHED:
        return sentence.replace("No improvement was shown", "No improvement has been shown so far", 1)
    return sentence


def _sentence(summary: Mapping[str, Any]) -> str:
    baseline, champion = summary["baseline"], summary["champion"]
    if not baseline:
        return "No improvement was shown: the base model has not been scored."
    _, claim = claim_of(summary)
    if claim is not None:
        return _on_the_report_items(summary, claim)
    if not champion:
        return "No improvement was shown: no candidate has been compared with the base model."
    if champion["experiment"] == BASELINE:
        return _nothing_better(summary)
    name = _primary(summary)
    ahead = ""
    if name in champion["score"] and name in baseline:
        ahead = f" ({percent(champion['score'][name]['score'])} against {percent(baseline[name]['score'])})"
    return (
        f"No improvement was shown: {champion['experiment']} is ahead on the items that chose it{ahead}, "
        "and has not been compared with the base model on the report items."
    )


def _nothing_better(summary: Mapping[str, Any]) -> str:
    verdicts = [experiment["verdict"] for experiment in summary["experiments"]]
    crashed = verdicts.count("crash")
    if "keep" in verdicts:
        return "No improvement was shown: the best experiment was not saved, so the base model stays."
    if not verdicts:
        why = "no experiment was run"
    elif crashed == len(verdicts):
        why = "the one experiment crashed" if crashed == 1 else f"all {crashed} experiments crashed"
    elif not any(experiment["status"] == "evaluated" for experiment in summary["experiments"]):
        why = "no experiment came as far as a score"
    else:
        who = (
            "the one experiment did not score"
            if len(verdicts) == 1
            else f"none of the {len(verdicts)} experiments scored"
        )
        aside = f" ({crashed} crashed)" if crashed else ""
        why = f"{who} above the base model on the selection items{aside}"
    return f"No improvement was shown: {why}, so the base model stays."


def _on_the_report_items(summary: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    champion, name = summary["champion"], _primary(summary)
    scores = ""
    if name in champion["score"] and name in summary["baseline"]:
        after, before = champion["score"][name], summary["baseline"][name]
        scores = f"{percent(after['score'])} against {percent(before['score'])} for the base model, "
    where = f"on the report items of {name}"
    interval = f"95 % interval {signed(claim['ci_low'])} to {signed(claim['ci_high'])}, {p_value(claim['p_value'])}"
    if claim["ci_low"] > 0:
        return (
            f"Improved: {where}, {champion['experiment']} scores {scores}{signed(claim['delta'])} points ({interval})."
        )
    if claim["ci_high"] < 0:
        return (
            f"No improvement was shown: {where}, {champion['experiment']} scores below the base model: "
            f"{scores}{signed(claim['delta'])} points ({interval})."
        )
    return (
        f"No improvement was shown: {where}, {champion['experiment']} scores {scores}{signed(claim['delta'])} points, "
        f"and the interval includes no difference at all ({interval})."
    )


def claim_of(summary: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """Id of the goal's primary benchmark, and the champion's paired comparison on it where one was made."""
    name = _primary(summary)
    return name, summary["champion"].get("improvement", {}).get(name)


def _primary(summary: Mapping[str, Any]) -> str:
    """The id of the benchmark that the goal is about: the one marked primary, else the first."""
    entries = summary["goal"].get("benchmark", ())
    chosen = next((entry for entry in entries if entry.get("primary")), entries[0] if entries else None)
    if chosen is None:
        return next(iter(summary["baseline"]), "")
    return str(chosen["name"] or chosen["path"].replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0])
