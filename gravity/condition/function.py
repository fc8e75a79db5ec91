"""What MySQL's functions do with values: pure Python, NULL kept away by the caller."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from gravity.condition.collation import Collation, fold_function
from gravity.condition.number import EXACT

INT64_MAX, UINT64_MAX = 2**63 - 1, 2**64 - 1
_INT64_DIGITS = 20
"""So many are beyond 64 bits, whatever they and those behind them are."""
_INT_PREFIX = re.compile(r"[ \t\n\r\v\f]*([+-]?\d+)")
_DECIMAL_PREFIX = re.compile(r"[ \t\n\r\v\f]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)")
_DIGITS_MAX = 400
"""Digits beyond which rounding a float changes nothing."""


def lower(text: str) -> str:
    """LOWER: character by character, as MySQL has no letter that becomes two."""
    return text.lower() if text.isascii() else "".join(map(_lower, text))


def upper(text: str) -> str:
    """UPPER: character by character."""
    return text.upper() if text.isascii() else "".join(map(_upper, text))


def _lower(character: str) -> str:
    folded = character.lower()
    return folded if len(folded) == 1 else character


def _upper(character: str) -> str:
    folded = character.upper()
    return folded if len(folded) == 1 else character


def substring(text: str, start: int, length: int | None = None) -> str:
    """SUBSTRING: from 1 on, or from the end where `start` is negative; empty where it is 0."""
    first = start - 1 if start > 0 else len(text) + start
    if start == 0 or first < 0 or (length is not None and length <= 0):
        return ""
    return text[first:] if length is None else text[first : first + length]


def left(text: str, count: int) -> str:
    """LEFT."""
    return text[:count] if count > 0 else ""


def right(text: str, count: int) -> str:
    """RIGHT."""
    return text[-count:] if count > 0 else ""


def trim_left(text: str, removed: str = " ") -> str:
    """TRIM(LEADING removed FROM text): whole repetitions, case counts."""
    while removed and text.startswith(removed):
        text = text[len(removed) :]
    return text


def trim_right(text: str, removed: str = " ") -> str:
    """TRIM(TRAILING removed FROM text)."""
    while removed and text.endswith(removed):
        text = text[: -len(removed)]
    return text


def trim(text: str, removed: str = " ") -> str:
    """TRIM(BOTH removed FROM text)."""
    return trim_right(trim_left(text, removed), removed)


def concat(*parts: str) -> str:
    """CONCAT."""
    return "".join(parts)


def reverse(text: str) -> str:
    """REVERSE."""
    return text[::-1]


def locate_function(collation: Collation) -> Callable[[str, str], int]:
    """LOCATE(part, text): the place of the first find, from 1; 0 = nowhere."""
    fold = fold_function(collation)
    return lambda part, text: fold(text).find(fold(part)) + 1


def length_function(codec: str) -> Callable[[str], int]:
    """LENGTH in bytes of a text stored in `codec`."""
    return lambda text: (
        len(text) if text.isascii() and codec == "utf-8" else len(text.encode(codec, "replace"))
    )


def crc32_function(codec: str) -> Callable[[str], int]:
    """CRC32 of a text's bytes in `codec`."""
    return lambda text: zlib.crc32(text.encode(codec, "replace"))


def sign(number: float | Decimal) -> int:
    """SIGN."""
    return (number > 0) - (number < 0)


def absolute(number: int | Decimal) -> int | Decimal:
    """ABS, without rounding."""
    return number.copy_abs() if isinstance(number, Decimal) else abs(number)


def floor(number: Decimal) -> int:
    """FLOOR of a decimal."""
    return int(number.to_integral_value(ROUND_FLOOR, EXACT))


def ceiling(number: Decimal) -> int:
    """CEILING of a decimal."""
    return int(number.to_integral_value(ROUND_CEILING, EXACT))


def floor_float(number: float) -> float:
    """FLOOR of a float, which stays one."""
    return float(math.floor(number)) if math.isfinite(number) else number


