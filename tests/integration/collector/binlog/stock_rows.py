"""The oracle: rows as the stock mysql-replication reader gives them, in the form of gravity's cells.

It shares no code with the product. What the stock reader gets wrong is listed in `loss`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
from collections.abc import Mapping
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

NO_CODEC = frozenset(
    (
        "armscii8",
        "dec8",
        "hp8",
        "keybcs2",
        "geostd8",
        "macce",
        "swe7",
        "eucjpms",
        "ucs2",
        "utf16",
        "utf16le",
        "utf32",
    )
)
"""Character sets that the stock reader gives as bytes, with the wrong byte order, or empty."""
NOT_READ = ("t_disputed_", "t_unmapped_")
"""Cases whose characters the stock reader reads by Python's codecs, which is what they dispute."""
NO_TYPE = frozenset(("t_vector",))
"""Cases of a type that the stock reader does not know at all."""
UTF8 = frozenset(("ascii", "utf8", "utf8mb3", "utf8mb4"))


def loss(cell: Any, type_text: str, charset: str | None) -> str | None:
    """Why the stock reader's value of this cell may differ from `cell`, the right one; None = it may not."""
    name = type_text.partition("(")[0]
    reasons = {
        "trailing zero bytes are missing, and no bytes at all come as text": isinstance(cell, bytes)
        and (not cell or (name == "binary" and cell.endswith(b"\0"))),
        "zero and partial dates come as None": name in ("date", "datetime")
        and ("-00" in cell or "0000-" in cell),
        "the zero timestamp comes as 1970": name == "timestamp" and cell.startswith("0000"),
        "the fraction of a negative time has the wrong sign": name == "time"
        and cell.startswith("-")
        and "." in cell,
        "year 0 comes as 1900": name == "year" and cell == 0,
        "no label comes as None or another": name == "enum" and not cell,
        "the empty set comes as None": name == "set" and not cell,
        "the character set comes as bytes": charset in NO_CODEC,
        "labels that are not UTF-8 come empty": name == "enum"
        and charset not in UTF8
        and not str(cell).isascii(),
        "decimals, dates and opaque values lose their form": name == "json"
        and any(mark in cell for mark in ("1.50", "2.50", "2024-02-29", "base64:", "1.10")),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def rows_since(
    connection: Mapping[str, Any], file_name: str, offset: int, database: str
) -> dict[str, list[Any]]:
    """The written rows of `database` after a position, by table, as dicts of the stock reader."""
    stream = BinLogStreamReader(
        connection_settings=dict(connection),
        server_id=4_100_002,
        log_file=file_name,
        log_pos=offset,
        resume_stream=True,
        blocking=False,
        only_events=[WriteRowsEvent],
        only_schemas=[database],
        ignored_tables=list(NO_TYPE),
        ignore_decode_errors=True,
    )
    found: dict[str, list[Any]] = {}
    try:
        for event in stream:
            rows = found.setdefault(event.table, [])
            rows.extend(row["values"] for row in event.rows)
    finally:
        stream.close()
    return found


def as_cell(value: Any, type_text: str) -> Any:
    """The stock reader's value as gravity would show a column of that type."""
    name = type_text.partition("(")[0]
    if value is None:
        return None
    if name == "bit":
        return int(value, 2)
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "seconds") + _fraction(value.microsecond, type_text)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _time_text(value, type_text)
    if name == "json" and not isinstance(value, str):
        return _plain(value)
    return value


def comparable(cell: Any, type_text: str) -> Any:
    """Our cell in the form in which the stock reader's can be compared with it."""
    name = type_text.partition("(")[0]
    if cell is not None and name == "set":
        return frozenset(cell.split(","))
    if cell is not None and name == "json":
        return json.loads(cell)
    return cell


def _fraction(microsecond: int, type_text: str) -> str:
    digits = int(type_text.partition("(")[2].rstrip(")") or 0)
    return f".{microsecond:06d}"[: digits + 1] if digits else ""


def _time_text(value: dt.timedelta, type_text: str) -> str:
    sign = "-" if value < dt.timedelta(0) else ""
    value = abs(value)
    hours, rest = divmod(value.days * 86400 + value.seconds, 3600)
    return f"{sign}{hours:02d}:{rest // 60:02d}:{rest % 60:02d}{_fraction(value.microseconds, type_text)}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
