"""What a statement did to each table: its effects, in the order in which they are published. Pure.

Whatever is known of the tables' shapes makes the effects better told, never more or fewer: their
numbers name them, and a statement that is read again after a crash may meet less knowledge.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gravity.batch import Column, TableSchema
from gravity.schema_change import ColumnChange, RowsAfter, TableAction
from gravity_collector.ddl.alter import RenameTo, ReplaceRows
from gravity_collector.ddl.alteration import alteration_of
from gravity_collector.ddl.column_definition import Dialect
from gravity_collector.ddl.ghost import is_copy_of, is_old_of
from gravity_collector.ddl.shape import additions, apply_changes, changes_between, named
from gravity_collector.ddl.sql_token import TableName
from gravity_collector.ddl.statement import (
    AlterTable,
    CreateTable,
    Ddl,
    DropDatabase,
    DropTables,
    RenameTables,
    TruncateTable,
)

ShapeOf = Callable[[TableName], TableSchema | None]
"""What is known of a table's shape before the statement."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of one table."""

    table: TableName
    action: TableAction
    columns: tuple[ColumnChange, ...] = ()
    rows: RowsAfter = RowsAfter.KEPT
    key: tuple[str, ...] = ()
    shape: TableSchema | None = None
    """Afterwards, where it is known."""
    is_new: bool = False
    """Whether the table was certainly not there before, and has no rows but those that the stream brings."""
    index: int = 0
    """Its number among the statement's effects, those on tables that are not read included; while they are
    gathered: how many numbers are left out before it."""


def effects_of(
    ddl: Ddl, shape_of: ShapeOf, dialect: Dialect, tables_in: Callable[[str], Iterable[TableName]]
) -> list[Effect]:
    """All effects of a statement. `tables_in` gives the tables that a database is known to have had."""
    match ddl:
        case AlterTable():
            found = _altered(ddl, shape_of, dialect)
        case RenameTables():
            found = _renamed(ddl, shape_of)
        case DropTables():
            found = [Effect(table, TableAction.DROP) for table in ddl.tables]
        case TruncateTable():
            found = [Effect(ddl.table, TableAction.TRUNCATE, shape=shape_of(ddl.table))]
        case CreateTable():
            found = _created(ddl, shape_of)
        case DropDatabase():
            # Which tables are known may differ when the statement is read again: names number them.
            return [
                replace(Effect(table, TableAction.DROP), index=zlib.crc32(table[1].encode()) >> 1)
                for table in sorted(tables_in(ddl.database))
            ]
    numbered, index = [], 0
    for effect in found:
        index += effect.index
        numbered.append(replace(effect, index=index))
        index += 1
    return numbered


def _filled_anew(table: TableName, shape: TableSchema | None) -> Effect:
    """A table that appears under this name with rows in it."""
    if shape is None:
        return Effect(table, TableAction.CREATE, rows=RowsAfter.REREAD)
    shape = named(shape, table)
    columns, key = additions(shape), shape.key_names
    return Effect(table, TableAction.CREATE, columns, RowsAfter.REREAD, key=key, shape=shape)


def _replaced(table: TableName, old: TableSchema | None, new: TableSchema | None) -> list[Effect]:
    """The table's rows are others now, though it has not been emptied row by row."""
    emptied = Effect(table, TableAction.TRUNCATE, shape=old)
    # The second number is kept free, so that the third means the same with and without knowledge.
    if old is not None and new is not None:
        return [emptied, replace(_reread(table, old, new), index=1)]
    # What its columns were is not known, nor which to take away: it is made anew.
    return [emptied, Effect(table, TableAction.DROP), _filled_anew(table, new)]


def _reread(table: TableName, old: TableSchema | None, new: TableSchema | None) -> Effect:
    if new is None:
        return Effect(table, TableAction.ALTER, rows=RowsAfter.REREAD)
    new = named(new, table)
    columns = changes_between(old, new) if old is not None else ()
    key = new.key_names if old is not None and old.key_names != new.key_names else ()
    return Effect(table, TableAction.ALTER, columns, RowsAfter.REREAD, key=key, shape=new)


