"""What a person has asked for since a run began: typed as far as it names something, and in their words.

It is read without a language model too: by plain rules for the common forms, which act on what stands in the words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from shared_memory.journal import Journal
from shared_memory.recipes import METHODS
from shared_memory.record import Record

CHAT = "chat"
"""Kind of the journal's notes on what a person asked: id → question, answer, cites, steer, at, by."""
STEERED = "steered"
"""Kind of the notes on what came of a steer, by the id of its chat note: `step`, `move`, `text`, and whether `done`."""

About = Literal["move", "method", "recipe", "experiment"]
MOVES: Mapping[str, str] = {
    "draft": r"draft(?:s|ing)?|(?:an?other|new|next|untried|other|more) recipes?",
    "improve": r"improv(?:e|es|ing)|improvements?|refin(?:e|ing)|work on the (?:best|incumbent)",
    "ablate": r"ablat(?:e|es|ing)|ablations?",
    "debug": r"debug(?:ging)?|mend(?:ing)?|fix(?:ing)? (?:the )?(?:crash|it)",
}
"""Move that may be asked for → how people write it."""


class Wish(Record):
    """Something named that is preferred or avoided."""

    about: About
    name: str
    """A move, a method, or the id of a recipe or an experiment."""


class Steer(Record):
    """What a person wants of the steps to come. It chooses among what the rules allow, and allows nothing more."""

    words: str
    """As they were typed."""
    stop: bool = False
    """Whether the search is to end after what has been begun; the best model is delivered and measured."""
    prefer: tuple[Wish, ...] = ()
    avoid: tuple[Wish, ...] = ()

    @property
    def names_anything(self) -> bool:
        """Whether the router can act on it; else only the roles are shown its words."""
        return self.stop or bool(self.prefer or self.avoid)

    @property
    def goes_on(self) -> bool:
        """Whether it takes back an earlier wish to stop: it asks for something to be done, or not to stop."""
        return not self.stop and bool(self.prefer or _GO_ON.search(self.words))


class Names(Record):
    """What a run has that a wish may name."""

    recipes: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS

    def known(self, wish: Wish) -> bool:
        return wish.name in {
            "move": tuple(MOVES), "method": self.methods, "recipe": self.recipes, "experiment": self.experiments,
        }[wish.about]  # fmt: skip


_QUESTION = re.compile(
    r"\?\s*$|^\W*(?:why|what|who|when|where|which|how|whose|is|are|was|were|does|did|has|have|can|could|will|would"
    r"|should|tell|show|explain|list|summari[sz]e)\b"
    r"|^\W*i(?: wonder|(?:\Wd| would) like to (?:know|understand)| (?:want|need) to (?:know|understand))\b",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"(?<=[.?!])\s+")
_ASKED_POLITELY = re.compile(r"^\W*(?:can|could|would|will) you (?:please )?(?=.)", re.IGNORECASE)
_POLITE = re.compile(
    r"^\W*(?:(?:please|now|then|just|ok(?:ay)?|and|also|instead|let\W?s|let us|(?:you|we) (?:should|can|may)"
    r"|i want you to)\b\W*)+",
    re.IGNORECASE,
)
_NO_FURTHER = r"(?:do not|don\W?t) (?:go on|continue|carry on|keep going)\b"
_STOP = re.compile(
    r"^(?P<word>stop|end|finish|halt|wrap(?: it| this| things)? up|that(?:\Ws| is) enough|enough)(?![\w-])"
    r"(?!\s+(?:trying|using|doing|with|making|training (?:on|with)|on)\b)"
    r"|\bno (?:more|further) (?:experiments?|trainings?)\b|\bstop (?:the search|after this)\b"
    rf"|^deliver (?:what|the best|it)\b|^{_NO_FURTHER}",
    re.IGNORECASE,
)
_THE_SEARCH = re.compile(
    r"\W*(?:$|(?:now|here|there|it|this|that|soon|early|immediately|right|at|for|after|once|when|as|before|and|all|any|up"
    r"|is|in|please|everything|searching|experimenting|running|working|training|experiments?"
    r"|(?:the|your|my) (?:whole )?(?:search|runs?|experiments?|trainings?|work|jobs?|process))\b)",
    re.IGNORECASE,
)
"""Behind a word that ends something, where that is the search: not in "stop worrying", nor in "stop sequences"."""
_GO_ON = re.compile(
    r"\b(?:do not|don\W?t|never|not|no need to)\s+(?:(?:want|need|have) to\s+|\w+\s+)?(?:stop|end|halt)\b"
    r"|(?<!n\Wt )(?<!dont )(?<!not )(?:\b(?:keep going|carry on)\b"
    r"|\b(?:go on|continue)\b(?=\W*$|\s+(?:with|the search|searching)\b))",
    re.IGNORECASE,
)
_UNTIL = re.compile(r"\b(?:after|once|when|as soon as|at)\b", re.IGNORECASE)
"""Between what is to stop and when."""
_AVOID = re.compile(
    r"\b(?:do not|don\W?t|never|avoid|no more|not|without|skip|leave out"
    r"|stop (?:trying|using|doing|making|with|on|training (?:on|with)))\b",
    re.IGNORECASE,
)
_NOT_AVOIDED = re.compile(r"\b(?:do not|don\W?t|never) (?:avoid|skip|leave out)\b", re.IGNORECASE)
_NONE_OF = re.compile(r"no\s", re.IGNORECASE)
"""Before a name: "no DPO"; "no problem" avoids nothing."""
_PREFER = re.compile(
    r"\b(?:prefer|try|use|do|go (?:on )?with|go back to|focus on|work on|next|rather|first|take|run|train)\b"
    r"|\b(?:keep|continue)\b"
    r"|^(?:draft|improve|refine|ablate|debug|mend|fix)",
    re.IGNORECASE,
)
_STOP_WORDS = re.compile(
    r"\b(?:stop|end|finish|halt|enough|no (?:more|further)|wrap|deliver|done)\b|" + _NO_FURTHER, re.IGNORECASE
)
_CLAUSES = re.compile(
    r"\s*[.;!\n,]+\s+"
    r"|\s*(?<!\S)(instead of|rather than|(?<=\w\s)(?:over|except(?: for)?|other than|(?:any|every)thing but))\s+"
    r"|\s+(?:but|and then|then)\s+"
    r"|(?<!\btry)(?<!\bgo)\s+and\s+(?=(?:use|try|prefer|go|focus|run|do not|don\W?t|stop|end|avoid|skip|deliver)\b)",
    re.IGNORECASE,
)
"""Between the parts of a sentence; the group holds what turns a preference around."""


