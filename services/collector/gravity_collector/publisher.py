"""Messages into one source's ingest topic: numbered without holes, in the order of the binlog."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gravity import fault
from gravity.batch import ChangeBatch
from gravity.clock import now_us
from gravity.codec import encode_batch, encode_record
from gravity.errors import FatalError, PoisonError
from gravity.fault import FaultPoint
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import Checkpoint
from gravity.kafka.client import MESSAGE_BYTES_MAX
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.position import Position
from gravity.resolution.cell import key_json
from gravity.schema_change import RowsAfter, SchemaChange, TableAction
from gravity.snapshot_request import REREAD, SnapshotRequest
from gravity_collector.chunk import Chunk, Coverage, TableName

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster


_VALUE_BYTES_MAX = MESSAGE_BYTES_MAX - 65536
"""What is left beside headers."""
_KEY_CHARACTERS_MAX = 200
_EMPTIED = 1 << 30
"""From here on indexes of schema changes name no statement's effects."""


class IngestTopic:
    """The ingest topic as its owner sees it: one partition, read by offset, appended to in order."""

    def __init__(
        self, cluster: Cluster, topic: str, client_id: str, *, is_awaited: bool = False
    ) -> None:
        """`is_awaited`: COMMITs wait for what is appended."""
        self.topic = topic
        self.producer = LogProducer(cluster, client_id, is_awaited=is_awaited)
        self._reader: LogReader | None = LogReader(cluster, f"{client_id}.scan")

    def append(self, header: IngestHeader) -> int:
        """Appends a message without a value and returns its offset once it is there."""
        offsets: list[int] = []
        self.producer.send(self.topic, 0, b"", header.to_kafka(), delivered=offsets.append)
        self.producer.flush()
        return offsets[0]

    def bounds(self) -> tuple[int, int]:
        """(first offset there is, offset of the next message)."""
        assert self._reader is not None
        return self._reader.bounds(self.topic, 0)

    def read(self, start: int, end: int) -> Iterator[tuple[int, IngestHeader]]:
        """The messages of [start, end) in order. Raises OffsetLostError when `start` is gone."""
        assert self._reader is not None
        for message in self._reader.read(self.topic, 0, start, end):
            yield message.offset, IngestHeader.from_kafka(message.headers)

    def values(self, offsets: Sequence[int]) -> Iterator[tuple[IngestHeader, bytes]]:
        """Header and value of each of these messages."""
        wanted = set(offsets)
        assert self._reader is not None
        if wanted:
            for message in self._reader.read(self.topic, 0, min(wanted), max(wanted) + 1):
                if message.offset in wanted:
                    yield IngestHeader.from_kafka(message.headers), message.value or b""

    def end_reading(self) -> None:
        """Gives the reading connection up: once the log is ours, it is only written. Harmless when repeated."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Ends reading; messages not yet acknowledged are dropped with the object."""
        self.end_reading()


