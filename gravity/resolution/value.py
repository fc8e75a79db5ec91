"""Cells as resolving sees them: equal when a target would hold the same, ordered, added, united."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, InvalidOperation

from gravity.batch import Column, Value
from gravity.column import ColumnType, UnknownColumnTypeError

Comparable = tuple[int, Decimal | str | bytes]
"""(kind, value): numbers before texts before bytes, so that any two cells can be compared."""

_FRACTION_TYPES = ("datetime", "timestamp", "time")
_NUMBER, _TEXT, _BYTES = 0, 1, 2
_EXACT = Context(prec=200)
"""Wider than the sum of any number of 65-digit DECIMALs that a table can hold."""
_FLOAT_DIGITS = range(6, 10)
"""Significant digits that a 32-bit float may need to be told from its neighbours."""


def normalised(row: Sequence[Value], columns: Sequence[Column]) -> dict[str, object]:
    """The row such that rows that are equal here are equal in a target."""
    return {
        column.name: normalised_value(value, column.type)
        for column, value in zip(columns, row, strict=True)
    }


def same_rows(
    one: Sequence[Value],
    one_columns: Sequence[Column],
    other: Sequence[Value],
    other_columns: Sequence[Column],
) -> bool:
    """Whether a target would hold the same: as `normalised` of both, but quicker."""
    if one_columns is not other_columns and one_columns != other_columns:
        return normalised(one, one_columns) == normalised(other, other_columns)
    for value, other_value, column in zip(one, other, one_columns, strict=True):
        if value == other_value:
            continue
        if type(value) is int and type(other_value) is int:
            return False
        if normalised_value(value, column.type) != normalised_value(other_value, column.type):
            return False
    return True


def normalised_value(value: Value, type_: str) -> object:
    """The cell such that cells that are equal here are equal in a target.

    1.0 and 1.00 are one DECIMAL and 1 one number with them; `10:00:00` and `10:00:00.000` are one
    time; a FLOAT is the shortest text that means it; members of a JSON object have no order.
    """
    if isinstance(value, str):
        return _normalised_text(value, type_)
    if isinstance(value, float):
        return _float_text(value, single=type_.startswith("float"))
    return value


def _normalised_text(value: str, type_: str) -> object:
    if type_.startswith("decimal"):
        # By text and not by number: arithmetic would round a DECIMAL of up to 65 digits.
        text = value.rstrip("0").rstrip(".") if "." in value else value
        return int(text) if text.lstrip("-").isdecimal() else text
    if type_.startswith(_FRACTION_TYPES):
        return value.rstrip("0").rstrip(".") if "." in value else value
    if type_ == "json":
        return _canonical_json(value)
    if type_.startswith("set("):
        return ",".join(_in_declared_order(value.split(","), type_))
    return value


def _float_text(value: float, *, single: bool) -> object:
    if value.is_integer():
        return int(value)
    if single:
        for digits in _FLOAT_DIGITS:
            text = f"{value:.{digits}g}"
            if struct.pack(">f", float(text)) == struct.pack(">f", value):
                return repr(float(text))
    return repr(value)


def _canonical_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return text


def comparable(value: Value, type_: str) -> Comparable | None:
    """The cell as something that can be ordered; None for NULL."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return (_BYTES, value)
    if isinstance(value, str):
        if type_.startswith("time") and not type_.startswith("timestamp"):
            return (_NUMBER, _seconds(value))
        number = as_number(value) if type_.startswith("decimal") else None
        return (_TEXT, str(_normalised_text(value, type_))) if number is None else (_NUMBER, number)
    return (_NUMBER, Decimal(value))


def _seconds(text: str) -> Decimal:
    """A TIME such as `-101:00:00.5` as seconds."""
    hours, minutes, seconds = text.lstrip("-").split(":")
    total = Decimal(int(hours) * 3600 + int(minutes) * 60) + Decimal(seconds)
    return -total if text.startswith("-") else total


def as_number(value: Value) -> Decimal | None:
    """The cell as a finite number; None where it is none."""
    if value is None or isinstance(value, bytes):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def total(cells: Iterable[tuple[Value, str]]) -> Value:
    """The sum of cells, each with its type; NULLs and texts that are no numbers add nothing.

    Exact for integers and DECIMAL. None when there is no number at all.
    """
    values = [value for value, _ in cells if as_number(value) is not None]
    if not values:
        return None
    if all(isinstance(value, int) for value in values):
        return sum(value for value in values if isinstance(value, int))
    if all(isinstance(value, int | float) for value in values):
        return math.fsum(value for value in values if isinstance(value, int | float))
    result = Decimal(0)
    for value in values:
        result = _EXACT.add(result, as_number(value) or Decimal(0))
    return f"{result:f}"


def union(cells: Sequence[tuple[Value, str]]) -> Value:
    """The members of all cells: of SETs and comma-separated texts, or of JSON arrays.

    Members stand in the order of their first appearance, those of a SET in declared order. A cell
    that has no members (a number, bytes, a JSON object) is the union if it comes first, and is else
    left out. None when every cell is NULL.
    """
    present = [(value, type_) for value, type_ in cells if value is not None]
    if not present:
        return None
    first, type_ = present[0]
    if not isinstance(first, str):
        return first
    texts = [value for value, _ in present if isinstance(value, str)]
    if type_ == "json":
        return _json_union(texts)
    members = dict.fromkeys(member for text in texts for member in text.split(",") if member)
    return ",".join(_in_declared_order(list(members), type_))


def _json_union(texts: Sequence[str]) -> str:
    arrays = [_array(text) for text in texts]
    if arrays[0] is None:
        return texts[0]
    members: dict[str, object] = {}
    for array in arrays:
        for member in array or ():
            members.setdefault(json.dumps(member, sort_keys=True), member)
    return json.dumps(list(members.values()), separators=(", ", ": "), ensure_ascii=False)


def _array(text: str) -> list[object] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _in_declared_order(members: Sequence[str], type_: str) -> list[str]:
    if not type_.startswith("set("):
        return list(members)
    try:
        labels = ColumnType.parse(type_).labels
    except UnknownColumnTypeError:
        return list(members)
    place = {label: index for index, label in enumerate(labels)}
    return sorted(members, key=lambda member: (place.get(member, len(labels)), member))