def is_question(text: str) -> bool:
    """Whether a text asks and does not steer, as far as its form tells."""
    return bool(_QUESTION.search(text.strip()))


def told_of(text: str) -> str:
    """The sentences of a text that are no questions; a wish in a question's polite form ("could you use DPO?") is none.

    Empty where a person only asks.
    """
    told = []
    for sentence in _SENTENCES.split(text.strip()):
        said = _ASKED_POLITELY.sub("", sentence)
        if not is_question(said.rstrip(" ?!") if said != sentence else sentence):
            told.append(said)
    return " ".join(told)


def read_steer(text: str, names: Names) -> Steer | None:
    """What a person's words ask for, by their form and the names in them; None where they only ask a question."""
    prefer: list[Wish] = []
    avoid: list[Wish] = []
    stop = steers = False
    side: list[Wish] | None = None
    turned = ""
    for place, part in enumerate(_CLAUSES.split(told_of(text).rstrip(" ?!."))):
        if place % 2:
            turned = part or ""
            continue
        clause = _POLITE.sub("", part)
        if _GO_ON.search(clause) or _NOT_AVOIDED.search(clause):
            side = prefer
        elif ended := _STOP.search(clause):
            rest = clause[ended.end() :]
            clause = _UNTIL.split(rest)[0]
            if not any(named(clause, names)):
                stop = stop or not ended["word"] or bool(_THE_SEARCH.match(rest))
                steers = True
                continue
            # "stop ablating" ends one thing and not the search, "finish e2" none
            side = prefer if ended.group().lower().startswith(("finish", "wrap")) else avoid
        elif turned or (_NONE_OF.match(clause) and any(named(clause, names))):
            side = avoid
        elif against := _AVOID.search(clause):
            before, after = clause[: against.start()], clause[against.start() :]
            if (side is prefer or _PREFER.search(before)) and any(named(after, names)):  # "use SFT not DPO"
                prefer.extend(named(before, names))
                clause = after
            side = avoid
        elif _PREFER.search(clause):
            side = prefer
        if side is not None:
            steers = True
            side.extend(named(clause, names))
    kept = (wish for wish in dict.fromkeys(prefer) if wish not in avoid)
    return Steer(words=text, stop=stop, prefer=tuple(kept), avoid=tuple(dict.fromkeys(avoid))) if steers else None


def named(text: str, names: Names) -> Iterator[Wish]:
    """What a text names, as wishes: recipes and experiments by their ids, methods and moves by their words."""
    for about, known in (("experiment", names.experiments), ("recipe", names.recipes), ("method", names.methods)):
        for name in known:
            if _stands_in(re.escape(name), text):
                yield Wish.model_validate({"about": about, "name": name})
    for move, form in MOVES.items():
        if _stands_in(form, text):
            yield Wish(about="move", name=move)


def _stands_in(form: str, text: str) -> bool:
    """Whether a text has it as words of their own: `e1` is not in `e12`, and `sft` not in `lora-sft-small`."""
    return bool(re.search(rf"(?<![\w-])(?:{form})(?![\w-]|\.\w)", text, re.IGNORECASE))


def bears_out(text: str, steer: Steer, names: Names) -> str:
    """Why a steer that a language model read out of a person's words is not what these say; empty where it is."""
    there = set(named(text, names))
    for wish in (*steer.prefer, *steer.avoid):
        if not names.known(wish):
            return f"there is no {wish.about} `{wish.name}` in this run"
        if wish not in there:
            return f"the person does not name the {wish.about} `{wish.name}`"
    told = told_of(text)
    if steer.stop and (not _STOP_WORDS.search(told) or _GO_ON.search(told)):
        return "the person does not ask to stop in words that can be checked, such as: stop after this experiment"
    return ""


def steers_of(journal: Journal) -> dict[str, Steer]:
    """Id of the chat note → what was asked for, oldest first."""
    notes = journal.notes(CHAT)
    return {id: Steer.model_validate(note["steer"]) for id, note in notes.items() if note.get("steer")}


def wishes_of(steers: Collection[Steer]) -> tuple[str, ...]:
    """The words that the roles are shown, each once."""
    return tuple(dict.fromkeys(steer.words for steer in steers))
