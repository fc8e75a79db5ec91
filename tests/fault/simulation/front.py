"""The collector and the router of the simulation: shells around the product's cores."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from typing import Any

from gravity_router.routing import route

from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.ingest_log import (
    PENDING,
    Checkpoint,
    Fences,
    IngestScan,
    fences_of,
    newest_checkpoint,
)
from gravity.position import Position
from gravity.snapshot_request import SnapshotRequest, is_chunk_of

from .altering import Value
from .statement import Statement
from .world import LAG, Row, World, done_before, encode_rows, next_position, shared

IDLE = "idle"
Steps = Iterator[str | None]


def grouping(rows: list[Row], *, one_lane: bool) -> list[tuple[Row, ...]]:
    """Messages of one span: one per table; the tables of one lane group, or of `one_lane`, are cut in runs."""
    messages: list[list[Row]] = []
    at: dict[str, int] = {}
    run: int | None = None
    for row in rows:
        if one_lane or row.table.startswith("group"):
            if run is None or messages[run][0].table != row.table:
                messages.append([])
                run = len(messages) - 1
            messages[run].append(row)
        else:
            if row.table not in at:
                messages.append([])
                at[row.table] = len(messages) - 1
            messages[at[row.table]].append(row)
    return [tuple(message) for message in messages]


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


def name_of(chunk: tuple[str, int]) -> str:
    return json.dumps(["app", *chunk, None])


class Writer:
    """What a collector that owns a log appends to it."""

    def __init__(self, world: World, number: int, owner: int, scan: IngestScan) -> None:
        self.world, self.number, self.owner = world, number, owner
        self.seq = scan.seq
        self.done = done_before(scan.next_position) if scan.next_position.offset else 0
        self.chunks: set[str] = set(scan.chunks_done)
        self.plan = world.newest_plan
        self.told_end = False
        self.reread: collections.Counter[str] = collections.Counter()

    def publish(
        self,
        kind: IngestKind,
        upto: int,
        groups: list[tuple[Row, ...]],
        *,
        first: int = 0,
        table: str = "",
        chunk: str = "",
        plan: int = 0,
        statement: Statement | None = None,
    ) -> Steps:
        """Parts `first`, … of one span, which ends when `upto` transactions are done."""
        for part in range(first, len(groups)):
            for _ in range(10 if chunk and self.world.broken == "finish-chunk" else 1):
                yield None
            self.seq += 1
            rows = groups[part]
            header = IngestHeader(
                kind, f"s{self.number}", self.owner, self.seq, part, len(groups),
                next_position(self.done), next_position(upto), plan=plan or self.plan,
                table=f"app.{rows[0].table}" if rows else table, rows=len(rows), chunk=chunk,
                ets=self.watermark(upto) if kind is IngestKind.MARKER else statement.ets if statement else 0,
                quiet=self.quiet(upto) if kind is IngestKind.MARKER else 0,
            )  # fmt: skip
            value = encode_rows(rows) if rows else statement.encode() if statement else b""
            self.world.append(self.world.ingest[self.number], header, value)
        self.done = upto
        yield None

    def quiet(self, upto: int) -> int:
        """The commit time before which nothing more comes, where rows are put in order; 0 = not known."""
        world = self.world
        if not world.histories.on_down or upto < len(world.source[self.number].binlog):
            return 0
        if not world.faults:
            return world.clock + 1000  # Nothing comes any more.
        return max(0, world.clock - LAG)

    def watermark(self, upto: int) -> int:
        """Commit time of the newest change before the marker; 0 while there are rows still to be read.

        Rows that a source has but has not told yet could come back behind a forgotten delete.
        """
        source = self.world.source[self.number]
        if any(name_of(c) not in self.chunks for c in source.chunks if shared(c[0])):
            return 0
        told = [row.ets for rows in source.binlog[:upto] for row in rows]
        told += [said.ets for number, said in source.statements.items() if number < upto]
        return max(told, default=0)

    def stream(self, limit: int) -> Steps:
        """The next span of the binlog."""
        source = self.world.source[self.number]
        rewritten = source.rewrites.get(self.done)
        if rewritten is not None:
            yield from self.read_again(rewritten)
            return
        statement = source.statements.get(self.done)
        if statement is not None:
            yield from self.publish(
                IngestKind.SCHEMA, self.done + 1, [()],
                table=f"app.{statement.table}", statement=statement,
            )  # fmt: skip
            return
        upto = min(limit, self.done + self.world.rng.randint(1, 3))
        upto = min([upto, *source.alone(self.done)])
        binlog = source.binlog
        rows = [row for transaction in binlog[self.done : upto] for row in transaction]
        yield from self.publish(
            IngestKind.ROWS, upto, grouping(rows, one_lane=self.world.histories.one_lane)
        )

    def read_again(self, table: str) -> Steps:
        """Says that the table is read again, and forgets what was done of it."""
        request = SnapshotRequest(0).text
        yield from self.publish(
            IngestKind.SNAPSHOT, self.done + 1, [()], table=f"app.{table}", chunk=request
        )
        self.chunks = {name for name in self.chunks if not is_chunk_of(name, f"app.{table}")}
        self.reread[table] += 1

    def copy(self, chunk: tuple[str, int]) -> Steps:
        """A chunk of the snapshot between two watermarks."""
        generation = self.reread[chunk[0]]
        source = self.world.source[self.number]
        low = len(source.binlog)
        yield None
        image = dict(source.tables[chunk[0]])
        yield None
        high = len(source.binlog)
        while self.done < high:
            yield from self.stream(high)
        meanwhile = [
            said.table for number, said in source.statements.items() if low <= number < high
        ]
        if self.reread[chunk[0]] != generation or chunk[0] in meanwhile:
            return
        window = [r for t in source.binlog[low:high] for r in t if r.table == chunk[0]]
        touched = {row.key for row in window} | {row.old for row in window}
        yield from self.publish_chunk(image, chunk, touched)

    def publish_chunk(
        self,
        image: dict[int, Value],
        chunk: tuple[str, int],
        touched: set[int | None],
        first: int = 0,
    ) -> Steps:
        """The chunk's rows as `image` has them, those that the stream touched left out."""
        world, source = self.world, self.world.source[self.number]
        place = next_position(self.done)

        def position(number: int) -> Position:
            if world.broken == "read-at-next":
                return place._replace(ordinal=number)
            return place.of_read(number)

        rows = [
            row._replace(position=position(number))
            for number, row in enumerate(source.read_rows(image, chunk))
            if row.key not in touched
        ]
        name = name_of(chunk)
        groups = [(row,) for row in rows]
        yield from self.publish(IngestKind.CHUNK, self.done, groups, first=first, chunk=name)
        yield from self.publish(IngestKind.CHUNK_DONE, self.done, [()], chunk=name)
        self.chunks.add(name)


