"""What a column that was just added holds in the rows that were there. Pure.

Only what is certain is told: where a server may convert, round or compute, the rows are read again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final

from gravity.column import INTEGER_BYTES, ColumnType
from gravity_collector.ddl.column_definition import Definition, is_ascii
from gravity_collector.ddl.sql_token import Token, TokenKind


@dataclass(frozen=True, slots=True)
class Fill:
    """The value in every row that was there, as a cell's text; None = NULL."""

    text: str | None


def fill_of(definition: Definition) -> Fill | None:
    """What an added column holds; None where that is not certain."""
    kind = definition.type
    if kind is None or not definition.is_certain or definition.has_expression:
        return None
    nullable, default = definition.nullable, definition.default
    if nullable is None and kind.name == "timestamp":
        # NOT NULL and CURRENT_TIMESTAMP by themselves without explicit_defaults_for_timestamp.
        return None
    if default is not None and default.word != "NULL":
        text = _constant(default, kind) if not definition.rounds else None
        return None if text is None else Fill(text)
    if nullable is not False and not definition.is_primary:
        return Fill(None)
    if definition.is_primary:
        return None
    implicit = _implicit(kind)
    return None if implicit is None else Fill(implicit)


def _implicit(kind: ColumnType) -> str | None:
    """What NOT NULL without a default puts into rows."""
    if kind.name in INTEGER_BYTES or kind.name in ("float", "double", "bit"):
        return "0"
    if kind.name == "decimal":
        return f"{Decimal(0):.{kind.scale}f}"
    if kind.name == "enum":
        return kind.labels[0] if kind.labels else None
    if kind.name in ("varchar", "char", "set", "varbinary") or kind.name.endswith(("text", "blob")):
        return ""
    fraction = f".{'0' * kind.scale}" if kind.scale else ""
    zero = {
        "date": "0000-00-00",
        "datetime": f"0000-00-00 00:00:00{fraction}",
        "time": f"00:00:00{fraction}",
    }
    return zero.get(kind.name)


def _constant(default: Token, kind: ColumnType) -> str | None:
    """The cell that a literal becomes, as text; None where a conversion would have to be guessed."""
    convert = _CONVERT.get(kind.name)
    text = {"TRUE": "1", "FALSE": "0"}.get(default.word, default.text)
    if convert is None or not is_ascii(text):
        return None
    if default.kind is TokenKind.BITS:
        return _bits(text, kind)
    if default.kind is not TokenKind.TEXT and kind.name not in _FROM_NUMBER:
        return None
    return convert(text, kind)


def _bits(text: str, kind: ColumnType) -> str | None:
    if kind.name != "bit":
        return None
    body = text[1:].strip("'") if text[0] in "bBxX" else text[2:]
    number = int(body or "0", 2 if text[0] in "bB" or text[:2] == "0b" else 16)
    return str(number) if number < 1 << (kind.length or 1) else None


def _integer(text: str, kind: ColumnType) -> str | None:
    if not re.fullmatch(r"-?\d{1,20}", text):
        return None
    bits = 8 * INTEGER_BYTES[kind.name]
    low, high = (0, (1 << bits) - 1) if kind.unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return str(int(text)) if low <= int(text) <= high else None


def _bit(text: str, kind: ColumnType) -> str | None:
    fits = re.fullmatch(r"\d{1,19}", text) and int(text) < 1 << (kind.length or 1)
    return str(int(text)) if fits else None


def _decimal(text: str, kind: ColumnType) -> str | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    scale, precision = kind.scale, kind.precision or 10
    if not isinstance(exponent, int) or -exponent > scale or (kind.unsigned and number < 0):
        return None
    if abs(number) >= Decimal(10) ** (precision - scale):
        return None
    # A zero has no sign.
    return f"{number or Decimal(0):.{scale}f}"


def _float(text: str, kind: ColumnType) -> str | None:
    if not re.fullmatch(r"-?\d{1,15}(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?", text):
        return None
    number = float(text) or 0.0
    if kind.unsigned and number < 0:
        return None
    if kind.name == "float":
        try:
            number = struct.unpack("<f", struct.pack("<f", number))[0]
        except OverflowError:
            return None
    return repr(number)


def _characters(text: str, kind: ColumnType) -> str | None:
    if kind.length is not None and len(text) > kind.length:
        return None
    return text.rstrip(" ") if kind.name == "char" else text


def _label(text: str, kind: ColumnType) -> str | None:
    return text if text in kind.labels else None


def _labels(text: str, kind: ColumnType) -> str | None:
    chosen = text.split(",") if text else []
    in_order = [label for label in kind.labels if label in chosen]
    return text if in_order == chosen else None


def _date(text: str, _: ColumnType) -> str | None:
    return text if _is_date(text) else None


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text) or text < "0100":
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _time(text: str, kind: ColumnType) -> str | None:
    """hh:mm:ss with a fraction that the column can hold."""
    match = re.fullmatch(r"(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?", text)
    if match is None or len(match[2] or "") > kind.scale:
        return None
    try:
        time.fromisoformat(match[1])
    except ValueError:
        return None
    return f"{match[1]}.{(match[2] or '').ljust(kind.scale, '0')}" if kind.scale else match[1]


def _datetime(text: str, kind: ColumnType) -> str | None:
    day, _, rest = text.partition(" ")
    clock = _time(rest or "00:00:00", kind)
    return f"{day} {clock}" if _is_date(day) and clock is not None else None


_YEARS: Final = range(1901, 2156)


def _year(text: str, _: ColumnType) -> str | None:
    return text if re.fullmatch(r"\d{4}", text) and int(text) in _YEARS else None


def _empty(text: str, _: ColumnType) -> str | None:
    return "" if not text else None


# TIMESTAMP is not here: a literal stands for a time in the session's time zone.
_CONVERT: Final[Mapping[str, Callable[[str, ColumnType], str | None]]] = MappingProxyType(
    {
        **dict.fromkeys(INTEGER_BYTES, _integer),
        **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), _characters),
        **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), _empty),
        "decimal": _decimal, "float": _float, "double": _float, "bit": _bit, "enum": _label, "set": _labels,
        "date": _date, "time": _time, "datetime": _datetime, "year": _year,
    }
)  # fmt: skip
_FROM_NUMBER: Final = frozenset((*INTEGER_BYTES, "decimal", "float", "double", "bit", "year"))
