"""One ownership of a source: both sides connected, its log taken over, and read on from where it ends."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from gravity.catalog import CatalogTable
from gravity.clock import monotonic_s
from gravity.errors import GravityError, PositionLostError, TransientError
from gravity.gtid import parse_gtids
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.placed_anew import is_placed_as, was_always_placed_so
from gravity.topic import Topics
from gravity_collector.awaited import acknowledge
from gravity_collector.beginning import Beginning
from gravity_collector.binlog import (
    BinlogStream,
    Start,
    open_stream,
    read_server_facts,
)
from gravity_collector.bucket import RowBucket
from gravity_collector.carried import Carried
from gravity_collector.chunk import Chunk, Coverage, Since, TableName, TouchLog, Work
from gravity_collector.copier import Copier
from gravity_collector.ddl.shape import Shapes
from gravity_collector.desk import Desk
from gravity_collector.event import Event
from gravity_collector.failover import carried_rows, has_moved, next_epoch, open_elsewhere
from gravity_collector.flow import Flows, no_keys
from gravity_collector.host import Endpoint
from gravity_collector.host import name as name_of
from gravity_collector.included import included_tables, rows_estimated, unique_keys
from gravity_collector.keeper import Keeper
from gravity_collector.loop import Loop
from gravity_collector.marker_pace import MarkerPace
from gravity_collector.owner import (
    OtherServerError,
    Ownership,
    Resume,
    assert_newest_plan,
    take_over,
)
from gravity_collector.place import open_binlog, open_latest
from gravity_collector.publisher import IngestTopic, Publisher
from gravity_collector.readers import SnapshotReaders
from gravity_collector.schema_history import SchemaHistory
from gravity_collector.server import ServerFacts, identity, is_replicating
from gravity_collector.servers import Servers
from gravity_collector.snapshot import SourceConnection
from gravity_collector.span import Limits
from gravity_collector.stream import Stream

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source

log = structlog.get_logger()

HEARTBEAT_S: Final = 1.0
"""How often an idle source says that it is alive, and where its binlog ends."""


def replica_id(source: Source, topic_prefix: str) -> int:
    """The id that we show to the server: configured, else made from installation and source.

    Two readers of one id throw each other off; installations on one Kafka differ by `topic_prefix`.
    """
    name = f"gravity.{topic_prefix}{source.name}"
    return source.server_id or uuid.uuid5(uuid.NAMESPACE_DNS, name).int % (2**31) + 2**30


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sources of a process have in common. Producers are not: a source that floods has its own queue."""

    config: Config
    control: ControlTopic
    plans: PlanStore
    keeper: Keeper


@dataclass(frozen=True, slots=True)
class _Sides:
    """The source and Kafka, as a session found them."""

    endpoint: Endpoint
    facts: ServerFacts
    connection: SourceConnection
    catalog: Mapping[TableName, CatalogTable]
    flows: Flows
    ingest: IngestTopic


@dataclass(frozen=True, slots=True)
class _Opened:
    """A binlog, opened."""

    binlog: BinlogStream
    start: Resume
    """Where it goes on."""
    events: Sequence[Event]
    """Those that were read to learn where."""
    carried: Carried | None = None
    is_begun_again: bool = False
    """Whether the place where the log ends is lost."""


