"""Statements that concern a whole table: each is a transaction, and a span of the log, of its own."""

from __future__ import annotations

import functools
from typing import NamedTuple

from gravity.batch import Column, TableSchema
from gravity.position import Position
from gravity.schema_change import TableAction

from .altering import EXTRA, NARROW_ROW

COLUMNS = (Column("k", "bigint"), Column("amount", "int"), Column("stamp", "varchar(20)"))
EXTRA_COLUMN = Column(EXTRA, "int")
"""What an ALTER adds."""


@functools.cache
def schema_of(table: str, width: int) -> TableSchema:
    """The shape of a table whose rows have `width` values beside their key."""
    columns = (*COLUMNS, EXTRA_COLUMN) if width > NARROW_ROW else COLUMNS
    return TableSchema("app", table, columns, (0,))


class Statement(NamedTuple):
    """What a source ran."""

    source: int
    table: str
    action: TableAction
    position: Position
    ets: int
    default: int | None = None
    """ALTER: what rows that are there have in the added column."""

    @property
    def sql(self) -> str:
        """What it ran."""
        if self.action is TableAction.TRUNCATE:
            return f"TRUNCATE TABLE {self.table}"
        default = "" if self.default is None else f" DEFAULT {self.default}"
        return f"ALTER TABLE {self.table} ADD COLUMN {EXTRA} INT{default}"
