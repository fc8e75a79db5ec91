"""MySQL's arithmetic over int, Decimal and float, and its reading of texts as numbers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Clamped, Context, Decimal, DivisionByZero, InvalidOperation, Overflow

# More digits than any sum or product of MySQL's 65-digit decimals: nothing is ever rounded.
EXACT = Context(prec=1000, traps=[Clamped, DivisionByZero, InvalidOperation, Overflow])

_PREFIX = re.compile(r"[ \t\n\r\v\f]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_INTEGER = re.compile(r"[ \t\n\r\v\f]*[+-]?\d+[ \t\n\r\v\f]*")

DIGITS_PER_WORD = 9
"""MySQL keeps a decimal's fraction in words of this many digits, and divides to whole words."""
DIVISION_DIGITS = 4
"""`div_precision_increment`: digits that a division adds to its dividend's (the default)."""


_BITS_64 = 2**64 - 1


def _shifted_left(value: int, places: int) -> int:
    return (value << places) & _BITS_64 if 0 <= places < 64 else 0  # noqa: PLR2004


def _shifted_right(value: int, places: int) -> int:
    return (value & _BITS_64) >> places if 0 <= places < 64 else 0  # noqa: PLR2004


BITWISE: Mapping[str, Callable[[int, int], int]] = {
    "&": lambda left, right: left & right & _BITS_64,
    "|": lambda left, right: (left | right) & _BITS_64,
    "<<": _shifted_left,
    ">>": _shifted_right,
}
"""Operators over 64 bits without a sign."""


def text_to_float(text: str) -> float:
    """The number at the beginning of `text`, 0 if there is none: `'12abc'` is 12, `'abc'` is 0."""
    match = _PREFIX.match(text)
    if match is None:
        return 0.0
    number = float(match[1])
    return math.copysign(sys.float_info.max, number) if math.isinf(number) else number


def text_to_int(text: str) -> int | None:
    """The whole number that `text` says, None if it says anything else."""
    return int(text) if _INTEGER.fullmatch(text) else None


def divide(left: int | Decimal, right: int | Decimal) -> Decimal | None:
    """`left / right` cut off where MySQL cuts it off; None if `right` is 0."""
    if right == 0:
        return None
    dividend, divisor = Decimal(left), Decimal(right)
    left_digits, right_digits = _fraction_digits(dividend), _fraction_digits(divisor)
    left_words, right_words = _whole_words(left_digits), _whole_words(right_digits)
    spare = (left_words - left_digits) + (right_words - right_digits)
    digits = _whole_words(left_words + right_words + max(0, DIVISION_DIGITS - spare))
    quotient = EXACT.divide_int(EXACT.scaleb(dividend, digits), divisor)
    return EXACT.scaleb(quotient, -digits)


def divide_float(left: float, right: float) -> float | None:
    """`left / right`; None if `right` is 0."""
    return left / right if right else None


def divide_whole(left: int | Decimal, right: int | Decimal) -> int | None:
    """`left DIV right`, rounded towards 0; None if `right` is 0."""
    if right == 0:
        return None
    return int(EXACT.divide_int(Decimal(left), Decimal(right)))


def remainder(left: int | Decimal, right: int | Decimal) -> int | Decimal | None:
    """`left % right` with the sign of `left`; None if `right` is 0."""
    if right == 0:
        return None
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return EXACT.remainder(Decimal(left), Decimal(right))


def remainder_float(left: float, right: float) -> float | None:
    """`left % right` with the sign of `left`; None if `right` is 0, or `left` has overflowed."""
    return math.fmod(left, right) if right and math.isfinite(left) else None


def _fraction_digits(number: Decimal) -> int:
    return max(0, -int(number.as_tuple().exponent))


def _whole_words(digits: int) -> int:
    return -(-digits // DIGITS_PER_WORD) * DIGITS_PER_WORD
