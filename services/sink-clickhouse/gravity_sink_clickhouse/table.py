"""ClickHouse tables from a source's shape: types, CREATE, ADD COLUMN, the view of current rows. Pure.

The type of each column is in `gravity.column.TYPES`, written down in docs/types.md.
A column that may be NULL is Nullable; columns of the key are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from gravity.batch import Column, TableSchema
from gravity.column import TYPES, ColumnType

VERSION, DELETED = "_version", "_deleted"
"""Our own columns: which row of a key is newest, and whether it says that the key is gone."""

DEDUPLICATION_WINDOW = 1000
"""Inserts that a table remembers: the client repeats an insert whose answer was lost."""


def quote_name(name: str) -> str:
    """`name` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quote_text(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_table(database: str, table: str) -> str:
    """A table's full name."""
    return f"{quote_name(database)}.{quote_name(table)}"


def column_type(column: Column, *, in_key: bool, added: bool = False) -> str:
    """The type of a column; `added` to a table whose rows have no value for it."""
    kind = ColumnType.parse(column.type)
    nullable = not in_key and (column.nullable or added)
    text = TYPES[kind.name].clickhouse.format(precision=kind.precision, scale=kind.scale)
    if kind.unsigned and kind.kind == "long":
        text = f"U{text}"
    if not nullable:
        return text
    if text.startswith("LowCardinality("):
        return text.replace("(", "(Nullable(") + ")"
    return f"Nullable({text})"


def create_table(database: str, table: str, schema: TableSchema) -> str:
    """CREATE TABLE: one row per key and version, the newest counts."""
    columns = [
        f"{quote_name(column.name)} {column_type(column, in_key=index in schema.key)}"
        for index, column in enumerate(schema.columns)
    ]
    columns += [f"{VERSION} UInt64", f"{DELETED} UInt8"]
    key = ", ".join(map(quote_name, schema.key_names))
    return (
        f"CREATE TABLE IF NOT EXISTS {quote_table(database, table)} (\n  "
        + ",\n  ".join(columns)
        + f"\n) ENGINE = ReplacingMergeTree({VERSION}, {DELETED}) ORDER BY ({key})\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
    )


def create_view(database: str, table: str) -> str:
    """The view of the rows as they are now. Made anew when the table gets columns."""
    return (
        f"CREATE OR REPLACE VIEW {quote_table(database, f'{table}_current')} AS "
        f"SELECT * EXCEPT ({VERSION}, {DELETED}) FROM {quote_table(database, table)} FINAL"
    )


def drop_table(database: str, table: str) -> list[str]:
    """The statements that drop a table and its view, and do nothing if there is none."""
    return [
        f"DROP VIEW IF EXISTS {quote_table(database, f'{table}_current')}",
        f"DROP TABLE IF EXISTS {quote_table(database, table)} SYNC",
    ]


def add_columns(database: str, table: str, columns: Sequence[Column]) -> str:
    """ALTER TABLE that adds these columns."""
    parts = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {quote_name(column.name)} "
        + column_type(column, in_key=False, added=True)
        for column in columns
    )
    return f"ALTER TABLE {quote_table(database, table)} {parts}"
