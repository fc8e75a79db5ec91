"""ClickHouse tables from a source's shape: types, CREATE, ADD COLUMN, the view of current rows. Pure.

| MySQL | ClickHouse | |
|---|---|---|
| tinyint … bigint, unsigned | Int8 … Int64, UInt8 … UInt64 | mediumint: 32 bit |
| year | UInt16 | |
| bit(n) | UInt64 | |
| float, double | Float32, Float64 | |
| decimal(p,s) | Decimal(p,s) | exact; MySQL's 65 digits fit |
| date | Date32 | 1900-01-01 to 2299-12-31, see `row.py` |
| datetime(n), timestamp(n) | DateTime64(n,'UTC') | the same years |
| time(n) | String | as MySQL prints it; up to 838 hours |
| char, varchar, text, json, set | String | |
| enum | LowCardinality(String) | the label |
| binary, blob, geometry, vector | String | the bytes |

A column that may be NULL is Nullable; columns of the key are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gravity.batch import Column, TableSchema
from gravity.column import ColumnType

VERSION, DELETED = "_version", "_deleted"
"""Our own columns: which row of a key is newest, and whether it says that the key is gone."""

DEDUPLICATION_WINDOW = 1000
"""Inserts that a table remembers: the client repeats an insert whose answer was lost."""

_INTEGER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tinyint": "Int8",
        "smallint": "Int16",
        "mediumint": "Int32",
        "int": "Int32",
        "bigint": "Int64",
    }
)
_OTHER: Final[Mapping[str, str]] = MappingProxyType(
    {"year": "UInt16", "bit": "UInt64", "float": "Float32", "double": "Float64", "date": "Date32"}
)


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
    if kind.name == "enum":
        return "LowCardinality(Nullable(String))" if nullable else "LowCardinality(String)"
    if kind.name in _INTEGER:
        text = ("U" if kind.unsigned else "") + _INTEGER[kind.name]
    elif kind.name == "decimal":
        text = f"Decimal({kind.precision},{kind.scale})"
    elif kind.name in ("datetime", "timestamp"):
        text = f"DateTime64({kind.scale},'UTC')"
    else:
        text = _OTHER.get(kind.name, "String")
    return f"Nullable({text})" if nullable else text


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


def add_columns(database: str, table: str, columns: Sequence[Column]) -> str:
    """ALTER TABLE that adds these columns."""
    parts = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {quote_name(column.name)} "
        + column_type(column, in_key=False, added=True)
        for column in columns
    )
    return f"ALTER TABLE {quote_table(database, table)} {parts}"
