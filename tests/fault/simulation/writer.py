"""A collector that owns a log: the product's stream and publisher, and the order in which what they send gets there."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from gravity_collector import failover
from gravity_collector.carried import Carried
from gravity_collector.chunk import Chunk, Coverage, PositionView, Since, TouchLog, Work, reconcile
from gravity_collector.ddl.shape import Shapes
from gravity_collector.event import Commit, Event
from gravity_collector.flow import Flows, no_keys
from gravity_collector.owner import Ownership, Resume
from gravity_collector.publisher import Publisher
from gravity_collector.schema_history import SchemaHistory
from gravity_collector.span import Limits
from gravity_collector.stream import Stream

from gravity.batch import READ, ChangeBatch, TableSchema, Transaction
from gravity.gtid import parse_gtids
from gravity.header import IngestHeader, IngestKind, KafkaHeaders
from gravity.snapshot_request import SnapshotRequest

from .server import Reading
from .statement import schema_of
from .world import LAG, is_in, shared

if TYPE_CHECKING:
    from .altering import Value
    from .world import World

Steps = Iterator[str | None]
LIMITS = Limits(rows_max=10_000, bytes_max=1 << 20)
"""Spans end where the shell ends them."""


@contextlib.contextmanager
def broken_law(broken: str | None) -> Iterator[None]:
    """The collector's core with one law broken."""
    if broken == "request-forgotten":
        with mock.patch.object(IngestHeader, "restarts_copy", new=False):
            yield
    elif broken == "epoch-not-raised":
        with mock.patch.object(
            failover, "next_epoch", lambda owned: owned.resume.next_position.epoch
        ):
            yield
    elif broken == "carried-again":
        with mock.patch.object(Carried, "has", return_value=False):
            yield
    else:
        yield


@dataclass
class Outbox:
    """What was given to send and is not with the broker yet, in order: an ingest topic, and its producer."""

    topic: str
    waiting: collections.deque[tuple[IngestHeader, bytes, Callable[[int], None]]]

    @property
    def producer(self) -> Outbox:
        return self

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: KafkaHeaders,
        *,
        delivered: Callable[[int], None],
    ) -> None:
        del topic, partition
        self.waiting.append((IngestHeader.from_kafka(headers), value, delivered))


@dataclass(frozen=True)
class Opened:
    """Where a collector goes on, and what it read to learn that."""

    reading: Reading
    start: Resume
    events: Sequence[Event] = ()
    carried: Carried | None = None
    """Rows that the log has, and that this server brings again."""


