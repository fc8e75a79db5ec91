"""What the sources' tables behind one target table went through, and how older rows look today. Pure.

A register keeps a row as its source last wrote it. Statements that came later have changed the row
without writing it: TRUNCATE took it away, a renamed column has another name in it, an added one its
default. `View` shows registers as they would be if every such statement had written every row. What
it shows is a function of the set of events, since a source's rows and statements have one order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gravity.batch import Column, TableSchema, Value
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.evolution import default_value
from gravity.position import Position
from gravity.resolution.register import Floor, Register, Registers, Shape
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, SchemaChange, TableAction
from gravity_resolver.row_state import RowState

CHANGES_MAX = 10_000
"""Changes of shape that are remembered of one source's table."""


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """A statement that changed columns, at its place among the source's rows."""

    position: Position
    columns: tuple[ColumnChange, ...]
    filled: bool
    """Whether rows that were there have the defaults of added columns."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One source's table, as far as its rows and statements have told."""

    columns: tuple[Column, ...] = ()
    """As they are now; empty: not known."""
    key: tuple[Column, ...] = ()
    """The key's columns as rows last had them, whatever became of the table."""
    floor: Floor | None = None
    """The latest TRUNCATE or DROP."""
    dropped: Position | None = None
    """The latest DROP."""
    gone: bool = False
    """Whether it was dropped and is not there again."""
    lacking: frozenset[str] = frozenset()
    """Lower-case names of columns that it had and has no longer."""
    named: frozenset[str] = frozenset()
    """Lower-case names of columns that statements have brought."""
    changes: tuple[ShapeChange, ...] = ()

    def has(self, column: str) -> bool:
        """Whether it may have a column of this lower-case name; what is not known is taken to be there."""
        if self.gone or column in self.lacking:
            return False
        return not self.columns or any(c.name.lower() == column for c in self.columns)

    def seen(self, schema: TableSchema) -> SourceTable:
        """After rows of this shape."""
        key = tuple(schema.columns[index] for index in schema.key)
        if self.columns == schema.columns and self.key == key and not self.gone:
            return self
        there = {column.name.lower() for column in schema.columns}
        return replace(
            self,
            columns=schema.columns,
            key=key,
            gone=False,
            lacking=self.lacking - there,
        )

    def after(self, change: SchemaChange, where: str) -> SourceTable:
        """After a schema change. Raises FatalError when there have been too many."""
        position = Position.parse(change.position)
        match change.action:
            case TableAction.TRUNCATE:
                return replace(self, floor=Floor(position, change.ets))
            case TableAction.DROP:
                floor = Floor(position, change.ets)
                names = (column.name.lower() for column in self.columns)
                return replace(
                    self, floor=floor, dropped=position, gone=True, columns=(), changes=(),
                    lacking=self.lacking.union(names, self.named), named=frozenset(),
                )  # fmt: skip
            case TableAction.CREATE:
                columns = tuple(item.column for item in change.columns if item.column is not None)
                there = {column.name.lower() for column in columns}
                return replace(self, gone=False, columns=columns, lacking=self.lacking - there)
            case TableAction.ALTER:
                pass
        if not change.columns:
            return self
        if len(self.changes) >= CHANGES_MAX:
            raise FatalError(
                f"more than {CHANGES_MAX} changes of one source's table",
                where=where,
                remedy=BEGIN_ANEW,
            )
        filled = change.rows is RowsAfter.FILLED
        made = ShapeChange(position, change.columns, filled)
        columns, _ = _advance(self.columns, None, made)
        lacking = set(self.lacking)
        for item in change.columns:
            if item.action is ColumnAction.DROP or item.new_name:
                lacking.add(item.name.lower())
        named = {(item.new_name or item.name).lower() for item in change.columns
                 if item.action is not ColumnAction.DROP}  # fmt: skip
        return replace(
            self, columns=columns if self.columns else (), lacking=frozenset(lacking - named),
            named=self.named | named, changes=(*self.changes, made),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the inverse of `from_json`."""
        floor = self.floor
        return {
            "columns": [_column_json(column) for column in self.columns],
            "key": [_column_json(column) for column in self.key],
            "floor": None if floor is None else [str(floor.position), floor.ets],
            "dropped": None if self.dropped is None else str(self.dropped),
            "gone": self.gone,
            "lacking": sorted(self.lacking),
            "named": sorted(self.named),
            "changes": [
                [str(made.position), made.filled, [_change_json(item) for item in made.columns]]
                for made in self.changes
            ],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SourceTable:
        """What `to_json` gave."""
        floor = record["floor"]
        return cls(
            tuple(Column(*fields) for fields in record["columns"]),
            tuple(Column(*fields) for fields in record["key"]),
            None if floor is None else Floor(Position.parse(floor[0]), floor[1]),
            None if record["dropped"] is None else Position.parse(record["dropped"]),
            record["gone"],
            frozenset(record["lacking"]),
            frozenset(record["named"]),
            tuple(
                ShapeChange(Position.parse(at), tuple(_change_of(item) for item in items), filled)
                for at, filled, items in record["changes"]
            ),
        )

    def dump(self) -> bytes:
        """As bytes: a function of what has happened to the table."""
        return json.dumps(self.to_json(), separators=(",", ":")).encode()


def _column_json(column: Column) -> list[object]:
    return [column.name, column.type, column.nullable, column.charset, column.collation]


def _change_json(item: ColumnChange) -> list[object]:
    column = None if item.column is None else _column_json(item.column)
    return [item.action, item.name, item.new_name, column, item.default]


def _change_of(record: Any) -> ColumnChange:
    action, name, new_name, column, default = record
    return ColumnChange(
        ColumnAction(action), name, new_name, None if column is None else Column(*column), default
    )


def _advance(
    columns: Sequence[Column], row: Sequence[Value] | None, made: ShapeChange
) -> tuple[tuple[Column, ...], tuple[Value, ...] | None]:
    """Columns, and a row in them, after one more change. Names are those before the statement."""
    by_name = {item.name.lower(): item for item in made.columns
               if item.action is not ColumnAction.ADD}  # fmt: skip
    now: list[Column] = []
    cells: list[Value] = []
    for index, column in enumerate(columns):
        item = by_name.get(column.name.lower())
        if item is not None and item.action is ColumnAction.DROP:
            continue
        if item is not None:
            if item.column is not None:
                column = item.column  # noqa: PLW2901 - the column as it is now
            if item.new_name and column.name != item.new_name:
                column = replace(column, name=item.new_name)  # noqa: PLW2901
        now.append(column)
        cells.append(None if row is None else row[index])
    there = {column.name.lower() for column in now}
    for item in made.columns:
        if item.action is ColumnAction.ADD and item.column and item.name.lower() not in there:
            now.append(item.column)
            cells.append(default_value(item.column, item.default) if made.filled else None)
    return tuple(now), None if row is None else tuple(cells)


class View:
    """Registers of one target table as they are today."""

    def __init__(self, tables: Mapping[str, SourceTable]) -> None:
        self.tables = tables
        self._moved = {s for s, table in tables.items() if table.floor or table.changes}
        self._shapes: dict[tuple[str, str, int], Shape] = {}

    def __call__(self, registers: Registers) -> Registers:
        """The registers as every statement since has left them."""
        if self._moved.isdisjoint(registers):
            return registers
        return {
            source: self._present(source, reg) if source in self._moved else reg
            for source, reg in registers.items()
        }

    def row(self, state: RowState) -> RowState:
        """A row with its registers as every statement since has left them."""
        registers = self(state.registers)
        return state if registers is state.registers else replace(state, registers=registers)

    def with_table(self, source: str, table: SourceTable) -> View:
        """The view once one source's table is another."""
        return View({**self.tables, source: table})

    def lacks_everywhere(self, column: str, sources: Sequence[str]) -> bool:
        """Whether none of `sources` has the column any more. One that has said nothing may have it."""
        name = column.lower()
        return all(not self.tables.get(source, SourceTable()).has(name) for source in sources)

    def may_have(self, column: str) -> bool:
        """Whether the target's table may have the column: not once a statement took it from the last source."""
        is_known = column.lower() in self.dropped_names()
        return not (is_known and self.lacks_everywhere(column, tuple(self.tables)))

    def dropped_names(self) -> set[str]:
        """Lower-case names of all columns that any source has dropped."""
        return {name for table in self.tables.values() for name in table.lacking}

    def _present(self, source: str, reg: Register) -> Register:
        table = self.tables[source]
        written = reg.position
        if table.floor is not None and reg.position <= table.floor.position:
            shape = reg.shape
            if table.dropped is not None and reg.position <= table.dropped:
                # Of the dropped table's columns nothing is left but what names the row.
                shape = Shape(f"key@{source}", table.key)
            reg = Register(
                table.floor.position, reg.op, table.floor.ets, None, shape, reg.changed_ets
            )
        first = next((n for n, made in enumerate(table.changes) if made.position > written), None)
        if first is None:
            return reg
        columns, row, names = reg.shape.columns, reg.row, reg.changed_ets
        for made in table.changes[first:]:
            columns, row = _advance(columns, row, made)
            if names is not None:
                moves = {item.name: item.new_name for item in made.columns if item.new_name}
                names = {moves.get(name, name): ets for name, ets in names.items()}
        slot = (source, reg.shape.schema_id, first)
        now = self._shapes.get(slot)
        if now is None:
            last = table.changes[-1].position
            now = Shape(f"{reg.shape.schema_id}@{source}@{first}@{last}", columns)
            self._shapes[slot] = now
        return replace(reg, row=row, shape=now, changed_ets=names)


AS_WRITTEN = View({})
"""Registers as they are."""
