# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Writes four-choice questions on physics and units, in GPQA's columns, one JSON object a line.

    python questions.py --part train --rows 400 --seed 1     rows on stdout
    python questions.py --config config.json                 as a job: {"part", "rows", "seed"} -> out/data.jsonl

Answers are computed exactly. Every wrong choice is the value that a typical mistake gives, in the unit of another
quantity or size: who computes the value, or knows its unit, finds the right one. A row depends on nothing but its
family, numbers and wording; the seed only chooses and orders rows. Numbers belong to one part for ever (a hash of
family and numbers decides), so no part can contain a question of another, nor the same numbers in other words. The
families in `REPORT_ONLY` occur in no other part: they show what a model does with a formula it was never trained on.
"""

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

Numbers = tuple[int, ...]
SHARES = {"train": 60, "selection": 20, "report": 20}
"""Per cent of a family's number sets that each part draws from."""


@dataclass(frozen=True)
class Family:
    """One kind of question: what varies, how it is asked, how it is answered, and how it is got wrong."""

    name: str
    unit: str
    """The unit of the right choice."""
    others: tuple[str, ...]
    """Units of other quantities, or other sizes of unit: each wrong choice has one of them."""
    numbers: tuple[Numbers, ...]
    wordings: tuple[str, ...]
    """Ways to ask; {0}, {1} are the numbers."""
    working: str
    """The worked solution; {x} is the right value with its unit."""
    solve: Callable[..., Fraction]
    mistakes: Callable[..., tuple[Fraction, ...]]
    """Values that typical mistakes give; those equal to the answer or to one another are left out."""


def grid(*ranges: range) -> tuple[Numbers, ...]:
    return tuple(product(*ranges))


def divisible(quotients: range, divisors: range) -> tuple[Numbers, ...]:
    """(dividend, divisor) pairs that divide without remainder."""
    return tuple((quotient * divisor, divisor) for quotient, divisor in product(quotients, divisors))


def times(a: int, b: int) -> Fraction:
    return Fraction(a * b)


def over(a: int, b: int) -> Fraction:
    return Fraction(a, b)


def product_mistakes(a: int, b: int) -> tuple[Fraction, ...]:
    """Added, subtracted, divided, ten times off, multiplied once too often, halved, doubled."""
    values = (a + b, abs(a - b), Fraction(a, b), 10 * a * b, a * b + a, Fraction(a * b, 2), 2 * a * b)
    return tuple(Fraction(value) for value in values)


def quotient_mistakes(a: int, b: int) -> tuple[Fraction, ...]:
    """Multiplied, inverted, subtracted, added, ten times off, off by one in the division."""
    values = (a * b, Fraction(b, a), a - b, a + b, Fraction(10 * a, b), Fraction(a, b) + 1)
    return tuple(Fraction(value) for value in values)


def scaled(factor: Fraction) -> Callable[[int], Fraction]:
    return lambda a: a * factor


def scale_mistakes(factor: Fraction) -> Callable[[int], tuple[Fraction, ...]]:
    """Ten times off either way, a hundred times off, the factor inverted, the factor forgotten."""
    return lambda a: (a * factor * 10, a * factor / 10, a * factor / 100, a / factor, Fraction(a))


def kinetic_mistakes(m: int, v: int) -> tuple[Fraction, ...]:
    """Forgot the half, the square, both; halved twice; squared the mass; doubled instead of halved."""
    values = (2 * m * v * v, m * v, 2 * m * v, Fraction(m * v * v, 2), m * m * v, 4 * m * v * v)
    return tuple(Fraction(value) / 2 for value in values)


def converted(
    name: str,
    unit: str,
    others: tuple[str, ...],
    numbers: range,
    factor: Fraction,
    wordings: tuple[str, ...],
    working: str,
) -> Family:
    """A family that multiplies its one number by a fixed unit factor."""
    return Family(name, unit, others, grid(numbers), wordings, working, scaled(factor), scale_mistakes(factor))