class Publisher:
    """Publishes what one owner reads. Everything is sent from the caller's thread.

    `acknowledged` is a state of which every message is with the broker; another thread may read it.
    """

    def __init__(
        self,
        log: IngestTopic,
        progress_topic: str,
        *,
        source: str,
        owner: int,
        seq: int,
        server: str,
        next_position: Position,
        gtids: str,
        ets: int,
        coverage: Coverage,
        snapshot_round: int = 0,
        rereads: Iterable[TableName] = (),
        requests: Iterable[SnapshotRequest] = (),
        rows_read: Mapping[str, int] | None = None,
    ) -> None:
        self._log = log
        self._progress_topic = progress_topic
        self._source = source
        self._owner = owner
        self._server = server
        self._snapshot_round = snapshot_round
        self.seq = seq
        self.next_position = next_position
        """How far has been read; what lies before it is published or of no interest."""
        self._published_to = next_position
        # Each message begins where the last one ended, so that whoever finishes a span knows the
        # transactions executed before it: they are in the last message's header.
        self.gtids = gtids
        self.ets = ets
        self.rows = 0
        """Rows published by this owner, snapshot reads included."""
        self.stream_rows = 0
        """Those of them that the binlog brought."""
        self.coverage = coverage
        self._acknowledged_coverage = Coverage(coverage.chunk_ids())
        self._acknowledged_ids = coverage.chunk_ids()
        self._rereads = set(rereads)
        """As far as acknowledged: tables that are being read again."""
        self._requests = {request.request_id: request for request in requests}
        """As far as acknowledged: requests of whose end control does not know yet."""
        self.rows_read = Counter(rows_read or {})
        """As far as acknowledged: rows of incomplete tables (`database.table`); for progress only."""
        self.snapshot_done = False
        self.acknowledged: Checkpoint | None = None

    def _send(
        self,
        header: IngestHeader,
        value: bytes,
        *,
        done: Chunk | None = None,
        reread: TableName | None = None,
        request: SnapshotRequest | None = None,
        stored: Callable[[], None] | None = None,
        rows_read: int = 0,
    ) -> None:
        last, ets = header.part + 1 == header.parts, self.ets
        snapshot_done = self.snapshot_done
        if reread is not None:
            self.coverage.forget(reread)

        def delivered(offset: int) -> None:
            if stored is not None:
                stored()
            if done is not None:
                self._acknowledged_coverage.add(done)
                if self._acknowledged_coverage.is_complete(done.table):
                    self._rereads.discard(done.table)
                    self.rows_read.pop(header.table, None)
            if reread is not None:
                self._acknowledged_coverage.forget(reread)
                self._rereads.add(reread)
                self.rows_read.pop(header.table, None)
            if rows_read:
                self.rows_read[header.table] += rows_read
            if request is not None and request.request_id:
                self._requests[request.request_id] = request
            if done is not None or reread is not None:
                self._acknowledged_ids = self._acknowledged_coverage.chunk_ids()
            # Inside a transaction rows are counted under the plan of the last message, which a
            # checkpoint does not name; the next boundary is never far.
            if last and not header.to.ordinal and header.kind is not IngestKind.CHUNK:
                self.acknowledged = Checkpoint(
                    offset=offset + 1,
                    seq=header.seq,
                    next_position=header.to,
                    gtids=header.gtids,
                    ets=ets,
                    server=self._server,
                    chunks_done=self._acknowledged_ids,
                    snapshot_done=snapshot_done,
                    snapshot_round=self._snapshot_round,
                    rereads=tuple(sorted(map(".".join, self._rereads))),
                    requests=tuple(self._requests.values()),
                    rows_read=dict(self.rows_read),
                    plan=header.plan,
                )

        try:
            self._log.producer.send(
                self._log.topic, 0, value, header.to_kafka(), delivered=delivered
            )
        except PoisonError as error:
            raise FatalError(error.what, where=error.where, remedy=error.remedy) from error

    def _encoded(self, batch: ChangeBatch) -> bytes:
        """The batch as a value. Raises FatalError naming its largest row when Kafka does not take it."""
        value = encode_batch(batch)
        if len(value) <= _VALUE_BYTES_MAX:
            return value
        sizes = [len(encode_batch(batch.take([row]))) for row in range(len(batch))]
        row = sizes.index(max(sizes))
        schema = batch.schema
        database, table = schema.database, schema.table
        key = key_json([batch.columns[index][row] for index in schema.key])[:_KEY_CHARACTERS_MAX]
        remedy = (
            f"make the row smaller at the source and exclude: [{database}.{table}] until the collector is past "
            "this place, then take the table in again: it is copied then"
            if sizes[row] > _VALUE_BYTES_MAX
            else f"lower batch.bytes-max: {len(batch)} rows are too many for one message"
        )
        raise FatalError(
            f"the row with key {key} takes {sizes[row]} bytes in a message of {len(value)}; a message takes "
            f"{_VALUE_BYTES_MAX} at most",
            where=f"source {self._source}, table {database}.{table}, position {batch.position_of(row)}",
            remedy=remedy,
        )

    def publish_span(
        self,
        batches: Sequence[ChangeBatch],
        *,
        to: Position,
        gtids: str,
        ets: int,
        plan: int,
        skip_parts: int = 0,
    ) -> None:
        """Publishes the rows of (next_position, to]; `skip_parts` of its messages are in the log already."""
        start, parts = self._published_to, len(batches)
        self.gtids, self.ets = gtids, ets
        for part, batch in enumerate(batches):
            if part < skip_parts:
                continue
            self.seq += 1
            schema = batch.schema
            header = IngestHeader(
                IngestKind.ROWS, self._source, self._owner, self.seq, part, parts, start, to, gtids, ets, plan,
                f"{schema.database}.{schema.table}", schema.schema_id, len(batch),
            )  # fmt: skip
            self._send(header, self._encoded(batch))
            self.rows += len(batch)
            self.stream_rows += len(batch)
            if part + 1 < parts:
                self._reach(FaultPoint.COLLECTOR_SENT_PART_OF_SPAN)
        self.next_position = self._published_to = to

    def move_on(self, *, to: Position, gtids: str, ets: int) -> None:
        """Nothing of interest lies before `to`; the next message says so."""
        self.next_position, self.gtids, self.ets = to, gtids, ets

    def publish_marker(self, *, plan: int, quiet: int = 0, cut: str = "") -> None:
        """Says that everything before `next_position` has passed; `quiet` and `cut` as in IngestHeader."""
        self.seq += 1
        value = encode_record(
            "marker",
            {
                "source": self._source,
                "seq": self.seq,
                "next_position": str(self.next_position),
                "gtids": self.gtids,
                "ets": self.ets,
                "time_us": now_us(),
            },
        )
        header = self._single(IngestKind.MARKER, self.next_position, plan)
        self._send(replace(header, quiet=quiet, cut=cut), value)
        self._published_to = self.next_position

    def publish_schema(
        self, change: SchemaChange, *, to: Position, gtids: str, ets: int, plan: int
    ) -> None:
        """Publishes what a statement did to one table, a span of its own that ends at `to`.

        That is where the statement begins as long as more of its changes follow, else behind it.
        """
        self.seq += 1
        self.gtids, self.ets = gtids, ets
        table = change.database, change.table
        reread = table if change.rows is RowsAfter.REREAD else None
        chunk = REREAD if reread is not None else ""
        header = self._single(IngestKind.SCHEMA, to, plan, table=".".join(table), chunk=chunk)
        self._send(header, change.encode(), reread=reread)
        self.next_position = self._published_to = to
        if str(to) == change.position:
            self._reach(FaultPoint.COLLECTOR_SENT_PART_OF_STATEMENT)

    def publish_emptied(self, table: TableName, *, plan: int) -> None:
        """Says that a table is begun anew: that its rows so far are gone, and all that there are follow.

        The message is numbered by what was sent before it: a statement may begin at the same place, and
        whoever is cut off here says it again.
        """
        here = self.next_position
        change = SchemaChange(
            self._source, *table, TableAction.TRUNCATE, "a table without a key is copied",
            table[0], "", str(here), self.ets, index=_EMPTIED + self.seq % _EMPTIED,
        )  # fmt: skip
        self.publish_schema(change, to=here, gtids=self.gtids, ets=self.ets, plan=plan)

    def publish_request(self, request: SnapshotRequest, *, plan: int) -> None:
        """Says that rows of a table are read again from here on, or that this is given up."""
        self.seq += 1
        table = request.database, request.table
        header = self._single(
            IngestKind.SNAPSHOT, self.next_position, plan, table=".".join(table), chunk=request.text
        )
        self._send(header, b"", reread=table if header.restarts_copy else None, request=request)
        self._published_to = self.next_position

    def begin_again(
        self, tables: Iterable[TableName], *, to: Position, gtids: str, ets: int, plan: int
    ) -> None:
        """Says that the source is begun again at `to`, since what lies before it is lost.

        First that all rows are read again, then the place: whoever is cut off in between leaves a log
        whose place is still the lost one.
        """
        for table in tables:
            self.publish_request(SnapshotRequest(0, *table), plan=plan)
        self.move_on(to=to, gtids=gtids, ets=max(ets, self.ets))
        self.publish_marker(plan=plan)

    def settle(self, request: SnapshotRequest) -> None:
        """Control knows how the request ended: the log's checkpoints may forget it."""
        table, request_id = (request.database, request.table), request.request_id
        self._requests.pop(request_id, None)
        for coverage in (self.coverage, self._acknowledged_coverage):
            coverage.forget(table, request_id)
        self._acknowledged_ids = self._acknowledged_coverage.chunk_ids()

    def publish_chunk(
        self,
        chunk: Chunk,
        batches: Sequence[ChangeBatch],
        *,
        plan: int,
        stored: Callable[[], None] | None = None,
    ) -> None:
        """Publishes the rows of a snapshot chunk at `next_position`, then says that it is done.

        `stored` is called, inside `serve` or `flush`, once the broker has all of it.
        """
        here, parts = self.next_position, len(batches)
        table = ".".join(chunk.table)
        for part, batch in enumerate(batches):
            self.seq += 1
            header = IngestHeader(
                IngestKind.CHUNK, self._source, self._owner, self.seq, part, parts, here, here, self.gtids, 0, plan,
                table, batch.schema.schema_id, len(batch), chunk.chunk_id,
            )  # fmt: skip
            count = 0 if chunk.request else len(batch)
            self._send(header, self._encoded(batch), rows_read=count)
            self.rows += len(batch)
        self._reach(FaultPoint.COLLECTOR_CHUNK_NOT_DONE)
        self.seq += 1
        self.coverage.add(chunk)
        self._send(
            self._single(IngestKind.CHUNK_DONE, here, plan, table=table, chunk=chunk.chunk_id),
            b"",
            done=chunk,
            stored=stored,
        )
        self._published_to = here

    def _single(
        self, kind: IngestKind, to: Position, plan: int, *, table: str = "", chunk: str = ""
    ) -> IngestHeader:
        return IngestHeader(
            kind, self._source, self._owner, self.seq, from_=self._published_to, to=to, gtids=self.gtids,
            ets=self.ets, plan=plan, table=table, chunk=chunk,
        )  # fmt: skip

    def publish_progress(self, key: str, record: dict[str, Any]) -> None:
        """Appends to the progress topic: for `gravity status`, never for correctness."""
        value = json.dumps(record, separators=(",", ":")).encode()
        self._log.producer.send(self._progress_topic, 0, value, key=key.encode())

    def serve(self) -> None:
        """Learns of acknowledgements; raises the first failed delivery."""
        self._log.producer.serve()

    def flush(self) -> None:
        """Returns once everything is with the broker."""
        self._log.producer.flush()

    def _reach(self, point: FaultPoint) -> None:
        if fault.is_armed(point):
            # What was sent must be in the log when the process dies here.
            self._log.producer.flush()
            fault.reach(point)
