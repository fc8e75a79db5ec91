"""What every cell is at the source, and what it must be at each kind of target, by the stated rules.

The source is asked by SELECT with an explicit conversion of each type; no rule is taken from the
product. Cells are text; those of binary types are hexadecimal digits.
"""

from __future__ import annotations

import base64
import ipaddress
import struct
import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

Cell = str | None

INTEGER = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint", "year"))
FLOATING = frozenset(("float", "double"))
BYTES = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"))
GEOMETRY = frozenset(
    (
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    )
)
DATED = frozenset(("date", "datetime", "timestamp"))
_ADDRESS = frozenset(("uuid", "inet4", "inet6"))
_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2299, 12, 31)


@dataclass(frozen=True)
class Shape:
    """A column as information_schema describes it."""

    name: str
    data_type: str
    nullable: bool
    in_key: bool = False


def selected(column: Shape, *, is_mysql: bool) -> str:
    """SQL that gives the column's cells in the form that `cell_of` reads."""
    name, kind = f"`{column.name}`", column.data_type
    if kind == "bit" or kind in BYTES:
        return f"HEX({name})"
    if kind in GEOMETRY:
        # What is stored is longitude first, whatever the reference system says.
        order = ", 'axis-order=long-lat'" if is_mysql else ""
        return f"CONCAT(ST_SRID({name}), ':', HEX(ST_AsBinary({name}{order})))"
    if kind == "float":
        # As text FLOAT has six digits, as DOUBLE all; the sum loses the sign of zero.
        sign = f"IF(LEFT(CAST({name} AS CHAR), 1) = '-', '-', '')"
        return f"CONCAT({sign}, ABS({name}) + 0e0)"
    if kind in ("char", "varchar", "enum", "set", "json") or kind.endswith("text"):
        return f"HEX(CONVERT(CONCAT({name}) USING utf8mb4))"
    return f"CAST({name} AS CHAR)"


def cell_of(value: object, kind: str) -> Cell:
    """The cell behind what `selected` gave."""
    if value is None:
        return None
    text = value.decode() if isinstance(value, bytes) else str(value)
    if kind == "bit":
        return str(int(text, 16))
    if kind in BYTES:
        return text.lower()
    if kind in GEOMETRY:
        srid, _, wkb = text.partition(":")
        return struct.pack("<I", int(srid)).hex() + wkb.lower()
    if kind in INTEGER:
        return str(int(text))
    if kind in FLOATING:
        return repr(float(text))
    if kind == "uuid":
        return uuid.UUID(text).hex
    if kind in ("inet4", "inet6"):
        return ipaddress.ip_address(text).packed.hex()
    if kind in ("char", "varchar", "enum", "set", "json") or kind.endswith("text"):
        return bytes.fromhex(text).decode()
    return text


def is_bytes(kind: str) -> bool:
    """Whether cells of this type are bytes everywhere."""
    return kind in BYTES or kind in GEOMETRY or kind in _ADDRESS


def day_of(cell: str) -> date | None:
    """The day that a DATE, DATETIME or TIMESTAMP names; None when there is none such."""
    try:
        return date.fromisoformat(cell[:10])
    except ValueError:
        return None


def is_refused_at_clickhouse(cell: Cell, column: Shape) -> bool:
    """Whether a row can't be there because of this cell: a key that would have to be changed."""
    if not column.in_key or cell is None or column.data_type not in DATED:
        return False
    day = day_of(cell)
    return day is None or not _FIRST_DAY <= day <= _LAST_DAY


def at_clickhouse(cell: Cell, column: Shape) -> Cell:
    """The cell that a ClickHouse target must hold."""
    kind = column.data_type
    if cell is None:
        return None
    if kind == "decimal":
        return plain_decimal(cell)
    if kind not in DATED:
        return cell
    day = day_of(cell)
    if day is not None and _FIRST_DAY <= day <= _LAST_DAY:
        return cell
    if day is None and column.nullable:
        return None
    bound = _FIRST_DAY if day is None or day < _FIRST_DAY else _LAST_DAY
    if kind == "date":
        return bound.isoformat()
    fraction = cell.partition(".")[2]
    clock = "00:00:00" if bound == _FIRST_DAY else "23:59:59"
    return f"{bound.isoformat()} {clock}" + (f".{'0' * len(fraction)}" if fraction else "")


def clickhouse_selected(column: Shape) -> str:
    """SQL for ClickHouse that gives the column's cells in the form that `clickhouse_cell` reads."""
    if column.data_type == "float":
        return f"toString(toFloat64(`{column.name}`))"
    if is_bytes(column.data_type):
        return f"hex(`{column.name}`)"
    return f"toString(`{column.name}`)"


def clickhouse_cell(value: object, kind: str) -> Cell:
    """A cell as ClickHouse gave it."""
    if value is None:
        return None
    text = str(value)
    if kind in FLOATING:
        return repr(float(text))
    if kind == "decimal":
        return plain_decimal(text)
    return text.lower() if is_bytes(kind) else text


def plain_decimal(text: str) -> str:
    """A decimal without the zeros at its end, which ClickHouse does not print."""
    number = Decimal(text)
    return format(number.normalize(), "f") if number else "0"


def kafka_cell(value: object, kind: str) -> Cell:
    """A cell of a JSON message that was read with numbers left as text."""
    if value is None:
        return None
    text = str(value)
    if kind in FLOATING:
        return repr(float(text))
    return base64.b64decode(text).hex() if is_bytes(kind) else text
