"""Rows as ClickHouse reads them: lines of its TabSeparated format. Pure.

The server reads dates and decimals from the very text that our cells hold, exactly and in C++, so a
row costs one `%` here. Dates follow one rule, in columns that are not part of the key:

- zero and impossible dates (0000-00-00, 2024-02-31) become NULL, or 1900-01-01 00:00:00 where the
  column can't be NULL;
- dates before 1900 become 1900-01-01 00:00:00, those after 2299 become 2299-12-31 23:59:59: nothing
  ever wraps around.

In a key such a value is refused: two rows could become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from gravity.batch import REMOVES_ROW, ChangeBatch, Value
from gravity.column import ColumnType

NULL = "\\N"
_MIN, _MAX = "1900-01-01", "2299-12-31"
_DATE_LENGTH = len(_MIN)


@dataclass(frozen=True, slots=True)
class Field:
    """One column on its way into the target."""

    name: str
    kind: ColumnType
    nullable: bool
    """Whether the target's column takes NULL."""
    in_key: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """A batch as lines; `refused` rows have none."""

    rows: list[int]
    """The row of each line."""
    lines: list[str]
    refused: list[tuple[int, str]]
    """(row, reason)."""


def escape(text: str) -> str:
    """`text` as a field of TabSeparated."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _needs_escape(text: str) -> bool:
    return "\\" in text or "\t" in text or "\n" in text or "\r" in text


def _bytes_text(value: bytes) -> str:
    # Any byte survives this and the encoding of the whole body with the same handler.
    return escape(value.decode("utf-8", "surrogateescape"))


@lru_cache(maxsize=65536)
def date_verdict(text: str) -> str:
    """`ok`, `impossible`, or the bound that a date lies beyond."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return "impossible"
    if text < _MIN:
        return _MIN
    return _MAX if text > _MAX else "ok"


def nearest_date(text: str, *, nullable: bool, has_time: bool) -> str | None:
    """What stands in a column for the date that begins `text`; None: NULL does."""
    bound = date_verdict(text[:_DATE_LENGTH])
    if bound == "ok":
        return text
    if bound == "impossible" and nullable:
        return None
    day, time = (_MAX, "23:59:59") if bound == _MAX else (_MIN, "00:00:00")
    return f"{day} {time}" if has_time else day


class _Encoder:
    """Encodes the columns of one batch and notes the rows that can't be."""

    def __init__(self, ops: bytes) -> None:
        self.ops = ops
        self.refused: dict[int, str] = {}

    def column(self, field: Field, values: Sequence[Value]) -> tuple[str, Sequence[Value]]:
        """A printf directive and what to feed it."""
        if None in values and not field.nullable:
            values = self._without_null(field, values)
        kind = field.kind
        if kind.name in ("date", "datetime", "timestamp"):
            values = self._dates(field, values)
        elif kind.kind == "string" and kind.name not in ("decimal", "time"):
            return "%s", _texts(values)
        elif kind.kind == "bytes":
            return "%s", _each(values, _bytes_text)  # type: ignore[arg-type]
        # str() of a number is its shortest text that reads back equal.
        return "%s", (_or_null(values) if None in values else values)

    def _without_null(self, field: Field, values: Sequence[Value]) -> list[Value]:
        filler = _filler(field.kind)
        filled: list[Value] = []
        for row, value in enumerate(values):
            if value is None and self.ops[row] not in REMOVES_ROW:
                self.refused.setdefault(row, f"column {field.name} can't be NULL here")
            filled.append(filler if value is None else value)
        return filled

    def _dates(self, field: Field, values: Sequence[Value]) -> Sequence[Value]:
        days = {value[:_DATE_LENGTH] for value in values if isinstance(value, str)}
        odd: dict[str, str] = {
            day: verdict for day in days if (verdict := date_verdict(day)) != "ok"
        }
        if not odd:
            return values
        has_time = field.kind.name != "date"
        clamped: list[Value] = []
        for row, value in enumerate(values):
            bound = odd.get(value[:_DATE_LENGTH]) if isinstance(value, str) else None
            if bound is None or not isinstance(value, str):
                clamped.append(value)
                continue
            if field.in_key:
                self.refused.setdefault(
                    row, f"key column {field.name}: {value} is outside the type's range"
                )
            if bound == "impossible" and field.nullable:
                clamped.append(None)
            elif bound == _MAX:
                clamped.append(f"{_MAX} 23:59:59" if has_time else _MAX)
            else:
                clamped.append(f"{_MIN} 00:00:00" if has_time else _MIN)
        return clamped


def _texts(values: Sequence[Value]) -> Sequence[Value]:
    texts: Any = values
    has_null = None in texts
    present = [text for text in texts if text is not None] if has_null else texts
    if _needs_escape("".join(present)):
        return _each(values, escape)  # type: ignore[arg-type]
    return _or_null(values) if has_null else values


def _or_null(values: Sequence[Value]) -> list[Value]:
    return [NULL if value is None else value for value in values]


def _each(values: Sequence[Value], text: Callable[[Value], str]) -> list[Value]:
    return [NULL if value is None else text(value) for value in values]


def _filler(kind: ColumnType) -> Value:
    """What stands where a row that is gone has no value; nobody will see it."""
    if kind.name in ("date", "datetime", "timestamp"):
        return _MIN if kind.name == "date" else f"{_MIN} 00:00:00"
    if kind.name == "decimal":
        return "0"
    fillers: dict[str, Value] = {"long": 0, "double": 0.0, "bytes": b"", "string": ""}
    return fillers[kind.kind]


def encode_lines(
    batch: ChangeBatch, wanted: Sequence[int], fields: Sequence[Field], first_version: int
) -> Lines:
    """The batch's rows with their versions, `first_version` for row 0, each next one greater by one.

    `wanted` are the batch's columns in the order of `fields`.
    """
    encoder = _Encoder(batch.ops)
    count = len(batch)
    columns = [
        encoder.column(field, batch.columns[index])
        for index, field in zip(wanted, fields, strict=True)
    ]
    columns.append(("%s", range(first_version, first_version + count)))
    template = "\t".join(directive for directive, _ in columns)
    if REMOVES_ROW.isdisjoint(batch.ops):
        template += "\t0"
    else:
        columns.append(("", [op in REMOVES_ROW for op in batch.ops]))
        template += "\t%d"
    lines = [template % row for row in zip(*(values for _, values in columns), strict=True)]
    if not encoder.refused:
        return Lines(list(range(count)), lines, [])
    kept = [row for row in range(count) if row not in encoder.refused]
    return Lines(kept, [lines[row] for row in kept], sorted(encoder.refused.items()))
