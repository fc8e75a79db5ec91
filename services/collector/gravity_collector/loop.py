"""The loop of one source: read, publish, and do what is due in between."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from gravity.batch import READ, ChangeBatch, TableSchema, Transaction
from gravity.clock import monotonic_s, now_us
from gravity.position import Position
from gravity_collector.binlog import BinlogStream
from gravity_collector.chunk import Key, TouchLog, reconcile
from gravity_collector.flow import Flows
from gravity_collector.keeper import Kept
from gravity_collector.publisher import Publisher
from gravity_collector.readers import ChunkRead, SnapshotReaders
from gravity_collector.span import Flow, Limits
from gravity_collector.stream import Stream
from gravity_collector.table_reader import Column

log = structlog.get_logger()

MARKER_FLOWING_S: Final = 1.0
MARKER_IDLE_S: Final = 5.0
PROGRESS_S: Final = 1.0
PROGRESS_IDLE_S: Final = 5.0
_IDLE_READ_S: Final = 1.0
"""Longest wait for the server: a heartbeat comes as often, and a stop is noticed as late."""
_SNAPSHOT_READ_S: Final = 0.01


@dataclass(slots=True)
class _Due:
    """When the periodic things happen next, by the monotonic clock."""

    marker_s: float = 0.0
    progress_s: float = 0.0
    told_s: float = 0.0
    """When the last progress record was sent."""
    last_span_s: float = 0.0
    rows_at_marker: int = 0
    at_progress: tuple[Position, int] | None = None
    """Position and rows of the last progress record."""


@dataclass(slots=True)
class Loop:
    """The parts of one ownership of a source, at work. Runs in the source's thread."""

    source: str
    binlog: BinlogStream
    stream: Stream
    publisher: Publisher
    readers: SnapshotReaders
    touches: TouchLog
    keeper: Kept
    flows: Flows
    limits: Limits
    pace_s: float
    """Least time between spans under a steady trickle."""
    _due: _Due = field(default_factory=_Due)
    _waiting: ChunkRead | None = None
    _snapshotting: bool = False

    def run(self, stop: threading.Event) -> None:
        """Goes on until `stop`; then everything read is in the log and the checkpoint says so."""
        self.publisher.snapshot_done = not self._is_snapshotting()
        while not stop.is_set():
            self._read()
            self.publisher.serve()
            if self.keeper.failure is not None:
                raise self.keeper.failure
            if self._is_snapshotting() and self.stream.is_between_transactions:
                self._publish_chunks()
            self._serve_what_is_due()
        if self.stream.is_between_transactions:
            self.stream.end_span()
        self.publisher.flush()
        self.keeper.end()
        self.keeper.keep()

    def _is_snapshotting(self) -> bool:
        """Whether existing rows are being read; looked at anew, since a table may be asked for again."""
        if not self._snapshotting and not self.readers.is_done:
            self._snapshotting, self.publisher.snapshot_done = True, False
        return self._snapshotting

    def _read(self) -> None:
        """Reads what is there; with nothing more to read, what has been read is sent.

        The first rows after a pause leave at once; under a steady trickle a span waits for `batch.wait-ms-max`
        since the last, so that messages don't become as many as rows.
        """
        stream = self.stream
        if not (stream.has_rows and stream.is_between_transactions):
            stream.take(self.binlog.read(self._longest_wait_s()))
            return
        events = self.binlog.read(0)
        if not events:
            wait_s = self._due.last_span_s + self.pace_s - monotonic_s()
            if wait_s <= 0:
                stream.end_span()
                self._due.last_span_s = monotonic_s()
                return
            events = self.binlog.read(wait_s)
        stream.take(events)

    def _longest_wait_s(self) -> float:
        """How long nothing but the server can have something to do for us."""
        if self._snapshotting:
            return _SNAPSHOT_READ_S
        due_s = self._due.progress_s
        if self.stream.is_between_transactions:
            due_s = min(due_s, self._due.marker_s)
        return max(0.0, min(_IDLE_READ_S, due_s - monotonic_s()))

    def _publish_chunks(self) -> None:
        """Publishes the chunks whose high watermark the stream has reached."""
        while True:
            chunk = self._waiting or self.readers.ready()
            if chunk is None:
                break
            self._waiting = None
            if not self.readers.is_current(chunk):
                self.readers.published(chunk)
                continue
            self._waiting = chunk
            view, here = chunk.view, self.stream.position
            if (here.file_index, here.offset) < (view.file_index, view.offset):
                return
            self._waiting = None
            self.stream.end_span()
            self._publish_chunk(chunk)
        if self.readers.is_done:
            self._snapshotting = False
            self.publisher.snapshot_done = True
            # Who waits for the copy is told at once.
            self._due.progress_s = 0.0
            log.info("snapshot_finished", source=self.source, rows=self.publisher.rows)

    def _publish_chunk(self, read: ChunkRead) -> None:
        touched = self.touches.touched(read.chunk.work, read.view)
        if touched is None:
            self.readers.give_back(read)
            return
        batches = self._batches(read.schema, read, touched) if read.schema is not None else []
        self.publisher.publish_chunk(read.chunk, batches, plan=self.stream.plan_version)
        self.touches.complete(read.view)
        self.readers.published(read)
        if self.publisher.coverage.is_complete(read.chunk.table):
            self.touches.forget(read.chunk.table)

    def _batches(
        self, schema: TableSchema, read: ChunkRead, touched: set[Key]
    ) -> list[ChangeBatch]:
        """The rows of a chunk that are still the newest, in messages."""
        columns, sizes = read.columns, read.sizes
        kept = reconcile(columns, schema.key, touched)
        if kept is not None:
            columns = [[column[index] for index in kept] for column in columns]
            sizes = [sizes[index] for index in kept]
        flow = self.flows.of_schema(schema)
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

    def _serve_what_is_due(self) -> None:
        now, due, publisher = monotonic_s(), self._due, self.publisher
        if now >= due.marker_s and self.stream.is_between_transactions:
            self.stream.end_span()
            publisher.publish_marker(plan=self.stream.plan_version)
            flows = publisher.rows != due.rows_at_marker
            due.rows_at_marker = publisher.rows
            due.marker_s = now + (
                MARKER_FLOWING_S if flows or self._snapshotting else MARKER_IDLE_S
            )
        elif due.rows_at_marker != publisher.rows:
            # Rows have begun to flow: the next marker comes soon.
            due.marker_s = min(due.marker_s, now + MARKER_FLOWING_S)
        here = publisher.next_position, publisher.rows
        if here != due.at_progress:
            due.progress_s = min(due.progress_s, due.told_s + PROGRESS_S)
        if now >= due.progress_s:
            due.progress_s, due.told_s = now + PROGRESS_IDLE_S, now
            due.at_progress = here
            total = self.readers.total
            left = sum(not publisher.coverage.is_complete(table) for table in self.touches.tables())
            publisher.publish_progress(
                f"collector/{self.source}",
                {
                    "position": str(publisher.next_position),
                    "gtids": publisher.gtids,
                    "ets": publisher.ets,
                    "seq": publisher.seq,
                    "rows": publisher.rows,
                    "snapshot": {"done": total - left, "total": total},
                    "at_us": now_us(),
                },
            )
