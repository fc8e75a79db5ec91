"""A binlog, an ingest log and a control topic in memory, around the collector's own cores."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gravity_collector.chunk import Coverage, TableName, TouchLog
from gravity_collector.ddl.shape import Shapes
from gravity_collector.event import Begin, Commit, Event, Query, Rows
from gravity_collector.failover import carried_rows, has_moved, next_epoch, resume_elsewhere
from gravity_collector.flow import Flows
from gravity_collector.owner import Ownership, Resume, checkpoint_record, take_over
from gravity_collector.publisher import Publisher
from gravity_collector.schema_history import SchemaHistory
from gravity_collector.span import Limits
from gravity_collector.stream import Stream

from gravity.batch import DELETE, INSERT, UPDATE, ChangeBatch, Column, TableSchema
from gravity.codec import decode_batch
from gravity.errors import OffsetLostError
from gravity.gtid import parse_gtids
from gravity.header import IngestHeader, IngestKind, KafkaHeaders
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RoutePlan, SourcePlan, TargetPlan
from gravity.position import Position
from gravity.schema_change import SchemaChange
from gravity.topic import checkpoint_key

SERVER = "mariadb:1"


STATEMENTS = (
    "ALTER TABLE a ENGINE=InnoDB",
    "ALTER TABLE b MODIFY v TEXT",
    "RENAME TABLE a TO a_old, b TO a",
    "RENAME TABLE left_out TO b",
    "DROP TABLE b, left_out, a",
    "TRUNCATE g1",
    "DROP DATABASE shop",
    "ALTER TABLE left_out ADD x INT",
    "ALTER TABLE a RENAME elsewhere.a",
)


def stands_all(before: int, plan: int, table: TableName) -> bool:
    """Every plan reads every table, and sends its rows where the others do."""
    del before, plan, table
    return True


class Died(Exception):  # noqa: N818 - what a crash looks like from inside
    """The process is gone."""


@dataclass
class Log:
    """An ingest log; the writer dies when it would append message number `dies_at`."""

    topic: str = "ingest.s"
    messages: list[tuple[KafkaHeaders, bytes]] = field(default_factory=list)
    dies_at: int | None = None
    low: int = 0
    before_message: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens while the writer of that message is frozen."""

    def values(self, offsets: Sequence[int]) -> Iterator[tuple[IngestHeader, bytes]]:
        for offset in offsets:
            headers, value = self.messages[offset]
            yield IngestHeader.from_kafka(headers), value

    def append(self, header: IngestHeader) -> int:
        self._put(header.to_kafka(), b"")
        return len(self.messages) - 1

    def bounds(self) -> tuple[int, int]:
        return self.low, len(self.messages)

    def read(self, start: int, end: int) -> Iterator[tuple[int, IngestHeader]]:
        if start < self.low:
            raise OffsetLostError(f"offset {start} is gone")
        for offset in range(start, min(end, len(self.messages))):
            yield offset, IngestHeader.from_kafka(self.messages[offset][0])

    @property
    def producer(self) -> Log:
        return self

    def send(
        self,
        topic: str,
        _: int,
        value: bytes,
        headers: KafkaHeaders = (),  # type: ignore[assignment]
        *,
        delivered: Any = None,
    ) -> None:
        if topic != self.topic:
            return
        self._put(list(headers), value)
        if delivered is not None:
            delivered(len(self.messages) - 1)

    def _put(self, headers: KafkaHeaders, value: bytes) -> None:
        meanwhile = self.before_message.pop(len(self.messages), None)
        if meanwhile is not None:
            meanwhile()
        if self.dies_at is not None and len(self.messages) >= self.dies_at:
            raise Died
        self.messages.append((headers, value))

    def serve(self) -> None:
        return

    def flush(self) -> None:
        return

    def close(self) -> None:
        return

    def headers(self) -> list[IngestHeader]:
        return [header for _, header in self.read(0, len(self.messages))]

    def valid(self) -> list[tuple[IngestHeader, bytes]]:
        """What every reader takes: neither void nor fences."""
        found, top = [], 0
        for raw, value in self.messages:
            header = IngestHeader.from_kafka(raw)
            if header.kind is IngestKind.FENCE:
                top = max(top, header.owner)
            elif header.owner >= top:
                found.append((header, value))
        return found


