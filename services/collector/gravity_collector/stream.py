"""From binlog events to spans in the ingest log: the collector's hot loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gravity import target_table
from gravity.batch import DELETE, UPDATE
from gravity.errors import FatalError, PositionLostError
from gravity.gtid import GtidSet
from gravity.header import IngestHeader
from gravity.position import Position
from gravity.schema_change import RowsAfter, SchemaChange, TableAction
from gravity.whole_row import with_identity
from gravity_collector.carried import Carried
from gravity_collector.chunk import Chunk, Since, TableName, Touch, TouchLog, keys_of
from gravity_collector.ddl.shape import Shapes
from gravity_collector.decoder import Row, TableDecoder
from gravity_collector.event import (
    AckAsked,
    Begin,
    Commit,
    Event,
    Heartbeat,
    Query,
    Rollback,
    Rotate,
    Rows,
)
from gravity_collector.flow import Flows
from gravity_collector.publisher import Publisher
from gravity_collector.schema_history import SchemaHistory, Statement
from gravity_collector.span import Flow, Limits, SpanBuilder

_CARRIED_SPANS_MAX: Final = 16
_NO_ROWS: Final[tuple[Row, ...]] = ()

Request = Callable[[TableName], None]
"""Begins to read all rows of a table again."""


def _nobody(table: TableName) -> None:
    """Where there are no readers of existing rows."""
    del table


class Stream:
    """Turns events into published spans. Knows no socket and no clock: the loop in loop.py feeds it.

    `carried` are rows that the log has already although the stream begins before them, at another server.
    `unfinished` is a span whose later parts are missing in the log: it is cut at the same place again,
    under `flows`, which must be those of the plan it was begun under; `flows_after` hold from then on.
    """

    def __init__(
        self,
        source: str,
        publisher: Publisher,
        flows: Flows,
        limits: Limits,
        *,
        gtids: GtidSet,
        touches: TouchLog,
        unfinished: IngestHeader | None = None,
        flows_after: Flows | None = None,
        history: SchemaHistory | None = None,
        request: Request = _nobody,
        carried: Carried | None = None,
    ) -> None:
        self._source = source
        self._request = request
        self._carried = Carried() if carried is None else carried
        self._publisher = publisher
        self._flows = flows
        self._flows_after = flows_after
        self._limits = limits
        self._gtids = gtids
        self._touches = touches
        self._history = history or SchemaHistory(source, Shapes())
        self._table: TableDecoder | None = None
        """The table of the last rows."""
        start = publisher.next_position
        self._epoch = start.epoch
        self._builder = SpanBuilder(source, start.epoch, ets=publisher.ets)
        self.position = start
        """The first row not yet read."""
        self.transactions = 0
        """Those that have ended, without those that our own sinks wrote."""
        self._begin: Begin | None = None
        self._left = start.file_index, start.offset
        """Where the last transaction ended. A server's own position may lag behind a later heartbeat's."""
        self._ordinal = 0
        self._skip = start.ordinal
        """Rows of the first transaction that are in the log already."""
        self._resumed_inside = start if start.ordinal else None
        self._is_own = False
        self._ddl: tuple[Statement, Position, str] | None = None
        """A statement to be published: what it did, its place, and the GTIDs executed before it."""
        self._until = unfinished.to if unfinished is not None else None
        self._parts_there = unfinished.part + 1 if unfinished is not None else 0
        self._parts = unfinished.parts if unfinished is not None else 0
        self._asked: list[AckAsked] = []

    @property
    def has_rows(self) -> bool:
        """Whether a span has been begun."""
        return self._builder.rows > 0

    @property
    def is_between_transactions(self) -> bool:
        """Whether a span may end here for any reason, and a marker or a chunk follow."""
        return self._begin is None and self._until is None and not self._skip and not self._carried

    @property
    def plan_version(self) -> int:
        """The plan under which rows are read now."""
        return self._flows.version

    @property
    def merges(self) -> bool:
        """Whether some target has rows of several sources in the order of their commit times."""
        return self._flows.plan.merge is not None

    def take(self, events: Sequence[Event]) -> None:
        """Reads events in order, publishing each span that they complete.

        Raises FatalError (and what the decoder raises) for what can't be read truthfully.
        """
        for event in events:
            match event:
                case Rows():
                    self._on_rows(event)
                case Begin():
                    self._on_begin(event)
                case Commit():
                    self._on_commit(event)
                case Query():
                    self._on_query(event)
                case Rollback():
                    self._on_rollback(event)
                case Rotate() | Heartbeat():
                    self._on_place(event)
                case AckAsked():
                    self._asked.append(event)
                    self._on_place(event)
                case _:
                    pass

    def take_asked(self) -> list[AckAsked]:
        """The COMMITs that wait, of which this has not told yet."""
        asked, self._asked = self._asked, []
        return asked

    def end_span(self) -> None:
        """Publishes what has been read up to `position`."""
        self._publish(self.position)

    def read_some(self, table: TableName, request: int) -> None:
        """Remembers what changes in a table from now on, of which a request has rows read."""
        begin = self._begin
        place = self._left if begin is None else (begin.file_index, begin.offset)
        self._touches.watch(table, Since(*place, self._gtids.copy()), request)

    def read_again(self, table: TableName) -> None:
        """Has all rows of a table read again. The message that says so must have just been published."""
        self.read_some(table, 0)
        begin = self._begin
        if begin is not None:
            # The statement's own transaction is still open: who does not see it, does not see its effect.
            self._touches.record_shape(
                [table], gtid=begin.gtid, file_index=begin.file_index, offset=begin.offset
            )
        self._request(table)

    def _publish(self, to: Position, *, skip_parts: int = 0) -> None:
        batches = self._builder.take()
        ets = self._builder.ets
        if batches:
            self._publisher.publish_span(
                batches,
                to=to,
                gtids=str(self._gtids),
                ets=ets,
                plan=self._flows.version,
                skip_parts=skip_parts,
            )
        else:
            self._publisher.move_on(to=to, gtids=str(self._gtids), ets=ets)

    def _inside(self, ordinal: int) -> Position:
        assert self._begin is not None
        return Position(self._epoch, self._begin.file_index, self._begin.offset, ordinal)

    def _on_begin(self, event: Begin) -> None:
        resumed, self._resumed_inside = self._resumed_inside, None
        if resumed is not None and (resumed.file_index, resumed.offset) != (
            event.file_index,
            event.offset,
        ):
            raise PositionLostError(
                f"the next transaction starts at {event.file_index}:{event.offset}, not where we stopped inside one",
                where=f"source {self._source}, position {resumed}",
                remedy="was the binlog reset? `gravity reset --source` reads the source again",
            )
        self._begin = event
        self._ordinal = 0
        self._is_own = False
        self._builder.begin(event.gtid, event.file_index, event.offset, event.commit_us)

    def _on_rows(self, event: Rows) -> None:
        if event.table is not self._table:
            self._table = event.table
            self._history.learn(event.table.schema)
        flow = self._flows.of(event.table)
        if flow is None:
            # Every transaction of a sink changes this table first.
            if event.table.schema.table == target_table.PROGRESS:
                self._is_own = True
                self._forget_open()
            return
        if self._is_own:
            return
        if self._ddl is not None:
            self._publish_ddl(self._inside(self._ordinal))
        before: Sequence[Row] = _NO_ROWS
        if event.op == UPDATE:
            # The image before may leave out columns that do not travel (binlog_row_image=NOBLOB).
            wanted = flow.before_columns if flow.wanted is None else flow.wanted
            pairs = event.table.updates(event.body, event.at, wanted=wanted)
            before = [pair[0] for pair in pairs]
            rows = [pair[1] for pair in pairs]
        else:
            rows = event.table.rows(event.body, event.at)
        if flow.is_whole_row:
            rows, before = with_identity(rows), with_identity(before)
        if self._touches.watches((flow.schema.database, flow.schema.table)):
            # Rows that are in the log already count too: a chunk must not take them back.
            self._record(flow, event.op, rows, before)
        ordinal = self._ordinal
        self._ordinal += len(rows)
        if ordinal < self._skip:
            there = min(len(rows), self._skip - ordinal)
            rows, before, ordinal = rows[there:], before[there:], ordinal + there
        if rows:
            self._place_missing(flow, event, rows, before, ordinal=ordinal)

    def _place_missing(
        self, flow: Flow, event: Rows, rows: Sequence[Row], before: Sequence[Row], *, ordinal: int
    ) -> None:
        """Puts those rows into the span that the log does not have."""
        size = len(event.body)
        if not self._carried:
            self._place(flow, event.op, rows, before, ordinal=ordinal, size=size)
            return
        begin, count = self._begin, len(rows)
        assert begin is not None
        for start, end in self._carried.missing(begin.gtid, ordinal, count):
            self._carried.reached(begin.gtid, ordinal + start)
            self._place(
                flow,
                event.op,
                rows[start:end],
                before[start:end],
                ordinal=ordinal + start,
                size=size * (end - start) // count,
            )
        self._carried.reached(begin.gtid, ordinal + count)

    def _record(self, flow: Flow, op: int, rows: Sequence[Row], before: Sequence[Row]) -> None:
        begin, schema = self._begin, flow.schema
        assert begin is not None
        place = begin.gtid, begin.file_index, begin.offset
        if not flow.is_whole_row:
            touch = Touch(*place, (*keys_of(schema, rows), *keys_of(schema, before)))
        elif op == DELETE:
            touch = Touch(*place, (), tuple(rows))
        else:
            touch = Touch(*place, tuple(rows), tuple(before))
        self._touches.record((schema.database, schema.table), touch)

    def _place(
        self,
        flow: Flow,
        op: int,
        rows: Sequence[Row],
        before: Sequence[Row],
        *,
        ordinal: int,
        size: int,
    ) -> None:
        """Puts rows into the span; ends it wherever it is full or, finishing one, where it once ended."""
        at, count = 0, len(rows)
        while at < count:
            left = count - at
            room = self._room(ordinal + at, rows=left, size=size * left // count)
            if room <= 0:
                self._cut(self._inside(ordinal + at))
                continue
            self._builder.add(
                flow,
                op,
                rows[at : at + room],
                before[at : at + room],
                ordinal=ordinal + at,
                size=size * room // count,
            )
            at += room
        if self._until is not None and self._until == self._inside(self._ordinal):
            self._cut(self._until)

    def _room(self, ordinal: int, *, rows: int, size: int) -> int:
        if self._carried:
            # No span may end before all of it has passed: what the log says of it would be forgotten.
            if self._builder.rows > self._limits.rows_max * _CARRIED_SPANS_MAX:
                raise self._foreign_order()
            return rows
        if self._until is None:
            return self._builder.room(self._limits, rows=rows, size=size)
        here = self._inside(ordinal)
        if (here.file_index, here.offset) == (self._until.file_index, self._until.offset):
            return min(rows, self._until.ordinal - ordinal)
        return rows

    def _foreign_order(self) -> FatalError:
        return FatalError(
            f"this server has its transactions in another order: {self._carried.gtids()[:3]} did not come",
            where=f"source {self._source}, position {self.position}",
            remedy="set its replica_preserve_commit_order=ON; read the source again: `gravity reset --source`",
        )

    def _cut(self, to: Position) -> None:
        """Ends the span at `to`, finishing an unfinished one."""
        if self._until is None:
            self.position = to
            self._publish(to)
            return
        if to != self._until:
            raise self._grouped_otherwise(f"it ends at {to}")
        self.position = to
        parts = self._builder.parts
        if parts != self._parts:
            raise self._grouped_otherwise(f"it has {parts} messages")
        self._publish(to, skip_parts=self._parts_there)
        self._until = None

    def _grouped_otherwise(self, found: str) -> FatalError:
        return FatalError(
            f"an unfinished span of {self._parts} messages up to {self._until}, read again, is another: {found}",
            where=f"source {self._source}, from {self._publisher.next_position}",
            remedy="was the binlog rewritten? `gravity reset --source` reads the source again",
        )

    def _on_commit(self, event: Commit) -> None:
        begin = self._begin
        assert begin is not None
        self._builder.end()
        self._gtids.add(begin.gtid)
        self._leave(event.file_index, event.next_offset)

    def _on_rollback(self, event: Rollback) -> None:
        begin = self._begin
        assert begin is not None
        if not self._forget_open() or self._skip or begin.gtid in self._carried.gtids():
            raise FatalError(
                "a transaction was rolled back in the binlog after part of it had been published",
                where=f"source {self._source}, position {self._inside(0)}",
                remedy="did the server die while writing it? snapshot the source's tables again",
            )
        self._builder.end()
        self._gtids.add(begin.gtid)
        self._leave(event.file_index, event.next_offset)

    def _forget_open(self) -> bool:
        """Drops the open transaction's rows; False when some are in the log already."""
        begin = self._begin
        assert begin is not None
        # Chunks that left rows out because of this transaction must be read again.
        self._touches.record_shape(
            self._touches.tables(),
            gtid=begin.gtid,
            file_index=begin.file_index,
            offset=begin.offset,
        )
        return self._builder.drop_open()

    def _leave(self, file_index: int, offset: int) -> None:
        """A transaction has ended; the next one starts at `offset` or later."""
        # A marker for what a sink writes because of a marker would go round for ever.
        self.transactions += not self._is_own
        if self._carried and self._begin is not None:
            self._carried.left(self._begin.gtid, self._source)
        self._begin = None
        self._skip = 0
        self.position = Position(self._epoch, file_index, offset)
        self._left = file_index, offset
        if self._ddl is not None:
            self._publish_ddl(self.position)
        if self._until is not None:
            if self.position >= self._until:
                self._cut(self.position)
        elif not self._carried and self._builder.is_full_enough(self._limits):
            self._publish(self.position)
        self._take_flows_after()

    def _take_flows_after(self) -> None:
        """Goes on under the newer plan, once nothing is left to finish under the older; between transactions."""
        if self._flows_after is None or not self.is_between_transactions:
            return
        self._publish(self.position)
        self._flows, self._flows_after = self._flows_after, None
        # No span may reach back to where rows were read under the other plan.
        self._publisher.publish_marker(plan=self._flows.version)

    def _on_place(self, event: Rotate | Heartbeat | AckAsked) -> None:
        if self._begin is not None or self._skip:
            return
        place = Position(self._epoch, event.file_index, event.next_offset)
        if place > self.position:
            self.position = place
            if self._until is not None and place >= self._until:
                self._cut(place)
                # Guarded by test_a_span_that_ends_between_files_ends_the_older_plan.
                self._take_flows_after()

    def _on_query(self, event: Query) -> None:
        begin, ordinal = self._begin, self._ordinal
        assert begin is not None
        at = self._inside(ordinal)
        statement = self._history.read(event, begin, at, self._flows.includes)
        if statement is None:
            return
        self._table = None
        self._flows.forget_keys()
        self._touches.record_shape(
            statement.tables, gtid=begin.gtid, file_index=begin.file_index, offset=begin.offset
        )
        if not statement.changes:
            return
        self._ordinal += 1
        if ordinal < self._skip:
            return
        if self._carried.has(begin.gtid, ordinal):
            self._carried.reached(begin.gtid, self._ordinal)
            return
        if self._carried:
            raise self._foreign_order()
        if self._builder.rows:
            self._cut(at if ordinal else self.position)
        self._ddl = statement, at, str(self._gtids)

    def _told(self, change: SchemaChange) -> SchemaChange:
        """Whatever changes the columns of a table without a key makes other rows of all its rows."""
        alters = change.action is TableAction.ALTER and bool(change.columns)
        if alters and self._flows.is_whole_row(change.database, change.table):
            return replace(change, rows=RowsAfter.REREAD)
        return change

    def _publish_ddl(self, to: Position) -> None:
        """Publishes what the statement that was read last did, in spans of their own up to `to`."""
        assert self._ddl is not None
        (statement, at, gtids_before), self._ddl = self._ddl, None
        changes = [self._told(change) for change in statement.changes]
        ets, plan = self._builder.ets, self._flows.version
        for change in changes[:-1]:
            # Whoever stops between two of them reads the statement again: they end where it begins.
            self._publisher.publish_schema(
                replace(change, ets=ets), to=at, gtids=gtids_before, ets=ets, plan=plan
            )
        self._publisher.publish_schema(
            replace(changes[-1], ets=ets), to=to, gtids=str(self._gtids), ets=ets, plan=plan
        )
        self.position = to
        for change in changes:
            if change.rows is RowsAfter.REREAD:
                self.read_again((change.database, change.table))
        for table in statement.made if not to.ordinal else ():
            # All of it comes by the stream: the next owner need not copy it.
            self._publisher.publish_chunk(Chunk(table, None, None), [], plan=plan)
