"""Statements that concern a whole table: each is a transaction, and a span of the log, of its own."""

from __future__ import annotations

from typing import NamedTuple

from gravity.position import Position
from gravity.schema_change import SchemaChange, TableAction


class Statement(NamedTuple):
    """What a source ran."""

    source: int
    table: str
    action: TableAction
    position: Position
    ets: int

    def encode(self) -> bytes:
        """As it travels in the log."""
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
        ).encode()
