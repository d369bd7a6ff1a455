"""The answer of a run in one honest sentence, from its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postgrad.units import difference, p_value, scored, signed

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
    """Whether the primary benchmark was won: the paired 95 % interval on the report items shows a gain."""
    _, claim = claim_of(summary)
    return claim is not None and bool(claim["win"])


def answer(summary: Mapping[str, Any]) -> str:
    """One sentence on the goal's primary benchmark. It says "improved" only of a win."""
    sentence = _sentence(summary)
    if summary["status"] in UNFINISHED:
        return sentence.replace("No improvement was shown", "No improvement has been shown so far", 1)
    return sentence


def certified(integrity: Mapping[str, Any]) -> str:
    """The verdict of a certificate, in words."""
    return f"The certificate of {integrity['champion']} is {integrity['verdict']}"


def _of_an_ablation(summary: Mapping[str, Any]) -> str:
    told = summary["ablation"]
    measured = sum(entry["branch"] == "ablate" and entry["score"] is not None for entry in summary["experiments"])
    variants = f"{measured} variant{'' if measured == 1 else 's'} of it {'has' if measured == 1 else 'have'} a score"
    return (
        f"What the parts of {told['champion']} of {told['of']} are worth, measured on {told['reference']}: {variants} "
        "on the selection items; evidence for a search, no claim."
    )


def _sentence(summary: Mapping[str, Any]) -> str:
    baseline, champion = summary["baseline"], summary["champion"]
    if "ablation" in summary:
        return _of_an_ablation(summary)
    if summary.get("integrity", {}).get("verdict") == "violated":
        return f"No improvement is claimed. {certified(summary['integrity'])}: {summary['integrity']['reasons'][0]}."
    if not baseline:
        return "No improvement was shown: the base model has not been scored."
    if summary["goal"].get("limits", {}).get("experiments") == 0:
        return "The base model was scored; the goal asks for no experiment."
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
        ahead = f" ({_against(champion['score'][name], baseline[name])})"
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
        better = "above" if _higher_is_better(summary["baseline"].get(_primary(summary), {})) else "better than"
        why = f"{who} {better} the base model on the selection items{aside}"
    return f"No improvement was shown: {why}, so the base model stays."


def _on_the_report_items(summary: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    champion, name = summary["champion"], _primary(summary)
    scores = ""
    if name in champion["score"] and name in summary["baseline"]:
        scores = f"{_against(champion['score'][name], summary['baseline'][name])} for the base model, "
    where = f"on the report items of {name}"
    delta, interval = difference(claim["delta"], claim["unit"]), interval_of(claim)
    if claim["win"]:
        return f"Improved: {where}, {champion['experiment']} scores {scores}{delta} ({interval})."
    if claim["ci_high"] < 0 if claim["higher_is_better"] else claim["ci_low"] > 0:
        worse = "below" if claim["higher_is_better"] else "worse than"
        return (
            f"No improvement was shown: {where}, {champion['experiment']} scores {worse} the base model: "
            f"{scores}{delta} ({interval})."
        )
    return (
        f"No improvement was shown: {where}, {champion['experiment']} scores {scores}{delta}, "
        f"and the interval includes no difference at all ({interval}){_unseen(claim)}."
    )


def _unseen(claim: Mapping[str, Any]) -> str:
    """What so many items may well have missed; empty in records that do not tell."""
    least = claim.get("mde")
    return (
        f"; a true difference below {difference(least, claim['unit'])[1:]} may well have gone unseen" if least else ""
    )


def interval_of(claim: Mapping[str, Any]) -> str:
    """`95 % interval +61.5 to +78.5, p < 0.001`, with the direction where lower is better."""
    low, high = (signed(claim[key], claim["unit"]) for key in ("ci_low", "ci_high"))
    direction = "" if claim["higher_is_better"] else "; lower is better"
    return f"95 % interval {low} to {high}, {p_value(claim['p_value'])}{direction}"


def _against(after: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """`85.3 % against 0.0 %`, or `1.234 against 2.345 nats a token`."""
    if after["unit"] == "nats":
        return f"{after['score']:.3f} against {scored(before['score'], 'nats')}"
    return f"{scored(after['score'])} against {scored(before['score'])}"


def _higher_is_better(score: Mapping[str, Any]) -> bool:
    return bool(score.get("higher_is_better", True))


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
