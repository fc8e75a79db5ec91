"""The tables of a source as its information_schema describes them. Pure but for the `query` passed in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gravity.batch import Column, TableSchema
from gravity.column import from_information_schema
from gravity.errors import FatalError, TransientError

Query = Callable[[str], Sequence[Sequence[object]]]
"""Runs one SQL statement; gives its rows."""

SYSTEM: Final = "('mysql', 'information_schema', 'performance_schema', 'sys')"
"""Databases of the server itself, as SQL lists them."""
_COLUMNS: Final = (
    "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.CHARACTER_MAXIMUM_LENGTH,"
    " c.NUMERIC_PRECISION, c.NUMERIC_SCALE, c.DATETIME_PRECISION, c.IS_NULLABLE, c.CHARACTER_SET_NAME, c.COLLATION_NAME"
    " FROM information_schema.COLUMNS c JOIN information_schema.TABLES t"
    " ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME AND t.TABLE_TYPE = 'BASE TABLE'"
    " WHERE {where} ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION"
)
_KEYS: Final = (
    "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.INDEX_NAME, c.COLUMN_NAME, c.SUB_PART, c.NULLABLE"
    " FROM information_schema.STATISTICS c WHERE c.NON_UNIQUE = 0 AND {where}"
    " ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.INDEX_NAME, c.SEQ_IN_INDEX"
)
_PRIMARY: Final = "PRIMARY"
_READS_MAX: Final = 10

TableName = tuple[str, str]
"""Database and table."""


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table as the source has it now."""

    schema: TableSchema
    """`key` is the primary key, else the first unique key (by name) of NOT NULL columns, else empty."""
    unique_secondary: bool
    """Whether it has a unique key beside the one in `schema`."""


def read_catalog(
    query: Query,
    includes: Callable[[str, str], bool],
    literal: Callable[[str], str],
    only: tuple[str, str] | None = None,
) -> dict[tuple[str, str], CatalogTable]:
    """The included tables by (database, table); with `only`, just that one.

    `literal` quotes a string for SQL. Columns and keys are read one after the other, and a table may be
    altered or dropped in between: what has no key, or one of columns that it lacks, is believed when it
    is read so a second time.

    Raises:
        FatalError: a key's ENUM or SET has labels that can't be read here.
        TransientError: tables were altered again and again while they were read.
    """
    where = f"c.TABLE_SCHEMA NOT IN {SYSTEM}"
    if only is not None:
        where = f"c.TABLE_SCHEMA = {literal(only[0])} AND c.TABLE_NAME = {literal(only[1])}"
    before: dict[TableName, CatalogTable] = {}
    for _ in range(_READS_MAX):
        tables, doubtful = _read(query, includes, where)
        if all(before.get(name) == table for name, table in doubtful.items()):
            return tables
        before = doubtful
    raise TransientError(
        f"tables without a key were another each of the {_READS_MAX} times that they were read",
        where="; ".join(sorted(map(".".join, before))[:5]),
        remedy="are they altered all the time? Then leave them out: exclude",
    )


def _read(
    query: Query, includes: Callable[[str, str], bool], where: str
) -> tuple[dict[TableName, CatalogTable], dict[TableName, CatalogTable]]:
    """The tables, and those of them that may have been altered while they were read."""
    columns: dict[TableName, list[Column]] = defaultdict(list)
    unclear: set[tuple[TableName, str]] = set()
    for row in query(_COLUMNS.format(where=where)):
        name = str(row[0]), str(row[1])
        if includes(*name):
            made = _column(row)
            columns[name].append(made)
            if _text(row[3]).lower() in ("enum", "set") and made.type.startswith("varchar"):
                unclear.add((name, made.name))
    indexes: dict[TableName, dict[str, list[tuple[str, bool]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for database, table, index, column, prefix, nullable in query(_KEYS.format(where=where)):
        name = str(database), str(table)
        there = any(known.name == column for known in columns.get(name, ()))
        usable = there and nullable != "YES" and (prefix is None or index == _PRIMARY)
        indexes[name][str(index)].append((str(column), usable))
    tables = {name: _table(name, found, indexes[name]) for name, found in columns.items()}
    for name, known in tables.items():
        for column_name in known.schema.key_names:
            if (name, column_name) in unclear:
                raise FatalError(
                    f"key column {column_name} has labels that the server's catalog prints as ?,"
                    " so its order is not known",
                    where=f"table {name[0]}.{name[1]}",
                    remedy="exclude the table, or make the column a VARCHAR",
                )
    return tables, {name: known for name, known in tables.items() if not known.schema.key}


def _table(
    name: tuple[str, str], columns: list[Column], indexes: dict[str, list[tuple[str, bool]]]
) -> CatalogTable:
    order = {column.name: index for index, column in enumerate(columns)}
    usable = {index: parts for index, parts in indexes.items() if all(ok for _, ok in parts)}
    chosen = _PRIMARY if _PRIMARY in usable else min(usable, default=None)
    key = () if chosen is None else tuple(order[column] for column, _ in usable[chosen])
    return CatalogTable(
        TableSchema(*name, tuple(columns), key), len(indexes) > (chosen is not None)
    )


def _column(row: Sequence[object]) -> Column:
    (
        _,
        _,
        name,
        data_type,
        column_type,
        length,
        precision,
        scale,
        fraction,
        nullable,
        charset,
        collation,
    ) = row
    kind = from_information_schema(
        data_type=_text(data_type),
        column_type=_text(column_type),
        character_maximum_length=_number(length),
        numeric_precision=_number(precision),
        numeric_scale=_number(scale),
        datetime_precision=_number(fraction),
        character_set_name=None if charset is None else _text(charset),
    )
    has_charset = kind.has_charset and charset is not None
    return Column(
        str(name),
        kind.text,
        nullable=nullable == "YES",
        charset=_text(charset) if has_charset else None,
        collation=_text(collation) if has_charset else None,
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
