"""What a person has asked for, among the moves that the rules allow: followed where it is one of these, or why not.

Pure functions of the state and of what the journal says was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents.brain import Move
from graph import routing
from graph.allowed import is_open
from graph.routing import Choice
from graph.state import RunState
from shared_memory.recipes import Recipe, layout_of
from shared_memory.records import Branch, canonical_digest
from shared_memory.steering import Steer, Wish


@dataclass(frozen=True)
class Outcome:
    """What becomes of a steer at a step."""

    text: str
    """For the person, in a sentence; empty where there is nothing to say yet."""
    done: bool
    """Whether its preference, or its wish to stop, has been dealt with for good; what it avoids stays avoided."""
    followed: bool = False
    """Whether it was dealt with by doing as it says."""


@dataclass(frozen=True)
class Narrowed:
    """The moves that are left."""

    choices: tuple[Choice, ...]
    """Never empty; the playbook's order."""
    because: str = ""
    """The words that have changed what comes first, or left one choice alone."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """By the id of the steer."""


UNNAMED = "it names nothing that the router could act on; roles with a language model are shown it"
TAKEN_BACK = "what you said after it takes it back"
LATER_FIRST = "what you asked for after it comes first; it is kept in mind"
LEFT_OUT = "it is left out from now on"
GOES_ON = "the search goes on as its rules allow"


def step_key(state: RunState) -> str:
    """Names a step of the router: the same when the node runs again after a crash, another at every other step."""
    experiments = {key: [plain["status"], plain["jobs"]] for key, plain in state.get("experiments", {}).items()}
    known = [sorted(state.get("results", {})), sorted(state.get("recipes", {})), sorted(state.get("datasets", {}))]
    stands = [state.get("subject", ""), state.get("halt", ""), state.get("delivered", ""), state.get("reopened", 0)]
    return canonical_digest([experiments, known, stands, state.get("exhausted", []), state.get("given_up", [])])[:16]


def narrowed(
    allowed: Sequence[Choice], state: RunState, steers: Mapping[str, Steer], settled: Sequence[str] = ()
) -> Narrowed:
    """The allowed moves that a person's steers leave, the newest first; `settled` names those dealt with before.

    A steer that none of the allowed moves follows changes nothing, and says so.
    """
    choices, because = tuple(allowed), ""
    preferred, avoided = preferred_by(steers), avoided_by(steers)
    outcomes: dict[str, Outcome] = {}
    goes_on = False
    for name, steer in reversed(list(steers.items())):
        left, outcome = choices, Outcome("", done=name in settled)
        if name not in settled:
            prefer = tuple(wish for wish in steer.prefer if wish in preferred)
            left, outcome = _of(steer, prefer, choices, allowed, state, taken_back=goes_on)
        goes_on = goes_on or steer.goes_on
        avoid = tuple(wish for wish in steer.avoid if wish in avoided)
        kept = tuple(choice for choice in left if not _is_avoided(choice, avoid, state, avoided))
        if not kept:
            outcome = replace(outcome, text=f"it is all that may be done now: {', '.join(each.move for each in left)}")
        elif avoid and not outcome.text:
            outcome = replace(outcome, text=LEFT_OUT, followed=True)
        elif steer.avoid and not avoid and not outcome.text:
            outcome = replace(outcome, text=TAKEN_BACK)
        left = kept or left
        if left[0] != choices[0] or len(left) == 1 < len(choices):
            because = because or steer.words
        choices = left
        outcomes[name] = outcome
    return Narrowed(choices, because, outcomes)


def _of(
    steer: Steer,
    prefer: Sequence[Wish],
    choices: tuple[Choice, ...],
    allowed: Sequence[Choice],
    state: RunState,
    *,
    taken_back: bool,
) -> tuple[tuple[Choice, ...], Outcome]:
    """What a steer leaves of the choices by its wish to stop or its preference.

    prefer: what of its preference no later steer has turned around. allowed: the choices before any steer. taken_back:
    whether a later steer takes a wish to stop back.
    """
    if steer.stop and not taken_back:
        return _stopped(choices, state)
    if prefer:
        left, outcome = _preferred(choices, prefer, state)
        if not outcome.followed and _preferred(tuple(allowed), prefer, state)[1].followed:
            return choices, Outcome(LATER_FIRST, done=False)
        return left, outcome
    if steer.stop or steer.prefer:
        return choices, Outcome(TAKEN_BACK, done=True)
    if steer.avoid:
        return choices, Outcome("", done=False)
    return choices, Outcome(GOES_ON, done=True, followed=True) if steer.goes_on else Outcome(UNNAMED, done=True)


def _stopped(choices: tuple[Choice, ...], state: RunState) -> tuple[tuple[Choice, ...], Outcome]:
    if routing.is_over(state):
        return choices, Outcome("the search has ended already", done=True)
    ending = routing.ending(state)
    begun = routing.unscored(state) or any(
        experiment.status == "planned" for experiment in routing.experiments_of(state).values()
    )
    if not routing.goal_of(state).benchmark or not routing.has_baseline(state) or begun or choices[0].halt:
        return choices, Outcome("", done=False)  # what was begun is finished, and the baseline is always measured
    return (replace(ending, ends=True),), Outcome("the search ends here", done=True, followed=True)


def _preferred(
    choices: tuple[Choice, ...], wishes: Sequence[Wish], state: RunState
) -> tuple[tuple[Choice, ...], Outcome]:
    fits = {choice: sum(_fits(choice, wish, state) for wish in wishes) for choice in choices}
    fitting = tuple(choice for choice in choices if 0 < fits[choice] == max(fits.values()))
    if fitting:
        return fitting, Outcome("it comes next", done=True, followed=True)
    if routing.is_over(state):
        return choices, Outcome("the search has ended, and nothing else is tried", done=True)
    if not is_open(state):
        return choices, Outcome("", done=False)
    return choices, Outcome(_why_not(wishes[0], state), done=wishes[0].about in ("method", "recipe"))


def _why_not(wish: Wish, state: RunState) -> str:
    if wish.about == "move":
        return f"the rules leave no room to {wish.name} now; it is kept in mind"
    if wish.about == "experiment":
        return f"nothing may be done about {wish.name} now: the best experiment so far is worked on; it is kept in mind"
    fitting = [recipe for recipe in routing.recipes_of(state).values() if _is_of(recipe, wish)]
    if not fitting:
        return f"no recipe of this run is `{wish.name}`"
    if not any(_can_train(recipe, state) for recipe in fitting):
        return f"the run's data are not laid out for `{fitting[0].method}`"
    return f"no recipe of `{wish.name}` is left to draft, or there are no means for another"


def _fits(choice: Choice, wish: Wish, state: RunState) -> bool:
    match wish.about:
        case "move":
            return choice.move.value == wish.name
        case "experiment":
            return choice.subject == wish.name and choice.move is not Move.DELIVER
        case _:
            return choice.move is Move.DRAFT and any(_is_of(recipe, wish) for recipe in _to_draft(state))


def _is_avoided(choice: Choice, wishes: Sequence[Wish], state: RunState, avoided: Sequence[Wish]) -> bool:
    """A draft is avoided where every recipe that is left to draft is; the way out never is."""
    if choice.ends or choice.move in routing.OF_THE_END or choice.move is Move.STOP:
        return False
    recipes = [wish for wish in wishes if wish.about in ("method", "recipe")]
    if choice.move is Move.DRAFT and recipes and not _to_draft(state, avoided):
        return True
    return any(wish.about in ("move", "experiment") and _fits(choice, wish, state) for wish in wishes)


def _to_draft(state: RunState, avoided: Sequence[Wish] = ()) -> list[Recipe]:
    """The recipes that no draft has taken and that the data are laid out for."""
    drafts = routing.experiments_of(state).values()
    taken = {experiment.recipe.id for experiment in drafts if experiment.branch is Branch.DRAFT}
    return [
        recipe
        for recipe in routing.recipes_of(state).values()
        if recipe.id not in taken and _can_train(recipe, state) and not any(_is_of(recipe, wish) for wish in avoided)
    ]


def _can_train(recipe: Recipe, state: RunState) -> bool:
    layouts = {plain.get("method", "sft") for plain in state.get("datasets", {}).values()}
    return layout_of(recipe.method) in layouts


def _is_of(recipe: Recipe, wish: Wish) -> bool:
    return wish.name == (recipe.id if wish.about == "recipe" else recipe.method)


def preferred_by(steers: Mapping[str, Steer]) -> tuple[Wish, ...]:
    """What is preferred, the newest wish first; one that a later one turns around is not."""
    return tuple(wish for wish, prefers in _attitudes(steers) if prefers)


def avoided_by(steers: Mapping[str, Steer]) -> tuple[Wish, ...]:
    return tuple(wish for wish, prefers in _attitudes(steers) if not prefers)


def _attitudes(steers: Mapping[str, Steer]) -> list[tuple[Wish, bool]]:
    """Each wish with whether it is preferred, by the newest steer that names it."""
    attitudes: dict[Wish, bool] = {}
    for steer in reversed(list(steers.values())):
        for wish in steer.prefer:
            attitudes.setdefault(wish, True)
        for wish in steer.avoid:
            attitudes.setdefault(wish, False)
    return list(attitudes.items())


def ordered(recipes: Mapping[str, Recipe], steers: Mapping[str, Steer]) -> dict[str, Recipe]:
    """A run's recipes as a person would have them: those preferred first, those avoided not at all."""
    preferred, avoided = preferred_by(steers), avoided_by(steers)

    def place(recipe: Recipe) -> int:
        return next((n for n, wish in enumerate(preferred) if _is_of(recipe, wish)), len(preferred))

    kept = {key: recipe for key, recipe in recipes.items() if not any(_is_of(recipe, wish) for wish in avoided)}
    return dict(sorted(kept.items(), key=lambda item: place(item[1])))
