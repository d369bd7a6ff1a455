"""What is taken out of the rows, or changed in them, and why: pure functions from rows to (kept rows, Step)."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from agents.data_engineer.formats.rows import Message, Row
from shared_memory.records import Step

Filtered = tuple[list[Row], Step]

_NAMES_A_LETTER = re.compile(
    r"(?i:\b(?:options?|choices?|alternatives?))\s*:?\s*\**\(?[A-J]\b"
    r"|(?i:\banswers?(?:\s+is)?)\s*:?\s*\**\(?[A-J]\b(?=\W*$|[.,;)*]|\s+(?:is|because|since|as)\b)"
    r"|\([A-J]\)"
    r"|^\s*\**[A-J][).:]"
    r"|\b[B-J] is (?:right|correct|true|wrong|incorrect|false)\b",
    re.MULTILINE,
)
"""`option B`, `answer: C`, `(D)`, `B) …` at the start of a line, `C is wrong`; not `the answer: A force of …`."""


def drop_empty(rows: Sequence[Row]) -> Filtered:
    """Without rows that lack a question, an answer or a choice."""
    return _keep(rows, "drop_empty", lambda row: not is_empty(row))


def is_empty(row: Row) -> bool:
    """Whether there is nothing to ask, nothing to answer, or a blank choice."""
    if row.choices is not None:
        return not row.question.strip() or not all(choice.strip() for choice in row.choices)
    if row.passage.strip():
        return False
    parts = [row.prompt, row.completion, *([row.rejected] if row.rejected else ())]
    return not all(any(message.says.strip() for message in part) for part in parts)


def drop_identical_pairs(rows: Sequence[Row]) -> Filtered:
    """Without preference rows whose two replies are one: they prefer nothing."""
    return _keep(rows, "drop_identical_pairs", lambda row: not is_identical_pair(row))


def is_identical_pair(row: Row) -> bool:
    """Case and punctuation count here, because a pair may be about them; blanks around the replies do not."""
    chosen, rejected = ([(m.role, m.says.strip()) for m in reply] for reply in (row.completion, row.rejected))
    return bool(rejected) and chosen == rejected


def drop_ambiguous(rows: Sequence[Row]) -> Filtered:
    """Without multiple-choice rows that offer one choice twice: no letter is the right one there."""
    return _keep(rows, "drop_ambiguous", lambda row: not is_ambiguous(row))


def is_ambiguous(row: Row) -> bool:
    return row.choices is not None and len({choice.strip() for choice in row.choices}) < len(row.choices)


def drop_exact_duplicates(rows: Sequence[Row]) -> Filtered:
    """The first of the rows that say the same; case, Unicode form and the order of choices do not count.

    Blanks neither, save the indentation of lines and the line breaks: they are part of what code says.
    """
    first: dict[Hashable, Row] = {}
    for row in rows:
        first.setdefault(identity(row), row)
    kept = list(first.values())
    return kept, Step(name="drop_exact_duplicates", rows_in=len(rows), rows_out=len(kept))


def identity(row: Row) -> Hashable:
    """Equal for rows that teach the same: same prompt, same reply, same rejected reply, same label."""
    if row.choices is not None and row.answer is not None:
        right = row.choices[letter_index(row.answer)]
        return (asked(row), normalised_lines(right), normalised_lines(row.explanation))
    return (asked(row), _said(row.completion), _said(row.rejected), row.label)


def asked(row: Row) -> Hashable:
    """Equal for rows that ask the same."""
    if row.choices is not None:
        return (normalised_lines(row.question), tuple(sorted(normalised_lines(choice) for choice in row.choices)))
    if row.passage:
        return ("passage", normalised_lines(row.passage))
    return (_said(row.prompt), row.tools) if row.tools else _said(row.prompt)


def _said(messages: Sequence[Message]) -> Hashable:
    return tuple((m.role, normalised_lines(m.content), m.tool_calls, normalised_lines(m.reasoning)) for m in messages)


def normalised(text: str) -> str:
    """One Unicode form, one case, single blanks; punctuation stays, because `a - b` is not `a + b`."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalised_lines(text: str) -> str:
    """Like `normalised`, but lines stay lines and keep the blanks before them: they decide what Python code does."""
    text = text.strip()
    if "\n" not in text:
        return normalised(text)
    lines = ((line[: len(line) - len(line.lstrip())], normalised(line)) for line in text.split("\n"))
    return "\n".join(indentation + said if said else "" for indentation, said in lines)


