"""Values in another column type, as MySQL would store them; what does not fit is None. Pure.

Exact numbers are rounded half away from zero, floats half to even; a text is a number or a date only as
a whole. Nothing is clipped: a number out of range, a text too long does not fit.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from gravity.batch import Column, Value
from gravity.column import INTEGER_BYTES, ColumnType, UnknownColumnTypeError
from gravity.condition.calendar import round_moment
from gravity.condition.moment import pad_day, parse_moment

Fitter = Callable[[Any], Value]
"""A value that is not NULL to the cell; None: it does not fit."""

TEXT_BYTES: Final = {"tinytext": 255, "text": 65_535, "mediumtext": 1 << 24, "longtext": 1 << 32}
_BYTES_PER_CHARACTER = 4
# No digit is tried twice: a long text that is almost a number takes as long as any other.
_NUMBER = re.compile(r"\s*+[+-]?(\d++\.?\d*+|\.\d++)([eE][+-]?\d++)?+\s*+")
_EXPONENT_MAX, _EXPONENT_DIGITS = 400, 3
_WIDE: Final = Context(prec=1000)
_REAL_MAX: Final = {"float": 10**38, "double": 10**308}
"""Texts of larger numbers fit no type: what they mean is not written out."""
_DIGITS_MAX, _SCALE_MAX, _FRACTION_MAX = 65, 30, 6
_WHOLE = ("int", "year")
KINDS: Final = (
    "tinyint ... bigint [unsigned], decimal(m,d), float, double, char(n), varchar(n), tinytext ... "
    "longtext, date, datetime(n)"
)
"""The types that a value can be given."""
_TARGETS: Final = frozenset(
    (*INTEGER_BYTES, *TEXT_BYTES, "decimal", "float", "double", "char", "varchar", "date", "datetime")
)  # fmt: skip
_SYNONYMS: Final = {"integer": "int", "numeric": "decimal", "bool": "tinyint", "boolean": "tinyint"}


class FitError(ValueError):
    """A type that values can't be given; the text says why."""


def parse_type(text: str) -> ColumnType:
    """The type that a user wrote.

    Raises:
        FitError: it is none, or one that values can't be given.
    """
    plain = re.sub(r"\s*([(,])\s*|\s+(\))", r"\1\2", text.strip().lower())
    name = re.match(r"[a-z]*", plain)[0]  # type: ignore[index]  # it matches the empty text
    plain = _SYNONYMS.get(name, name) + plain[len(name) :]
    if plain.removesuffix(" unsigned") == "decimal":
        plain = plain.replace("decimal", "decimal(10)")
    plain = re.sub(r"^decimal\((\d+)\)", r"decimal(\1,0)", plain)
    try:
        kind = ColumnType.parse(plain)
    except UnknownColumnTypeError:
        raise FitError(f"{text!r} is no type that is known here: write {KINDS}") from None
    if kind.name not in _TARGETS:
        raise FitError(f"nothing can be made a {kind.name} here: write {KINDS}")
    digits, length = kind.precision or 0, kind.length
    if kind.name == "decimal" and not (
        kind.scale <= digits <= _DIGITS_MAX and kind.scale <= _SCALE_MAX
    ):
        raise FitError(f"{text!r}: a decimal has 65 digits at most, 30 of them after the point")
    if kind.name == "decimal" and not digits:
        raise FitError(f"{text!r}: a decimal without digits")
    if kind.name == "datetime" and kind.scale > _FRACTION_MAX:
        raise FitError(f"{text!r}: a datetime has 6 digits of fraction at most")
    if length is not None and not 1 <= length <= {"char": 255, "varchar": 16_383}[kind.name]:
        raise FitError(f"{text!r}: char takes 1 to 255 characters, varchar 1 to 16383")
    return kind


def kind_of(column: ColumnType) -> str:
    """What the cells of a column are, in the words of `fitter`; "" = none of them."""
    name = column.name
    if name in INTEGER_BYTES:
        return "int"
    if name in ("char", "varchar", "enum", "set", *TEXT_BYTES, "json"):
        return "text"
    return {
        "year": "year", "decimal": "decimal", "float": "float", "double": "float", "date": "day",
        "datetime": "moment", "timestamp": "moment", "time": "time",
    }.get(name, "")  # fmt: skip


