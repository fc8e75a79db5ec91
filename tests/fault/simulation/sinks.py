"""The sinks of the simulation: shells around the product's cores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from gravity.batch import REMOVES_ROW, Column
from gravity.codec import decode_batch
from gravity.errors import HoleError, TransientError
from gravity.header import RoutedKind, TargetHeader, row_version
from gravity.key import key_partitions
from gravity.position import Position
from gravity.progress import Admission, SinkProgress
from gravity.schema_change import SchemaChange, TableAction

from .altering import Lane, Value
from .front import IDLE, Steps
from .parking import Yard
from .statement import COLUMNS
from .world import PARTS, DieError, Key, MysqlTarget, Said, ViolationError, World


class Applied(NamedTuple):
    """A row change for a target."""

    version: Any
    table: str
    removes: bool
    key: int
    value: Value
    source: str
    position: Position
    place: tuple[int, int]
    """Offset of its message, and its number there."""
    third: Column | None
    """Its table's third column, where it has one."""


class Change(NamedTuple):
    """A schema change for a target."""

    header: TargetHeader
    change: SchemaChange

    @property
    def truncates(self) -> bool:
        return self.change.action is TableAction.TRUNCATE

    def of(self, rows: Iterable[Key], part: int, *, everywhere: bool = False) -> list[Key]:
        """Of these rows (table, key) those of the table that lie in a partition."""
        routed = self.header.routed
        table = routed.table.removeprefix("app.")
        keys = [key for name, key in rows if name == table]
        if routed.first != routed.last and keys and not everywhere:
            homes = key_partitions(routed.table, [keys], PARTS)
            keys = [key for key, home in zip(keys, homes, strict=True) if home == part]
        return [(table, key) for key in keys]


class Write(NamedTuple):
    """What a sink applies at once: rows, or one schema change."""

    rows: list[Applied]
    change: Change | None
    moved: SinkProgress


def collect_batch(
    world: World, key: Key, progress: SinkProgress, lane: Lane | None = None
) -> Write:
    """The next messages with repeats and voids dropped, and the progress behind them.

    Raises TransientError while a table of them is being altered by another lane.
    """
    rows: list[Applied] = []
    log = world.target[key]
    at = progress.next_offset
    for offset in range(at, min(len(log), at + world.rng.randint(1, 4))):
        header, value, _ = log[offset]
        try:
            admission, moved = progress.admit(header, offset=offset, where=str(key))
        except HoleError as error:
            raise ViolationError(str(error)) from error
        if admission is Admission.APPLY and header.routed.kind is RoutedKind.SCHEMA:
            if offset == at:
                return Write([], Change(header, SchemaChange.decode(value)), moved)
            break  # It is applied alone.
        progress = moved
        if admission is not Admission.APPLY or header.routed.kind is not RoutedKind.ROWS:
            continue
        batch = lane.present(header, value, offset) if lane else decode_batch(value)
        third = batch.schema.columns[-1] if len(batch.schema.columns) > len(COLUMNS) else None
        for index, row in enumerate(batch.rows()):
            version: Any = row_version(1, header.out_seq, index)
            if world.broken == "ch-version-offset":
                version = (header.routed.seq, index)
            source = batch.row_source[index] if batch.row_source else batch.source
            rows.append(
                Applied(
                    version,
                    batch.schema.table,
                    batch.ops[index] in REMOVES_ROW,
                    row[0],  # type: ignore[arg-type]
                    row[1:],
                    source,
                    batch.position_of(index),
                    (offset, index),
                    third,
                )
            )
    return Write(rows, None, progress)


def next_write(world: World, key: Key, progress: SinkProgress, lane: Lane) -> Write | None:
    """What comes next, with its table made ready for it; None while another lane is altering a table of it."""
    try:
        write = collect_batch(world, key, progress, lane)
        if write.change is not None:
            follow(lane, write.change)
    except TransientError:
        return None
    return write


def sink_mysql(world: World, key: Key, role: Any, generation: int) -> Steps:
    del role, generation
    target = world.mysql
    stored, me = target.progress[key[1]], world.uid()
    for _ in range(2):
        if stored["lock"]:
            yield None
    stored["lock"] = None  # KILL of the old session: rolled back.
    stored["epoch"] += 1
    epoch, progress = stored["epoch"], stored["stored"] or SinkProgress()
    lane = Lane(world, *key, target, lambda: bool(stored["epoch"] == epoch))
    yard = Yard(world, stored)
    yield None
    try:
        while True:
            write = next_write(world, key, progress, lane)
            if write is None:
                yield None
                continue
            if write.moved == progress:
                if stored["epoch"] == epoch and stored["lock"] is None:
                    let_go(yard)
                yield IDLE if yard.is_calm else None
                continue
            if world.broken == "mysql-real-truncate" and empties(write):
                yield from really_truncate(target, write.change, key[1], epoch)
            while stored["lock"] not in (None, me):  # Row lock of another writer.
                yield None
            present = (stored["epoch"], stored["stored"] or SinkProgress())
            if world.broken != "no-cas" and present != (epoch, progress):
                raise DieError("compare-and-set matched 0 rows")
            stored["lock"] = me
            yield None
            yield None
            if stored["lock"] != me:
                raise DieError("session killed")
            if not lane.is_current() and write.rows:
                stored["lock"] = None  # ROLLBACK: the rows are fitted anew.
                continue
            if empties(write):
                everywhere = world.broken == "truncate-everywhere"
                delete(target.rows, write.change, key[1], everywhere=everywhere)
            draft, refused = yard.write(write.rows)
            if world.broken == "parked-apart" and refused:
                stored["stored"] = progress = write.moved
                yield None
            if not yard.commit(draft, refused, stored=write.moved, lock=None):
                raise DieError("killed at its COMMIT")
            yield None
            progress = write.moved
            if len(yard.lot) and stored["epoch"] == epoch and stored["lock"] is None:
                let_go(yard)
                yield None
    finally:
        if stored["lock"] == me:  # The server rolls back for a dead client.
            stored["lock"] = None


