"""The shapes that tables have at the place that the stream has reached, as far as they are known. Pure.

The truth is the TABLE_MAP event that stands before rows. Between a statement and the next such event a
shape is what the statement made of the one before; where a statement was not wholly understood, it is
not known until rows come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gravity.batch import Column, TableSchema
from gravity.schema_change import ColumnAction, ColumnChange
from gravity_collector.ddl.sql_token import TableName


class Shapes:
    """What is known of the tables' shapes.

    `catalog` is what the server said they were at some moment before `catalog_from`, a place in its
    binlog (file, offset); it holds from there on for tables that no statement has changed until then.
    """

    def __init__(
        self,
        catalog: Mapping[TableName, TableSchema] | None = None,
        catalog_from: tuple[int, int] = (0, 0),
    ) -> None:
        self._catalog = dict(catalog or {})
        self._catalog_from = catalog_from
        self._known: dict[TableName, TableSchema] = {}

    def learn(self, schema: TableSchema) -> None:
        """Rows of a table come with this shape."""
        self._known[schema.database, schema.table] = schema

    def of(self, table: TableName, place: tuple[int, int]) -> TableSchema | None:
        """The table's shape at `place` (file, offset), which the stream has reached; None: not known."""
        known = self._known.get(table)
        if known is None and place >= self._catalog_from:
            known = self._catalog.get(table)
        return known

    def change(self, table: TableName, shape: TableSchema | None) -> None:
        """A statement has given the table this shape, or one that is not known, or has dropped it."""
        self._catalog.pop(table, None)
        if shape is None:
            self._known.pop(table, None)
        else:
            self._known[table] = shape

    def in_database(self, database: str) -> set[TableName]:
        """The tables of a database that have been heard of."""
        return {name for name in (*self._known, *self._catalog) if name[0] == database}


def named(schema: TableSchema, table: TableName) -> TableSchema:
    """The same shape under another name."""
    return replace(schema, database=table[0], table=table[1])


def column_named(schema: TableSchema, name: str) -> Column | None:
    """The column of that name, in whatever case."""
    wanted = name.lower()
    return next((column for column in schema.columns if column.name.lower() == wanted), None)


def apply_changes(schema: TableSchema, changes: Iterable[ColumnChange]) -> TableSchema | None:
    """The shape after `changes`, one after the other; None where they do not tell it."""
    columns = list(schema.columns)
    key = list(schema.key_names)
    for change in changes:
        at = _index(columns, change.name)
        if change.action is ColumnAction.ADD:
            if at is not None or change.column is None:
                return None
            _put(columns, change.column, change.after)
            continue
        if at is None:
            return None
        old = columns[at]
        if change.action is ColumnAction.DROP:
            del columns[at]
            key = [name for name in key if name != old.name]
            continue
        if change.action is ColumnAction.RENAME:
            new = replace(old, name=change.new_name)
        elif change.column is None:
            return None
        else:
            new = change.column
        columns[at] = new
        key = [new.name if name == old.name else name for name in key]
        if change.after is not None:
            _put(columns, columns.pop(at), change.after)
    if len({column.name.lower() for column in columns}) < len(columns):
        return None
    index = {column.name: number for number, column in enumerate(columns)}
    return replace(schema, columns=tuple(columns), key=tuple(index[name] for name in key))


def _index(columns: Sequence[Column], name: str) -> int | None:
    wanted = name.lower()
    found = [number for number, column in enumerate(columns) if column.name.lower() == wanted]
    return found[0] if found else None


def _put(columns: list[Column], column: Column, after: str | None) -> None:
    if after is None:
        columns.append(column)
    elif not after:
        columns.insert(0, column)
    else:
        at = _index(columns, after)
        columns.insert(len(columns) if at is None else at + 1, column)


def changes_between(old: TableSchema, new: TableSchema) -> tuple[ColumnChange, ...]:
    """What makes `new` of `old`: a renamed column is one dropped and one added."""
    before = {column.name: column for column in old.columns}
    after = {column.name for column in new.columns}
    found = [ColumnChange(ColumnAction.DROP, name) for name in before if name not in after]
    for column, previous in zip(new.columns, ("", *(c.name for c in new.columns)), strict=False):
        known = before.get(column.name)
        if known is None:
            found.append(ColumnChange(ColumnAction.ADD, column.name, column=column, after=previous))
        elif known != column:
            found.append(ColumnChange(ColumnAction.MODIFY, column.name, column=column))
    return tuple(found)


def additions(schema: TableSchema) -> tuple[ColumnChange, ...]:
    """All columns of a new table."""
    return tuple(
        ColumnChange(ColumnAction.ADD, column.name, column=column) for column in schema.columns
    )
