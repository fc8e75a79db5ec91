"""The sinks of the simulation: shells around the product's cores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gravity.batch import REMOVES_ROW
from gravity.codec import decode_batch
from gravity.errors import HoleError
from gravity.header import RoutedKind, row_version
from gravity.position import Position
from gravity.progress import Admission, SinkProgress

from .front import IDLE, Steps
from .world import DieError, Key, ViolationError, World

Applied = tuple[Any, str, bool, int, tuple[int, str], str, Position]
"""(version, table, removes, key, value, source, position)."""


def collect_batch(
    world: World, key: Key, progress: SinkProgress
) -> tuple[list[Applied], SinkProgress]:
    """The next messages with repeats and voids dropped, as rows, and the progress behind them."""
    rows: list[Applied] = []
    log = world.target[key]
    at = progress.next_offset
    for offset in range(at, min(len(log), at + world.rng.randint(1, 4))):
        header, value = log[offset]
        try:
            admission, progress = progress.admit(header, offset=offset, where=str(key))
        except HoleError as error:
            raise ViolationError(str(error)) from error
        if admission is not Admission.APPLY or header.routed.kind is not RoutedKind.ROWS:
            continue
        batch = decode_batch(value)
        for index, row in enumerate(batch.rows()):
            version: Any = row_version(1, header.out_seq, index)
            if world.broken == "ch-version-offset":
                version = (header.routed.seq, index)
            rows.append(
                (
                    version,
                    batch.schema.table,
                    batch.ops[index] in REMOVES_ROW,
                    row[0],
                    (row[1], row[2]),
                    batch.row_source[index] if batch.row_source else batch.source,
                    batch.position_of(index),
                )  # type: ignore[arg-type]
            )
    return rows, progress


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
    yield None
    try:
        while True:
            rows, moved = collect_batch(world, key, progress)
            if moved == progress:
                yield IDLE
                continue
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
            for _, table, removes, row_key, value, _, _ in rows:
                if removes:
                    target.rows.pop((table, row_key), None)
                else:
                    target.rows[table, row_key] = value
            stored.update(stored=moved, lock=None)  # COMMIT
            yield None
            progress = moved
    finally:
        if stored["lock"] == me:  # The server rolls back for a dead client.
            stored["lock"] = None


def sink_clickhouse(world: World, key: Key, role: Any, generation: int) -> Steps:
    del role, generation
    target = world.clickhouse
    progress = target.progress[key[1]] or SinkProgress()
    yield None
    while True:
        rows, moved = collect_batch(world, key, progress)
        if moved == progress:
            yield IDLE
            continue
        yield None
        for version, table, removes, row_key, value, _, _ in rows:
            target.insert(table, row_key, version, None if removes else value)
        yield None
        known = target.progress[key[1]] or SinkProgress()
        if moved.next_offset > known.next_offset:
            target.progress[key[1]] = moved
        progress = moved
        yield None


def sink_kafka(world: World, key: Key, role: Any, generation: int) -> Steps:
    del role, generation
    target, name = world.kafka, f"sink.{key}"
    epoch = world.init_transactions(name)
    yield None
    progress = target.progress[key[1]] or SinkProgress()
    yield None
    while True:
        rows, moved = collect_batch(world, key, progress)
        if moved == progress:
            yield IDLE
            continue
        yield None
        world.check_epoch(name, epoch)
        target.log.extend(row[1:] for row in rows)
        target.progress[key[1]] = moved
        progress = replace(moved)
        yield None
