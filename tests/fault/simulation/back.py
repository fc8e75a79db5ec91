"""The resolver and the sinks of the simulation: shells around the product's cores."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

from gravity_resolver import graveyard, judgement, replica
from gravity_resolver.effects import Effects
from gravity_resolver.merging import Merging
from gravity_resolver.replica import META_KEY, PartitionState
from gravity_resolver.row_state import RowState
from gravity_resolver.table_history import SourceTable

from gravity.codec import decode_batch
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.position import Position

from .front import IDLE, Steps
from .world import Message, ViolationError, World

RESOLVE = judgement.resolve
Key = tuple[str, int]
Applied = tuple[Any, str, bool, int, tuple[int, str], str, Position]
"""(version, table, removes, key, value, source, position)."""


class Saved(dict[bytes, Any]):
    """A partition's state as it is saved; a key that was removed has the value None."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys that begin with `prefix` and their values, in order."""
        return iter(
            sorted((k, v) for k, v in self.items() if v is not None and k.startswith(prefix))
        )


@contextlib.contextmanager
def code_version(version: int) -> Iterator[None]:
    """Version 2 of the resolver's function does not suppress unchanged outcomes."""
    if version == 1:
        yield
        return
    with mock.patch.object(judgement, "same_outcome", return_value=False):
        yield


def new_state(key: Key, saved: dict[bytes, bytes]) -> PartitionState:
    state = PartitionState(key[0], Saved(saved))
    meta = saved.get(META_KEY)
    if meta is not None:
        state.load_meta(meta)
    return state


@contextlib.contextmanager
def broken_law(broken: str | None) -> Iterator[None]:
    """The resolver's core with one law of resolving broken."""
    if broken == "tombstone-dropped":
        dump = RowState.dump

        def forgetful(row: RowState) -> bytes:
            live = {source: reg for source, reg in row.registers.items() if reg.live}
            return dump(dataclasses.replace(row, registers=live))

        with mock.patch.object(RowState, "dump", forgetful):
            yield
    elif broken == "decision-forgotten":
        dump = RowState.dump

        def undecided(row: RowState) -> bytes:
            return dump(dataclasses.replace(row, decision=None))

        with mock.patch.object(RowState, "dump", undecided):
            yield
    elif broken in ("floor-forgotten", "alter-forgotten"):
        to_json = SourceTable.to_json

        def forgetful_table(table: SourceTable) -> dict[str, Any]:
            if broken == "floor-forgotten":
                return to_json(dataclasses.replace(table, floor=None))
            return to_json(dataclasses.replace(table, changes=()))

        with mock.patch.object(SourceTable, "to_json", forgetful_table):
            yield
    elif broken == "scope-ignored":
        with mock.patch.object(replica, "stopped_by", return_value=lambda _table: False):
            yield
    elif broken in ("merge-waits-for-nobody", "table-waits-for-nobody"):
        with mock.patch.object(Merging, "_awaited", return_value=[]):
            yield
    elif broken == "hold-sends":

        def careless(registers: Any, rule: Any, *more: Any) -> Any:
            if rule.strategy == "error-stop":
                rule = dataclasses.replace(rule, strategy="source-priority")
            return RESOLVE(registers, rule, *more)

        with mock.patch.object(judgement, "resolve", careless):
            yield
    else:
        yield


def last_wins(source: str) -> Any:
    """A rule by which the source that speaks now is the best one: what is left without a tie-break."""

    def resolve(registers: Any, rule: Any, *more: Any) -> Any:
        ranks = {name: rank + 1 for name, rank in rule.ranks.items()}
        if source in ranks:
            ranks[source] = 1
        return RESOLVE(registers, dataclasses.replace(rule, ranks=ranks), *more)

    return mock.patch.object(judgement, "resolve", resolve)


def apply(
    world: World, state: PartitionState, message: Message, offset: int, version: int
) -> list[Effects]:
    """What an input causes, step by step."""
    header, value, time_ms = message
    if world.broken == "drop-by-position" and header.kind is RoutedKind.ROWS:
        batch = decode_batch(value)
        seen = world.control.setdefault(("drop", id(state)), {})
        last = seen.get(batch.source, Position(0, 0, 0))
        fresh = [i for i in range(len(batch)) if batch.position_of(i) > last]
        if not fresh:
            state.next_input = offset + 1
            return []
        seen[batch.source] = max(batch.position_of(i) for i in fresh)
    if world.broken == "repeats-not-dropped":
        state.seen.pop(header.source, None)
    tied = world.broken == "no-tie-break" and header.table == "app.latest"
    plan = world.plans[header.plan or 1]
    short = mock.patch.object(graveyard, "CHUNK_ROWS", 2)  # So that something is forgotten.
    with code_version(version), broken_law(world.broken), short:
        with last_wins(header.source) if tied else contextlib.nullcontext():
            effects = state.apply(header, value, offset=offset, plan=plan, time_ms=time_ms)
            return [effects, *(effects.rest or ())]