def collector(world: World, number: int, role: Any, generation: int) -> Steps:
    """Takeover in the five steps of the specification, then stream and snapshot."""
    del generation
    log, me = world.ingest[number], str(world.uid())
    owner = max(owner_records(world, number), default=0) + 1
    yield None
    set_owner(world, number, owner, PENDING)  # (1)
    yield None
    mine = len(log)
    world.append(log, IngestHeader(IngestKind.FENCE, f"s{number}", owner, chunk=me), b"")  # (2)
    yield None
    fences = known_fences(world, number)  # (3)
    points = {k[2]: v for k, v in world.control.items() if k[0] == "point" and k[1] == number}
    believed = Fences() if world.broken == "checkpoint-unfenced" else fences
    checkpoint = newest_checkpoint(points, believed, before=mine)
    scan = IngestScan.after(checkpoint)
    start = checkpoint.offset if checkpoint else 0
    scan.top_owner = max(
        (o for at, o in zip(fences.offsets, fences.owners, strict=True) if at < start), default=0
    )
    for offset in range(start, mine + 1):
        header = log[offset].header
        if header.kind is IngestKind.FENCE and header.owner >= owner and header.chunk != me:
            if world.broken == "one-owner-key":
                world.control["owner", number] = (owner - 1, PENDING)
            elif header.owner == owner:
                set_owner(world, number, owner, offset)  # The loser completes the winner's record.
            return
        done = set(scan.chunks_done)
        scan.read(header)
        if world.broken == "request-forgotten":
            scan.chunks_done |= done
    if any(
        o > owner or (o == owner and at < mine)
        for at, o in zip(fences.offsets, fences.owners, strict=True)
    ):
        return
    yield None
    set_owner(world, number, owner, mine)  # (4)
    yield None
    writer = Writer(world, number, owner, scan)
    span = scan.open_span
    if span is not None and span.kind is IngestKind.ROWS:  # (5)
        upto = done_before(span.to)
        binlog = world.source[number].binlog
        rows = [r for t in binlog[done_before(span.from_) : upto] for r in t]
        yield from writer.publish(
            IngestKind.ROWS,
            upto,
            grouping(rows, one_lane=world.histories.one_lane),
            first=span.part + 1,
            plan=span.plan,
        )
    elif span is not None and world.broken == "finish-chunk":
        _, table, half, _ = json.loads(span.chunk)
        image = dict(world.source[number].tables[table])
        yield from writer.publish_chunk(image, (table, int(half)), set(), first=span.part + 1)
    yield from collect(world, writer, log)
    del role


def collect(world: World, writer: Writer, log: list[Any]) -> Steps:
    number, owner = writer.number, writer.owner
    source = world.source[number]
    while True:
        act = world.rng.random()
        missing = [c for c in source.chunks if name_of(c) not in writer.chunks]
        overtaken = known_fences(world, number).top_owner() > owner
        if act < 0.1 and world.faults:
            yield from writer.publish(IngestKind.MARKER, writer.done, [()])
        elif act < 0.25 and world.faults:
            yield None
            if log[-1].header.owner == owner:
                world.control["point", number, owner] = Checkpoint(
                    len(log),
                    writer.seq,
                    next_position(writer.done),
                    "",
                    0,
                    "",
                    tuple(writer.chunks),
                )
            if overtaken and world.rng.random() < 0.5:
                return  # It ends by itself; safety is the log's.
            yield None
        elif missing and act < 0.5:
            yield from writer.copy(world.rng.choice(missing))
        elif writer.done < len(source.binlog):
            yield from writer.stream(len(source.binlog))
        else:
            if not world.faults and overtaken:
                return
            if world.histories.on_down and not (world.faults or missing or writer.told_end):
                writer.told_end = True
                yield from writer.publish(IngestKind.MARKER, writer.done, [()])
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
