"""Messages of a routed topic, as a router would write them for one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gravity.batch import UNCOUNTED, ChangeBatch, TableSchema, Transaction, Value
from gravity.codec import encode_batch, encode_record
from gravity.header import RoutedHeader, RoutedKind
from gravity.position import Position
from gravity.schema_change import ColumnChange, RowsAfter, SchemaChange, TableAction

RoutedMessage = tuple[RoutedHeader, bytes]
EPOCH_US = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row change in a transaction of its own."""

    op: str
    """A letter of IUDRML."""
    row: tuple[Value, ...]
    ets: int
    """Seconds; made microseconds since 1970 in the batch."""
    offset: int | None = None
    """Where its transaction starts in the binlog; None: right after the one before."""
    epoch: int = 1
    ordinal: int = 0
    ets_us: int | None = None
    """The commit time in microseconds since 1970, in place of `ets`."""


@dataclass(slots=True)
class RoutedLog:
    """One source's messages for one partition, numbered as a collector numbers them."""

    source: str
    plan: int = 1
    seq: int = 0
    offset: int = 1000
    """Where the last transaction started in the source's binlog."""
    made: list[RoutedMessage] = field(default_factory=list)

    def rows(
        self, schema: TableSchema, changes: Sequence[RowChange], *, table: str = ""
    ) -> RoutedMessage:
        """A batch of changes; `table` names the table at the target."""
        transactions = []
        for change in changes:
            if change.offset is None:
                self.offset += 100
            at = self.offset if change.offset is None else change.offset
            ets = EPOCH_US + change.ets * 1_000_000 if change.ets_us is None else change.ets_us
            transactions.append(Transaction(f"0-1-{at}", 1, at, ets, ets))
        ops = "".join(change.op for change in changes).encode()
        batch = ChangeBatch(
            source=self.source,
            epoch=changes[0].epoch,
            schema=schema,
            transactions=transactions,
            ops=ops,
            tx=list(range(len(changes))),
            ordinal=[change.ordinal for change in changes],
            columns=[list(values) for values in zip(*(c.row for c in changes), strict=True)],
        )
        header = RoutedHeader(
            RoutedKind.ROWS,
            self.source,
            self._next_seq(),
            first=0,
            last=len(changes) - 1,
            rows=len(changes),
            counted=sum(op not in UNCOUNTED for op in ops),
            from_=Position(changes[0].epoch, 1, transactions[0].offset),
            to=Position(changes[0].epoch, 1, transactions[-1].offset + 1),
            ets=transactions[-1].ets,
            plan=self.plan,
            table=table or f"{schema.database}.{schema.table}",
            schema=schema.schema_id,
        )
        return self._add(header, encode_batch(batch))

    def marker(self, ets_us: int = 0, quiet_us: int = 0, cut: str = "") -> RoutedMessage:
        """A marker: everything made so far has passed. The times are in microseconds since 1970."""
        here = Position(1, 1, self.offset + 1)
        header = RoutedHeader(
            RoutedKind.MARKER, self.source, self._next_seq(), from_=here, to=here, ets=ets_us,
            plan=self.plan, quiet=quiet_us, cut=cut,
        )  # fmt: skip
        record = {
            "source": self.source, "seq": self.seq, "next_position": str(here), "gtids": "0-1-9", "ets": ets_us,
            "time_us": 1,
        }  # fmt: skip
        return self._add(header, encode_record("marker", record))

    def schema_change(
        self, name: str, action: TableAction, *columns: ColumnChange, ets: int = 0,
        rows: RowsAfter = RowsAfter.KEPT, key: tuple[str, ...] = (),
    ) -> RoutedMessage:  # fmt: skip
        """A schema change of table `name` at its place in the binlog; `ets` in seconds."""
        self.offset += 100
        at = Position(1, 1, self.offset)
        database, _, short = name.partition(".")
        change = SchemaChange(
            self.source, database, short, action, f"{action} {short}", database, f"0-1-{self.offset}",
            str(at), EPOCH_US + ets * 1_000_000, columns=columns, rows=rows, key=key,
        )  # fmt: skip
        header = RoutedHeader(
            RoutedKind.SCHEMA, self.source, self._next_seq(), from_=at,
            to=Position(1, 1, self.offset + 1), ets=change.ets, plan=self.plan, table=name,
        )  # fmt: skip
        return self._add(header, change.encode())

    def note(self, filtered: int) -> RoutedMessage:
        """Says how many rows of the newest message were filtered."""
        header = RoutedHeader(
            RoutedKind.NOTE, self.source, self.seq, part=1 << 16, filtered=filtered, plan=self.plan
        )
        return self._add(header, b"")

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def _add(self, header: RoutedHeader, value: bytes) -> RoutedMessage:
        self.made.append((header, value))
        return header, value