def _altered(ddl: AlterTable, shape_of: ShapeOf, dialect: Dialect) -> list[Effect]:
    table, old = ddl.table, shape_of(ddl.table)
    done = alteration_of(ddl, old, dialect)
    new = apply_changes(old, done.columns) if old is not None and done.is_told else None
    if new is not None and done.key:
        indexes = new.column_index
        known = all(name in indexes for name in done.key)
        new = replace(new, key=tuple(indexes[name] for name in done.key)) if known else None
    renamed = [spec.other for spec in ddl.specs if isinstance(spec, RenameTo)]
    if renamed and renamed[-1] != table:
        gone = Effect(table, TableAction.DROP)
        return [gone, _filled_anew(renamed[-1], new)]
    altered = Effect(table, TableAction.ALTER, done.columns, done.rows, key=done.key, shape=new)
    if not done.loses_rows:
        return [altered]
    effects = [
        Effect(table, TableAction.TRUNCATE, shape=old),
        replace(altered, rows=RowsAfter.REREAD),
    ]
    for spec in ddl.specs:
        if isinstance(spec, ReplaceRows) and spec.other is not None:
            effects += _exchanged(spec, spec.other, shape_of)
    return effects


def _exchanged(spec: ReplaceRows, other: TableName, shape_of: ShapeOf) -> list[Effect]:
    if spec.other_action is TableAction.DROP:
        return [Effect(other, TableAction.DROP)]
    if spec.other_action is TableAction.CREATE:
        return [_filled_anew(other, None)]
    shape = shape_of(other)
    return [Effect(other, TableAction.TRUNCATE, shape=shape), _reread(other, shape, shape)]


def _renamed(ddl: RenameTables, shape_of: ShapeOf) -> list[Effect]:
    """Renames come one after the other; what counts is which table bears each name in the end."""
    origin: dict[TableName, TableName | None] = {}
    existed: dict[TableName, bool] = {}
    for old, new in ddl.pairs:
        existed.setdefault(old, True)
        existed.setdefault(new, False)
        origin[new] = origin.get(old, old)
        origin[old] = None
    now = {table: holder for table, holder in origin.items() if holder != table}
    effects = [
        Effect(table, TableAction.DROP)
        for table, holder in now.items()
        if holder is None and existed[table]
    ]
    for table, holder in now.items():
        if holder is None:
            continue
        if not existed[table]:
            effects.append(_filled_anew(table, shape_of(holder)))
        elif is_copy_of(holder[1], table[1]) and _was_put_away(table, now):
            effects.append(_reread(table, shape_of(table), shape_of(holder)))
        else:
            effects += _replaced(table, shape_of(table), shape_of(holder))
    return effects


def _was_put_away(table: TableName, now: dict[TableName, TableName | None]) -> bool:
    """Whether a tool for schema changes has renamed the old table as it does."""
    return any(holder == table and is_old_of(name[1], table[1]) for name, holder in now.items())


def _created(ddl: CreateTable, shape_of: ShapeOf) -> list[Effect]:
    shape = None
    if ddl.like is not None:
        like = shape_of(ddl.like)
        shape = named(like, ddl.table) if like is not None else None
    elif ddl.columns:
        shape = _declared(ddl)
    rows = RowsAfter.REREAD if ddl.has_rows else RowsAfter.KEPT
    if (
        ddl.if_not_exists
        and not ddl.replaces
        and not ddl.has_rows
        and shape_of(ddl.table) is not None
    ):
        # It was there already: nothing has happened, and a target that has it does nothing either.
        return [Effect(ddl.table, TableAction.CREATE, shape=shape_of(ddl.table))]
    columns = additions(shape) if shape is not None else ()
    key = shape.key_names if shape is not None else ()
    # Whether it was there already is not known.
    kept = None if ddl.if_not_exists else shape
    # With replacement it may have been there, but is no more.
    is_new = not ddl.has_rows and not (ddl.if_not_exists and not ddl.replaces)
    created = Effect(
        ddl.table, TableAction.CREATE, columns, rows, key=key, shape=kept, is_new=is_new
    )
    return [Effect(ddl.table, TableAction.DROP), created] if ddl.replaces else [created]


def _declared(ddl: CreateTable) -> TableSchema | None:
    columns: list[Column] = []
    key = [name.lower() for name in ddl.key]
    for definition in ddl.columns:
        column = definition.column
        if column is None:
            return None
        is_key = column.name.lower() in key
        columns.append(replace(column, nullable=column.nullable and not is_key))
    index = {column.name.lower(): number for number, column in enumerate(columns)}
    if not all(name in index for name in key):
        return None
    return TableSchema(*ddl.table, tuple(columns), tuple(index[name] for name in key))