SHARED = (
    Family(
        "force", "N", ("J", "W", "Pa", "kg"), grid(range(2, 13), range(2, 10)),
        (
            "A net force accelerates a body of mass {0} kg at {1} m/s². How large is the force?",
            "What net force gives a cart of mass {0} kg an acceleration of {1} m/s²?",
        ),
        "F = m × a = {0} × {1} = {x}", times, product_mistakes,
    ),
    Family(
        "distance", "m", ("s", "m/s", "N", "kg"), grid(range(2, 13), range(2, 10)),
        (
            "A runner moves at a constant {0} m/s for {1} s. How far does the runner get?",
            "What distance does a robot cover in {1} s at a constant speed of {0} m/s?",
        ),
        "d = v × t = {0} × {1} = {x}", times, product_mistakes,
    ),
    Family(
        "electric power", "W", ("V", "A", "J", "N"), grid(range(2, 13), range(2, 10)),
        (
            "A heater draws {1} A from a {0} V supply. What power does it take?",
            "A lamp runs at {0} V with a current of {1} A. What is its electric power?",
        ),
        "P = V × I = {0} × {1} = {x}", times, product_mistakes,
    ),
    Family(
        "work", "J", ("N", "W", "m", "kg"), grid(range(2, 13), range(2, 10)),
        (
            "A force of {0} N pushes a crate {1} m along its direction. How much work is done?",
            "How much work does a {0} N force do over a path of {1} m in its direction?",
        ),
        "W = F × d = {0} × {1} = {x}", times, product_mistakes,
    ),
    Family(
        "kinetic energy", "J", ("N", "W", "kg", "Pa"), grid(range(2, 11, 2), range(2, 11)),
        (
            "A ball of mass {0} kg flies at {1} m/s. What is its kinetic energy?",
            "What kinetic energy does a body of mass {0} kg have at a speed of {1} m/s?",
        ),
        "v² = {1} × {1} = {square} and E = m / 2 × v² = {half} × {square} = {x}",
        lambda m, v: Fraction(m * v * v, 2), kinetic_mistakes,
    ),
    Family(
        "speed", "m/s", ("m", "s", "N", "J"), divisible(range(2, 13), range(2, 10)),
        (
            "A cyclist covers {0} m in {1} s at a constant speed. What is the speed?",
            "How fast is a drone that needs {1} s for {0} m at a constant speed?",
        ),
        "v = d / t = {0} / {1} = {x}", over, quotient_mistakes,
    ),
    Family(
        "current", "A", ("V", "W", "J", "N"), divisible(range(2, 13), range(2, 10)),
        (
            "A voltage of {0} V lies across a resistor of {1} ohm. What current flows?",
            "What current does a {0} V battery drive through a resistance of {1} ohm?",
        ),
        "I = V / R = {0} / {1} = {x}", over, quotient_mistakes,
    ),
    Family(
        "density", "kg/m³", ("kg", "m", "N", "Pa"), divisible(range(2, 13), range(2, 10)),
        (
            "A block with a volume of {1} m³ has a mass of {0} kg. What is its density?",
            "What is the density of a foam of mass {0} kg that fills {1} m³?",
        ),
        "density = m / V = {0} / {1} = {x}", over, quotient_mistakes,
    ),
    converted(
        "weight", "N", ("kg", "J", "Pa", "W"), range(2, 100), Fraction(10),
        (
            "What is the weight of a body of mass {0} kg where g = 10 m/s²?",
            "A stone has a mass of {0} kg. How large is its weight if g = 10 m/s²?",
        ),
        "W = m × g = {0} × 10 = {x}",
    ),
    converted(
        "kilo to unit", "m", ("cm", "mm", "s", "g"), range(2, 100), Fraction(1000),
        ("How long is a road of {0} km?", "Which length equals {0} km?"),
        "1 km = 1000 m, so {0} km = {0} × 1000 m = {x}",
    ),
    converted(
        "centi to unit", "m", ("km", "mm", "s", "g"), range(2, 100), Fraction(1, 100),
        ("How long is a rod of {0} cm?", "Which length equals {0} cm?"),
        "1 cm = 0.01 m, so {0} cm = {0} / 100 m = {x}",
    ),
    converted(
        "hours to minutes", "min", ("s", "ms", "m", "kg"), range(2, 31), Fraction(60),
        (
            "Which time equals {0} h?",
            "Which time is as long as {0} hours?",
            "An experiment runs for {0} h. How long is that?",
        ),
        "1 h = 60 min, so {0} h = {0} × 60 min = {x}",
    ),
)  # fmt: skip

REPORT_ONLY = (
    Family(
        "momentum", "kg m/s", ("N", "J", "kg", "W"), grid(range(2, 13), range(2, 10)),
        (
            "A trolley of mass {0} kg rolls at {1} m/s. What is its momentum?",
            "What momentum does a body of mass {0} kg have at a speed of {1} m/s?",
        ),
        "p = m × v = {0} × {1} = {x}", times, product_mistakes,
    ),
    Family(
        "pressure", "Pa", ("N", "J", "W", "kg"), divisible(range(2, 13), range(2, 10)),
        (
            "A force of {0} N presses evenly on an area of {1} m². What is the pressure?",
            "What pressure does a force of {0} N put on a plate of {1} m²?",
        ),
        "p = F / A = {0} / {1} = {x}", over, quotient_mistakes,
    ),
)  # fmt: skip


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def part_of(family: Family, numbers: Numbers) -> str:
    """The only part that may ask `family` about `numbers`."""
    if family in REPORT_ONLY:
        return "report"
    place = hashed(f"{family.name} {numbers}") % 100
    if place < SHARES["train"]:
        return "train"
    return "selection" if place < SHARES["train"] + SHARES["selection"] else "report"