class Control:
    """A compacted topic in memory; the writer dies instead of write number `dies_at`."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.writes = 0
        self.dies_at: int | None = None

    def refresh(self) -> Mapping[str, Any]:
        return dict(self.records)

    def write(self, key: str, value: Any) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise Died
        self.records[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.records.pop(key, None)


class Table:
    """Stands in for the decoder of one table: the event's body is an index into its rows."""

    def __init__(self, name: str) -> None:
        self.schema = TableSchema(
            "shop", name, (Column("id", "int"), Column("v", "varchar(20)")), (0,)
        )
        self.events: list[Sequence[Any]] = []

    def event(self, op: int, rows: Sequence[Any]) -> Rows:
        self.events.append(rows)
        body = (len(self.events) - 1).to_bytes(4) * max(1, len(rows) * 5)
        return Rows(self, op, body, 0)  # type: ignore[arg-type]

    def rows(self, body: bytes, _: int) -> list[Any]:
        return list(self.events[int.from_bytes(body[:4])])

    def updates(self, body: bytes, at: int, **_: object) -> list[Any]:
        return self.rows(body, at)


@dataclass
class Binlog:
    """Transactions, each its events and the place where the next one starts."""

    transactions: list[tuple[Position, list[Event]]] = field(default_factory=list)
    truth: list[tuple[str, int, Any, Any]] = field(default_factory=list)
    """(table, op, row, row before) in order."""
    server: str = SERVER

    @classmethod
    def random(
        cls, rng: random.Random, tables: Sequence[Table], transactions: int, rows_max: int
    ) -> Binlog:
        binlog, offset = cls(), 100
        for number in range(1, transactions + 1):
            begin = Begin(f"0-1-{number}", 1, offset, rng.randint(1, 1000) * 1_000_000)
            events: list[Event] = [begin]
            if rng.random() < 0.1:
                events.append(Query("shop", rng.choice(STATEMENTS), 0))
            else:
                events += [
                    binlog._rows(rng, rng.choice(tables), rng.randint(1, rows_max))
                    for _ in range(rng.randint(0, 4))
                ]
            size = 50 * len(events)
            events.append(Commit(1, offset + size))
            binlog.transactions.append((Position(1, 1, offset), events))
            offset += size
        return binlog

    def _rows(self, rng: random.Random, table: Table, count: int) -> Rows:
        op = rng.choice((INSERT, UPDATE, DELETE))
        rows = []
        for _ in range(count):
            row = (rng.randint(1, 9), f"v{len(self.truth)}")
            old = (row[0], f"w{len(self.truth)}") if op == UPDATE else None
            self.truth.append((table.schema.table, op, row, old))
            rows.append(row if old is None else (old, row))
        return table.event(op, rows)

    def elsewhere(self, rng: random.Random, server: str) -> Binlog:
        """The same transactions at a replica: in other places, their rows in other events."""
        binlog, offset = Binlog(truth=self.truth, server=server), rng.randint(4, 5000)
        for _, events in self.transactions:
            begin = events[0]
            assert isinstance(begin, Begin)
            copied: list[Event] = [begin._replace(offset=offset)]
            for event in events[1:-1]:
                copied += _split(rng, event) if isinstance(event, Rows) else [event]
            size = 70 * (len(copied) + 1)
            copied.append(Commit(1, offset + size))
            binlog.transactions.append((Position(1, 1, offset), copied))
            offset += size
        return binlog

    def place_behind(self, gtids: str, epoch: int) -> Position:
        """Where the first transaction starts that `gtids` does not have."""
        done = parse_gtids("mariadb", gtids)
        for place, events in self.transactions:
            begin = events[0]
            assert isinstance(begin, Begin)
            if not done.contains(begin.gtid):
                return Position(epoch, place.file_index, place.offset)
        return Position(epoch, self.end.file_index, self.end.offset)

    @property
    def start(self) -> Position:
        return self.transactions[0][0]

    @property
    def end(self) -> Position:
        commit = self.transactions[-1][1][-1]
        assert isinstance(commit, Commit)
        return Position(1, 1, commit.next_offset)

    def read_from(self, place: Position) -> Iterable[Event]:
        for start, events in self.transactions:
            if (start.file_index, start.offset) >= (place.file_index, place.offset):
                yield from events


def _split(rng: random.Random, event: Rows) -> list[Event]:
    table, rows = event.table, event.table.rows(event.body, 0)
    cuts = sorted(rng.sample(range(1, len(rows)), min(len(rows) - 1, rng.randint(0, 3))))
    pieces = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return [table.event(event.op, piece) for piece in pieces]  # type: ignore[attr-defined]


