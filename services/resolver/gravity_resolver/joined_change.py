"""A schema change of one source among several that feed a table: what the target is told. Pure.

Each row's outcome is looked at again, as it was before the change and as it is after it; those that
differ are sent. Then a target's rows are what the sources' tables come to, whatever order their changes
took. The target's columns are those that any source has: one that is dropped goes when no source has
it any more, and its values are gone from the rows before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gravity.batch import DELETE, ChangeBatch, Column, TableSchema, Transaction, Value
from gravity.errors import FatalError
from gravity.header import RoutedHeader, RoutedKind
from gravity.key import decode_key
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.strategy import Outcome
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, SchemaChange, TableAction
from gravity_resolver.conflict_record import conflict_record
from gravity_resolver.emission import batches_of
from gravity_resolver.judgement import Judgement
from gravity_resolver.table_history import View

BATCH_ROWS = 500
"""Rows looked at again in one go; what they send is in the log before the next are read."""

JudgeRow = Callable[[bytes, bytes, int], tuple[Judgement, Outcome | None]]
"""Judges the row in a slot, given its saved bytes and a number; returns also the outcome before."""


@dataclass(frozen=True, slots=True)
class Step:
    """What part of a joined change causes."""

    messages: list[tuple[RoutedHeader, bytes | ChangeBatch]]
    conflicts: list[bytes]
    removed: int = 0
    """Rows that are gone from the target because of it."""


@dataclass(frozen=True, slots=True)
class JoinedChange:
    """One source's schema change of a table that `sources` feed."""

    target: str
    partition: int
    header: RoutedHeader
    change: SchemaChange
    rule: Resolution
    sources: Sequence[str]
    before: View
    after: View

    def steps(
        self, entries: Iterable[tuple[bytes, bytes]], prefix: bytes, judge: JudgeRow
    ) -> Iterator[Step]:
        """Everything that is sent, in order; `entries` are the table's rows in the state, in key order."""
        yield Step([self._shape_message(item) for item in self._first()], [])
        found: list[tuple[bytes, bytes]] = []
        for entry in entries:
            found.append(entry)
            if len(found) == BATCH_ROWS:
                yield self._rows(found, prefix, judge)
                found = []
        if found:
            yield self._rows(found, prefix, judge)
        yield Step([self._shape_message(item) for item in self._last()], [])

    @property
    def changes_rows(self) -> bool:
        """Whether any row may come out otherwise."""
        action = self.change.action
        return action in (TableAction.TRUNCATE, TableAction.DROP) or bool(
            action is TableAction.ALTER and self.change.columns
        )

    # ------------------------------------------------------------------ columns

    def _shape_message(self, change: SchemaChange) -> tuple[RoutedHeader, bytes]:
        return self.header, change.encode()

    def _joined(self, action: TableAction, columns: Sequence[ColumnChange]) -> SchemaChange:
        # Of no source: sinks know by that that it is about the shape that all of them come to.
        return replace(
            self.change, source="", action=action, columns=tuple(columns), rows=RowsAfter.KEPT,
            key=self.change.key,
        )  # fmt: skip

    def _first(self) -> list[SchemaChange]:
        """What must be so before rows are written in the new shape."""
        action = self.change.action
        if action is TableAction.CREATE:
            columns = [item.column for item in self.change.columns if item.column is not None]
            items = _wanted_by(columns, self.change.key, self.before, self.sources)
            made = [self._joined(TableAction.CREATE, ())]
            return [*made, self._joined(TableAction.ALTER, items)] if items else made
        if action is not TableAction.ALTER:
            return []
        wanted: list[ColumnChange] = []
        for item in self.change.columns:
            if item.action is ColumnAction.DROP or item.new_name:
                old = self._column_before(item.name)
                if old is not None:
                    # Rows of this source have no value for it any more.
                    wanted.append(_modify(replace(old, nullable=True)))
            if item.action is ColumnAction.DROP:
                continue
            name = item.new_name or item.name
            column = item.column or self._column_before(item.name)
            if column is None:
                continue
            now = replace(column, name=name, nullable=True)
            if item.action is ColumnAction.ADD or item.new_name:
                wanted.append(ColumnChange(ColumnAction.ADD, name, column=now))
            else:
                wanted.append(_modify(now))
        return [self._joined(action, wanted)] if wanted or self.change.key else []

    def _column_before(self, name: str) -> Column | None:
        table = self.before.tables.get(self.change.source)
        columns = () if table is None else table.columns
        return next((c for c in columns if c.name.lower() == name.lower()), None)

    def _last(self) -> list[SchemaChange]:
        """What may go once no row needs it."""
        action = self.change.action
        if action in (TableAction.DROP, TableAction.CREATE):
            # A new table shows what the source lacks, which after the old one's end was not known.
            drops = _gone(self.before, self.after, self.sources)
        else:
            drops = [
                ColumnChange(ColumnAction.DROP, item.name)
                for item in self.change.columns
                if (item.action is ColumnAction.DROP or item.new_name)
                and self.after.lacks_everywhere(item.name, self.sources)
            ]
        made = [self._joined(TableAction.ALTER, drops)] if drops else []
        tables = [self.after.tables.get(source) for source in self.sources]
        if action is TableAction.DROP and all(t is not None and t.gone for t in tables):
            # Its columns are told as well: in another partition the table may not be gone at any time.
            made.append(self._joined(TableAction.DROP, ()))
        return made

    # ------------------------------------------------------------------ rows

    def _rows(self, entries: Sequence[tuple[bytes, bytes]], prefix: bytes, judge: JudgeRow) -> Step:
        batch = self._batch([decode_key(slot[len(prefix) :]) for slot, _ in entries])
        winners: list[tuple[int, Outcome]] = []
        conflicts: list[bytes] = []
        removed = 0
        header = replace(self.header, kind=RoutedKind.ROWS, rows=len(entries), counted=0)
        for index, (slot, value) in enumerate(entries):
            judged, before = judge(slot, value, index)
            if judged.hold:
                conflicts.append(
                    conflict_record(
                        self.target, header=header, batch=batch, index=index, kind="ddl", rule=self.rule,
                        judged=judged, partition=self.partition,
                    )
                )  # fmt: skip
            if judged.emits and isinstance(judged.verdict, Outcome):
                outcome = _emptied(judged.verdict, before)
                winners.append((index, outcome))
                removed += outcome.row is None
        made = [
            (replace(out_header, counted=0), out_batch)
            for out_header, out_batch in batches_of(header, batch, winners)
        ]
        return Step(list(made), conflicts, removed)

    def _batch(self, keys: Sequence[Sequence[Value]]) -> ChangeBatch:
        """The rows by their keys, at the place of the statement."""
        columns = next((table.key for table in self.after.tables.values() if table.key), ())
        if not keys or len(keys[0]) != len(columns):
            raise FatalError(
                f"a schema change of a table whose key is not known yet: {self.change.statement[:500]}",
                where=f"table {self.header.table}, source {self.change.source}",
                remedy="change any row of the table at each source, so that the resolver sees its key again",
            )
        database, _, table = self.header.table.partition(".")
        at = Position.parse(self.change.position)
        count = len(keys)
        ets = self.change.ets
        return ChangeBatch(
            source=self.change.source,
            epoch=at.epoch,
            schema=TableSchema(database, table, columns, tuple(range(len(columns)))),
            transactions=[Transaction(self.change.gtid, at.file_index, at.offset, ets, ets)],
            ops=bytes([DELETE]) * count,
            tx=[0] * count,
            ordinal=[at.ordinal] * count,
            columns=[list(cells) for cells in zip(*keys, strict=True)],
        )


