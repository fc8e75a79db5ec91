"""Equal rows of tables without a key: how many there are, and so which number each has. Pure.

A row that comes is one more of its kind and has the next number; one that goes was the last of its
kind. A table that is emptied is counted anew: its round grows, and counts of earlier rounds are none.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Final

from gravity.batch import REMOVES_ROW, UNCOUNTED, ChangeBatch, Value
from gravity.header import RoutedHeader
from gravity.schema_change import SchemaChange, TableAction
from gravity.whole_row import counted_schema

_COUNT_PREFIX: Final = b"c\x00"
_ROUND_PREFIX: Final = b"n\x00"

Get = Callable[[bytes], bytes | None]
Put = MutableMapping[bytes, bytes | None]


def follow(table: str, change: SchemaChange, get: Get, put: Put) -> None:
    """Takes in a schema change of a table whose rows are counted."""
    if change.action in (TableAction.TRUNCATE, TableAction.DROP):
        put[_ROUND_PREFIX + table.encode()] = b"%d" % (_round(table, get) + 1)


def count_rows(
    header: RoutedHeader, batch: ChangeBatch, get: Get, put: Put
) -> tuple[RoutedHeader, ChangeBatch] | None:
    """The rows with their numbers; None when none is left.

    A row that goes although there is none of its kind is left out: it came before the table was counted.
    """
    table, this_round = header.table, _round(header.table, get)
    kept: list[int] = []
    numbers: list[int] = []
    (identities,) = (batch.columns[index] for index in batch.schema.key)
    for row, (op, identity) in enumerate(zip(batch.ops, identities, strict=True)):
        slot = _slot(table, identity)
        count = _count(get(slot), this_round)
        goes = op in REMOVES_ROW
        number = count if goes else count + 1
        if number:
            kept.append(row)
            numbers.append(number)
            put[slot] = _dump(this_round, count - 1 if goes else number)
    if not kept:
        return None
    taken = batch.take(kept, before=False)
    out = replace(
        taken, schema=counted_schema(batch.schema), columns=[*taken.columns, numbers], _rows=None
    )
    described = replace(
        header,
        rows=len(out),
        counted=sum(op not in UNCOUNTED for op in out.ops),
        first=out.origin_of(0),
        last=out.origin_of(len(out) - 1),
        schema=out.schema.schema_id,
    )
    return described, out


def _round(table: str, get: Get) -> int:
    return int(get(_ROUND_PREFIX + table.encode()) or 0)


def _slot(table: str, identity: Value) -> bytes:
    assert isinstance(identity, bytes)
    return _COUNT_PREFIX + table.encode() + b"\x00" + identity


def _count(saved: bytes | None, this_round: int) -> int:
    if saved is None:
        return 0
    of_round, _, count = saved.partition(b":")
    return int(count) if int(of_round) == this_round else 0


def _dump(this_round: int, count: int) -> bytes | None:
    return b"%d:%d" % (this_round, count) if count else None
