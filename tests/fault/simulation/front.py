"""The collector and the router of the simulation: shells around the product's cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from gravity_collector.binlog import Start, StartAfterGtids
from gravity_collector.failover import carried_rows, has_moved, open_elsewhere
from gravity_collector.host import choose_host
from gravity_collector.owner import Ownership, Resume, fence_name, read_log
from gravity_collector.place import FIRST_EPOCH
from gravity_collector.server import ServerFacts, identity
from gravity_router.routing import route

from gravity.errors import TransientError
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.ingest_log import PENDING, Checkpoint, Fences, IngestScan, fences_of, newest_checkpoint
from gravity.position import Position

from .server import Reading, Server
from .world import Message, World
from .writer import Opened, Steps, Writer, broken_law

IDLE = "idle"


def owner_records(world: World, number: int) -> dict[int, int]:
    if world.broken == "one-owner-key":
        owner, offset = world.control.get(("owner", number), (0, PENDING))
        return {owner: offset} if owner else {}
    return {k[2]: v for k, v in world.control.items() if k[0] == "owner" and k[1] == number}


def set_owner(world: World, number: int, owner: int, offset: int) -> None:
    if world.broken == "one-owner-key":
        world.control["owner", number] = (owner, offset)
    else:
        world.control["owner", number, owner] = offset


def known_fences(world: World, number: int) -> Fences:
    """As a reader learns them: recorded ones, and pending ones looked up in the log."""
    records = owner_records(world, number)
    fences = fences_of(records.items())
    for owner in (owner for owner, offset in records.items() if offset == PENDING):
        for offset, message in enumerate(world.ingest[number]):
            if message.header.kind is IngestKind.FENCE and message.header.owner == owner:
                fences.add(offset, owner)
                break
    return fences


class Ingest:
    """One source's ingest log, as who takes it over reads it."""

    def __init__(self, log: list[Message]) -> None:
        self.log = log

    def append(self, header: IngestHeader) -> int:
        raise AssertionError(header)

    def bounds(self) -> tuple[int, int]:
        return 0, len(self.log)

    def read(self, start: int, end: int) -> Iterator[tuple[int, IngestHeader]]:
        for offset in range(start, end):
            yield offset, self.log[offset].header

    def values(self, offsets: Sequence[int]) -> Iterator[tuple[IngestHeader, bytes]]:
        for offset in offsets:
            yield self.log[offset].header, self.log[offset].value


def points_of(world: World, number: int) -> dict[int, Checkpoint]:
    """Owner to its newest checkpoint."""
    return {k[2]: v for k, v in world.control.items() if k[0] == "point" and k[1] == number}


def choose(world: World, number: int) -> Server:
    """The server to read: the one that was read last, as long as it can be."""
    servers, points = world.source[number].servers, points_of(world, number)

    def look(endpoint: tuple[str, int]) -> ServerFacts:
        server = servers[endpoint[1]]
        if not server.is_up:
            raise TransientError("it can't be reached")
        return server.facts()

    known = points[max(points)].server if points else ""
    host = choose_host([(f"s{number}", k) for k in range(len(servers))], known, look)
    return servers[host.endpoint[1]]


def stands_all(before: int, plan: int, table: tuple[str, str]) -> bool:
    """Whatever is copied lies under each plan where it lay."""
    del before, plan, table
    return True


def opened(world: World, server: Server, owned: Ownership, ingest: Ingest) -> Opened:
    """The server's binlog from where the log ends. Raises TransientError while the server is behind."""
    facts, resume = server.facts(), owned.resume
    may_move = world.broken != "place-elsewhere" and len(server.source.servers) > 1
    if has_moved(owned, identity(facts), may_move=may_move):
        carried = carried_rows(ingest, owned)
        binlog, start, events = open_elsewhere(
            facts, owned, carried, lambda start: after_gtids(server, start), lambda: True
        )
        if world.broken == "time-elsewhere" and owned.unfinished is not None:
            start = replace(start, ets=max(start.ets, owned.unfinished.ets))
        world.stats["another server"] += 1
        world.stats["carried"] += bool(carried)
        return Opened(cast("Reading", binlog), start, events, carried)
    if resume is None:
        resume = Resume(Position(FIRST_EPOCH, *server.place(0)), "", 0, identity(facts), 0)
    place = resume.next_position
    return Opened(Reading(server, server.behind(place.file_index, place.offset)), resume)


def after_gtids(server: Server, start: Start) -> Any:
    """As a collector asks for a binlog at a server that stands in."""
    assert isinstance(start, StartAfterGtids)
    return Reading.after(server, start.gtid_set)