def fitter(kind: str, to: ColumnType) -> Fitter:
    """How values of a kind become cells of a type.

    `kind`: int, year, decimal (Decimal, or its text), float, text, day, moment or time.

    Raises:
        FitError: no value of that kind is one of that type.
    """
    if to.name in INTEGER_BYTES:
        return _to_number(kind, to, lambda number: _integer(number, to))
    if to.name == "decimal":
        return _to_number(kind, to, lambda number: _decimal(number, to))
    if to.name in ("float", "double"):
        return _to_number(kind, to, lambda number: _float(number, to))
    if to.name == "date":
        return _to_day(kind)
    if to.name == "datetime":
        return _to_moment(kind, to.scale)
    return _to_text(kind, to)


def _refused(kind: str, to: ColumnType) -> FitError:
    names = {"day": "a date", "moment": "a datetime", "text": "a text", "": "such a value"}
    return FitError(f"{names.get(kind, f'a {kind}')} can't become {to.text}")


def _to_number(kind: str, to: ColumnType, made: Callable[[Any], Value]) -> Fitter:
    if kind == "text":

        def of_text(text: str) -> Value:
            match = _NUMBER.fullmatch(text)
            if match is None:
                return None
            # An exponent may have more digits than an int is read from.
            exponent = (match[2] or "").lstrip("eE+-0")
            if len(exponent) > _EXPONENT_DIGITS or int(exponent or 0) > _EXPONENT_MAX:
                return None
            return made(Decimal(text.strip()))

        return of_text
    if kind == "decimal":
        return lambda value: made(Decimal(value))
    if kind in (*_WHOLE, "float"):
        return made
    raise _refused(kind, to)


def _integer(number: float | Decimal, to: ColumnType) -> Value:
    if not isinstance(number, int) and _is_beyond(Decimal(number)):
        return None
    if isinstance(number, float):
        whole = int(Decimal(number).quantize(Decimal(1), ROUND_HALF_EVEN, _WIDE))
    elif isinstance(number, Decimal):
        whole = int(number.to_integral_value(ROUND_HALF_UP))
    else:
        whole = number
    low, high = integer_bounds(to)
    return whole if low <= whole <= high else None


def _decimal(number: float | Decimal, to: ColumnType) -> Value:
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if _is_beyond(exact):
        return None
    rounded = exact.quantize(Decimal(1).scaleb(-to.scale), ROUND_HALF_UP, _WIDE)
    if rounded and rounded.adjusted() >= (to.precision or 0) - to.scale:
        return None
    if to.unsigned and rounded < 0:
        return None
    return f"{rounded.copy_abs() if rounded.is_zero() else rounded:f}"


def _is_beyond(number: Decimal) -> bool:
    """Whether no exact type holds it, so that it is not to be written out; so are what overflowed, and NaN."""
    return not number.is_finite() or (not number.is_zero() and number.adjusted() > _DIGITS_MAX)


def _float(number: float | Decimal, to: ColumnType) -> Value:
    if isinstance(number, Decimal) and not number.is_finite():
        return None
    try:
        value = float(number)
        if to.name == "float":
            [value] = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return None
    return None if not math.isfinite(value) or (to.unsigned and value < 0) else value


def _to_day(kind: str) -> Fitter:
    if kind == "day":
        return str
    if kind == "moment":
        return lambda text: str(text)[:10]
    if kind == "text":

        def of_text(text: str) -> Value:
            said = parse_moment(text)
            return None if said is None else said.day

        return of_text
    raise _refused(kind, ColumnType("date"))


def _to_moment(kind: str, digits: int) -> Fitter:
    if kind == "day":
        return lambda text: pad_day(text, digits)
    if kind == "moment":
        return lambda text: _moment(text, digits)
    if kind == "text":

        def of_text(text: str) -> Value:
            said = parse_moment(text)
            return None if said is None else _moment(said.text(_FRACTION_MAX), digits)

        return of_text
    raise _refused(kind, ColumnType("datetime", scale=digits))


def _moment(text: str, digits: int) -> str:
    whole, _, fraction = text.partition(".")
    if len(fraction) <= digits:
        return f"{whole}.{fraction.ljust(digits, '0')}" if digits else whole
    return round_moment(text, digits) or whole