def plan(
    version: int = 1, *, excluded: Sequence[str] = (), group: Sequence[str] = ()
) -> RoutingPlan:
    """Everything of source `s` goes to target `t`; tables of `group` share one order."""
    return RoutingPlan(
        version=version,
        partitions=4,
        sources=(SourcePlan("s", ("*",), ("*",), tuple(excluded)),),
        targets=(TargetPlan("t", "mysql", None, ("*",), (), ()),),
        routes=(RoutePlan("t", ("*",)),),
        rules=(),
        default_resolution=Resolution("source-priority", {"s": 1}),
        lanes={"t": {f"shop.{table}": "group:g" for table in group}},
    )


@dataclass
class Collector:
    """One process: takes over, finishes what is unfinished, reads on until the binlog's end."""

    log: Log
    control: Control
    binlog: Binlog
    plans: Mapping[int, RoutingPlan]
    limits: Limits
    rng: random.Random
    name: str
    owned: Ownership | None = None
    checkpoints: bool = False
    carried: int = 0
    """How often the log had rows that another server brought again."""

    def run(self) -> None:
        version = max(self.plans)
        owned = self.owned = take_over(
            self.control, self.log, source="s", process=self.name, server=self.binlog.server,
            plan=version, stands=stands_all,
        )  # fmt: skip
        start = owned.resume or Resume(self.binlog.start, "", 0, self.binlog.server, 0)
        inside, carried = start.next_position.ordinal, None
        if has_moved(owned, self.binlog.server, may_move=True):
            carried = carried_rows(self.log, owned)
            self.carried += bool(carried)
            behind = self.binlog.place_behind(start.gtids, next_epoch(owned))
            start = resume_elsewhere(owned, behind, self.binlog.server)
        elif owned.unfinished is not None:
            assert owned.unfinished.from_ == start.next_position
        place = start.next_position
        begun_under = owned.unfinished.plan if owned.unfinished else start.plan if inside else 0
        flows = Flows(self.plans[version], "s", lambda *_: ())
        first = (
            Flows(self.plans[begun_under], "s", lambda *_: ())
            if begun_under not in (0, version)
            else flows
        )
        publisher = Publisher(
            self.log,  # type: ignore[arg-type]
            "progress",
            source="s",
            owner=owned.owner,
            seq=owned.seq,
            server=self.binlog.server,
            next_position=place,
            gtids=start.gtids,
            ets=start.ets,
            coverage=Coverage(),
        )
        stream = Stream(
            "s",
            publisher,
            first,
            self.limits,
            gtids=parse_gtids("mariadb", start.gtids),
            touches=TouchLog(),
            history=SchemaHistory(
                "s", Shapes(), [("shop", name) for name in ("a", "a_old", "b", "g1", "g2")]
            ),
            unfinished=owned.unfinished if carried is None else None,
            carried=carried,
            flows_after=flows if first is not flows else None,
        )
        if stream.is_between_transactions and (owned.resume is None or carried is not None):
            publisher.publish_marker(plan=version)
        try:
            self._read(stream, publisher, place)
        except Died:
            # The checkpoints' thread may have written the very last state before the process went.
            self._checkpoint(publisher, 0.5)
            raise

    def _read(self, stream: Stream, publisher: Publisher, place: Position) -> None:
        for event in self.binlog.read_from(place):
            stream.take([event])
            if stream.is_between_transactions and self.rng.random() < 0.2:
                stream.end_span()
                if self.rng.random() < 0.3:
                    publisher.publish_marker(plan=stream.plan_version)
                self._checkpoint(publisher, 0.3)
        stream.end_span()
        self.transactions = stream.transactions

    def _checkpoint(self, publisher: Publisher, probability: float) -> None:
        point = publisher.acknowledged
        if self.checkpoints and point is not None and self.rng.random() < probability:
            assert self.owned is not None
            self.control.write(checkpoint_key("s", self.owned.owner), checkpoint_record(point))


def changes_of(log: Log) -> list[tuple[IngestHeader, SchemaChange]]:
    """The schema changes that every reader takes."""
    return [
        (header, SchemaChange.decode(value))
        for header, value in log.valid()
        if header.kind is IngestKind.SCHEMA
    ]


def rows_of(log: Log) -> list[tuple[IngestHeader, ChangeBatch]]:
    """The change batches that every reader takes."""
    return [
        (header, decode_batch(value))
        for header, value in log.valid()
        if header.kind is IngestKind.ROWS
    ]
