"""When a partition in work wants to be saved, and what it tells before it lets a marker pass."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from gravity_resolver import partition as partition_module
from gravity_resolver.partition import MARKERS_ONLY_INTERVAL_S, SAVE_INTERVAL_S, Partition
from gravity_resolver.replica import META_KEY, PartitionState

from gravity.testing.routed_log import RoutedLog, RoutedMessage, RowChange
from gravity.topic import Topics
from tests.merged_histories import MergeReplica, Said
from tests.resolver_replica import TARGET, USERS, DictStore, plan_of
from tests.unit.resolver.test_holds import STOP


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


class Slow:
    """A producer that has nothing at the broker until it is told so; it notes what is sent, in order."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_there: list[Any] = []

    def send(
        self, topic: str, _: int, value: bytes, headers: Any = (), *, key: Any = None, delivered: Any = None
    ) -> None:  # fmt: skip
        kind = dict(headers).get("kind", b"").decode()
        holds = f" {json.loads(value)['holds']}" if key is not None else ""
        self.sent.append(f"{topic.removesuffix('.t1')}{holds} {kind}".strip())
        if delivered is not None and key is not None:
            self.is_there.append(delivered)


def _held_and_marked(producer: Slow, *, gives_up: bool) -> tuple[Partition, bool]:
    """A row is held, then a marker comes; whether it wanted to be saved while it waited for the broker."""
    store: Any = DictStore()
    known: Any = producer
    partition = Partition(0, PartitionState(TARGET, store), store, known, Topics(""))
    logs = {source: RoutedLog(source) for source in "ab"}
    said = [
        logs["a"].rows(USERS, [RowChange("U", (1, "x"), 1)]),
        logs["b"].rows(USERS, [RowChange("U", (1, "y"), 2)]),
        logs["a"].marker(),
        logs["b"].marker(),
    ]

    async def take_all() -> bool:
        wanted = False
        for header, value in said:
            message = SimpleNamespace(
                topic="routed", partition=0, offset=partition.state.next_input, value=value,
                headers=header.to_kafka(), timestamp=1.0,
            )  # fmt: skip
            took = asyncio.create_task(
                partition.take_in(object(), message, lambda _: plan_of(STOP), 0.0)
            )
            await asyncio.sleep(0)
            if producer.is_there:
                wanted = wanted or partition.wants_saving(1e9)
                partition.given_up = gives_up
                # The broker's answer comes in another thread.
                answer = threading.Thread(target=producer.is_there.pop(), args=(0,))
                answer.start()
            await took
            if partition.given_up:
                break
        return wanted

    return partition, asyncio.run(take_all())


def test_that_a_row_is_on_hold_is_in_the_log_before_a_marker_behind_it() -> None:
    producer = Slow()
    partition, wanted = _held_and_marked(producer, gives_up=False)
    told = producer.sent.index("gravity.progress 1")
    assert [text.split()[-1] for text in producer.sent[told:]] == ["1", "marker", "marker"]
    assert not any(text.endswith("marker") for text in producer.sent[:told])
    assert not wanted, "what was not sent must not be saved"
    assert partition.wants_saving(1e9)


def test_a_partition_that_is_given_up_meanwhile_sends_nothing_more() -> None:
    producer = Slow()
    partition, _ = _held_and_marked(producer, gives_up=True)
    assert producer.sent[-1] == "gravity.progress 1"
    assert not any(text.endswith("marker") for text in producer.sent)
    assert len(partition.events) == 2, "the rows; the marker is left to the next owner"


class SlowToTell(Slow):
    """A producer that has outputs at the broker at once, and progress only when it is told so."""

    def send(
        self, topic: str, partition: int, value: bytes, headers: Any = (), *, key: Any = None, delivered: Any = None
    ) -> None:  # fmt: skip
        super().send(topic, partition, value, headers, key=key, delivered=delivered)
        if delivered is not None and key is None:
            delivered(0)

    def deliver(self) -> None:
        """All that was told is at the broker now."""
        while self.is_there:
            self.is_there.pop(0)(0)


class SavingStore(DictStore):
    def save(self, changes: dict[bytes, bytes | None]) -> None:
        self.data.update(changes)


