"""Cells that the server would take for something else if they were written as their bare text. Pure.

- A double's `-0.0` is a decimal for the server, and decimals have no negative zero.
- MySQL reads every number in a JSON text with a point as a double, so a decimal in a document (`12.50`)
  would lose digits; older servers even miss the last bits of doubles. Such numbers are put into the
  parsed document one by one, as SQL numbers, which are exact.
- An ENUM may hold "none of its labels", which prints as '' and which a strict session can't insert.
  Such a row is written with another label first, see `Layout.repairs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from gravity.batch import Value
from gravity.column import ColumnType
from gravity_sink_mysql.statement import Special, quote_text

_LONG_RANGE: Final = range(-(1 << 63), 1 << 64)
_EXACT_DIGITS_MAX: Final = 15
"""A decimal number of so many digits and a small exponent is read exactly by the crudest reader."""
_EXACT_EXPONENT_MAX: Final = 22
_POSITIONAL_MIN: Final = 1e-15
"""Smaller doubles are printed with an exponent, decimals never are."""
_MAY_BE_INEXACT = re.compile(
    r"(?:^|(?<=[\[ ]))-?(?:\d+\.\d+0|\d[.\d]{15,}|\d[.\d]*e-?\d+)(?=[,\]}]|$)", re.MULTILINE
)
"""What a number that a JSON reader might change looks like in a document that MySQL printed."""


def special_of(kind: ColumnType, *, is_mariadb: bool) -> Special | None:
    """How a column of this type is written where its cells' text does not do; None where it always does."""
    if kind.name in ("float", "double"):
        return _negative_zeros
    if kind.name == "json" and not is_mariadb:
        return _documents
    if has_no_label(kind):
        return _Labels(kind)
    return None


def has_no_label(kind: ColumnType) -> bool:
    """Whether a cell '' of this type means that the row holds none of the labels."""
    return kind.name == "enum" and "" not in kind.labels


def _negative_zeros(values: Sequence[Value]) -> list[str] | None:
    if 0.0 not in values:
        return None
    return [
        "NULL" if value is None else "-0e0" if repr(value) == "-0.0" else repr(value)
        for value in values
    ]


class _Labels:
    def __init__(self, kind: ColumnType) -> None:
        self._first = quote_text(kind.labels[0])

    def __call__(self, values: Sequence[Value]) -> list[str] | None:
        if "" not in values:
            return None
        return [
            "NULL" if value is None else quote_text(str(value)) if value else self._first
            for value in values
        ]


def _documents(values: Sequence[Value]) -> list[str] | None:
    texts: list[Any] = [value for value in values if value is not None]
    if _MAY_BE_INEXACT.search("\n".join(texts)) is None:
        return None
    return ["NULL" if value is None else json_literal(str(value)) for value in values]


class _Number(str):
    """A number of a document as its text."""

    __slots__ = ()


def json_literal(text: str) -> str:
    """The document that `text` prints, as SQL for MySQL that gives each of its numbers back exactly."""
    if _MAY_BE_INEXACT.search(text) is None:
        return quote_text(text)
    document = json.loads(text, parse_int=_Number, parse_float=_Number)
    exact = [
        f"{quote_text(path)},{sql}"
        for path, number in _numbers(document, "$")
        if (sql := _exact(number)) is not None
    ]
    return f"JSON_REPLACE({','.join([quote_text(text), *exact])})" if exact else quote_text(text)


def _numbers(document: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each number and its path in MySQL's notation."""
    if isinstance(document, _Number):
        yield path, document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield from _numbers(value, f"{path}.{json.dumps(key, ensure_ascii=False)}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _numbers(value, f"{path}[{index}]")


def _exact(number: str) -> str | None:
    """The number as SQL; None when a JSON reader takes it for what it is."""
    is_whole = "." not in number and "e" not in number
    if is_whole:
        return None if int(number) in _LONG_RANGE else number
    value = Decimal(number)
    if "e" not in number and _double_text(number) != number:
        return number
    _, digits, exponent = value.as_tuple()
    is_easy = len(digits) <= _EXACT_DIGITS_MAX and abs(int(exponent)) <= _EXACT_EXPONENT_MAX
    return None if is_easy else f"{number}e0" if "e" not in number else number


def _double_text(number: str) -> str:
    """How the server prints the double nearest to `number` without an exponent; empty = it never does."""
    value = float(number)
    if abs(value) < _POSITIONAL_MIN and value:
        return ""
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"