def told_by_rows(
    batch: ChangeBatch, header: RoutedHeader, before: View, after: View, sources: Sequence[str]
) -> SchemaChange | None:
    """What rows in a shape that their source had not shown yet say of the joined one; None: nothing.

    They may bring columns that no source had, and show that a source lacks some that nobody has. Every
    column but the key's must take NULL: another source may lack it.
    """
    items = _wanted_by(batch.schema.columns, batch.schema.key_names, before, sources)
    items += _gone(before, after, sources)
    if not items:
        return None
    database, _, table = header.table.partition(".")
    return SchemaChange(
        "", database, table, TableAction.ALTER, "rows of another shape", database, header.gtids,
        str(header.from_), header.ets, columns=tuple(items),
    )  # fmt: skip


def _wanted_by(
    columns: Sequence[Column], key: Sequence[str], before: View, sources: Sequence[str]
) -> list[ColumnChange]:
    """What a source's table wants of the joined shape: columns that nobody had, and NULL in its others."""
    others = [column for column in columns if column.name not in key]
    return [
        *(
            ColumnChange(ColumnAction.ADD, column.name, column=replace(column, nullable=True))
            for column in others
            if before.lacks_everywhere(column.name, sources)
        ),
        *(_modify(replace(column, nullable=True)) for column in others if not column.nullable),
    ]


def _gone(before: View, after: View, sources: Sequence[str]) -> list[ColumnChange]:
    """The columns that nobody has any more, of which that was not known."""
    return [
        ColumnChange(ColumnAction.DROP, name)
        for name in sorted(after.dropped_names())
        if after.lacks_everywhere(name, sources) and not before.lacks_everywhere(name, sources)
    ]


def _modify(column: Column) -> ColumnChange:
    return ColumnChange(ColumnAction.MODIFY, column.name, column=column)


def _emptied(now: Outcome, before: Outcome | None) -> Outcome:
    """The outcome with NULL in columns that it had before and that nobody has any more."""
    if now.row is None or before is None:
        return now
    there = {column.name for column in now.columns}
    lost = [column for column in before.columns if column.name not in there]
    if not lost:
        return now
    columns = (*now.columns, *(replace(column, nullable=True) for column in lost))
    return replace(now, columns=columns, row=(*now.row, *(None for _ in lost)))
