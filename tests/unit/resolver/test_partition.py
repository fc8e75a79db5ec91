"""When a partition in work wants to be saved."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from gravity_resolver.partition import MARKERS_ONLY_INTERVAL_S, SAVE_INTERVAL_S, Partition
from gravity_resolver.replica import PartitionState

from gravity.topic import Topics
from tests.merged_histories import MergeReplica, Said
from tests.resolver_replica import TARGET, DictStore


class Unsent:
    """A producer whose messages the broker has at once."""

    def send(self, *_: Any, delivered: Any = None, **__: Any) -> None:
        if delivered is not None:
            delivered(0)


def test_a_marker_that_lets_rows_go_is_saved_as_soon_as_they_would_be() -> None:
    scene = MergeReplica()
    store: Any = DictStore()
    producer: Any = Unsent()
    partition = Partition(0, PartitionState(TARGET, store), store, producer, Topics(""))

    def take(said: Said, now_s: float) -> None:
        header, value = scene.message(said)
        message = SimpleNamespace(
            topic="routed", partition=0, offset=partition.state.next_input, value=value,
            headers=header.to_kafka(), timestamp=1.0,
        )  # fmt: skip
        asyncio.run(partition.take_in(object(), message, lambda _: scene.replica.plan, now_s))

    take(Said("b", 1, (), 5000), 0.0)
    assert not partition.wants_saving(MARKERS_ONLY_INTERVAL_S - 1)
    take(Said("a", 1, ((1000, 1),)), 1.0)
    assert partition.wants_saving(1.0 + SAVE_INTERVAL_S)
    partition.events.clear()
    partition.rows = 0
    take(Said("b", 1, (), 6000), 100.0)
    assert not partition.wants_saving(100.0 + SAVE_INTERVAL_S), "a marker alone can wait"
    take(Said("c", 1, (), 6000), 101.0)
    assert partition.wants_saving(101.0 + SAVE_INTERVAL_S), "it let the row of a go"
    assert partition.rows == 1
