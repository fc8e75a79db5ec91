"""Messages of a target topic, as a resolver would write them: numbered without holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gravity.batch import ChangeBatch, Column, TableSchema, Transaction, Value
from gravity.codec import encode_batch, encode_record
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.position import Position
from gravity.schema_change import ColumnChange, RowsAfter, SchemaChange, TableAction

Change = tuple[str, tuple[Value, ...]]
"""An operation's letter and the row image."""
Message = tuple[list[tuple[str, bytes]], bytes]
"""Headers and value."""


def table(name: str, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> TableSchema:
    """A table's shape: `database.table`, (column, type text) in order, and the key's columns.

    Text columns are utf8mb4 with a binary collation; columns of the key are NOT NULL.
    """
    database, _, short = name.partition(".")
    text = ("char", "varchar", "text", "tinytext", "mediumtext", "longtext", "enum", "set")
    made = [
        Column(
            column,
            kind,
            nullable=column not in key,
            charset="utf8mb4" if kind.split("(")[0] in text else None,
            collation="utf8mb4_bin" if kind.split("(")[0] in text else None,
        )
        for column, kind in columns
    ]
    names = [column for column, _ in columns]
    return TableSchema(database, short, tuple(made), tuple(names.index(column) for column in key))


def change_of(
    name: str,
    action: TableAction,
    *columns: ColumnChange,
    rows: RowsAfter = RowsAfter.KEPT,
    key: tuple[str, ...] = (),
    source: str = "s1",
    number: int = 0,
) -> SchemaChange:
    """A schema change of table `name` (`database.table`); `number` tells it from the others."""
    database, _, short = name.partition(".")
    statement = f"{action} {short}" + "".join(f", {item.action} {item.name}" for item in columns)
    return SchemaChange(
        source, database, short, action, statement, database, "0-1-1", f"1:1:{number}:0", number,
        columns=columns, rows=rows, key=key,
    )  # fmt: skip


@dataclass(slots=True)
class TargetLog:
    """The messages of one partition of a target topic."""

    source: str = "s1"
    resolver_epoch: int = 1
    term: int = 0
    out_seq: int = 0
    """Number of the message made last."""
    seq: int | None = None
    """Of the ingest message that the next ones come from; None: as `out_seq`. Set where several
    partitions share a source's log."""
    offset: int = 1000
    """Where the last transaction started in the source's binlog."""

    def rows(self, schema: TableSchema, changes: Sequence[Change], *, target: str = "") -> Message:
        """A batch of changes, one source transaction each; `target` names the table there."""
        self.out_seq += 1
        transactions = []
        for _ in changes:
            self.offset += 100
            commit_us = 1_700_000_000_000_000 + self.offset
            gtid = f"0-1-{self.offset}"
            transactions.append(Transaction(gtid, 1, self.offset, commit_us, commit_us))
        batch = ChangeBatch(
            source=self.source,
            epoch=1,
            schema=schema,
            transactions=transactions,
            ops="".join(op for op, _ in changes).encode(),
            tx=list(range(len(changes))),
            ordinal=[0] * len(changes),
            columns=[list(values) for values in zip(*(row for _, row in changes), strict=True)],
        )
        name = target or f"{schema.database}.{schema.table}"
        header = self._routed(RoutedKind.ROWS)
        return self._message(
            replace(header, table=name, schema=schema.schema_id, rows=len(changes)),
            encode_batch(batch),
        )

    def marker(
        self, gtids: str = "0-1-9", time_us: int = 1, *, cut: str = "", held: int = 0
    ) -> Message:
        """A marker: everything made so far has passed. `cut` and `held` as in its header."""
        self.out_seq += 1
        routed = replace(self._routed(RoutedKind.MARKER), gtids=gtids, cut=cut, held=held)
        record = {
            "source": self.source, "seq": self.out_seq, "next_position": str(routed.to), "gtids": gtids,
            "ets": routed.ets, "time_us": time_us,
        }  # fmt: skip
        return self._message(routed, encode_record("marker", record))

    def schema_change(
        self, change: SchemaChange, *, target: str = "", partitions: tuple[int, int] = (0, 1)
    ) -> Message:
        """A schema change of a table whose rows lie in `partitions`, first to last."""
        self.out_seq += 1
        routed = replace(
            self._routed(RoutedKind.SCHEMA),
            table=target or f"{change.database}.{change.table}",
            first=partitions[0],
            last=partitions[1],
        )
        return self._message(routed, change.encode())

    def note(self) -> Message:
        """A note about filtered rows."""
        self.out_seq += 1
        return self._message(replace(self._routed(RoutedKind.NOTE), filtered=3), b"")

    def code(self) -> Message:
        """The fence of a new version of the resolver's function."""
        self.term += 1
        header = TargetHeader(self._routed(RoutedKind.CODE), self.resolver_epoch, 0, self.term)
        return header.to_kafka(), b""

    def _routed(self, kind: RoutedKind) -> RoutedHeader:
        here = Position(1, 1, self.offset)
        return RoutedHeader(
            kind,
            self.source,
            self.out_seq if self.seq is None else self.seq,
            from_=here,
            to=Position(1, 1, self.offset + 1),
            ets=self.offset,
        )

    def _message(self, routed: RoutedHeader, value: bytes) -> Message:
        header = TargetHeader(routed, self.resolver_epoch, self.out_seq, self.term)
        return header.to_kafka(), value