class Session:
    """Everything that lives as long as one ownership of a source."""

    def __init__(self, shared: Shared, source: Source, servers: Servers) -> None:
        config = self._config = shared.config
        self._shared = shared
        self._source = source
        self._servers = servers
        self._arguments: dict[str, Any] = {}
        """Where PyMySQL connects: to the server that was chosen."""
        self._limits = Limits(config.batch.rows_max, config.batch.bytes_max)
        self._topics = Topics(config.kafka.topic_prefix)
        self._closing: list[Callable[[], None]] = []
        self.has_published = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for close in reversed(self._closing):
            close()

    def run(self, stop: threading.Event) -> bool:
        """Takes the source over and reads it until `stop`; true: it is copied, and that is all it is for."""
        sides = self._connect()
        if stop.is_set():
            # Given up meanwhile: a takeover now would fence whoever holds the source by now.
            return False
        name, server, plan = self._source.name, identity(sides.facts), sides.flows.version
        owned = take_over(
            self._shared.control,
            sides.ingest,
            source=name,
            process=uuid.uuid4().hex,
            server=server,
            plan=plan,
            stands=self._stands,
        )
        # Guarded by test_a_source_is_not_gone_on_with_under_an_older_plan_than_its_log_is_at.
        assert_newest_plan(self._shared.control.records, plan, name)
        try:
            loop, events = self._assemble(self._looked_at_again(sides), owned)
        except GravityError as error:
            self._refuse(sides, error)
            raise
        sides.ingest.end_reading()
        if loop.stream.is_between_transactions and loop.is_new_epoch:
            # From now on the log says where the source was begun, or gone on with.
            loop.publisher.publish_marker(plan=plan)
        position = str(loop.stream.position)
        log.info(
            "source_taken_over",
            source=name,
            owner=owned.owner,
            server=server,
            plan=plan,
            position=position,
            host=name_of(sides.endpoint),
        )
        self.has_published = True
        self._servers.forgive()
        loop.keeper.start()
        loop.copier.readers.start()
        try:
            loop.stream.take(events)
            return loop.run(stop)
        except GravityError as error:
            # The new owner's binlog connection ends ours, whose complaint would mislead.
            loop.keeper.raise_if_fenced(error)
            self._refuse(sides, error)
            raise

    def _stands(self, before: int, plan: int, table: TableName) -> bool:
        """As gravity_collector.owner.Stands: the table is read, and its rows go where they went."""
        now = self._shared.plans.get(plan)
        if not Flows(now, self._source.name, no_keys).includes(*table):
            return False
        if not before:
            return was_always_placed_so(now, self._source.name, *table)
        return is_placed_as(now, self._shared.plans.get(before), self._source.name, *table)

    def _refuse(self, sides: _Sides, error: GravityError) -> None:
        """Raises TransientError instead of `error` where another server may go on in this one's place."""
        if self._servers.are_several and isinstance(error, PositionLostError):
            self._servers.refuse(sides.endpoint, error)
            raise TransientError(f"{name_of(sides.endpoint)} can't go on: {error}") from error

    def _looked_at_again(self, sides: _Sides) -> _Sides:
        """The sides with the server as it is behind our fence.

        Until the fence another collector read on: beside what it has published, facts from before
        would look like the history of another server.
        """
        facts = read_server_facts(self._arguments, self._source.name)
        if identity(facts) != identity(sides.facts):
            raise TransientError(
                f"the server changed from {identity(sides.facts)} to {identity(facts)} at the start",
                where=f"source {self._source.name}",
            )
        return replace(sides, facts=facts)

    def _connect(self) -> _Sides:
        """Both sides, looked at and found fit. Nothing is written yet."""
        name, cluster = self._source.name, self._config.kafka
        host = self._servers.choose(self._shared.control.refresh())
        self._arguments = self._servers.arguments(host.endpoint)
        connection = SourceConnection(self._arguments, name)
        self._closing.append(connection.close)
        flows = Flows(self._shared.plans.require_newest(), name, unique_keys(connection))
        catalog = included_tables(connection, flows, name)
        ingest = IngestTopic(
            cluster,
            self._topics.ingest(name),
            f"gravity-collector-{name}",
            is_awaited=self._source.semi_sync is not None,
        )
        self._closing.append(ingest.close)
        return _Sides(host.endpoint, host.facts, connection, catalog, flows, ingest)

    def _assemble(self, sides: _Sides, owned: Ownership) -> tuple[Loop, Sequence[Event]]:
        """The loop that goes on where the log ends, and events that were read to learn where."""
        name, facts, flows = self._source.name, sides.facts, sides.flows
        opened = self._open(sides, owned)
        sides, stable = self._with_tables_made_since(sides, owned, opened)
        history = self._history(sides, owned, stable)
        coverage = Coverage(() if opened.is_begun_again else owned.chunks_done)
        coverage.keep_only(sides.catalog)
        rereads = self._placed_anew(sides, owned, coverage) | {
            table
            for table in sides.catalog
            if ".".join(table) in owned.rereads and not coverage.is_complete(table)
        }
        binlog, start, carried = opened.binlog, opened.start, opened.carried
        self._closing.append(binlog.close)
        written = start
        if opened.is_begun_again:
            assert owned.resume is not None
            written = owned.resume
        publisher = Publisher(
            sides.ingest,
            self._topics.progress,
            source=name,
            owner=owned.owner,
            seq=owned.seq,
            server=identity(facts),
            next_position=written.next_position,
            gtids=written.gtids,
            ets=written.ets,
            coverage=coverage,
            snapshot_round=owned.snapshot_round,
            rereads=rereads,
            requests=owned.requests,
            rows_read=owned.rows_read,
        )
        if opened.is_begun_again:
            publisher.begin_again(
                sorted(sides.catalog), to=start.next_position, gtids=start.gtids, ets=start.ets, plan=flows.version
            )  # fmt: skip
            owned = replace(owned, resume=start, unfinished=None)
        touches = TouchLog()
        place = start.next_position
        since = Since(place.file_index, place.offset, parse_gtids(facts.flavor, start.gtids))
        wanted = self._wanted(sides.catalog, coverage, rereads)
        rate = self._source.rate_limit
        bucket = RowBucket(rate.rows_per_s_max if rate else None, monotonic_s)
        readers = self._readers(facts, touches, bucket, flows)
        for table in wanted:
            touches.watch(table, since)
            readers.add(Work(table), coverage.gaps(table))
        desk = Desk(name, owned.owner, owned.fences, owned.requests)
        keeper = self._shared.keeper.care_for(
            publisher, name, owned.owner, desk, plan=flows.version
        )
        begun_under = _plan_begun_under(owned) or flows.version
        first = flows
        if begun_under != flows.version:
            first = Flows(self._shared.plans.get(begun_under), name, unique_keys(sides.connection))
        stream = Stream(
            name,
            publisher,
            first,
            self._limits,
            gtids=parse_gtids(facts.flavor, start.gtids),
            touches=touches,
            unfinished=owned.unfinished if carried is None else None,
            carried=carried,
            flows_after=flows if first is not flows else None,
            request=readers.request,
            history=history,
        )
        self._closing += [keeper.end, readers.stop]
        copier = Copier(
            name,
            stream,
            publisher,
            readers,
            touches,
            flows,
            self._limits,
            desk,
            owned.requests,
            sides.catalog.keys(),
            rows_estimated(sides.connection) if wanted else {},
        )
        loop = Loop(
            source=name,
            binlog=binlog,
            stream=stream,
            publisher=publisher,
            copier=copier,
            keeper=keeper,
            pace_s=self._config.batch.wait_ms_max / 1000,
            is_new_epoch=owned.resume is None or carried is not None,
            bucket=bucket,
            cuts=desk.cuts,
            markers=MarkerPace.under(flows.plan),
            ends_with_copy=self._source.snapshot == "only",
        )
        self._closing += acknowledge(
            loop,
            self._config,
            self._source,
            facts,
            open_at=self._open_at(facts, semi_sync=True),
            connect=lambda: SourceConnection(self._arguments, name),
        )
        return loop, opened.events

    def _placed_anew(self, sides: _Sides, owned: Ownership, coverage: Coverage) -> set[TableName]:
        """The tables whose rows must be read again to get where the plan wants them.

        What is done of them under another plan is taken out of `coverage`. They are read again even where
        existing rows are not copied (`snapshot: never`).
        """
        if owned.resume is None:
            return set()
        plan, name = sides.flows.plan, self._source.name
        before = owned.resume.plan
        anew = {t for t in sides.catalog if not self._stands(before, plan.version, t)}
        for table in anew:
            coverage.forget(table)
        if before != plan.version:
            tables = sorted(map(".".join, anew))
            log.info("plan_taken", source=name, plan=plan.version, before=before, read_again=tables)
        return {
            table
            for table in sides.catalog
            if not (coverage.is_complete(table) or was_always_placed_so(plan, name, *table))
        }

    def _open(self, sides: _Sides, owned: Ownership) -> _Opened:
        """The binlog where the log ends; or, where that is lost and it may be, from the present on."""
        facts, name, open_at = sides.facts, self._source.name, self._open_at(sides.facts)
        try:
            if has_moved(owned, identity(facts), may_move=self._servers.are_several):
                carried = carried_rows(sides.ingest, owned)
                found = open_elsewhere(
                    facts,
                    owned,
                    carried,
                    open_at,
                    lambda: is_replicating(sides.connection.query, facts),
                )
                return _Opened(*found, carried)
            beginning = Beginning(
                name, sides.connection, facts, open_at, self._open_at(facts, to_end=True)
            )
            found = open_binlog(
                sides.connection,
                facts,
                owned,
                open_at,
                lambda: beginning.open(self._source.start_point),
                open_to_end=self._open_at(facts, to_end=True),
            )
            return _Opened(*found)
        except (PositionLostError, OtherServerError) as error:
            if owned.resume is None or not self._may_begin_again(owned):
                raise
            log.warning(
                "source_begun_again",
                source=name,
                reason=str(error),
                meaning="all existing rows are read again; rows deleted meanwhile stay at the targets",
            )
            found = open_latest(sides.connection, facts, name, open_at, next_epoch(owned))
            return _Opened(*found, is_begun_again=True)

    def _may_begin_again(self, owned: Ownership) -> bool:
        """Whether a lost place is no reason to halt: it is configured so, or a reset has just been asked for."""
        wish = self._source.snapshot
        is_reset = owned.snapshot_round > 0 and not owned.chunks_done
        return wish == "when-needed" or (wish != "never" and is_reset)

    def _with_tables_made_since(
        self, sides: _Sides, owned: Ownership, opened: _Opened
    ) -> tuple[_Sides, Mapping[TableName, CatalogTable]]:
        """The sides with all tables that are there where the binlog begins, and those that did not change on the way.

        A binlog that goes on tells what was made since the catalog was read. One that is begun does not:
        rows of before its place would come neither by it nor with a chunk.
        """
        if owned.resume is not None and not opened.is_begun_again:
            return sides, sides.catalog
        later = included_tables(sides.connection, sides.flows, self._source.name)
        stable = {name: table for name, table in sides.catalog.items() if later.get(name) == table}
        return replace(sides, catalog={**sides.catalog, **later}), stable

    def _history(
        self, sides: _Sides, owned: Ownership, stable: Mapping[TableName, CatalogTable]
    ) -> SchemaHistory:
        """What is known of the tables' shapes before the first event is read.

        The `stable` part of the catalog was read before the facts, so it holds at their position for every
        table that no statement changes on the way there.
        """
        facts = sides.facts
        catalog = {name: table.schema for name, table in stable.items()}
        # Tables that are gone at the source by now, their end not yet read, are known from their copies.
        copied = {Chunk.parse(chunk).table for chunk in owned.chunks_done}
        place = facts.file_index, facts.next_offset
        return SchemaHistory(
            self._source.name,
            Shapes(catalog, place),
            {*sides.catalog, *copied},
            lowers_names=facts.lowers_names,
        )

    def _open_at(
        self, facts: ServerFacts, *, to_end: bool = False, semi_sync: bool = False
    ) -> Callable[[Start], BinlogStream]:
        def open_at(start: Start) -> BinlogStream:
            return open_stream(
                self._arguments,
                start,
                facts,
                source=self._source.name,
                server_id=replica_id(self._source, self._config.kafka.topic_prefix),
                heartbeat_s=HEARTBEAT_S,
                until_end=to_end,
                settled=not to_end,
                semi_sync=semi_sync,
            )

        return open_at

    def _wanted(
        self,
        catalog: Collection[TableName],
        coverage: Coverage,
        rereads: Collection[TableName],
    ) -> list[TableName]:
        """The tables of which the log does not have all existing rows that it should have."""
        return [
            table
            for table in sorted(catalog)
            if not coverage.is_complete(table)
            and (self._source.snapshot != "never" or table in rereads)
        ]

    def _readers(
        self, facts: ServerFacts, touches: TouchLog, bucket: RowBucket, flows: Flows
    ) -> SnapshotReaders:
        return SnapshotReaders(
            self._arguments,
            self._source.name,
            touches,
            flavor=facts.flavor,
            chunk_rows=self._config.snapshot.chunk_rows,
            workers=self._source.max_workers,
            bucket=bucket,
            reads_whole_rows=partial(flows.plan.reads_whole_rows, self._source.name),
        )


def _plan_begun_under(owned: Ownership) -> int:
    """The plan that what is unfinished was begun under, and must be finished under; 0 when nothing is."""
    if owned.unfinished is not None:
        return owned.unfinished.plan
    if owned.resume is not None and owned.resume.next_position.ordinal:
        return owned.resume.plan
    return 0
