"""A target of its own: what a reader of the ingest log has who does what the messages say, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from gravity.batch import DELETE, READ, ChangeBatch
from gravity.codec import decode_batch
from gravity.header import IngestHeader, IngestKind
from gravity.schema_change import ColumnAction, RowsAfter, SchemaChange, TableAction

Row = dict[str, str | None]


class LogReplica:
    """Tables by name, each key to row, cells as text. Takes every message that counts, once."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Row]] = {}
        self.changes = 0
        self._seen: set[str] = set()

    def take(self, messages: Sequence[tuple[IngestHeader, bytes]]) -> None:
        """Messages that are neither void nor taken already, in order."""
        for header, value in messages:
            if header.kind is IngestKind.SCHEMA:
                change = SchemaChange.decode(value)
                if change.change_id not in self._seen:
                    self._seen.add(change.change_id)
                    self.changes += 1
                    self._change(change)
            elif header.kind in (IngestKind.ROWS, IngestKind.CHUNK):
                self._rows(decode_batch(value))

    def _change(self, change: SchemaChange) -> None:
        match change.action:
            case TableAction.CREATE:
                self.tables.setdefault(change.table, {})
            case TableAction.DROP:
                self.tables.pop(change.table, None)
            case TableAction.TRUNCATE:
                self.tables[change.table] = {}
            case TableAction.ALTER:
                for row in self.tables.get(change.table, {}).values():
                    _alter(row, change)

    def _rows(self, batch: ChangeBatch) -> None:
        table = self.tables.setdefault(batch.schema.table, {})
        names = [column.name for column in batch.schema.columns]
        key = batch.schema.key[0]
        for number, cells in enumerate(batch.rows()):
            if batch.ops[number] != READ:
                old = batch.before[batch.before_columns.index(key)][number]
                table.pop(str(old), None)
            if batch.ops[number] != DELETE:
                row = [None if cell is None else str(cell) for cell in cells]
                table[str(cells[key])] = dict(zip(names, row, strict=True))


def _alter(row: Row, change: SchemaChange) -> None:
    for step in change.columns:
        if step.action is ColumnAction.ADD:
            row[step.name] = step.default if change.rows is RowsAfter.FILLED else None
        elif step.action is ColumnAction.DROP:
            row.pop(step.name, None)
        elif step.new_name and step.name in row:
            row[step.new_name] = row.pop(step.name)
