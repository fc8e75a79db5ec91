"""MySQL's functions over the operands of a condition: what each takes, and what kind of value it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from gravity.condition import calendar, function, json_path
from gravity.condition.collation import codec_of, parse_collation
from gravity.condition.expression import Cast, ConditionError
from gravity.condition.moment import pad_day, pad_moment, parse_moment
from gravity.condition.operand import (
    NUMBERS,
    TEXTS,
    Frame,
    Kind,
    Operand,
    describe,
    shared_collation,
)
from gravity.condition.signature import DATE_FUNCTIONS, NUMBER_FUNCTIONS

DAY_UNITS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})
"""Units by which a day is moved to a day."""
MOMENT_DIGITS_MAX = 6
DECIMAL_DIGITS = 10
"""Of `CAST(x AS DECIMAL)`."""
TIME_PARTS = ("HOUR", "MINUTE", "SECOND")


def as_text(frame: Frame, operand: Operand, what: str) -> Operand:
    """`operand` as MySQL prints it; `what` needs it.

    Raises:
        ConditionError: how it is printed is not known here.
    """
    if operand.kind in TEXTS or operand.kind == "null":
        return operand
    if operand.kind in ("int", "year"):
        printed = frame.converted(operand, "text", str, "text")
    elif operand.kind == "decimal" and operand.is_printable:
        printed = frame.converted(
            operand, "text", "{:f}".format if operand.is_constant else str, "text"
        )
    elif operand.kind in ("day", "moment", "time") and operand.is_printable:
        printed = replace(operand, kind="text")
    else:
        raise ConditionError(f"{what} of {describe(operand)}", remedy="use it on a text column")
    return replace(printed, collation=parse_collation(None), weak=True, is_printable=True)


def call(frame: Frame, name: str, operands: Sequence[Operand]) -> Operand:
    """The operand that is `name(operands)`.

    Raises:
        ConditionError: an operand of a kind that the function can't take.
    """
    text = f"{name}({', '.join(operand.text for operand in operands)})"
    if any(operand.is_null for operand in operands):
        return frame.constant(None)
    if name in NUMBER_FUNCTIONS:
        return _number(frame, name, operands, text)
    if name in DATE_FUNCTIONS:
        return _date(frame, name, operands, text)
    return _text(frame, name, operands, text)


def _whole(operand: Operand, what: str) -> Operand:
    if operand.kind != "int":
        raise ConditionError(
            f"{what} takes a whole number, not {describe(operand)}", remedy="use CAST"
        )
    return operand


_TEXT_TO_TEXT: Mapping[str, Callable[..., str]] = {
    "LOWER": function.lower,
    "UPPER": function.upper,
    "REVERSE": function.reverse,
    "LTRIM": function.trim_left,
    "RTRIM": function.trim_right,
    "TRIM_BOTH": function.trim,
    "TRIM_LEADING": function.trim_left,
    "TRIM_TRAILING": function.trim_right,
    "CONCAT": function.concat,
}
_TEXT_AND_NUMBERS: Mapping[str, Callable[..., str]] = {
    "SUBSTRING": function.substring,
    "LEFT": function.left,
    "RIGHT": function.right,
}


def _text(frame: Frame, name: str, operands: Sequence[Operand], text: str) -> Operand:
    if name == "LENGTH" and operands[0].kind == "bytes":
        return frame.applied("int", len, operands, text)
    if name in _TEXT_AND_NUMBERS:
        first = as_text(frame, operands[0], name)
        rest = [_whole(operand, name) for operand in operands[1:]]
        made = frame.applied("text", _TEXT_AND_NUMBERS[name], [first, *rest], text)
        return _as_made_of(made, [first])
    texts = [as_text(frame, operand, name) for operand in operands]
    if name in _TEXT_TO_TEXT:
        return _as_made_of(frame.applied("text", _TEXT_TO_TEXT[name], texts, text), texts)
    if name == "CHAR_LENGTH":
        return frame.applied("int", len, texts, text)
    collation = shared_collation(texts)
    if name == "LOCATE":
        return frame.applied("int", function.locate_function(collation), texts, text)
    codec = codec_of(collation)
    if codec is None:
        raise ConditionError(f"{name} of a text in {collation.name}", remedy="use CHAR_LENGTH")
    makers = {"LENGTH": function.length_function, "CRC32": function.crc32_function}
    return frame.applied("int", makers[name](codec), texts, text)


def _as_made_of(made: Operand, texts: Sequence[Operand]) -> Operand:
    return replace(
        made,
        collation=shared_collation(texts),
        weak=all(operand.weak for operand in texts),
        is_printable=True,
    )


_ROUNDING: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "ROUND": (function.round_exact, function.round_float),
    "TRUNCATE": (function.truncate_exact, function.truncate_float),
}
_SIMPLE: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "ABS": (function.absolute, abs),
    "SIGN": (function.sign, function.sign),
    "FLOOR": (function.floor, function.floor_float),
    "CEILING": (function.ceiling, function.ceiling_float),
}
"""Function → of exact numbers, of floats."""


def _number(frame: Frame, name: str, operands: Sequence[Operand], text: str) -> Operand:
    first = frame.numeric(operands[0])
    if name in ("GREATEST", "LEAST"):
        numbers = unified(frame, [frame.numeric(operand) for operand in operands], name)
        return frame.applied(numbers[0].kind, max if name == "GREATEST" else min, numbers, text)
    if name in _ROUNDING:
        rest = [_whole(operand, name) for operand in operands[1:]]
        rounding = _ROUNDING[name][first.kind == "float"]
        return frame.applied(_exact_kind(first), rounding, [first, *rest], text)
    if first.kind in ("int", "year", "bit") and name in ("FLOOR", "CEILING"):
        return replace(first, kind="int", is_column=False)
    if name == "SIGN":
        return frame.applied("int", function.sign, [first], text)
    kind = _exact_kind(first)
    if name in ("FLOOR", "CEILING") and kind == "decimal":
        kind = "int"
    return frame.applied(kind, _SIMPLE[name][first.kind == "float"], [first], text)


def _exact_kind(operand: Operand) -> Kind:
    return operand.kind if operand.kind in ("decimal", "float") else "int"


def _moment(frame: Frame, operand: Operand, what: str) -> Operand:
    """`operand` as a day or moment; a text must be a constant that says one."""
    if operand.kind in ("day", "moment"):
        return operand
    said = parse_moment(operand.value) if operand.kind == "text" and operand.is_constant else None
    if said is None:
        raise ConditionError(
            f"{what} of {describe(operand)}",
            remedy="use it on a date or datetime column, or on 'YYYY-MM-DD'",
        )
    digits = len(said.fraction)
    value = said.day if said.is_day else said.text(digits)
    made = replace(frame.constant(value), kind="day" if said.is_day else "moment")
    return replace(made, digits=0 if said.is_day else digits)


def _date(frame: Frame, name: str, operands: Sequence[Operand], text: str) -> Operand:
    if name in TIME_PARTS and operands[0].kind == "time":
        return frame.applied("int", calendar.time_part_function(name), operands, text)
    moments = [_moment(frame, operand, name) for operand in operands]
    if name == "DATEDIFF":
        return frame.applied("int", calendar.days_apart, moments, text)
    if name == "DATE":
        return replace(
            frame.applied("day", lambda value: value[:10], moments, text), is_printable=True
        )
    if name == "LAST_DAY":
        made = frame.applied("day", calendar.DAY_FUNCTIONS[name], moments, text)
        return replace(made, is_printable=True)
    of_day = calendar.DAY_FUNCTIONS.get(name)
    return frame.applied("int", of_day or calendar.part_function(name), moments, text)


def shift(frame: Frame, operand: Operand, amount: Operand, unit: str) -> Operand:
    """`operand + INTERVAL amount unit`."""
    text = f"{operand.text} + INTERVAL {amount.text} {unit}"
    if operand.is_null or amount.is_null:
        return frame.constant(None)
    operand, amount = _moment(frame, operand, "+ INTERVAL"), _whole(amount, "INTERVAL")
    stays_day = operand.kind == "day" and unit in DAY_UNITS
    digits = MOMENT_DIGITS_MAX if unit == "MICROSECOND" else operand.digits
    wanted = -1 if stays_day else digits

    def moved(value: str, by: int) -> str | None:
        return calendar.shift(value, by, unit, wanted)

    made = frame.applied("day" if stays_day else "moment", moved, [operand, amount], text)
    return replace(made, digits=0 if stays_day else digits, is_printable=True)


def cast(frame: Frame, operand: Operand, to: Cast) -> Operand:
    """`CAST(operand AS type)`.

    Raises:
        ConditionError: what the server would make of it is not known here.
    """
    text = f"CAST({operand.text} AS {to.type})"
    if operand.is_null:
        return operand
    match to.type:
        case "CHAR":
            made = as_text(frame, operand, text)
            if to.length is not None:
                characters = frame.constant(to.length)
                short = frame.applied(
                    "text", function.left, [made, characters], f"{text} {to.length}"
                )
                made = _as_made_of(short, [made])
            return replace(made, is_column=False)
        case "SIGNED" | "UNSIGNED":
            return _cast_whole(frame, operand, to, text)
        case "DECIMAL":
            length = to.length or DECIMAL_DIGITS
            if operand.kind not in NUMBERS | {"text"}:
                raise ConditionError(f"{text}: {describe(operand)}", remedy="cast numbers or text")
            convert = function.decimal_function(length, to.scale)
            value = operand if operand.kind == "text" else frame.numeric(operand)
            made = frame.applied("decimal", convert, [value], f"{text}({length}, {to.scale})")
            return replace(made, is_printable=True)
        case "DATE":
            return call(frame, "DATE", [operand])
        case "DATETIME":
            moment = _moment(frame, operand, text)
            digits = to.length or 0
            if moment.kind == "day":
                made = frame.applied(
                    "moment", lambda v: pad_day(v, digits), [moment], f"{text} {digits}"
                )
            elif moment.digits > digits:
                made = frame.applied(
                    "moment",
                    lambda v: calendar.round_moment(v, digits),
                    [moment],
                    f"{text} {digits}",
                )
            else:
                made = frame.applied(
                    "moment", lambda v: pad_moment(v, digits), [moment], f"{text} {digits}"
                )
            return replace(made, digits=digits, is_printable=True)


def _cast_whole(frame: Frame, operand: Operand, to: Cast, text: str) -> Operand:
    signed = to.type == "SIGNED"
    if operand.kind == "text" and signed:
        return frame.applied("int", function.text_to_signed, [operand], text)
    if operand.kind in NUMBERS and (signed or operand.kind != "float"):
        convert = function.to_signed if signed else function.to_unsigned
        return frame.applied("int", convert, [frame.numeric(operand)], text)
    raise ConditionError(f"{text}: {describe(operand)}", remedy="cast numbers, or text AS SIGNED")


def json_value(frame: Frame, operand: Operand, path: str, *, unquoted: bool) -> Operand:
    """`operand -> path` or `operand ->> path`."""
    if operand.is_null:
        return operand
    if operand.kind not in ("json", "text"):
        raise ConditionError(f"-> of {describe(operand)}", remedy="use it on a JSON column")
    text = f"{operand.text}->{'>' if unquoted else ''}{path!r}"
    made = frame.applied("json", json_path.extractor(path), [operand], f"{operand.text}->{path!r}")
    if not unquoted:
        return made
    plain = frame.converted(made, "text", json_path.unquote, "unquote")
    return replace(plain, text=text, collation=parse_collation("utf8mb4_bin"), is_printable=True)


def unified(frame: Frame, operands: Sequence[Operand], what: str) -> list[Operand]:
    """The operands in one kind, the one that MySQL gives a choice among them; NULLs stay.

    Raises:
        ConditionError: kinds that MySQL turns into text, in a way that is not known here.
    """
    kinds = {operand.kind for operand in operands} - {"null"}
    if kinds <= NUMBERS:
        kind: Kind = "float" if "float" in kinds else "decimal" if "decimal" in kinds else "int"
        return [_as_number(frame, operand, kind) for operand in operands]
    if kinds <= TEXTS | {"int"}:
        return [as_text(frame, operand, what) for operand in operands]
    if len(kinds) == 1 and kinds <= {"day", "time", "bytes"}:
        return list(operands)
    if kinds <= {"day", "moment"}:
        digits = max(operand.digits for operand in operands)
        return [_as_moment(frame, operand, digits) for operand in operands]
    raise ConditionError(
        f"{what} of {' and '.join(describe(operand) for operand in operands)}",
        remedy="choose among values of one type, or use CAST",
    )


def _as_number(frame: Frame, operand: Operand, kind: Kind) -> Operand:
    if operand.kind == "null":
        return operand
    if kind == "float":
        return frame.approximate(operand)
    number = frame.numeric(operand)
    if kind == "decimal" and number.kind != "decimal":
        return frame.converted(number, "decimal", Decimal, "decimal")
    return replace(number, kind=kind)


def _as_moment(frame: Frame, operand: Operand, digits: int) -> Operand:
    if operand.kind == "null" or (operand.kind == "moment" and operand.digits == digits):
        return operand
    pad = pad_day if operand.kind == "day" else pad_moment
    made = frame.applied(
        "moment", lambda value: pad(value, digits), [operand], f"{operand.text} {digits}"
    )
    return replace(made, digits=digits)
