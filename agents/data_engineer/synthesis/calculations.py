"""Calculations that stand in a text, done again: `11 × 5 = 55` comes out, `11 × 5 = 56` does not. No code is run."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-"})
_EQUALS = re.compile(r"(?<![<>=!:])[=≈](?!=)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_CALCULATION = r"[\d.\s()+\-*/^eE]"
_BEFORE = re.compile(rf"{_CALCULATION}+$")
_AFTER = re.compile(rf"\s*(?:[-+]?\(?\d{_CALCULATION}*)")
_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NOT_A_LEFT_SIDE = re.compile(
    r"[\w.]$|\d:$|\b(?:[A-Za-z]|sin|cos|tan|log|ln|exp|sqrt|of|than|per|mod|times|plus|minus|over|k?g|[kcm]m)\s*$|[)\]}%°√]\s*$"
)
"""What stands before a calculation whose beginning was not read: a variable, a function, a unit, a bracket."""
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
LONGEST = 200
"""Characters of a calculation; a longer one is left alone."""
LARGEST_POWER = 64.0


@dataclass(frozen=True, slots=True)
class Calculation:
    """Two sides that a text says are equal."""

    said: str
    left: float
    right: float
    tolerance: float
    """By how much the right side may be off: half a unit of its last digit, a whole one behind a decimal point."""

    @property
    def holds(self) -> bool:
        return abs(self.left - self.right) <= self.tolerance + 1e-9 * abs(self.left)


def calculations(text: str) -> list[Calculation]:
    """The calculations in numbers alone that `text` writes out, in order: an operator on the left, a value after `=`.

    What holds a variable, a function or a unit among the numbers is no such calculation and is left alone.
    """
    plain = _THOUSANDS.sub("", text.translate(_SIGNS))
    return [
        found
        for line in plain.splitlines()
        for sides in [_EQUALS.split(line)]
        for left, right in pairwise(sides)
        if (found := _calculation(left, right)) is not None
    ]


def value_of(expression: str) -> float | None:
    """The value of an expression of numbers, + - * / ^ and brackets; None for anything else."""
    written = _THOUSANDS.sub("", expression.translate(_SIGNS)).strip()
    if not written or len(written) > LONGEST:
        return None
    try:
        return _evaluated(ast.parse(written.replace("^", "**"), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def numbers_in(text: str) -> list[tuple[float, float]]:
    """The numbers that a text writes in digits, signs aside, each with the tolerance of its last digit."""
    plain = _THOUSANDS.sub("", text.translate(_SIGNS))
    return [(float(found), _tolerance(found)) for found in _NUMBER.findall(plain)]


def is_among(value: float, text: str) -> bool:
    """Whether a text names the value, rounded as it may be."""
    return any(abs(abs(value) - number) <= off + 1e-9 * abs(value) for number, off in numbers_in(text))


def _calculation(before: str, after: str) -> Calculation | None:
    found = _BEFORE.search(before.rstrip())
    shown = _AFTER.match(after)
    if not found or not shown or after[shown.end() :].lstrip().startswith(("%", "°", "√")):
        return None
    written, rest = found[0], before.rstrip()[: found.start()]
    expression = written.strip()
    if expression[:1] in "+-*/^eE" and rest.strip():
        return None  # the calculation begins further left, with something that is no number
    if _NOT_A_LEFT_SIDE.search(rest if not written[:1].isspace() else f"{rest} "):
        return None
    left = value_of(expression) if re.search(r"[\d)]\s*[-+*/^]", expression) else None
    result = _longest_value(shown[0])
    if left is None or result is None:
        return None
    right, digits = result
    said = f"{expression} = {digits}"
    return Calculation(said, left, right, _tolerance(digits))


def _longest_value(text: str) -> tuple[float, str] | None:
    """The value of the longest beginning of a text that is an expression, and that beginning."""
    words = text.strip()
    while words:
        value = value_of(words)
        if value is not None:
            return value, words
        words = words[:-1].rstrip()
    return None


def _tolerance(digits: str) -> float:
    """Of a single number; what is calculated itself has to agree but for rounding errors."""
    if not _NUMBER.fullmatch(digits.lstrip("-+").strip()):
        return 0.0
    mantissa, _, exponent = digits.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - decimals)
    return unit if decimals or exponent else 0.5 * unit


def _evaluated(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _evaluated(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluated(node.left), _evaluated(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > LARGEST_POWER:
            raise ValueError("too large a power")
        value = _OPERATORS[type(node.op)](left, right)
        if isinstance(value, complex):
            raise ValueError("no real number")
        return value
    raise ValueError("not a number")
