"""Statements that concern a whole table: each is a transaction, and a span of the log, of its own."""

from __future__ import annotations

from typing import NamedTuple

from gravity.batch import Column
from gravity.position import Position
from gravity.schema_change import (
    ColumnAction,
    ColumnChange,
    RowsAfter,
    SchemaChange,
    TableAction,
)

from .altering import EXTRA

EXTRA_COLUMN = Column(EXTRA, "int")
"""What an ALTER adds."""


class Statement(NamedTuple):
    """What a source ran."""

    source: int
    table: str
    action: TableAction
    position: Position
    ets: int
    default: int | None = None
    """ALTER: what rows that are there have in the added column."""

    def encode(self) -> bytes:
        """As it travels in the log."""
        default = None if self.default is None else str(self.default)
        added = ColumnChange(ColumnAction.ADD, EXTRA, column=EXTRA_COLUMN, default=default)
        return SchemaChange(
            source=f"s{self.source}",
            database="app",
            table=self.table,
            action=self.action,
            statement=f"{self.action} {self.table}",
            default_database="app",
            gtid="",
            position=str(self.position),
            ets=self.ets,
            columns=(added,) if self.action is TableAction.ALTER else (),
            rows=RowsAfter.KEPT if default is None else RowsAfter.FILLED,
        ).encode()