def let_go(yard: Yard) -> None:
    """A round of parked rows."""
    if not yard.round(yard.world.steps):
        raise DieError("killed at its COMMIT")


def empties(write: Write) -> bool:
    """Whether what is to be applied is a TRUNCATE."""
    return write.change is not None and write.change.truncates


def follow(lane: Lane, change: Change) -> None:
    """Makes the table ready for a schema change. Raises TransientError while another lane is altering it."""
    waits = contextlib.nullcontext()
    if lane.world.broken == "no-wait-for-alter":
        waits = contextlib.suppress(TransientError)
    with waits:
        if change.truncates:
            lane.empties(change.header.routed)
        else:
            lane.follow(change.change, change.header)


def is_unaltered(lane: Lane) -> bool:
    """Whether rows lie in their tables as they were fitted; always, where nobody looks."""
    return lane.is_current() or lane.world.broken == "no-wait-for-alter"


def really_truncate(target: MysqlTarget, change: Change, part: int, epoch: int) -> Steps:
    """A statement that commits by itself: looked before, and sent whenever the table is free."""
    if target.progress[part]["epoch"] == epoch:
        for _ in range(5):
            yield None
        delete(target.rows, change, part)


def delete(rows: dict[Key, Any], change: Change, part: int, *, everywhere: bool = False) -> None:
    """Takes a partition's rows of a table that was emptied."""
    for row in change.of(list(rows), part, everywhere=everywhere):
        del rows[row]


def sink_clickhouse(world: World, key: Key, role: Any, generation: int) -> Steps:
    del role, generation
    target = world.clickhouse
    lane = Lane(world, *key, target, lambda: True)
    progress = target.progress[key[1]] or SinkProgress()
    yield None
    while True:
        write = next_write(world, key, progress, lane)
        if write is None:
            farthest = target.progress[key[1]] or SinkProgress()
            if farthest.next_offset > progress.next_offset:
                raise DieError("another owner of the lane may have claimed what we wait for")
            yield None
            continue
        if write.moved == progress:
            yield IDLE
            continue
        yield None
        # A look, and tables made for rows, are one step here; in service an alteration may come in between.
        if write.rows and not is_unaltered(lane):
            continue
        if empties(write) and world.broken == "ch-real-truncate":
            delete(target.rows, write.change, key[1])
        elif empties(write):
            # A tombstone for every key ever stored.
            version = row_version(1, write.change.header.out_seq, 0)
            for table, row_key in write.change.of(list(target.rows), key[1]):
                target.insert(table, row_key, version, None)
        for row in write.rows:
            value = None if row.removes else row.value
            target.insert(row.table, row.key, row.version, value, row.third)
        yield None
        if write.rows and not is_unaltered(lane):
            continue  # They are written again, as the alteration wants them.
        known = target.progress[key[1]] or SinkProgress()
        if write.moved.next_offset > known.next_offset:
            target.progress[key[1]] = write.moved
        progress = write.moved
        yield None


def sink_kafka(world: World, key: Key, role: Any, generation: int) -> Steps:
    del role, generation
    target, name = world.kafka, f"sink.{key}"
    epoch = world.init_transactions(name)
    yield None
    progress = target.progress[key[1]] or SinkProgress()
    yield None
    while True:
        write = collect_batch(world, key, progress)
        if write.moved == progress:
            yield IDLE
            continue
        yield None
        world.check_epoch(name, epoch)
        for row in write.rows:
            value = None if row.removes else row.value
            said = Said(row.table, row.key, value, row.source, row.position, key[1])
            target.log.append(said)
        change = None if write.change is None else write.change.change
        if change is not None and change.action in (TableAction.TRUNCATE, TableAction.ALTER):
            altered = change if change.action is TableAction.ALTER else None
            place = Position.parse(change.position)
            said = Said(change.table, None, None, change.source, place, key[1], altered)
            target.log.append(said)
        target.progress[key[1]] = write.moved
        progress = replace(write.moved)
        yield None