def ceiling_float(number: float) -> float:
    """CEILING of a float, which stays one."""
    return float(math.ceil(number)) if math.isfinite(number) else number


def round_exact(number: int | Decimal, digits: int = 0) -> int | Decimal:
    """ROUND of an exact number: halves away from 0."""
    return _quantized(number, digits, ROUND_HALF_UP)


def truncate_exact(number: int | Decimal, digits: int) -> int | Decimal:
    """TRUNCATE of an exact number."""
    return _quantized(number, digits, ROUND_DOWN)


def _quantized(number: int | Decimal, digits: int, rounding: str) -> int | Decimal:
    decimal = Decimal(number)
    if digits >= -int(decimal.as_tuple().exponent):
        return number
    if -digits > _DIGITS_MAX:
        return 0 if isinstance(number, int) else Decimal(0)
    step = Decimal((0, (1,), -digits))
    result = EXACT.multiply(EXACT.divide(decimal, step).to_integral_value(rounding, EXACT), step)
    return int(result) if isinstance(number, int) else result


def round_float(number: float, digits: int = 0) -> float:
    """ROUND of a float: halves to the even digit, by way of a product, as the C library does."""
    return _scaled(number, digits, round)


def truncate_float(number: float, digits: int) -> float:
    """TRUNCATE of a float."""
    return _scaled(number, digits, math.trunc)


def _scaled(number: float, digits: int, rounded: Callable[[float], float]) -> float:
    if not math.isfinite(number):
        return number
    power = 10.0 ** min(abs(digits), 308)
    if digits < 0:
        return 0.0 if abs(digits) > 308 else rounded(number / power) * power  # noqa: PLR2004
    product = number * power
    return number if not math.isfinite(product) else rounded(product) / power


def to_signed(number: Decimal | float) -> int:
    """CAST(number AS SIGNED), at most what 64 bits hold."""
    if isinstance(number, float):
        whole = round(number) if math.isfinite(number) else 0
    else:
        whole = int(round_exact(number))
    if isinstance(number, int):
        # 64 bits are reinterpreted, as in MySQL.
        return whole if whole <= INT64_MAX else whole - UINT64_MAX - 1
    return max(-INT64_MAX - 1, min(INT64_MAX, whole))


def to_unsigned(number: int | Decimal) -> int:
    """CAST(number AS UNSIGNED): a negative whole number is reinterpreted, a negative decimal is 0."""
    if isinstance(number, int):
        return number & UINT64_MAX
    return max(0, min(UINT64_MAX, int(round_exact(number))))


def text_to_signed(text: str) -> int:
    """CAST(text AS SIGNED): the digits at its beginning."""
    match = _INT_PREFIX.match(text)
    if match is None:
        return 0
    # However many digits there are: Python reads no int from more than some thousand.
    digits = match[1].lstrip("+-0")[:_INT64_DIGITS]
    whole = -int(digits or 0) if match[1].startswith("-") else int(digits or 0)
    return max(-INT64_MAX - 1, min(INT64_MAX, whole))


def decimal_function(length: int, scale: int) -> Callable[[int | float | Decimal | str], Decimal]:
    """CAST(value AS DECIMAL(length, scale)): halves away from 0, too large a number cut to the largest."""
    largest = Decimal((0, (9,) * length, -scale))
    step = Decimal((0, (1,), -scale))

    def convert(value: float | Decimal | str) -> Decimal:
        if isinstance(value, str):
            match = _DECIMAL_PREFIX.match(value)
            value = Decimal(match[1]) if match is not None else Decimal(0)
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if number.is_nan():
            return Decimal(0).quantize(step)  # Of a sum that overflowed, which MySQL refuses.
        if number.copy_abs() > largest:
            return largest.copy_sign(number)
        rounded = number.quantize(step, ROUND_HALF_UP, EXACT)
        return largest.copy_sign(number) if rounded.copy_abs() > largest else rounded

    return convert
