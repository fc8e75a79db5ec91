"""Three sources, a resolver for each partition, two lanes: the target is what the sources come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from gravity.codec import decode_batch
from gravity.errors import TransientError
from gravity.header import RoutedKind
from gravity.key import key_partitions
from gravity.plan import Resolution
from gravity.testing.routed_log import RoutedMessage
from gravity.testing.target_log import Message
from tests.joined_sources import NAME, Source, expected, histories
from tests.resolver_replica import RANKS, Replica
from tests.sink_lane import Refused, cut, offer, take_over
from tests.target_server import KafkaServer, TargetServer

pytestmark = pytest.mark.stack
PARTITIONS = 2
FALLTHROUGH = Resolution("source-priority", RANKS, on_delete="fallthrough")


def routed(source: Source, partition: int) -> list[RoutedMessage]:
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


def topic_of(
    server: TargetServer, sources: Sequence[Source], q: int, draw: Random
) -> list[Message]:
    """What a partition's resolver makes of the sources, woven in an order of its own."""
    rest = {source.name: routed(source, q) for source in sources}
    replica = Replica(FALLTHROUGH)
    while any(rest.values()):
        name = draw.choice(sorted(name for name, left in rest.items() if left))
        replica.apply(*rest[name].pop(0))
    return [
        (header.describing(table=f"{server.database}.users").to_kafka(), value)
        for header, value in replica.outputs
    ]


@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_sources_and_lanes_ends_as_the_sources_come_to(
    server: TargetServer, seed: int
) -> None:
    if isinstance(server, KafkaServer):
        pytest.skip("messages name their columns")
    sources, draw = histories(seed), Random(seed)
    topics = [topic_of(server, sources, q, draw) for q in range(PARTITIONS)]
    lanes = [take_over(server, partition=q) for q in range(PARTITIONS)]
    refused = Refused()
    while left := [q for q in range(PARTITIONS)
                   if lanes[q].stored.progress.next_offset < len(topics[q])]:  # fmt: skip
        q = draw.choice(left)
        for _ in range(draw.randint(1, 8)):
            lane = lanes[q]
            start = lane.stored.progress.next_offset
            if start == len(topics[q]):
                break
            if not lane.has_messages:
                offer(lane, topics[q][: start + draw.randint(1, 4)])
            try:
                lane.done(lane.writer.write(cut(lane), refused), 0.0)
            except TransientError:
                continue
            if draw.random() < 0.1:
                lanes[q] = take_over(server, partition=q)
    got = {
        int(key): {name: cell for name, cell in row.items() if cell is not None}
        for key, row in server.named_rows("users", "id").items()
    }
    assert got == expected(sources)
    assert not refused.letters
    columns = {"id", *(name for source in sources for name in source.columns)}
    assert server.column_names("users") >= columns
    assert server.column_names("users") == columns
