"""Spans of the binlog: which rows go into which messages. Pure.

A span (from, to] is a stretch of the binlog that becomes a few messages, one per table. Which message
a row belongs to depends on nothing but the rows before it in the span and on the routing plan, so
whoever reads the same span again cuts the same messages: an incomplete span can be finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

from gravity.batch import DELETE, ChangeBatch, TableSchema, Transaction, Value

Row = tuple[Value, ...]

FULL_ENOUGH = 0.75
"""Share of a limit from which a span ends with the next transaction, so that few are cut inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """How the rows of a table travel under one routing plan. Compared by identity: one object a table shape."""

    schema: TableSchema
    before_columns: tuple[int, ...]
    """Columns whose values before a change travel along."""
    in_runs: bool
    """Whether the table is in an `order-by` group, in which message order must be row order."""
    wanted: Sequence[int] | None = None
    """Of a table without a key: the source's own columns, all of which images must have."""

    @property
    def is_whole_row(self) -> bool:
        """Whether rows are told apart by all their values: those of `schema` have one column more."""
        return self.wanted is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """When a span is cut, whatever is met first."""

    rows_max: int
    bytes_max: int

    def pieces(self, rows: int, size: int) -> int:
        """How many rows of an event of `rows` rows and `size` bytes fit an empty span; at least one."""
        return max(1, min(self.rows_max, self.bytes_max * rows // max(1, size)))

    def cut(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Cuts rows of these sizes into messages: the first row of each and the first behind it."""
        found, start, size = [], 0, 0
        for index, row_bytes in enumerate(sizes):
            is_full = index - start >= self.rows_max or size + row_bytes > self.bytes_max
            if index > start and is_full:
                found.append((start, index))
                start, size = index, 0
            size += row_bytes
        if start < len(sizes):
            found.append((start, len(sizes)))
        return found


class Grouping:
    """Which message of a span rows belong to: one a table, but a new one whenever the table of a group changes."""

    def __init__(self) -> None:
        self._message_of: dict[tuple[str, str], tuple[Flow, int]] = {}
        self._run: Flow | None = None
        self._count = 0

    def place(self, flow: Flow) -> int:
        """The number of the message for the next rows, which are `flow`'s."""
        name = flow.schema.database, flow.schema.table
        known, number = self._message_of.get(name, (None, 0))
        run_goes_on = not flow.in_runs or self._run is flow
        if flow.in_runs:
            self._run = flow
        if known is flow and run_goes_on:
            return number
        number, self._count = self._count, self._count + 1
        self._message_of[name] = flow, number
        return number


def grouping(flows: Sequence[Flow]) -> list[int]:
    """The message number of each row of a span, given the rows' tables in order."""
    groups = Grouping()
    return [groups.place(flow) for flow in flows]


@dataclass(slots=True)
class _Message:
    flow: Flow
    transactions: list[Transaction] = field(default_factory=list)
    ops: bytearray = field(default_factory=bytearray)
    tx: list[int] = field(default_factory=list)
    ordinal: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    before: list[Row | None] = field(default_factory=list)
    holds_open: bool = False
    """Whether its last transaction is the open one."""
    rows_before_open: int = 0

    def truncate(self) -> None:
        """Takes the open transaction's rows out again."""
        keep = self.rows_before_open
        for sequence in (self.ops, self.tx, self.ordinal, self.rows, self.before):
            del sequence[keep:]
        self.transactions.pop()
        self.holds_open = False

    def batch(self, source: str, epoch: int) -> ChangeBatch:
        before: list[list[Value]] = []
        if any(self.before):
            empty: Row = (None,) * len(self.flow.schema.columns)
            images = [image or empty for image in self.before]
            before = [[image[index] for image in images] for index in self.flow.before_columns]
        else:
            before = [[None] * len(self.rows) for _ in self.flow.before_columns]
        return ChangeBatch(
            source=source,
            epoch=epoch,
            schema=self.flow.schema,
            transactions=self.transactions,
            ops=bytes(self.ops),
            tx=self.tx,
            ordinal=self.ordinal,
            columns=list(zip(*self.rows, strict=True)),
            before_columns=self.flow.before_columns,
            before=before,
        )


class SpanBuilder:
    """Collects the rows of one span after the other. `ets` is the running maximum of commit times so far."""

    def __init__(self, source: str, epoch: int, *, ets: int) -> None:
        self._source = source
        self._epoch = epoch
        self.ets = ets
        self.rows = 0
        self.bytes = 0
        self._grouping = Grouping()
        self._messages: list[_Message] = []
        self._touched: list[_Message] = []
        """Messages that hold rows of the open transaction."""
        self._open: Transaction | None = None
        self._open_bytes = 0
        self._was_cut = False

    @property
    def parts(self) -> int:
        """How many messages the span has now."""
        return sum(bool(message.rows) for message in self._messages)

    def begin(self, gtid: str, file_index: int, offset: int, commit_us: int) -> None:
        """A transaction starts."""
        self._open = Transaction(gtid, file_index, offset, commit_us, max(self.ets, commit_us))
        self._open_bytes = 0
        self._was_cut = False

    def add(
        self,
        flow: Flow,
        op: int,
        rows: Sequence[Row],
        before: Sequence[Row],
        *,
        ordinal: int,
        size: int,
    ) -> None:
        """Rows of the open transaction, the first of which is its row `ordinal`; `before` is for updates."""
        number = self._grouping.place(flow)
        if number == len(self._messages):
            self._messages.append(_Message(flow))
        message = self._messages[number]
        if not message.holds_open:
            assert self._open is not None
            message.holds_open = True
            message.rows_before_open = len(message.rows)
            message.transactions.append(self._open)
            self._touched.append(message)
        count = len(rows)
        message.rows += rows
        message.ops += bytes((op,)) * count
        message.tx += repeat(len(message.transactions) - 1, count)
        message.ordinal += range(ordinal, ordinal + count)
        if op == DELETE:
            message.before += rows
        elif before:
            message.before += before
        else:
            message.before += repeat(None, count)
        self.rows += count
        self.bytes += size
        self._open_bytes += size

    def end(self) -> None:
        """The open transaction has ended. Its changes hold, as far as they have not been dropped."""
        assert self._open is not None
        self.ets = self._open.ets
        self._open = None
        for message in self._touched:
            message.holds_open = False
        self._touched.clear()

    def drop_open(self) -> bool:
        """Takes out what the open transaction has brought; False when a part of it has already been given away."""
        for message in self._touched:
            self.rows -= len(message.rows) - message.rows_before_open
            message.truncate()
        self._touched.clear()
        self.bytes -= self._open_bytes
        self._open_bytes = 0
        # A message that is empty now keeps its number: grouping stays a function of the rows read.
        return not self._was_cut

    def take(self) -> list[ChangeBatch]:
        """The span's messages; the next span starts. An open transaction goes on in it."""
        # A message may have been emptied by a transaction that did not hold.
        batches = [
            message.batch(self._source, self._epoch) for message in self._messages if message.rows
        ]
        if self._touched:
            assert self._open is not None
            # The message's header must not name an earlier time than its rows.
            self.ets = self._open.ets
            self._was_cut = True
        for message in self._touched:
            message.holds_open = False
        self._touched.clear()
        self._messages = []
        self._grouping = Grouping()
        self.rows = self.bytes = self._open_bytes = 0
        return batches

    def is_full_enough(self, limits: Limits) -> bool:
        """Whether the span should end with the transaction that has just ended."""
        return (
            self.rows >= limits.rows_max * FULL_ENOUGH
            or self.bytes >= limits.bytes_max * FULL_ENOUGH
        )

    def room(self, limits: Limits, *, rows: int, size: int) -> int:
        """How many rows of an event of `rows` rows and `size` bytes still fit; 0 = the span must end first."""
        if not self.rows:
            return min(rows, limits.pieces(rows, size))
        by_rows = limits.rows_max - self.rows
        by_bytes = (limits.bytes_max - self.bytes) * rows // max(1, size)
        return max(0, min(rows, by_rows, by_bytes))