def _to_text(kind: str, to: ColumnType) -> Fitter:
    if kind not in (*_WHOLE, "decimal", "text", "day", "moment", "time"):
        # How a server prints a float depends on the server.
        raise _refused(kind, to)

    def of_value(value: Any) -> Value:
        text = f"{value:f}" if isinstance(value, Decimal) else str(value)
        if to.name == "char":
            text = text.rstrip(" ")
        if to.length is not None:
            return text if len(text) <= to.length else None
        return text if len(text.encode()) <= TEXT_BYTES[to.name] else None

    return of_value


def integer_bounds(kind: ColumnType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    bits = 8 * INTEGER_BYTES[kind.name]
    return (0, (1 << bits) - 1) if kind.unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)


def printed_length(kind: ColumnType) -> int:
    """Characters that a cell's text takes at most."""
    if kind.name in INTEGER_BYTES:
        return max(len(str(bound)) for bound in integer_bounds(kind))
    if kind.labels:
        sizes = list(map(len, kind.labels))
        return max(sizes) if kind.name == "enum" else sum(sizes) + len(sizes) - 1
    fraction = kind.scale + 1 if kind.scale else 0
    fixed = {"year": 4, "date": 10, "datetime": 19 + fraction, "timestamp": 19 + fraction, "time": 10 + fraction}  # fmt: skip
    if kind.name in fixed:
        return fixed[kind.name]
    if kind.name == "decimal":
        return (kind.precision or 0) + 3
    if kind.length is not None:
        return kind.length
    return TEXT_BYTES.get(kind.name, 1 << 32)


def always_fits(here: ColumnType, to: ColumnType) -> bool:
    """Whether every value of a column of type `here` fits `to`. `fitter` must take them at all."""
    kind = kind_of(here)
    if to.name in ("date", "datetime"):
        return kind in ("day", "moment")
    if to.name in TEXT_BYTES or to.name in ("char", "varchar"):
        return _text_always_fits(here, to)
    if kind == "text":
        return False
    if kind == "float":
        return here == to or (to.name == "double" and not to.unsigned)
    low, high = _range(here, to.scale)
    if to.name in ("float", "double"):
        return high < _REAL_MAX[to.name] and (not to.unsigned or low >= 0)
    if to.name == "decimal":
        whole = (to.precision or 0) - to.scale
        return max(abs(low), high) < 10**whole and (not to.unsigned or low >= 0)
    least, most = integer_bounds(to)
    return least <= low and high <= most


def _text_always_fits(here: ColumnType, to: ColumnType) -> bool:
    needed = printed_length(here)
    if to.length is not None:
        return needed <= to.length
    size = TEXT_BYTES.get(here.name)
    if here.name == "json":
        size = 1 << 32
    return (needed * _BYTES_PER_CHARACTER if size is None else size) <= TEXT_BYTES[to.name]


def _range(here: ColumnType, digits: int) -> tuple[int, int]:
    """Whole numbers between which a column's numbers lie once they are rounded to `digits` digits."""
    if here.name in INTEGER_BYTES:
        return integer_bounds(here)
    if here.name == "year":
        return 0, 2155
    most = 10 ** ((here.precision or 0) - here.scale)
    most -= here.scale <= digits  # Else the greatest are rounded up to a digit more.
    return (0 if here.unsigned else -most), most


def keeps_apart(here: ColumnType, to: ColumnType) -> bool:
    """Whether two different values of `here` are different in `to`, where all of them fit.

    Never in a TEXT, by which no table can be keyed.
    """
    kind = kind_of(here)
    if to.name in TEXT_BYTES:
        return False
    if here.name in INTEGER_BYTES or here.name == "year":
        return to.name not in ("float", "double")
    if kind == "decimal":
        return to.name == "varchar" or (to.name == "decimal" and to.scale >= here.scale)
    if kind in ("day", "moment", "time"):
        same = to.name == "date" and kind == "day"
        return same or to.name == "varchar" or (to.name == "datetime" and to.scale >= here.scale)
    return kind == "text" and here.name != "json" and (to.name != "char" or here.name == "char")


def cast_column(column: Column, to: ColumnType, *, or_null: bool) -> Column:
    """The column once it is cast; a text made of a text keeps its collation."""
    nullable = column.nullable or or_null
    if not to.has_charset:
        return Column(column.name, to.text, nullable)
    if ColumnType.parse(column.type).has_charset:
        return Column(column.name, to.text, nullable, column.charset, column.collation)
    return Column(column.name, to.text, nullable, "utf8mb4", "utf8mb4_bin")