class Writer:
    """What a collector that owns a log appends to it."""

    def __init__(self, world: World, number: int, owned: Ownership, opened: Opened) -> None:
        self.world, self.number, self.owner = world, number, owned.owner
        self.source, self.reading = world.source[number], opened.reading
        self.coverage = Coverage(owned.chunks_done)
        self.told_end = False
        self.times_read: collections.Counter[str] = collections.Counter()
        """How often a table was asked to be read again."""
        self.outbox = Outbox(f"ingest.{number}", collections.deque())
        name, start = f"s{number}", opened.start
        plan = world.newest_plan
        self.publisher = Publisher(
            self.outbox,  # type: ignore[arg-type]
            "progress",
            source=name,
            owner=owned.owner,
            seq=owned.seq,
            server=start.server,
            next_position=start.next_position,
            gtids=start.gtids,
            ets=start.ets,
            coverage=self.coverage,
        )
        gtids = parse_gtids("mariadb", start.gtids)
        self.touches = TouchLog()
        since = Since(start.next_position.file_index, start.next_position.offset, gtids.copy())
        for table in {chunk.table for chunk in self.missing()}:
            self.touches.watch(table, since)
        unfinished = owned.unfinished if opened.carried is None else None
        begun_under = plan if owned.unfinished is None else owned.unfinished.plan
        flows = {
            version: Flows(world.plans[version], name, no_keys) for version in (begun_under, plan)
        }
        self.flows = flows[plan]
        here = self.reading.server.place(len(self.source.binlog))
        shapes = {("app", table): self.shape(table) for table in self.source.tables}
        self.stream = Stream(
            name,
            self.publisher,
            flows[begun_under],
            LIMITS,
            gtids=gtids,
            touches=self.touches,
            unfinished=unfinished,
            carried=opened.carried,
            flows_after=flows[plan] if begun_under != plan else None,
            history=SchemaHistory(name, Shapes(shapes, here), shapes),
            request=lambda table: self.times_read.update([table[1]]),
        )
        is_new_epoch = owned.resume is None or opened.carried is not None
        if self.is_between and is_new_epoch:
            self.publisher.publish_marker(plan=plan)
        if opened.events:
            self.take(opened.events)

    def shape(self, table: str) -> TableSchema:
        """A table's shape now."""
        return schema_of(table, self.source.thirds.get(table))

    def missing(self) -> list[Chunk]:
        """The chunks that are not done."""
        found = []
        for chunk in self.source.chunks:
            for gap in self.coverage.gaps(chunk.table):
                if gap.after == chunk.after or gap.through == chunk.through:
                    found.append(chunk)
                    break
        return found

    @property
    def is_between(self) -> bool:
        """Whether a span may end here."""
        with contextlib.ExitStack() as stack:
            if self.world.broken == "span-ends-early":
                stack.enter_context(mock.patch.object(Carried, "__bool__", return_value=False))
            return self.stream.is_between_transactions

    def send(self) -> Steps:
        """Appends what the publisher has given to send, in order; it may be stopped before any of it."""
        log = self.world.ingest[self.number]
        while self.outbox.waiting:
            for _ in range(10 if self.is_focus(self.outbox.waiting[0][0]) else 1):
                yield None
            header, value, delivered = self.outbox.waiting.popleft()
            if header.kind is IngestKind.MARKER:
                header, value = replace(header, ets=self.watermark(header.ets)), b""
            at = len(log)
            self.world.append(log, header, value)
            delivered(at)
        yield None

    def is_focus(self, header: IngestHeader) -> bool:
        """Whether what is broken shows where a collector ends before this message."""
        return self.world.broken == "finish-chunk" and header.kind is IngestKind.CHUNK

    def mark(self) -> Steps:
        """Says that everything up to here has passed."""
        self.stream.end_span()
        self.publisher.publish_marker(plan=self.stream.plan_version, quiet=self.quiet())
        yield from self.send()

    def quiet(self) -> int:
        """The commit time before which nothing more comes, where rows are put in order; 0 = not known."""
        world = self.world
        if not world.histories.on_down or self.reading.next < len(self.source.binlog):
            return 0
        if not world.faults:
            return world.clock + 1000  # Nothing comes any more.
        return max(0, world.clock - LAG)

    def watermark(self, told: int) -> int:
        """What a marker says that was `told` to say it; 0 while there are rows still to be read.

        Rows that a source has but has not told yet could come back behind a forgotten delete.
        """
        if any(shared(chunk.table[1]) for chunk in self.missing()):
            return 0
        return told

    def read(self, limit: int) -> Steps:
        """Some more transactions, up to number `limit`, and the end of a span where one may be."""
        for _ in range(self.world.rng.randint(1, 3)):
            if self.reading.next >= min(limit, self.reading.server.count):
                break
            if self.reading.next in self.source.rewrites and self.stream.has_rows:
                break  # Its place is a span's end: whoever comes next reads it, too.
            if self.take(self.reading.read()):
                break
        yield from self.end_span()

    def end_span(self) -> Steps:
        """Sends what was read, where a span may end."""
        if self.is_between:
            self.stream.end_span()
        yield from self.send()

    def take(self, events: Sequence[Event]) -> bool:
        """Takes in what was read last; whether rows have changed there without a word.

        Then it says that the table is read again, and forgets what was done of it.
        """
        with broken_law(self.world.broken):
            self.stream.take(events)
        table = self.source.rewrites.get(self.reading.next - 1)
        if table is None or not isinstance(events[-1], Commit):
            return False
        assert self.is_between
        self.stream.end_span()
        request = SnapshotRequest(0, "app", table)
        self.publisher.publish_request(request, plan=self.stream.plan_version)
        self.stream.read_again(("app", table))
        return True

    def copy(self, chunk: Chunk) -> Steps:
        """A chunk of the snapshot: read in a view, published behind the rows that the view has seen."""
        table = chunk.table[1]
        asked = self.times_read[table]
        yield None
        high = len(self.source.binlog)
        if self.reading.server.count < high:
            return
        image, schema = dict(self.source.tables[table]), self.shape(table)
        view = PositionView(*self.reading.server.place(high))
        yield None
        while self.reading.next < high:
            yield from self.read(high)
        self.stream.end_span()
        touched = self.touches.touched(Work(chunk.table), view)
        if touched is None or self.times_read[table] != asked:
            return
        batches = self.batches(image, schema, chunk, touched)
        self.publisher.publish_chunk(chunk, batches, plan=self.stream.plan_version)
        self.touches.complete(view)
        if self.coverage.is_complete(chunk.table):
            self.touches.forget(chunk.table)
        yield from self.send()

    def finish(self, header: IngestHeader) -> Steps:
        """Reads a chunk again of which `header` is the last message there, and goes on behind that."""
        chunk = Chunk.parse(header.chunk)
        table = chunk.table[1]
        batches = self.batches(dict(self.source.tables[table]), self.shape(table), chunk, set())
        there = min(header.part + 1, len(batches))
        self.publisher.seq -= there
        self.publisher.publish_chunk(chunk, batches, plan=self.stream.plan_version)
        for _ in range(there):
            self.outbox.waiting.popleft()
        yield from self.send()

    def batches(
        self, image: dict[int, Value], schema: TableSchema, chunk: Chunk, touched: set[Any]
    ) -> list[ChangeBatch]:
        """The chunk's rows as `image` has them, those that the stream touched left out; each a message."""
        rows = [(key, *value) for key, value in sorted(image.items()) if is_in(key, chunk)]
        if not rows:
            return []
        kept = reconcile([*zip(*rows, strict=True)], schema.key, touched)
        flow = self.flows.of_schema(schema)
        place = self.publisher.next_position
        at = place if self.world.broken == "read-at-next" else place.of_read(0)
        return [
            ChangeBatch(
                source=f"s{self.number}",
                epoch=at.epoch,
                schema=schema,
                transactions=[Transaction("", at.file_index, at.offset, 0, 0)],
                ops=bytes((READ,)),
                tx=[0],
                ordinal=[number],
                columns=[[cell] for cell in rows[index]],
                before_columns=flow.before_columns,
                before=[[None] for _ in flow.before_columns],
            )
            for number, index in enumerate(range(len(rows)) if kept is None else kept)
        ]
