"""Lanes of one target that advance in any order, are killed now and then, and what the target holds in the end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

from gravity import schema_follower
from gravity.codec import decode_batch
from gravity.errors import TransientError
from gravity.fault import FaultPoint
from gravity.header import RoutedKind
from gravity.key import key_partitions
from gravity.plan_part import Resolution
from gravity.sink import Lane
from gravity.testing.routed_log import RoutedMessage
from gravity.testing.target_log import Message
from tests.evolving_table import PARTITIONS, EvolvingTable, NamedRows
from tests.joined_sources import NAME, Source, expected, histories
from tests.resolver_replica import RANKS, Replica
from tests.sink_lane import Refused, cut, offer, take_over
from tests.target_server import ClickhouseServer, TargetServer

FALLTHROUGH = Resolution("source-priority", RANKS, on_delete="fallthrough")


class KilledError(Exception):
    """Stands for SIGKILL."""


class Walk:
    """Lets the lanes advance in an order of its own."""

    def __init__(
        self, server: TargetServer, topics: Sequence[Sequence[Message]], draw: random.Random
    ) -> None:
        self.server, self.topics, self.draw = server, topics, draw
        self.lanes = [self.take(q) for q in range(len(topics))]
        self.refused = Refused()

    def take(self, partition: int) -> Lane:
        return take_over(self.server, partition=partition)

    def run(self) -> None:
        """Until every lane has come to its end: one is ahead for a while, then another."""

        def reach(_: FaultPoint) -> None:
            if self.draw.random() < 0.3:
                raise KilledError

        with mock.patch.object(schema_follower, "reach", reach):
            for _ in range(5000):
                left = [q for q, lane in enumerate(self.lanes) if self._left(lane)]
                if not left:
                    return
                ahead = self.draw.choice(left)
                for _ in range(self.draw.randint(1, 10)):
                    self._step(ahead)
        raise AssertionError("the lanes do not get to the end")

    def _left(self, lane: Lane) -> int:
        return len(self.topics[lane.partition]) - lane.stored.progress.next_offset

    def _step(self, partition: int) -> None:
        lane = self.lanes[partition]
        if not self._left(lane):
            return
        if not lane.has_messages:
            upto = lane.stored.progress.next_offset + self.draw.randint(1, 4)
            offer(lane, self.topics[partition][:upto])
        try:
            lane.done(lane.writer.write(cut(lane), self.refused), 0.0)
        except TransientError:
            return
        except KilledError:
            self.lanes[partition] = self.take(partition)


def differences(server: TargetServer, name: str, rows: NamedRows, columns: set[str]) -> list[str]:
    """Where the target's table differs; an absent column reads as NULL."""
    got = {key: _present(row) for key, row in server.named_rows(name, "id").items()}
    wanted = {key: _present(row) for key, row in rows.items()}
    found = [
        f"{name} {key}: {got.get(key)}, not {wanted.get(key)}"
        for key in sorted({*got, *wanted})
        if got.get(key) != wanted.get(key)
    ]
    if server.column_names(name) != columns:
        found.append(f"{name}: columns {server.column_names(name)}, not {columns}")
    return found


def _present(row: dict[str, str | None]) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if cell is not None}


def one_source(server: TargetServer, seed: int, steps: int) -> list[str]:
    """A table of one source that changes all the time: differences between the target and the source."""
    draw = random.Random(seed)
    server.name = f"one{server.number}of{seed}"
    table = EvolvingTable(f"{server.database}.orders{seed}", draw)
    # ClickHouse renames one column at a time.
    table.live(steps, swaps=not isinstance(server, ClickhouseServer))
    walk = Walk(server, table.topics, draw)
    walk.run()
    columns = {"id", *(column.name for column in table.columns)}
    found = differences(server, f"orders{seed}", table.expected(), columns)
    return found + [f"refused: {letter.reason}" for letter in walk.refused.letters]


def three_sources(server: TargetServer, seed: int) -> list[str]:
    """A table of three sources, a resolver for each partition: differences from what they come to."""
    sources, draw = histories(seed), random.Random(seed)
    server.name = f"three{server.number}of{seed}"
    name = f"{server.database}.users{seed}"
    walk = Walk(server, [_resolved(name, sources, q, draw) for q in range(PARTITIONS)], draw)
    walk.run()
    rows: NamedRows = {
        str(key): {column: str(cell) for column, cell in row.items()}
        for key, row in expected(sources).items()
    }
    columns = {"id", *(column for source in sources for column in source.columns)}
    found = differences(server, f"users{seed}", rows, columns)
    return found + [f"refused: {letter.reason}" for letter in walk.refused.letters]


def _resolved(name: str, sources: Sequence[Source], q: int, draw: random.Random) -> list[Message]:
    """What a partition's resolver makes of the sources, woven in an order of its own."""
    rest = {source.name: _routed(source, q) for source in sources}
    replica = Replica(FALLTHROUGH)
    while any(rest.values()):
        chosen = draw.choice(sorted(source for source, left in rest.items() if left))
        replica.apply(*rest[chosen].pop(0))
    return [(header.describing(table=name).to_kafka(), value) for header, value in replica.outputs]


def _routed(source: Source, partition: int) -> list[RoutedMessage]:
    """What a router would send of a source to one partition."""
    found = []
    for header, value in source.log.made:
        if header.kind is RoutedKind.SCHEMA:
            found.append((replace(header, first=0, last=PARTITIONS - 1), value))
        else:
            keys = [decode_batch(value).columns[0]]
            if key_partitions(NAME, keys, PARTITIONS) == [partition]:
                found.append((header, value))
    return found
