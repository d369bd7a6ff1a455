"""A person's question about a run, answered without a language model: by the ids and the plain words in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from postgrad.answer import BASELINE, answer
from postgrad.chat_facts import Known
from postgrad.report.evidence import read_lines
from postgrad.tables import role_spend
from postgrad.units import difference, dollars, dollars_known, duration, one_line, plus_minus
from shared_memory.records import MICRO_USD, EvalResult, Experiment, Verdict
from shared_memory.steering import is_question

NO_MODEL = "No language model is set for this run: I answer by the ids and plain words that I find in a question."
ASK_ABOUT = (
    "Ask about an id ({ids}), or: best, score, why, error, spent, next, data, recipes, claim, decisions, wishes. "
    "Or say what you want: prefer DPO next, no more ablations, stop after this experiment."
)


def answer_by_rules(question: str, known: Known) -> tuple[str, tuple[str, ...]]:
    """The answer and the ids that it rests on."""
    cited = [name for name in _ids_in(question, known) if name in known.ids]
    unknown = [name for name in re.findall(r"(?<![\w-])e\d+(?![\w-])", question.lower()) if name not in known.ids]
    said = [about for name in cited if (about := _about(name, known))]
    said += [f"There is no experiment {name} in this run." for name in dict.fromkeys(unknown)]
    if not said:
        for form, tell in _SUBJECTS:
            if re.search(rf"\b(?:{form})", question, re.IGNORECASE):
                text, cites = tell(known)
                said.append(text)
                cited += cites
    if not said:
        ids = ", ".join([*known.evidence.experiments][:3] or [BASELINE])
        said = [answer(known.summary), NO_MODEL, ASK_ABOUT.format(ids=ids)]
    return " ".join(said), tuple(dict.fromkeys(cited))


def not_from_here(text: str, known: Known) -> str:
    """What to do instead, where a person tells the team to do what no chat can; empty elsewhere."""
    if is_question(text):
        return ""
    run, limits = known.evidence.row.run_id, known.evidence.goal.limits
    caps = f"{dollars(limits.usd_micro / MICRO_USD)}, {limits.hours:g} h, {limits.jobs} jobs"
    told = (what for form, what in _ELSEWHERE if re.search(form, text, re.IGNORECASE))
    return next(told, "").format(run=run, caps=caps)


def _ids_in(question: str, known: Known) -> list[str]:
    found = known.evidence
    names = [*found.experiments, *found.recipes, *found.datasets, *found.findings]
    return [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", question, re.IGNORECASE)]


def _about(name: str, known: Known) -> str:
    found = known.evidence
    if name in found.experiments:
        return _experiment(found.experiments[name], known)
    if name in found.recipes:
        recipe = found.recipes[name]
        used = [key for key, each in found.experiments.items() if each.recipe.id == name]
        by = f" Tried by {', '.join(used)}." if used else " No experiment has tried it yet."
        return (
            _sentence(
                f"Recipe {name} ({recipe.method}, lr {recipe.learning_rate:g}): {recipe.reason or 'no reason given'}"
            )
            + (f" From {one_line(recipe.source)}." if recipe.source else "")
            + by
        )
    if name in found.datasets:
        data = found.datasets[name]
        steps = ", ".join(f"{step.name} {step.rows_in} → {step.rows_out}" for step in data.steps)
        text = f"Data set {name}: {data.rows} rows for {data.method}, from {data.source}"
        return _sentence(text) + (f" {steps}." if steps else "")
    finding = found.findings[name]
    return _sentence(f"Finding {name} ({finding.confidence} confidence): {finding.claim} ({finding.source})")


def _experiment(experiment: Experiment, known: Known) -> str:
    """What it changed, what came of it, and why."""
    of = "" if experiment.parent == BASELINE else f" of {experiment.parent}"
    words = [_sentence(f"{experiment.id} ({experiment.branch.value}{of}): {experiment.change}")]
    if experiment.why:
        words.append(_sentence(f"It was tried because {experiment.why}"))
    result = known.evidence.selection_result(experiment.id)
    match experiment.status:
        case "planned":
            words.append("It has not been trained yet.")
        case "trained":
            words.append("It is trained, and has no score yet.")
        case "crashed":
            ended = "crashed" if experiment.verdict is Verdict.CRASH else "was given up"
            words.append(_sentence(f"It {ended}: {experiment.error}"))
            if experiment.diagnosis is not None:
                remedy = f"; {experiment.diagnosis.remedy}" if experiment.diagnosis.remedy else ""
                words.append(_sentence(f"The diagnosis is {experiment.diagnosis.kind.replace('_', ' ')}{remedy}"))
        case "evaluated" if result is not None:
            words.append(_judged(experiment, result, known))
    return " ".join(words)


def _judged(experiment: Experiment, result: EvalResult, known: Known) -> str:
    """The verdict, with the score that it was judged against: the best that was there before it."""
    before = [BASELINE]
    for name in known.evidence.experiments:
        if name == experiment.id:
            break
        before.append(name)
    rivals = [(name, score) for name in before if (score := known.evidence.selection_result(name)) is not None]
    verdict = {"keep": "kept", "discard": "discarded", None: "scored"}.get(experiment.verdict, str(experiment.verdict))
    text = f"It was {verdict}: it scores {_score(result)} on the {result.n} selection items"
    if not rivals:
        return f"{text}."
    best, rival = max(rivals, key=lambda pair: pair[1].score if result.higher_is_better else -pair[1].score)
    better = result.metric.better_than(rival.metric)
    relation = "better than" if better else "no better than"
    delta = difference(result.score - rival.score, result.unit)
    steers = "Only a new incumbent is kept; that steers the search, and claims nothing."
    return f"{text}, {relation} {best} with {_score(rival)} ({delta}). {steers}"


def _score(result: EvalResult) -> str:
    return plus_minus(result.score, result.stderr, result.unit)


def _sentence(text: str) -> str:
    line = one_line(text)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _spent(known: Known) -> tuple[str, list[str]]:
    spent, limits = known.summary["spent"], known.evidence.goal.limits
    all_of_it = dollars_known(spent["usd"], spent["unpriced"])
    roles = "; ".join(role_spend(role, share) for role, share in spent["roles"].items())
    took = f"{duration(3600 * spent['hours'])} of {limits.hours:g} h, {spent['jobs']} of {limits.jobs} jobs"
    tokens = f"{spent['llm_tokens']:,} of {limits.llm_tokens:,} LLM tokens"
    text = f"Spent: {all_of_it} of {dollars(limits.usd_micro / MICRO_USD)}, {took}, {tokens}."
    return text + (f" By role: {roles}." if roles else ""), []


def _best(known: Known) -> tuple[str, list[str]]:
    found = known.evidence
    scored = [(name, result) for name in (BASELINE, *found.experiments) if (result := found.selection_result(name))]
    if not scored:
        return "Nothing has a score yet.", []
    listed = "; ".join(f"{name} {_score(result)}" for name, result in scored)
    best = scored[0]
    for each in scored[1:]:
        best = each if each[1].metric.better_than(best[1].metric) else best
    text = f"The best on the selection items is {best[0]}: {listed}. {answer(known.summary)}"
    return text, [name for name, _ in scored]


def _errors(known: Known) -> tuple[str, list[str]]:
    found = known.evidence
    crashed = [each for each in found.experiments.values() if each.status == "crashed"]
    said = [_sentence(f"The run says: {found.row.error}")] if found.row.error else []
    said += [_experiment(each, known) for each in crashed]
    return " ".join(said) or "Nothing has gone wrong so far.", [each.id for each in crashed]


def _next(known: Known) -> tuple[str, list[str]]:
    row = known.evidence.row
    if row.request is not None:
        titles = "; ".join(one_line(request["title"]) for request in row.request["requests"])
        return f"The run waits for your approval of: {titles}. `postgrad approve {row.run_id}` decides.", []
    open_ones = [each.id for each in known.evidence.experiments.values() if each.status in ("planned", "trained")]
    begun = f" In hand: {', '.join(open_ones)}." if open_ones else ""
    moves = [event for event in read_lines(known.evidence.paths.events) if event.get("kind") == "move"]
    last = one_line(moves[-1].get("text") or moves[-1].get("move", "")) if moves else ""
    now = f" Its last step: {last}." if last else ""
    if not known.driven:
        return f"Nobody drives the run now; `postgrad resume {row.run_id}` goes on with it.{now}{begun}", open_ones
    return f"The run is {row.status.value.replace('_', ' ')}.{now}{begun} The router chooses the next step.", open_ones


def _data(known: Known) -> tuple[str, list[str]]:
    names = list(known.evidence.datasets)
    return " ".join(_about(name, known) for name in names) or "There is no training data yet.", names


def _recipes(known: Known) -> tuple[str, list[str]]:
    names = list(known.evidence.recipes)
    return " ".join(_about(name, known) for name in names) or "There are no recipes yet.", names


def _claim(known: Known) -> tuple[str, list[str]]:
    if not known.claimed:
        return "No claim has been made: the report items are measured once, at the end.", []
    return answer(known.summary), [known.evidence.champion]


def _decisions(known: Known) -> tuple[str, list[str]]:
    decisions = known.evidence.decisions
    refused = [one_line(each.reason) for each in decisions if not each.approved]
    by_person = sum(each.approved and each.by == "person" for each in decisions)
    approved = len(decisions) - len(refused)
    text = f"{approved} jobs were approved, {by_person} of them by a person; {len(refused)} were refused"
    return _sentence(text + (f": {'; '.join(refused)}" if refused else "")), []


def _wishes(known: Known) -> tuple[str, list[str]]:
    asked = {key: note for key, note in known.notes["chat"].items() if note.get("steer")}
    if not asked:
        return "You have asked for nothing so far.", []
    told = known.notes["steered"]
    taken = {key: told[key]["text"] if key in told else "not taken up yet" for key in asked}
    return _sentence("; ".join(f"“{one_line(note['question'])}”: {taken[key]}" for key, note in asked.items())), []


_ELSEWHERE = (
    (
        r"^\W*(?:please )?(?:cancel|abort|kill)\b",
        "Nothing is cancelled from here: `postgrad cancel {run}` ends the run and its jobs. To end the search alone, "
        "say: stop after this experiment.",
    ),
    (
        r"^\W*(?:please )?(?:approve|reject|refuse|deny)\b",
        'Nothing is approved or refused from here: `postgrad approve {run}` does that, with --reject "why" to refuse.',
    ),
    (
        r"\b(?:raise|increase|lift|double|extend|lower|set|change|ignore)\b.*\b(?:budget|caps?|limits?|dollars|hours)\b",
        "Nothing said here changes the caps of this run ({caps}): they hold from its start to its end.",
    ),
)
"""What a person may tell the team to do that no chat can → what to do instead."""
_SUBJECTS: tuple[tuple[str, Callable[[Known], tuple[str, list[str]]]], ...] = (
    (r"spen[dt]|cost|money|dollar|token|budget|expensive", _spent),
    (r"error|crash|fail|wrong|problem", _errors),
    (r"best|incumbent|champion|score|baseline|improv|better|worse", _best),
    (r"next|now|doing|status|wait|happen|where", _next),
    (r"data|rows|contaminat", _data),
    (r"recipes?\b|method|paper|source", _recipes),
    (r"claim|report items|proof|prove|win|significan", _claim),
    (r"decision|decided|approv|refus|reject", _decisions),
    (r"wish|steer|asked", _wishes),
)
"""What a question is about, by its words → what is said of it."""
