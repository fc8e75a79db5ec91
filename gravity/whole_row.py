"""Rows of tables without a key: told apart by all their values, and equal ones by their number. Pure.

The collector adds a column to such a row that is made of all its values (`ROW`); the resolver counts
the rows that are equal and adds their number (`COPY`). A target's key are these two, so it holds as
many equal rows as the source does, and a delete takes one of them away. docs/adr/0014.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from gravity.batch import Column, TableSchema, Value
from gravity.errors import FatalError
from gravity.key import encode_key

ROW: Final = Column("_gravity_row", "binary(16)", nullable=False)
"""128 bits of the row's values by a cryptographic hash: two rows that differ never share them."""
COPY: Final = Column("_gravity_copy", "int unsigned", nullable=False)
"""1 for the first of equal rows, 2 for the second, ..."""
ROWS_MAX: Final = 500_000
BYTES_MAX: Final = 512 << 20
"""Existing rows of one such table, and what they take at the source: they are read in one piece, and held in memory."""

Cells = tuple[Value, ...]


@lru_cache(maxsize=4096)
def whole_row_schema(schema: TableSchema) -> TableSchema:
    """The shape in which rows of a table without a key travel.

    Raises FatalError when a column of the source has the name of one that is added.
    """
    taken = {column.name.lower() for column in schema.columns} & {ROW.name, COPY.name}
    if taken:
        raise FatalError(
            f"the table has a column {min(taken)}, which is added to tables without a key",
            where=f"table {schema.database}.{schema.table}",
            remedy="add a primary key, or rename the column",
        )
    return TableSchema(
        schema.database, schema.table, (*schema.columns, ROW), (len(schema.columns),)
    )


def is_whole_row(schema: TableSchema) -> bool:
    """Whether rows of this shape are told apart by all their values."""
    return schema.key_names == (ROW.name,)


def with_identity(rows: Iterable[Sequence[Value]]) -> list[Cells]:
    """The rows with their `ROW` column."""
    return [(*row, blake2b(encode_key(row), digest_size=16).digest()) for row in rows]


@lru_cache(maxsize=4096)
def counted_schema(schema: TableSchema) -> TableSchema:
    """The shape of a whole-row table at a target."""
    at = len(schema.columns)
    return TableSchema(schema.database, schema.table, (*schema.columns, COPY), (*schema.key, at))