def keep_at_most(rows: Sequence[Row], count: int, seed: int) -> Filtered:
    """A random `count` of the rows, in their order; all of them where there are no more."""
    chosen = set(range(len(rows)))
    if len(rows) > count:
        chosen = set(random.Random(seed).sample(range(len(rows)), count))
    kept = [row for position, row in enumerate(rows) if position in chosen]
    return kept, Step(name="keep_at_most", rows_in=len(rows), rows_out=len(kept), note=f"{count} rows are wanted")


def balance_letters(rows: Sequence[Row], seed: int) -> Filtered:
    """Multiple-choice rows with their choices shuffled so that the numbers of right letters differ by one at most.

    A row whose explanation names letters keeps its order, since shuffling would make the explanation wrong; where such
    rows crowd one letter, some of them are left out. Rows without choices pass untouched.
    """
    kept: list[Row | None] = list(rows)
    rng = random.Random(seed)
    for letters in sorted({len(row.choices) for row in rows if row.choices}):
        group = [position for position, row in enumerate(rows) if row.choices and len(row.choices) == letters]
        _balance_group(kept, group, letters, rng)
    result = [row for row in kept if row is not None]
    counts = Counter(row.answer for row in result if row.answer)
    fixed = sum(1 for row in result if row.choices and names_letters(row.explanation))
    note = ", ".join(f"{letter} {count}" for letter, count in sorted(counts.items())) or "no multiple-choice rows"
    if fixed:
        note += f"; {fixed} rows kept their order because their explanations name letters"
    return result, Step(name="balance_letters", rows_in=len(rows), rows_out=len(result), note=note)


def _balance_group(kept: list[Row | None], group: Sequence[int], letters: int, rng: random.Random) -> None:
    """Balance the rows at the positions `group`, all with `letters` choices, in place; None marks one left out."""
    members = [(position, row) for position in group if (row := kept[position]) is not None]
    rng.shuffle(members)
    counts = [0] * letters
    fixed = [(position, row) for position, row in members if names_letters(row.explanation)]
    for _, row in fixed:
        counts[letter_index(row.answer or "A")] += 1
    for position, row in members:
        if not names_letters(row.explanation):
            target = counts.index(min(counts))
            counts[target] += 1
            kept[position] = _with_right_choice_at(row, target, rng)
    most = min(counts) + 1
    for position, row in fixed:
        index = letter_index(row.answer or "A")
        if counts[index] > most:
            counts[index] -= 1
            kept[position] = None


def _with_right_choice_at(row: Row, target: int, rng: random.Random) -> Row:
    choices = list(row.choices or ())
    right = choices.pop(letter_index(row.answer or "A"))
    rng.shuffle(choices)
    choices.insert(target, right)
    return replace(row, choices=tuple(choices), answer=letter(target))


def names_letters(explanation: str) -> bool:
    """Whether an explanation speaks of choices by their letters."""
    return bool(_NAMES_A_LETTER.search(explanation))


def letter(index: int) -> str:
    return chr(ord("A") + index)


def letter_index(answer: str) -> int:
    return ord(answer) - ord("A")


def _keep(rows: Sequence[Row], name: str, wanted: Callable[[Row], bool]) -> Filtered:
    kept = [row for row in rows if wanted(row)]
    return kept, Step(name=name, rows_in=len(rows), rows_out=len(kept))