def written(value: Fraction) -> str:
    """`value` as a decimal, to three significant digits where it has no shorter exact form."""
    if value.denominator == 1:
        return str(value.numerator)
    exact = next((digits for digits in range(1, 7) if (value * 10**digits).denominator == 1), None)
    return f"{float(value):.{exact}f}" if exact else f"{float(value):.3g}"


def row(part: str, family: Family, numbers: Numbers, wording: str) -> dict[str, str]:
    """One question in GPQA's columns."""
    question = wording.format(*numbers)
    answer = written(family.solve(*numbers))
    mistakes = dict.fromkeys(written(value) for value in family.mistakes(*numbers) if value > 0)
    rng = random.Random(hashed(question))
    values = rng.sample([value for value in mistakes if value != answer], 3)
    wrong = [f"{value} {unit}" for value, unit in zip(values, rng.sample(family.others, 3), strict=True)]
    fields = {"half": numbers[0] // 2, "square": numbers[-1] ** 2, "x": f"{answer} {family.unit}"}
    return {
        "Record ID": f"{part}-{hashed(question):016x}",
        "Subdomain": family.name,
        "Question": question,
        "Correct Answer": f"{answer} {family.unit}",
        **{f"Incorrect Answer {i}": choice for i, choice in enumerate(wrong, 1)},
        "Explanation": family.working.format(*numbers, **fields) + ".",
        "Part": part,
    }


def questions_of(part: str, family: Family, rng: random.Random) -> Iterator[dict[str, str]]:
    """Every question of a family in a part; numbers come back in other words only when all have been asked once."""
    mine = [numbers for numbers in family.numbers if part_of(family, numbers) == part]
    rng.shuffle(mine)
    first = [rng.randrange(len(family.wordings)) for _ in mine]
    for turn in range(len(family.wordings)):
        for numbers, start in zip(mine, first, strict=True):
            yield row(part, family, numbers, family.wordings[(start + turn) % len(family.wordings)])


def rows_of(part: str, count: int, seed: int) -> list[dict[str, str]]:
    """`count` different rows, the families in turn. Raises ValueError when the part has fewer."""
    rng = random.Random(f"{part} {seed}")
    families = REPORT_ONLY + SHARED if part == "report" else SHARED
    sources = [questions_of(part, family, rng) for family in families]
    rows: list[dict[str, str]] = []
    while sources and len(rows) < count:
        round_of_rows = [next(source, None) for source in sources]
        sources = [source for source, taken in zip(sources, round_of_rows, strict=True) if taken]
        rows += [taken for taken in round_of_rows if taken]
    if len(rows) < count:
        raise ValueError(
            f"part {part!r} has {len(rows)} different questions, {count} were asked for; ask for fewer rows"
        )
    return rows[:count]


def refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see --help")


def read_config(path: Path) -> dict[str, Any]:
    """The job's settings. Exits 2 for anything but exactly part, rows and seed."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        refuse(f"cannot read {path}: {e}; give a JSON file with part, rows and seed")
    if not isinstance(config, dict) or set(config) != {"part", "rows", "seed"}:
        refuse(f"{path} must have exactly the keys part, rows and seed; correct it")
    if config["part"] not in SHARES or not all(type(config[key]) is int for key in ("rows", "seed")):
        refuse(f"{path}: part must be one of {', '.join(SHARES)}, rows and seed whole numbers; correct it")
    return config


def main() -> None:
    parser = Parser(description="Writes four-choice questions on physics and units as JSONL in GPQA's columns.")
    parser.add_argument("--part", choices=list(SHARES))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, help="run as a job: a JSON file with part, rows and seed")
    arguments = parser.parse_args()
    if not arguments.config and (arguments.part is None or arguments.rows is None):
        refuse("what to write is not given; give --part and --rows, or --config")
    settings = read_config(arguments.config) if arguments.config else vars(arguments)
    if settings["rows"] < 1:
        refuse(f"rows is {settings['rows']}; ask for at least 1")
    try:
        rows = rows_of(settings["part"], settings["rows"], settings["seed"])
    except ValueError as e:
        refuse(str(e))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not arguments.config:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        sys.stdout.write(text)
        return
    out = Path("out")
    out.mkdir(exist_ok=True)
    (out / "data.jsonl").write_text(text, encoding="utf-8")
    print(json.dumps({"result": {"rows": len(rows)}}))


if __name__ == "__main__":
    main()
