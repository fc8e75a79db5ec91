"""Existing rows on their way into the log: chunks that readers bring, and requests to read rows again.

Runs in the source's thread, between transactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from gravity.batch import READ, ChangeBatch, Transaction
from gravity.clock import monotonic_s, now_us
from gravity.snapshot_request import SnapshotRequest
from gravity.whole_row import with_identity
from gravity_collector.bucket import Pace
from gravity_collector.chunk import Key, TableName, TouchLog, Work, reconcile, recount
from gravity_collector.desk import Desk
from gravity_collector.flow import Flows
from gravity_collector.publisher import Publisher
from gravity_collector.readers import ChunkRead, RequestFailed, SnapshotReaders
from gravity_collector.span import Flow, Limits
from gravity_collector.stream import Stream
from gravity_collector.table_reader import Column

log = structlog.get_logger()

_NO_TABLE: Final = "the table does not exist"
_TABLES_TOLD_MAX: Final = 100
"""Incomplete tables that one progress record tells of."""


@dataclass(slots=True)
class Copier:
    """Publishes what the readers read, and begins and ends what operators ask for."""

    source: str
    stream: Stream
    publisher: Publisher
    readers: SnapshotReaders
    touches: TouchLog
    flows: Flows
    limits: Limits
    desk: Desk
    known: Collection[SnapshotRequest]
    """Requests that the log has."""
    tables: Collection[TableName]
    """Those that are read now."""
    estimates: Mapping[TableName, int]
    """Rows of each table by the server's estimate, as of the start."""
    is_busy: bool = False
    """Whether existing rows are being read."""
    _waiting: ChunkRead | None = None
    _requests: dict[int, SnapshotRequest] = field(default_factory=dict)
    """Those that are being worked on."""
    _rows: Counter[Work] = field(default_factory=Counter)
    """Rows sent by this owner for each work."""
    _pace: Pace = field(default_factory=lambda: Pace(monotonic_s))
    _ended_us: int = 0
    """Since when all rows are in the log; 0 while they are not."""

    def _resume(self) -> None:
        """Goes on with requests that the log has."""
        requests, self.known = self.known, ()
        for request in requests:
            self._requests[request.request_id] = request
            table = request.database, request.table
            if request.error:
                self._end(request)
            elif table not in self.tables:
                self._fail(request, _NO_TABLE)
            elif request.where:
                self._read_some(request)
        self._end_what_is_done()

    def _read_some(self, request: SnapshotRequest) -> None:
        work = _work_of(request)
        self.stream.read_some(*work)
        self.readers.add(work, self.publisher.coverage.gaps(*work), request.where)
        self.readers.start()

    def serve(self) -> bool:
        """Does what is there to do; whether a copy has just ended."""
        if self.known:
            self.stream.end_span()
            self._resume()
        for request in self.desk.settled():
            self.publisher.settle(request)
        for request in self.desk.arrived():
            self._begin(request)
        self._look_at_work()
        if not (self.is_busy or self._ended_us):
            # Before the first marker, or waits would ask for one behind it.
            self._ended_us = now_us()
        if not self.is_busy or not self._publish_chunks():
            return False
        self._end_what_is_done()
        if not self.readers.is_done:
            return False
        self.is_busy, self.publisher.snapshot_done = False, True
        self._ended_us = now_us()
        log.info("snapshot_finished", source=self.source, rows=self.publisher.rows)
        return True

    def progress(self) -> dict[str, Any]:
        """How far the copy is, for the progress topic: tables, rows, and how long it will take.

        Rows are counted from the table's beginning, whoever read them; their whole number is the
        server's estimate.
        """
        coverage, read = self.publisher.coverage, self.publisher.rows_read
        left = [table for table in self.touches.tables() if not coverage.is_complete(table)]
        tables = {}
        for table in left[:_TABLES_TOLD_MAX]:
            name = ".".join(table)
            estimate = self.readers.rows_estimated(table) or self.estimates.get(table, 0)
            tables[name] = {"rows": read[name], "estimate": max(estimate, read[name])}
        rows = sum(entry["rows"] for entry in tables.values())
        to_come = sum(entry["estimate"] for entry in tables.values()) - rows
        rate = self._pace.per_s(self.publisher.rows - self.publisher.stream_rows)
        if left:
            self._ended_us = 0
        elif not self._ended_us:
            self._ended_us = now_us()
        return {
            "ended_us": self._ended_us,
            "done": self.readers.total - len(left),
            "total": self.readers.total,
            "tables": tables,
            "rows_per_s": round(rate),
            "eta_s": round(to_come / rate) if rate and left else None,
            "requests": {
                str(number): self._rows[_work_of(request)]
                for number, request in self._requests.items()
            },
        }

    def _look_at_work(self) -> None:
        """Anew each time, since a table may be asked for again."""
        if not self.is_busy:
            self.is_busy = not self.readers.is_done
            self.publisher.snapshot_done = not self.is_busy

    def _begin(self, request: SnapshotRequest) -> None:
        table = request.database, request.table
        log.info(
            "snapshot_request_begun",
            source=self.source,
            request=request.request_id,
            table=".".join(table),
            where=request.where,
        )
        self._requests[request.request_id] = request
        self.stream.end_span()
        if not self.flows.includes(*table):
            self._fail(request, "the table is not one that this source reads")
            return
        if request.where and self.flows.is_whole_row(*table):
            self._fail(request, "the table has no key, so it is only read whole: leave --where out")
            return
        self.publisher.publish_request(request, plan=self.stream.plan_version)
        if request.where:
            self._read_some(request)
        else:
            self._rows[Work(table)] = 0
            self.stream.read_again(table)

    def _fail(self, request: SnapshotRequest, error: str) -> None:
        """Says in the log that the request is given up."""
        failed = self._requests[request.request_id] = request.failed(error)
        self.publisher.publish_request(failed, plan=self.stream.plan_version)
        self._end(failed)

    def _end(self, request: SnapshotRequest) -> None:
        del self._requests[request.request_id]
        work = _work_of(request)
        if request.where:
            self.readers.give_up(work)
            self.touches.forget(*work)
        self.desk.end(request, rows=self._rows.pop(work, 0), seq=self.publisher.seq)

    def _end_what_is_done(self) -> None:
        for request in list(self._requests.values()):
            if self.publisher.coverage.is_complete(*_work_of(request)):
                self._end(request)

    def _publish_chunks(self) -> bool:
        """Publishes the chunks whose high watermark the stream has reached; False: one waits for that."""
        while (read := self._waiting or self.readers.ready()) is not None:
            self._waiting = None
            if isinstance(read, RequestFailed):
                if (request := self._requests.get(read.work.request)) is not None:
                    self.stream.end_span()
                    self._fail(request, read.error)
                continue
            if not self.readers.is_current(read):
                self.readers.drop(read)
                continue
            view, here = read.view, self.stream.position
            if (here.file_index, here.offset) < (view.file_index, view.offset):
                self._waiting = read
                return False
            self.stream.end_span()
            self._publish_chunk(read)
        return True

    def _publish_chunk(self, read: ChunkRead) -> None:
        work = read.chunk.work
        flow = None if read.schema is None else self.flows.of_schema(read.schema)
        if flow is not None and flow.is_whole_row:
            self._publish_whole_rows(read, flow)
            return
        touched = self.touches.touched(work, read.view)
        if touched is None:
            self.readers.give_back(read)
            return
        if read.schema is None and (asked := self._asking_for(work)):
            for request in asked:
                self._fail(request, _NO_TABLE)
            if work.request:
                self.readers.drop(read)
                return
        batches = [] if flow is None else self._batches(flow, read, touched)
        self._send(read, batches)

    def _publish_whole_rows(self, read: ChunkRead, flow: Flow) -> None:
        """Publishes all rows of a table without a key, in the place of all that was known of it.

        Which of equal rows is which nobody can say, so it is begun anew: emptied, and filled again.
        """
        changed = self.touches.counted(read.chunk.work, read.view)
        if changed is None:
            self.readers.give_back(read)
            return
        rows = with_identity(zip(*read.columns, strict=True))
        columns, sizes = recount(
            [*zip(*rows, strict=True)] or [()] * len(flow.schema.columns),
            read.sizes,
            changed,
            f"source {self.source}, table {'.'.join(read.chunk.table)}",
        )
        self.publisher.publish_emptied(read.chunk.table, plan=self.stream.plan_version)
        self._send(read, self._cut(flow, columns, sizes))

    def _send(self, read: ChunkRead, batches: Sequence[ChangeBatch]) -> None:
        work = read.chunk.work
        self.publisher.publish_chunk(
            read.chunk,
            batches,
            plan=self.stream.plan_version,
            stored=lambda: self.readers.stored(read),
        )
        self._rows[work] += sum(map(len, batches))
        self._ended_us = 0
        self.touches.complete(read.view)
        self.readers.sent(read)
        if self.publisher.coverage.is_complete(*work):
            self.touches.forget(*work)

    def _asking_for(self, work: Work) -> list[SnapshotRequest]:
        return [request for request in self._requests.values() if _work_of(request) == work]

    def _batches(self, flow: Flow, read: ChunkRead, touched: set[Key]) -> list[ChangeBatch]:
        """The rows of a chunk that are still the newest, in messages."""
        columns, sizes = read.columns, read.sizes
        kept = reconcile(columns, flow.schema.key, touched)
        if kept is not None:
            columns = [[column[index] for index in kept] for column in columns]
            sizes = [sizes[index] for index in kept]
        return self._cut(flow, columns, sizes)

    def _cut(
        self, flow: Flow, columns: Sequence[Column], sizes: Sequence[int]
    ) -> list[ChangeBatch]:
        """Rows in messages."""
        return [
            self._batch(flow, [column[start:end] for column in columns], start, end)
            for start, end in self.limits.cut(sizes)
        ]

    def _batch(self, flow: Flow, columns: Sequence[Column], start: int, end: int) -> ChangeBatch:
        """Rows [start, end) of a chunk."""
        place, count = self.publisher.next_position.of_read(start), end - start
        return ChangeBatch(
            source=self.source,
            epoch=place.epoch,
            schema=flow.schema,
            transactions=[Transaction("", place.file_index, place.offset, 0, 0)],
            ops=bytes((READ,)) * count,
            tx=[0] * count,
            ordinal=range(start, end),
            columns=columns,
            before_columns=flow.before_columns,
            before=[[None] * count for _ in flow.before_columns],
        )


def _work_of(request: SnapshotRequest) -> Work:
    table = request.database, request.table
    return Work(table, request.request_id if request.where else 0)
