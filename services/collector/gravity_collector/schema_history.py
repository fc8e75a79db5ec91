"""What the statements of one source's binlog did to its tables, each at its place among the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gravity.batch import TableSchema
from gravity.position import Position
from gravity.schema_change import SchemaChange
from gravity_collector.ddl.column_definition import Dialect
from gravity_collector.ddl.effect import Effect, effects_of
from gravity_collector.ddl.shape import Shapes
from gravity_collector.ddl.sql_token import SqlMode, TableName
from gravity_collector.ddl.statement import parse_ddl
from gravity_collector.event import Begin, Query


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that changed tables."""

    tables: tuple[TableName, ...]
    """All that it touched, read or not."""
    changes: tuple[SchemaChange, ...]
    """What it did to tables that are read, in order."""
    made: tuple[TableName, ...] = ()
    """Tables that are read and have no rows but those that the stream brings from here on."""


class SchemaHistory:
    """Follows the shapes of one source's tables through its binlog.

    `known_tables` are tables that the source is known to have or have had; DROP DATABASE names none.
    `lowers_names`: the server names tables in lower case, however statements spell them.
    """

    def __init__(
        self,
        source: str,
        shapes: Shapes,
        known_tables: Iterable[TableName] = (),
        *,
        lowers_names: bool = False,
    ) -> None:
        self._source = source
        self._shapes = shapes
        self._known_tables = set(known_tables)
        self._lowers_names = lowers_names

    def learn(self, schema: TableSchema) -> None:
        """Rows of a table come with this shape, which a TABLE_MAP event told."""
        self._shapes.learn(schema)

    def read(
        self,
        event: Query,
        begin: Begin,
        at: Position,
        includes: Callable[[str, str], bool],
    ) -> Statement | None:
        """What a statement at position `at` of the transaction `begin` did; None: nothing to any table.

        The changes' `ets` is not known yet.
        """
        dialect = Dialect(":" not in begin.gtid, SqlMode(event.sql_mode), self._lowers_names)
        ddl = parse_ddl(event.sql, event.database, dialect)
        if ddl is None:
            return None
        place = begin.file_index, begin.offset
        effects = effects_of(
            ddl, lambda table: self._shapes.of(table, place), dialect, self._tables_in
        )
        for effect in effects:
            self._shapes.change(effect.table, effect.shape)
        changes = tuple(
            self._change(effect, event, begin, at) for effect in effects if includes(*effect.table)
        )
        self._known_tables.update((change.database, change.table) for change in changes)
        made = (effect.table for effect in effects if effect.is_new and includes(*effect.table))
        return Statement(tuple({effect.table: None for effect in effects}), changes, tuple(made))

    def _tables_in(self, database: str) -> set[TableName]:
        known = {table for table in self._known_tables if table[0] == database}
        return known | self._shapes.in_database(database)

    def _change(self, effect: Effect, event: Query, begin: Begin, at: Position) -> SchemaChange:
        return SchemaChange(
            source=self._source,
            database=effect.table[0],
            table=effect.table[1],
            action=effect.action,
            statement=event.sql,
            default_database=event.database,
            gtid=begin.gtid,
            position=str(at),
            ets=0,
            index=effect.index,
            columns=effect.columns,
            rows=effect.rows,
            key=effect.key,
        )