def twin_at(world: World, key: Key, next_input: int) -> PartitionState:
    """f(log prefix): what the inputs before `next_input` come to."""
    twin: PartitionState | None = world.twins.get(key)
    if twin is None or twin.next_input > next_input:
        twin = world.twins[key] = PartitionState(key[0], Saved())
    for offset in range(twin.next_input, next_input):
        apply(world, twin, world.routed[key][offset], offset, 1)
    return twin


def restore(world: World, key: Key, host: Any) -> tuple[PartitionState, int, int]:
    """Local copy (perhaps old, perhaps empty) brought to the changelog's end, judged against f(prefix)."""
    at, saved = world.disks.get((*key, host), (0, {}))
    saved = dict(saved)
    for changes in world.changelog[key][at:]:
        saved.update(changes)
    state = new_state(key, saved)
    version = int(saved.get(b"\x00code", b"1"))
    if world.broken == "out-seq-not-restored":
        state.out_seq = 0
    if version == 1 and world.broken != "drop-by-position":
        twin = twin_at(world, key, state.next_input)
        rows = {k: v for k, v in saved.items() if not k.startswith(b"\x00")}
        if (twin.delta, twin.seen, twin.out_seq) != (rows, state.seen, state.out_seq):
            raise ViolationError(f"restored state of {key} is not f(log prefix)")
    return state, len(world.changelog[key]), version


class Replica:
    """A resolver's hold on one partition."""

    def __init__(self, world: World, key: Key, role: Any, generation: int) -> None:
        self.world, self.key, self.role, self.generation = world, key, role, generation
        self.name, self.host = f"state.{key}", world.rng.randrange(2)
        self.epoch = world.init_transactions(self.name)

    def open(self) -> None:
        world, key = self.world, self.key
        if world.rng.random() < 0.2:
            world.disks.pop((*key, self.host), None)  # An emptied disk.
        self.state, self.logged, self.version = restore(world, key, self.host)
        if world.committed[self.role] > self.state.next_input:
            raise ViolationError("committed input above next_input")

    def save(self) -> Steps:
        world, state = self.world, self.state
        world.check_epoch(self.name, self.epoch)
        changes = {**state.take_delta(), b"\x00code": b"%d" % self.version}
        offset = state.next_input
        world.changelog[self.key].append(changes)
        position = len(world.changelog[self.key])
        yield None
        disk = (*self.key, self.host)
        at, saved = world.disks.get(disk, (0, {}))
        if at == self.logged or world.broken == "no-tx-fencing":
            world.disks[disk] = (position, {**saved, **changes})
        self.logged = position
        # The saved view of the running replica is its own copy of all that was restored and saved.
        assert isinstance(state.saved, dict)
        state.saved.update(changes)
        state.delta_saved()
        yield None
        world.commit(self.role, self.generation, offset)
        yield None

    def send(self, header: TargetHeader, value: bytes) -> None:
        world, log = self.world, self.world.target[self.key]
        top = max([m.header.term for m in log], default=0)
        if world.broken is None and header.term >= top:
            name = (self.key, header.out_seq)
            if world.content.setdefault(name, value) != value:
                raise ViolationError(f"{self.key} out_seq {header.out_seq} has two contents")
        world.append(log, header, value)

    def adopt(self, code: int) -> Steps:
        """Hands the partition over to a newer version of the function."""
        state, log = self.state, self.world.target[self.key]
        if self.world.broken != "no-term":
            state.term += 1
            yield from self.save()  # (a) the term first: no fence is ever above it
            fence = TargetHeader(RoutedHeader(RoutedKind.CODE, "", 0), 1, 0, state.term)
            self.world.append(log, fence, b"")  # (b)
            yield None
        term = last = 0
        for message in log:
            if message.header.term >= term:
                term, last = message.header.term, max(last, message.header.out_seq)
        if last == state.out_seq:  # (c) nothing of the old version beyond the state
            self.version = code
            yield from self.save()
            self.world.stats["version changed"] += 1


def resolver(world: World, key: Key, role: Any, generation: int) -> Steps:
    code = world.code
    held = Replica(world, key, role, generation)
    yield None
    held.open()
    yield None
    if code > held.version:
        yield from held.adopt(code)
    log, fresh = world.routed[key], 0
    unsent: list[Any] = []
    while True:
        state = held.state
        if state.next_input < len(log):
            offset = state.next_input
            fresh += 1
            for effects in apply(world, state, log[offset], offset, held.version):
                if effects.damage and log[offset].header.kind is RoutedKind.DECISION:
                    world.refused.add((key, offset))
                world.conflicts += [(key, record) for record in effects.conflicts]
                for output in effects.outputs:
                    if world.broken == "save-before-ack":
                        unsent.append(output)
                    else:
                        held.send(output.header, output.value)
                        yield None
                yield None
        idle = state.next_input >= len(log)
        if fresh and (fresh >= 8 or world.rng.random() < 0.15 or idle):
            yield from held.save()
            fresh = 0
            for output in unsent:
                yield None
                held.send(output.header, output.value)
            unsent.clear()
        if idle:
            yield IDLE
