"""Rows of a table that has every column type, and what each cell means: independent of the product."""

from __future__ import annotations

import struct
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.sampled_from("'\"\\%,{}é中😀") | st.characters(exclude_categories=["Cs"]))
NO_DAYS = ("0000-00-00", "2024-02-31", "2024-00-10", "0000-01-01")
DAYS = st.dates().map(str)
DAY_CELLS = DAYS | st.sampled_from(NO_DAYS)


def _decimals(precision: int, scale: int) -> st.SearchStrategy[str]:
    def text(number: int) -> str:
        digits = str(abs(number)).rjust(scale + 1, "0")
        whole = digits[: len(digits) - scale]
        return ("-" if number < 0 else "") + (f"{whole}.{digits[-scale:]}" if scale else whole)

    return st.integers(-(10**precision) + 1, 10**precision - 1).map(text)


def _clocks(scale: int) -> st.SearchStrategy[str]:
    def text(us: int) -> str:
        whole = str(timedelta(seconds=us // 10**6)).rjust(8, "0")
        return f"{whole}.{us % 10**6:06}"[: 8 + (scale + 1 if scale else 0)]

    return st.integers(0, 86_400 * 10**6 - 1).map(text)


def _moments(scale: int) -> st.SearchStrategy[str]:
    return st.tuples(DAY_CELLS, _clocks(scale)).map(" ".join)


def _times(scale: int) -> st.SearchStrategy[str]:
    return st.tuples(
        st.sampled_from(["", "-"]), st.integers(0, 838), _clocks(scale)
    ).map(lambda parts: f"{parts[0]}{parts[1]:02}{parts[2][2:]}")  # fmt: skip


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "tinyint": st.integers(-128, 127),
    "tinyint unsigned": st.integers(0, 255),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "mediumint unsigned": st.integers(0, 2**24 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "int unsigned": st.integers(0, 2**32 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "bigint unsigned": st.integers(0, 2**64 - 1),
    "bit(1)": st.integers(0, 1),
    "bit(12)": st.integers(0, 2**12 - 1),
    "bit(64)": st.integers(0, 2**64 - 1),
    "year": st.integers(1901, 2155),
    "decimal(65,30)": _decimals(65, 30),
    "decimal(3,0)": _decimals(3, 0),
    "float": FLOATS,
    "double": DOUBLES,
    "date": DAY_CELLS,
    "datetime": _moments(0),
    "datetime(3)": _moments(3),
    "datetime(6)": _moments(6),
    "timestamp": _moments(0),
    "timestamp(6)": _moments(6),
    "time": _times(0),
    "time(6)": _times(6),
    "char(9)": TEXTS,
    "varchar(99)": TEXTS,
    "longtext": TEXTS,
    "enum('a','it''s')": st.sampled_from(["", "a", "it's"]),
    "set('a','b')": st.sampled_from(["", "a", "a,b"]),
    "json": st.sampled_from(["{}", '{"a": 12.50}', "null"]),
    "binary(4)": st.binary(min_size=4, max_size=4),
    "varbinary(99)": st.binary(),
    "longblob": st.binary(),
    "geometry": st.tuples(st.sampled_from([0, 4326]), st.binary()).map(
        lambda parts: struct.pack("<I", parts[0]) + parts[1]
    ),
    "vector(2)": st.tuples(FLOATS, FLOATS).map(lambda two: struct.pack("<2f", *two)),
}
COLUMNS = [("id", "bigint unsigned"), *((f"c{n}", kind) for n, kind in enumerate(CELLS))]
ROWS: st.SearchStrategy[tuple[Any, ...]] = st.tuples(
    st.integers(0, 2**64 - 1), *(st.none() | cells for cells in CELLS.values())
)


def exists(day: str) -> bool:
    """Whether there is such a day, in the years that Python knows."""
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def moment(text: str) -> datetime | None:
    """A DATE, DATETIME or TIMESTAMP as a clock shows it."""
    return datetime.fromisoformat(text) if exists(text[:10]) else None


def since_1970(text: str, unit: timedelta) -> int | None:
    """The same in units from 1970-01-01 on, rounded down."""
    at = moment(text)
    return None if at is None else (at - datetime.fromisoformat("1970-01-01")) // unit


def span(text: str) -> timedelta:
    """A TIME."""
    hours, minutes, seconds = text.lstrip("-").split(":")
    length = timedelta(hours=int(hours), minutes=int(minutes)) + timedelta(
        microseconds=int(Decimal(seconds) * 10**6)
    )
    return -length if text.startswith("-") else length
