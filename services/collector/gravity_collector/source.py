"""One source from the first connection to the last message: the life of one thread."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
import tenacity

from gravity.batch import READ, ChangeBatch, Transaction
from gravity.catalog import CatalogTable, read_catalog
from gravity.clock import monotonic_s, now_us
from gravity.errors import FatalError, FencedError, GravityError, PositionLostError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.position import Position
from gravity.topic import Topics, checkpoint_key
from gravity_collector.binlog import (
    BinlogStream,
    Start,
    StartAfterGtids,
    StartAtFile,
    open_stream,
    read_server_facts,
)
from gravity_collector.chunk import Coverage, PositionView, TouchLog, covers, reconcile
from gravity_collector.event import Begin, Event, Heartbeat, Rotate
from gravity_collector.flow import Flows, keyless
from gravity_collector.gtid import GtidSet, parse_gtids
from gravity_collector.owner import (
    Ownership,
    Resume,
    assert_same_server,
    assert_still_owner,
    checkpoint_record,
    take_over,
)
from gravity_collector.publisher import IngestTopic, Publisher
from gravity_collector.server import ServerFacts, assert_readable
from gravity_collector.snapshot import ChunkRead, SnapshotReaders, SourceConnection, open_view
from gravity_collector.span import Limits
from gravity_collector.stream import Stream

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source

log = structlog.get_logger()

HEARTBEAT_S: Final = 1.0
"""How often an idle source says that it is alive, and where its binlog ends."""
MARKER_FLOWING_S: Final = 1.0
MARKER_IDLE_S: Final = 5.0
PROGRESS_S: Final = 1.0
KEEPER_S: Final = 5.0
"""How often a checkpoint is written and control is read."""
_IDLE_READ_S: Final = 0.25
_SNAPSHOT_READ_S: Final = 0.01
_RETRY_S_MAX: Final = 15.0
_PAUSE_S: Final = 1.0
"""Between the failure of a run that had worked and the next."""


def connection_arguments(source: Source) -> dict[str, Any]:
    """PyMySQL's arguments for a source."""
    source.require_connection()
    arguments: dict[str, Any] = {
        "host": source.address,
        "port": source.port,
        "user": source.username,
        "password": source.password.get_secret_value() if source.password is not None else "",
        "connect_timeout": 10,
        "read_timeout": 300,
        "charset": "utf8mb4",
    }
    if source.tls is not None:
        arguments["ssl_disabled"] = source.tls.mode == "disabled"
        if source.tls.mode != "disabled":
            files = {
                "ssl_ca": source.tls.ca,
                "ssl_cert": source.tls.cert,
                "ssl_key": source.tls.key,
            }
            arguments.update({name: str(path) for name, path in files.items() if path is not None})
            arguments["ssl_verify_cert"] = source.tls.mode in ("verify-ca", "verify-identity")
            arguments["ssl_verify_identity"] = source.tls.mode == "verify-identity"
    return arguments


def replica_id(source: Source) -> int:
    """The id that we show to the server: configured, else made from the source's name."""
    return (
        source.server_id
        or uuid.uuid5(uuid.NAMESPACE_DNS, f"gravity.{source.name}").int % (2**31) + 2**30
    )


def identity(facts: ServerFacts) -> str:
    """What tells the server from every other that may stand behind the same address."""
    return f"mysql:{facts.server_uuid}" if facts.flavor == "mysql" else f"mariadb:{facts.server_id}"


def collect(config: Config, source: Source, stop: threading.Event) -> None:
    """Collects one source until `stop` is set; transient troubles are tried again for ever.

    Raises:
        FatalError: an operator must act; FencedError: another collector serves this source now.
    """
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=_RETRY_S_MAX),
        sleep=tenacity.sleep_using_event(stop),
        stop=tenacity.stop_when_event_set(stop),
        before_sleep=lambda state: log.warning(
            "source_retried",
            source=source.name,
            attempt=state.attempt_number,
            reason=_reason(state),
        ),
        reraise=True,
    )
    try:
        # A run that has worked begins counting anew: its failure is a new trouble.
        while not stop.is_set():
            retry(_run_once, config, source, stop)
            stop.wait(_PAUSE_S)
    except TransientError:
        if not stop.is_set():
            raise


def _reason(state: tenacity.RetryCallState) -> str:
    return str(state.outcome.exception()) if state.outcome is not None else ""