class AtWork:
    """A partition that two sources quarrel in, and what was acknowledged of it."""

    def __init__(self) -> None:
        self.store, self.producer = SavingStore(), SlowToTell()
        store: Any = self.store
        producer: Any = self.producer
        self.partition = Partition(0, PartitionState(TARGET, store), store, producer, Topics(""))
        self.logs = {source: RoutedLog(source) for source in "ab"}
        self.seconds = 0
        self.acked: list[Any] = []

    async def ack(self, event: Any) -> None:
        self.acked.append(event)

    async def save(self) -> None:
        await self.partition.save(self.ack)

    def say(self, source: str, name: str) -> asyncio.Task[None]:
        """The source writes the row."""
        self.seconds += 1
        return self._take(self.logs[source].rows(USERS, [RowChange("U", (1, name), self.seconds)]))

    def mark(self) -> asyncio.Task[None]:
        return self._take(self.logs["a"].marker())

    def _take(self, said: RoutedMessage) -> asyncio.Task[None]:
        header, value = said
        offset = self.partition.state.next_input
        message = SimpleNamespace(
            topic="routed", partition=0, offset=offset, value=value, headers=header.to_kafka(), timestamp=1.0,
        )  # fmt: skip
        taken = self.partition.take_in(offset, message, lambda _: plan_of(STOP), 0.0)
        return asyncio.create_task(taken)

    async def quarrel(self) -> None:
        """One row is on hold."""
        await self.say("a", "x")
        await self.say("b", "y")

    @property
    def saved(self) -> tuple[int, int]:
        """The next input and the last output, as the saved state has them."""
        meta = json.loads(self.store.data.get(META_KEY) or b'{"next_input": 0, "out_seq": 0}')
        return meta["next_input"], meta["out_seq"]

    @property
    def markers(self) -> int:
        return sum(text.endswith("marker") for text in self.producer.sent)


async def _comes_to_rest(task: asyncio.Task[None]) -> bool:
    """Whether the task ends of itself; nothing here takes more turns of the loop than this."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


def test_a_number_of_held_rows_that_a_save_has_only_queued_is_not_told() -> None:
    async def scene() -> None:
        at_work = AtWork()
        await at_work.quarrel()
        await at_work.save()
        assert at_work.producer.sent[-1] == "gravity.progress 1"
        marked = at_work.mark()
        assert not await _comes_to_rest(marked)
        assert at_work.markers == 0
        at_work.producer.deliver()
        await marked
        assert at_work.markers == 1

    asyncio.run(scene())


def test_another_number_on_its_way_makes_void_what_was_told_before() -> None:
    async def scene() -> None:
        at_work = AtWork()
        await at_work.quarrel()
        await at_work.save()
        at_work.producer.deliver()
        assert await _comes_to_rest(at_work.mark())
        await at_work.say("b", "x")
        await at_work.save()
        await at_work.say("b", "z")
        assert at_work.partition.state.holds == 1
        # The log says 1 and is about to say 0.
        marked = at_work.mark()
        assert not await _comes_to_rest(marked)
        assert at_work.markers == 1
        at_work.producer.deliver()
        await marked
        assert at_work.markers == 2

    asyncio.run(scene())


def test_a_number_that_is_told_again_keeps_no_marker_waiting() -> None:
    async def scene() -> None:
        at_work = AtWork()
        await at_work.quarrel()
        await at_work.save()
        at_work.producer.deliver()
        assert await _comes_to_rest(at_work.mark())
        await at_work.save()
        assert at_work.producer.is_there
        assert await _comes_to_rest(at_work.mark())
        assert at_work.markers == 2

    asyncio.run(scene())


def test_an_end_while_held_rows_are_told_saves_all_that_was_sent() -> None:
    async def scene() -> None:
        at_work = AtWork()
        await at_work.quarrel()
        marked = at_work.mark()
        assert not await _comes_to_rest(marked)
        ended = asyncio.create_task(at_work.partition.finish(at_work.ack))
        assert not await _comes_to_rest(ended)
        at_work.producer.deliver()
        await marked
        await ended
        assert at_work.markers == 1
        assert at_work.acked == [0, 1, 2]
        outputs = [text for text in at_work.producer.sent if text.startswith("target")]
        assert at_work.saved == (3, len(outputs))
        assert at_work.partition.given_up

    asyncio.run(scene())


def test_an_end_waits_so_long_for_held_rows_to_be_told_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_module, "FINISH_S_MAX", 0.0)

    async def scene() -> None:
        at_work = AtWork()
        await at_work.quarrel()
        marked = at_work.mark()
        assert not await _comes_to_rest(marked)
        await at_work.partition.finish(at_work.ack)
        at_work.producer.deliver()
        await marked
        assert at_work.markers == 0
        assert (at_work.acked, at_work.saved) == ([], (0, 0))

    asyncio.run(scene())


def test_an_end_waits_for_an_input_that_a_merge_lets_out_in_many_steps() -> None:
    async def scene() -> None:
        at_work, merge = AtWork(), MergeReplica()
        partition = at_work.partition

        def take(said: Said) -> asyncio.Task[None]:
            header, value = merge.message(said)
            offset = partition.state.next_input
            message = SimpleNamespace(
                topic="routed", partition=0, offset=offset, value=value, headers=header.to_kafka(), timestamp=1.0,
            )  # fmt: skip
            return asyncio.create_task(
                partition.take_in(offset, message, lambda _: merge.replica.plan, 0.0)
            )

        for number in range(1, 6):
            await take(Said("a", 1, ((1000 * number, number),)))
        await take(Said("b", 1, (), 10**6))
        last = take(Said("c", 1, (), 10**6))
        await asyncio.sleep(0)
        assert partition.in_between
        await partition.finish(at_work.ack)
        assert last.done()
        outputs = [text for text in at_work.producer.sent if text.startswith("target")]
        assert sum(text.endswith("rows") for text in outputs) == 5
        assert at_work.saved == (7, len(outputs))

    asyncio.run(scene())