def collector(world: World, number: int, role: Any, generation: int) -> Steps:
    """A takeover in its five steps, then stream and snapshot."""
    del role, generation
    log, ingest, name = world.ingest[number], Ingest(world.ingest[number]), f"s{number}"
    try:
        server = choose(world, number)
    except TransientError:
        return
    me = fence_name(str(world.uid()), identity(server.facts()))
    owner = max(owner_records(world, number), default=0) + 1
    yield None
    set_owner(world, number, owner, PENDING)  # (1)
    yield None
    mine = len(log)
    world.append(log, IngestHeader(IngestKind.FENCE, name, owner, chunk=me), b"")  # (2)
    yield None
    fences = known_fences(world, number)  # (3)
    believed = Fences() if world.broken == "checkpoint-unfenced" else fences
    checkpoint = newest_checkpoint(points_of(world, number), believed, before=mine)
    for offset in range(checkpoint.offset if checkpoint else 0, mine + 1):
        header = log[offset].header
        if header.kind is IngestKind.FENCE and header.owner >= owner and header.chunk != me:
            if world.broken == "one-owner-key":
                world.control["owner", number] = (owner - 1, PENDING)
            elif header.owner == owner:
                set_owner(world, number, owner, offset)  # The loser completes the winner's record.
            return
    if any(
        o > owner or (o == owner and at < mine)
        for at, o in zip(fences.offsets, fences.owners, strict=True)
    ):
        return
    with broken_law(world.broken):
        owned = read_log(
            ingest, fences, checkpoint,
            source=name, owner=owner, mine=mine, asked=0, stands=stands_all,
        )  # fmt: skip
    yield None
    set_owner(world, number, owner, mine)  # (4)
    yield None
    try:
        with broken_law(world.broken):
            place = opened(world, server, owned, ingest)
    except TransientError:
        return
    writer = Writer(world, number, owned, place)
    if world.broken == "finish-chunk":
        scan = IngestScan()
        for _, header in ingest.read(0, mine):
            scan.read(header)
        if scan.open_span is not None and scan.open_span.kind is IngestKind.CHUNK:
            yield from writer.finish(scan.open_span)
    yield from writer.end_span()
    yield from collect(world, writer)  # (5)


def collect(world: World, writer: Writer) -> Steps:
    number, owner, reading = writer.number, writer.owner, writer.reading
    while True:
        act = world.rng.random()
        missing = writer.missing()
        overtaken = known_fences(world, number).top_owner() > owner
        if act < 0.1 and world.faults and writer.is_between:
            yield from writer.mark()
        elif 0.1 <= act < 0.25 and world.faults:
            point = writer.publisher.acknowledged
            yield None
            if point is not None:
                world.control["point", number, owner] = point
            if overtaken and world.rng.random() < 0.5:
                return  # It ends by itself; safety is the log's.
            yield None
        elif missing and act < 0.5 and writer.is_between:
            yield from writer.copy(world.rng.choice(missing))
        elif reading.has_more:
            yield from writer.read(reading.server.count)
        else:
            if not world.faults and overtaken:
                return
            if world.histories.on_down and not (world.faults or missing or writer.told_end):
                writer.told_end = True
                yield from writer.mark()
            yield None if missing else IDLE


def router(world: World, number: int, role: Any, generation: int) -> Steps:
    """Stateless: from the committed offset on, void messages apart."""
    log, at = world.ingest[number], world.committed[role]
    yield None
    fences = known_fences(world, number)
    yield None
    while True:
        if at >= len(log):
            world.commit(role, generation, at)
            yield IDLE
            continue
        header, value, _ = log[at]
        if header.kind is IngestKind.FENCE:
            fences.add(at, header.owner)
        elif fences.is_void(at, header.owner) and world.broken != "no-fence-check":
            world.stats["void"] += 1
        else:
            if world.broken == "commit-before-send":
                world.commit(role, generation, at + 1)
                yield None
            version = header.plan or 1
            if world.broken == "version-from-control":
                version = world.newest_plan
            for sent in route(header, value, world.plans[version]):
                if sent.header.kind is RoutedKind.NOTE and world.broken == "count-in-router":
                    world.filtered_by_router[number, sent.target] += sent.header.filtered
                    continue
                world.append(world.routed[sent.target, sent.partition], sent.header, sent.value)
                yield None
        at += 1
        if world.rng.random() < 0.3:  # Everything before `at` is acknowledged.
            yield None
            world.commit(role, generation, at)
