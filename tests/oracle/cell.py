"""One spelling for every cell, whichever system it was read from."""

from __future__ import annotations

import json
from decimal import Decimal

Cell = str | None
Row = tuple[Cell, ...]

_INTEGER = {"tinyint", "smallint", "mediumint", "int", "bigint", "year"}
_FRACTION = {"datetime", "timestamp", "time"}
_BYTES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}


def canonical(value: object, data_type: str) -> Cell:
    """`value` of a column of MySQL's `data_type` as the text all systems must agree on."""
    if value is None:
        return None
    if data_type in _BYTES:
        return value.hex() if isinstance(value, bytes) else str(value)
    text = value.decode() if isinstance(value, bytes) else str(value)
    if data_type in _INTEGER:
        return str(int(text))
    if data_type == "decimal":
        number = Decimal(text)
        return format(number.normalize() if number else Decimal(0), "f")
    if data_type in ("float", "double"):
        return repr(float(text))
    if data_type in _FRACTION and "." in text:
        return text.rstrip("0").rstrip(".")
    if data_type == "json":
        return json.dumps(json.loads(text), sort_keys=True)
    return text
