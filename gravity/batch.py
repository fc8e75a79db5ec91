"""A change batch: rows of one source table, in source order, in columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any

import xxhash

from gravity.position import Position

Value = int | float | str | bytes | None
"""A cell. How each MySQL type appears is fixed in gravity.column."""

INSERT, UPDATE, DELETE, READ, TRUNCATE, MOVED, LEFT = (ord(letter) for letter in "IUDRTML")
"""Operations, one byte a row. READ is a snapshot's row; MOVED deletes a key that an update left; LEFT one
that a newer plan places at another target."""

REMOVES_ROW = frozenset((DELETE, MOVED, LEFT))
UNCOUNTED = (MOVED, LEFT)
"""What comes beside a change, which is counted where it stands itself."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the source declares it. `type` is the canonical type text of gravity.column."""

    name: str
    type: str
    nullable: bool = True
    charset: str | None = None
    collation: str | None = None


@dataclass(frozen=True)
class TableSchema:
    """A source table's shape at some position."""

    database: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    """Column indexes of the primary key, or of the unique key that stands in for it; may be empty."""

    @cached_property
    def schema_id(self) -> str:
        """16 hex digits that differ when the shape does."""
        parts = [self.database, self.table, ",".join(map(str, self.key))]
        parts += [
            f"{c.name}\x1f{c.type}\x1f{c.nullable}\x1f{c.charset}\x1f{c.collation}"
            for c in self.columns
        ]
        return xxhash.xxh64_hexdigest("\x1e".join(parts).encode())

    @cached_property
    def column_index(self) -> dict[str, int]:
        """Column name to its index."""
        return {column.name: index for index, column in enumerate(self.columns)}

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key's columns, in key order."""
        return tuple(self.columns[index].name for index in self.key)


@dataclass(frozen=True, slots=True)
class Transaction:
    """The source transaction that some rows of a batch belong to."""

    gtid: str
    file_index: int
    offset: int
    """Where it starts in its binlog file, in bytes."""
    commit_us: int
    """Commit time by the source's clock, microseconds since 1970 UTC."""
    ets: int
    """Running maximum of `commit_us` over the source's binlog: never goes back."""


@dataclass(slots=True)
class ChangeBatch:
    """Rows of one table in source order. All per-row and per-column sequences are aligned with `ops`."""

    source: str
    epoch: int
    schema: TableSchema
    transactions: Sequence[Transaction]
    ops: bytes
    """One operation a row: INSERT, UPDATE, DELETE, READ, TRUNCATE, MOVED or LEFT."""
    tx: Sequence[int]
    """Index into `transactions` a row."""
    ordinal: Sequence[int]
    """The row's number in its transaction."""
    columns: Sequence[Sequence[Value]]
    """One sequence a column: the row after the change, or the row that was deleted."""
    before_columns: tuple[int, ...] = ()
    """Which columns `before` holds."""
    before: Sequence[Sequence[Value]] = ()
    """The same columns before the change: None for inserts and reads, the row itself for deletes."""
    origin: Sequence[int] = ()
    """Row numbers in the ingest message this part was cut from; empty means 0, 1, 2, …"""
    row_source: Sequence[str] = ()
    """Which source won, a row; empty means `source` throughout."""
    _rows: list[tuple[Value, ...]] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ops)

    def rows(self) -> list[tuple[Value, ...]]:
        """The row images as tuples in column order."""
        if self._rows is None:
            self._rows = (
                list(zip(*self.columns, strict=True)) if self.columns else [()] * len(self.ops)
            )
        return self._rows

    def origin_of(self, row: int) -> int:
        """The row's number in its ingest message."""
        return self.origin[row] if self.origin else row

    def position_of(self, row: int) -> Position:
        """The row's place in its source's binlog."""
        transaction = self.transactions[self.tx[row]]
        return Position(self.epoch, transaction.file_index, transaction.offset, self.ordinal[row])

    def take(
        self, rows: Sequence[int], *, ops: bytes | None = None, before: bool = True
    ) -> ChangeBatch:
        """The batch of just these rows, in the order given; `ops` replaces their operations.

        Rows keep their identity: `origin` names them by their number in the ingest message.
        """
        pick = _picker(rows)
        return ChangeBatch(
            source=self.source,
            epoch=self.epoch,
            schema=self.schema,
            transactions=self.transactions,
            ops=bytes(pick(self.ops)) if ops is None else ops,
            tx=pick(self.tx),
            ordinal=pick(self.ordinal),
            columns=[pick(column) for column in self.columns],
            before_columns=self.before_columns if before else (),
            before=[pick(column) for column in self.before] if before else (),
            origin=pick(self.origin) if self.origin else list(rows),
            row_source=pick(self.row_source) if self.row_source else (),
        )


def _picker(rows: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that gives the elements at `rows` of any sequence, at C speed for two or more."""
    if len(rows) > 1:
        return itemgetter(*rows)
    return lambda values: [values[row] for row in rows]
