"""Statements that concern a whole table: each is a transaction, and a span of the log, of its own."""

from __future__ import annotations

import functools
from typing import NamedTuple

from gravity.batch import Column, TableSchema
from gravity.position import Position
from gravity.schema_change import TableAction

from .altering import EXTRA

COLUMNS = (Column("k", "bigint"), Column("amount", "int"), Column("stamp", "varchar(20)"))
ADDED = Column(EXTRA, "int")
"""The column that an ALTER adds; others rename it, make it wider, and drop it again."""


@functools.cache
def schema_of(table: str, third: Column | None) -> TableSchema:
    """The shape of a table that has `third` beside what all tables have."""
    return TableSchema("app", table, COLUMNS if third is None else (*COLUMNS, third), (0,))


class Statement(NamedTuple):
    """What a source ran."""

    source: int
    table: str
    action: TableAction
    position: Position
    ets: int
    sql: str
    third: Column | None
    """The table's third column after it."""