def _run_once(config: Config, source: Source, stop: threading.Event) -> None:
    """One connection, one ownership. Whatever fails, the next run takes the source over again."""
    with _Session(config, source) as session:
        try:
            session.run(stop)
        except TransientError as error:
            if session.has_published:
                log.warning("source_interrupted", source=source.name, reason=str(error))
                return
            raise


class _Session:
    """Everything that lives as long as one ownership of a source."""

    def __init__(self, config: Config, source: Source) -> None:
        self._config = config
        self._source = source
        self._arguments = connection_arguments(source)
        self._topics = Topics(config.kafka.topic_prefix)
        self._closing: list[Callable[[], None]] = []
        self.has_published = False

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        for close in reversed(self._closing):
            close()

    def run(self, stop: threading.Event) -> None:
        """Takes the source over and reads it until `stop`."""
        name, cluster = self._source.name, self._config.kafka
        facts = read_server_facts(self._arguments, name)
        assert_readable(facts, name)
        connection = SourceConnection(self._arguments, name)
        self._closing.append(connection.close)
        control = ControlTopic(cluster, self._topics.control, f"gravity-collector-{name}")
        self._closing.append(control.close)
        plans = PlanStore(control)
        flows = Flows(plans.require_newest(), name, _unique_keys(connection))
        catalog = _included_tables(connection, flows, name)
        ingest = IngestTopic(cluster, self._topics.ingest(name), f"gravity-collector-{name}")
        self._closing.append(ingest.close)
        owned = take_over(
            control,
            ingest,
            source=name,
            process=uuid.uuid4().hex,
            server=identity(facts),
            plan=flows.version,
        )
        coverage = Coverage(owned.chunks_done)
        coverage.keep_only(catalog)
        binlog, start, events = self._open(connection, facts, owned)
        self._closing.append(binlog.close)
        publisher = Publisher(
            ingest,
            self._topics.progress,
            source=name,
            owner=owned.owner,
            seq=owned.seq,
            server=identity(facts),
            next_position=start.next_position,
            gtids=start.gtids,
            ets=start.ets,
            coverage=coverage,
        )
        stream, touches = self._stream(publisher, flows, plans, connection, facts, owned, start)
        readers = SnapshotReaders(
            self._arguments,
            name,
            facts.flavor,
            {table: found.schema for table, found in catalog.items()}
            if self._source.snapshot == "initial"
            else {},
            coverage,
            touches,
            chunk_rows=self._config.snapshot.chunk_rows,
            workers=self._source.max_workers,
        )
        touches.watch(table for table in catalog if not coverage.is_complete(table))
        keeper = _Keeper(control, publisher, name, owned.owner)
        loop = _Loop(
            self._config,
            name,
            binlog,
            stream,
            publisher,
            readers,
            touches,
            keeper,
            flows,
            start,
            facts,
        )
        self._closing.append(keeper.end)
        self._closing.append(readers.stop)
        keeper.start()
        readers.start()
        self.has_published = True
        if owned.resume is None:
            # From now on the log says where the source was begun.
            publisher.publish_marker(plan=flows.version)
        log.info(
            "source_taken_over", source=name, owner=owned.owner, server=identity(facts), plan=flows.version,
            position=str(start.next_position),
        )  # fmt: skip
        try:
            stream.take(events)
            loop.run(stop)
        except GravityError as error:
            # The new owner's binlog connection ends ours, whose complaint would mislead.
            keeper.end()
            _raise_if_fenced(control, name, owned.owner, error)
            raise

    def _open(
        self, connection: SourceConnection, facts: ServerFacts, owned: Ownership
    ) -> tuple[BinlogStream, Resume, Sequence[Event]]:
        """The binlog from where reading goes on, that place, and events that were read to learn it."""
        name = self._source.name
        if owned.resume is not None:
            assert_same_server(owned.resume, identity(facts), name)
            _assert_readable_from(connection, facts, owned.resume, name)
            resume = owned.resume
            place = owned.unfinished.from_ if owned.unfinished is not None else resume.next_position
            return (
                self._open_at(
                    StartAtFile(facts.binlog_file_name(place.file_index), place.offset), facts
                ),
                resume,
                (),
            )
        if facts.flavor == "mariadb":
            view = open_view(connection, facts.flavor)
            connection.query("COMMIT")
            assert isinstance(view, PositionView)
            file_name = facts.binlog_file_name(view.file_index)
            gtids = _mariadb_gtids(connection, file_name, view.offset)
            binlog = self._open_at(StartAtFile(file_name, view.offset), facts)
            return binlog, _first(Position(1, view.file_index, view.offset), gtids, facts), ()
        # The executed set, not the binlog's end: transactions between the two are not visible yet,
        # so neither a snapshot nor a stream from that end would bring them.
        executed = str(connection.query("SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")
        binlog = self._open_at(StartAfterGtids(executed), facts)
        place, events = _first_place(binlog, name)
        return binlog, _first(place, executed, facts), events

    def _open_at(self, start: Start, facts: ServerFacts) -> BinlogStream:
        return open_stream(
            self._arguments,
            start,
            facts,
            source=self._source.name,
            server_id=replica_id(self._source),
            heartbeat_s=HEARTBEAT_S,
        )

    def _stream(
        self,
        publisher: Publisher,
        flows: Flows,
        plans: PlanStore,
        connection: SourceConnection,
        facts: ServerFacts,
        owned: Ownership,
        start: Resume,
    ) -> tuple[Stream, TouchLog]:
        # A span or transaction that was begun under another plan is finished under it.
        begun_under = 0
        if owned.unfinished is not None:
            begun_under = owned.unfinished.plan
        elif start.next_position.ordinal:
            begun_under = start.plan
        first = flows
        if begun_under and begun_under != flows.version:
            first = Flows(plans.get(begun_under), self._source.name, _unique_keys(connection))
        touches = TouchLog()
        stream = Stream(
            self._source.name,
            publisher,
            first,
            Limits(self._config.batch.rows_max, self._config.batch.bytes_max),
            gtids=parse_gtids(facts.flavor, start.gtids),
            touches=touches,
            unfinished=owned.unfinished,
            flows_after=flows if first is not flows else None,
        )
        return stream, touches


def _first(place: Position, gtids: str, facts: ServerFacts) -> Resume:
    return Resume(place, gtids, 0, identity(facts), 0)


def _first_place(binlog: BinlogStream, source: str) -> tuple[Position, Sequence[Event]]:
    """Where a binlog that was opened by GTIDs goes on: known with its first transaction or heartbeat."""
    seen: list[Event] = []
    deadline = monotonic_s() + 30 * HEARTBEAT_S
    while monotonic_s() < deadline:
        for event in binlog.read(HEARTBEAT_S):
            seen.append(event)
            if isinstance(event, Begin):
                return Position(1, event.file_index, event.offset), seen
            if isinstance(event, Heartbeat) or (isinstance(event, Rotate) and not event.artificial):
                return Position(1, event.file_index, event.next_offset), seen
    raise TransientError(
        "the server sends neither transactions nor heartbeats", where=f"source {source}"
    )


def _mariadb_gtids(connection: SourceConnection, file_name: str, offset: int) -> str:
    found = connection.query(f"SELECT BINLOG_GTID_POS({connection.literal(file_name)}, {offset})")[
        0
    ][0]
    return "" if found is None else str(found)


def _assert_readable_from(
    connection: SourceConnection, facts: ServerFacts, resume: Resume, source: str
) -> None:
    """Refuses a position that this server's binlog does not have, or has with another history."""
    place = resume.next_position
    remedy = (
        "`gravity reset --source` reads the source again from the beginning; keep binlogs longer "
        "(binlog_expire_logs_seconds) than the collector may be down"
    )
    where = f"source {source}, position {place}"
    file_name = facts.binlog_file_name(place.file_index)
    sizes = {str(row[0]): int(row[1]) for row in connection.query("SHOW BINARY LOGS")}
    if sizes.get(file_name, -1) < place.offset:
        kept = f"it has {min(sizes)} to {max(sizes)}" if sizes else "it has no binlog"
        raise PositionLostError(f"the server no longer has {file_name} up to {place.offset}: {kept}", where=where,
                                remedy=remedy)  # fmt: skip
    ours = parse_gtids(facts.flavor, resume.gtids)
    if facts.flavor == "mysql":
        theirs = parse_gtids(facts.flavor, facts.gtid_set)
        is_same = theirs.contains_all(ours)
    else:
        theirs = parse_gtids(facts.flavor, _mariadb_gtids(connection, file_name, place.offset))
        is_same = theirs.contains_all(ours) and ours.contains_all(theirs)
    if not is_same:
        raise PositionLostError(
            f"the server's history is another one: it has {theirs} where we have read {ours}",
            where=where,
            remedy=f"was the server reset or restored from a backup? {remedy}",
        )


def _unique_keys(connection: SourceConnection) -> Callable[[str, str], tuple[str, ...]]:
    def find(database: str, table: str) -> tuple[str, ...]:
        found = read_catalog(
            connection.query, lambda *_: True, connection.literal, only=(database, table)
        )
        entry = found.get((database, table))
        return entry.schema.key_names if entry is not None else ()

    return find


def _included_tables(
    connection: SourceConnection, flows: Flows, source: str
) -> Mapping[tuple[str, str], CatalogTable]:
    """The tables that are read. Raises FatalError naming all that have no key."""
    catalog = read_catalog(connection.query, flows.includes, connection.literal)
    problems = [keyless(source, *name) for name, table in catalog.items() if not table.schema.key]
    if len(problems) > 1:
        raise FatalError(
            f"{len(problems)} tables have neither a primary key nor a unique key of NOT NULL columns",
            where="; ".join(problem.where for problem in problems),
            remedy="add primary keys, or leave them out by `exclude`",
        )
    if problems:
        raise problems[0]
    return catalog


def _raise_if_fenced(control: ControlTopic, source: str, owner: int, error: GravityError) -> None:
    try:
        records = control.refresh()
    except GravityError:
        return
    try:
        assert_still_owner(records, source, owner)
    except FencedError as fenced:
        raise fenced from error


class _Keeper(threading.Thread):
    """Writes checkpoints and looks for a new owner, beside the source's own thread: both wait for Kafka."""

    def __init__(
        self, control: ControlTopic, publisher: Publisher, source: str, owner: int
    ) -> None:
        super().__init__(name=f"keeper-{source}", daemon=True)
        self._control = control
        self._publisher = publisher
        self._source = source
        self._owner = owner
        self._ended = threading.Event()
        self._written = 0
        self.failure: GravityError | None = None

    def run(self) -> None:
        """The thread's body."""
        while not self._ended.wait(KEEPER_S):
            try:
                self.keep()
                assert_still_owner(self._control.refresh(), self._source, self._owner)
            except FencedError as error:
                self.failure = error
                return
            except GravityError as error:
                self.failure = error
                return

    def keep(self) -> None:
        """Writes the newest acknowledged state, if there is a newer one than last time."""
        point = self._publisher.acknowledged
        if point is not None and point.seq > self._written:
            reach(FaultPoint.COLLECTOR_PUBLISHED_NOT_CHECKPOINTED)
            self._control.write(checkpoint_key(self._source, self._owner), checkpoint_record(point))
            self._written = point.seq

    def end(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=30)


@dataclass(slots=True)
class _Due:
    """When the periodic things happen next, by the monotonic clock."""

    marker_s: float = 0.0
    progress_s: float = 0.0
    last_span_s: float = 0.0
    rows_at_marker: int = 0


class _Loop:
    """Reads, publishes, and does what is due in between."""

    def __init__(
        self,
        config: Config,
        source: str,
        binlog: BinlogStream,
        stream: Stream,
        publisher: Publisher,
        readers: SnapshotReaders,
        touches: TouchLog,
        keeper: _Keeper,
        flows: Flows,
        start: Resume,
        facts: ServerFacts,
    ) -> None:
        self._source = source
        self._binlog = binlog
        self._stream = stream
        self._publisher = publisher
        self._readers = readers
        self._touches = touches
        self._keeper = keeper
        self._flows = flows
        self._start = publisher.next_position
        self._start_gtids: GtidSet = parse_gtids(facts.flavor, start.gtids)
        self._pace_s = config.batch.wait_ms_max / 1000
        self._limits = Limits(config.batch.rows_max, config.batch.bytes_max)
        self._due = _Due()
        self._waiting: ChunkRead | None = None
        self._key = f"collector/{source}"
        self._snapshotting = not readers.is_done
        publisher.snapshot_done = not self._snapshotting

    def run(self, stop: threading.Event) -> None:
        """Goes on until `stop`; then everything read is in the log and the checkpoint says so."""
        while not stop.is_set():
            self._read()
            self._publisher.serve()
            if self._keeper.failure is not None:
                raise self._keeper.failure
            if self._snapshotting and self._stream.is_between_transactions:
                self._publish_chunks()
            self._do_what_is_due()
        if self._stream.is_between_transactions:
            self._stream.end_span()
        self._publisher.flush()
        self._keeper.end()
        self._keeper.keep()

    def _read(self) -> None:
        """Reads what is there; with nothing more to read, what has been read is sent.

        The first rows after a pause leave at once; under a steady trickle a span waits for `batch.wait-ms-max`
        since the last, so that messages don't become as many as rows.
        """
        stream = self._stream
        if not (stream.has_rows and stream.is_between_transactions):
            stream.take(self._binlog.read(_SNAPSHOT_READ_S if self._snapshotting else _IDLE_READ_S))
            return
        events = self._binlog.read(0)
        if not events:
            wait_s = self._due.last_span_s + self._pace_s - monotonic_s()
            if wait_s <= 0:
                stream.end_span()
                self._due.last_span_s = monotonic_s()
                return
            events = self._binlog.read(wait_s)
        stream.take(events)

    def _publish_chunks(self) -> None:
        """Publishes the chunks whose high watermark the stream has reached."""
        while True:
            chunk = self._waiting or self._readers.ready()
            if chunk is None:
                break
            self._waiting = chunk
            view, here = chunk.view, self._stream.position
            if (here.file_index, here.offset) < (view.file_index, view.offset):
                return
            self._waiting = None
            self._stream.end_span()
            self._publish_chunk(chunk)
        if self._readers.is_done:
            self._snapshotting = False
            self._publisher.snapshot_done = True
            log.info("snapshot_finished", source=self._source, rows=self._publisher.rows)

    def _publish_chunk(self, read: ChunkRead) -> None:
        covered = covers(
            read.view,
            file_index=self._start.file_index,
            offset=self._start.offset,
            gtids=self._start_gtids,
        )
        touched = self._touches.touched(read.chunk.table, read.view) if covered else None
        if touched is None:
            self._readers.give_back(read.chunk)
            return
        rows = reconcile(read.rows, read.schema, touched)
        place = self._publisher.next_position
        flow = self._flows.of_schema(read.schema)
        batches = []
        at = 0
        while at < len(rows):
            # Sizes of rows that were left out only make a message smaller than it need be.
            count = self._limits.pieces(len(rows), sum(read.sizes))
            part = rows[at : at + count]
            batches.append(
                ChangeBatch(
                    source=self._source,
                    epoch=place.epoch,
                    schema=flow.schema,
                    transactions=[Transaction("", place.file_index, place.of_read(0).offset, 0, 0)],
                    ops=bytes((READ,)) * len(part),
                    tx=[0] * len(part),
                    ordinal=range(at, at + len(part)),
                    columns=list(zip(*part, strict=True)),
                    before_columns=flow.before_columns,
                    before=[[None] * len(part) for _ in flow.before_columns],
                )
            )
            at += len(part)
        self._publisher.publish_chunk(read.chunk, batches, plan=self._stream.plan_version)
        self._touches.complete(read.view)
        self._readers.published(read.chunk)
        if self._publisher.coverage.is_complete(read.chunk.table):
            self._touches.forget(read.chunk.table)

    def _do_what_is_due(self) -> None:
        now, due, publisher = monotonic_s(), self._due, self._publisher
        if now >= due.marker_s and self._stream.is_between_transactions:
            self._stream.end_span()
            publisher.publish_marker(plan=self._stream.plan_version)
            flows = publisher.rows != due.rows_at_marker
            due.rows_at_marker = publisher.rows
            due.marker_s = now + (
                MARKER_FLOWING_S if flows or self._snapshotting else MARKER_IDLE_S
            )
        elif due.rows_at_marker != publisher.rows:
            # Rows have begun to flow: the next marker comes soon.
            due.marker_s = min(due.marker_s, now + MARKER_FLOWING_S)
        if now >= due.progress_s:
            due.progress_s = now + PROGRESS_S
            total = self._readers.total
            left = sum(
                not publisher.coverage.is_complete(table) for table in self._touches.tables()
            )
            publisher.publish_progress(
                self._key,
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
