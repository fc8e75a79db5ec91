"""The resolver on Kafka: one deterministic replica per partition of every routed topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faust
import structlog

from gravity.config import Config
from gravity.errors import FatalError
from gravity.faust_app import AssignmentGate, build_faust_app
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader, committed_offsets
from gravity.stage import die
from gravity.topic import Topics
from gravity_resolver.partition import Partition
from gravity_resolver.replica import META_KEY, PartitionState
from gravity_resolver.store import PartitionStore
from gravity_resolver.term import adopt_function_version

log = structlog.get_logger()

TopicPartition = tuple[str, int]

ROWS_UNSAVED_MAX = 200_000
"""Rows taken in but not saved, over all partitions; more wait. Bounds memory and replay."""


class Resolver:
    """The partitions of this process and what they share."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.topics = Topics(config.kafka.topic_prefix)
        self.group = self.topics.group("resolver")
        self.producer = LogProducer(config.kafka, self.group)
        self._control = ControlTopic(config.kafka, self.topics.control, self.group)
        self.plans = PlanStore(self._control)
        self._target_of = {self.topics.routed(t.name): t.name for t in config.targets}
        self.partitions: dict[TopicPartition, Partition] = {}

    def restore(self, owned: set[TopicPartition]) -> None:
        """Brings up the replicas of `owned`, and of nothing else. Blocks."""
        for partition in self.partitions.values():
            partition.store.close()
        self.partitions.clear()
        if not owned:
            return
        committed = committed_offsets(self._config.kafka, self.group, owned)
        with ThreadPoolExecutor(max_workers=min(8, len(owned))) as pool:
            restored = pool.map(
                lambda tp: self._restore_one(tp, committed.get(tp, 0)), sorted(owned)
            )
            self.partitions = dict(zip(sorted(owned), restored, strict=True))

    def _restore_one(self, owned: TopicPartition, committed: int) -> Partition:
        topic, number = owned
        target = self._target_of[topic]
        state_topic, target_topic = self.topics.state(target), self.topics.target(target)
        store = PartitionStore(
            self._config.kafka,
            topic=state_topic,
            partition=number,
            group=self.group,
            folder=Path(self._config.state.folder) / "resolver" / state_topic / str(number),
        )
        records = store.open()
        state = PartitionState(target, store)
        meta = store.get(META_KEY)
        if meta is not None:
            state.load_meta(meta)
        if committed > state.next_input:
            raise FatalError(
                f"changelog lost: input is committed up to {committed}, the state ends at "
                f"{state.next_input}",
                where=f"{state_topic}/{number}",
                remedy="restore the changelog topic, or use `gravity repartition`: see docs/what-if.md",
            )
        reader = LogReader(self._config.kafka, f"{self.group}.term")
        adopt_function_version(
            state, store, self.producer, reader, topic=target_topic, partition=number
        )
        reader.close()
        log.info("state_restored", target=target, partition=number, records=records)
        return Partition(number, state, store, self.producer, target_topic, self.topics.conflicts)

    def rows_unsaved(self) -> int:
        """Rows taken in but not saved."""
        return sum(partition.rows for partition in self.partitions.values())


class Work:
    """What runs in the event loop beside the agent: deliveries, save points, rebalances."""

    def __init__(self, resolver: Resolver, gate: AssignmentGate) -> None:
        self._resolver = resolver
        self._gate = gate
        self._ack: Callable[[Any], Awaitable[object]] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, ack: Callable[[Any], Awaitable[object]]) -> None:
        """Begins, in the running event loop."""
        self._ack = ack
        loop = asyncio.get_running_loop()
        for work in (self._serve_deliveries(), self._save_when_due()):
            task = loop.create_task(work)
            task.add_done_callback(_end_with)
            self._tasks.append(task)

    async def revoked(self, *_: Any, **__: Any) -> None:
        """Saves what was taken in: it would only be done again by the next owner."""
        self._gate.close()
        try:
            for partition in self._resolver.partitions.values():
                if self._ack is not None:
                    await partition.finish(self._ack)
        except Exception as error:  # noqa: BLE001 - Faust would log it and go on
            die(error)

    async def assigned(self, _app: Any, *arguments: Any, **_: Any) -> None:
        """Restores the replicas of everything that is ours now; the flow goes on afterwards."""
        try:
            owned = {(tp.topic, tp.partition) for tp in arguments[0]}
            await _in_thread(self._resolver.restore, owned)
        except Exception as error:  # noqa: BLE001 - Faust would log it and go on
            die(error)
        self._gate.open()
        log.info("partitions_assigned", partitions=len(owned))

    async def _serve_deliveries(self) -> None:
        producer = self._resolver.producer
        while True:
            if producer.queued():
                await _in_thread(producer.serve, 0.05)
            else:
                await asyncio.sleep(0.005)
                producer.check()

    async def _save_when_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._gate.is_open and self._ack is not None:
                due = [
                    partition
                    for partition in self._resolver.partitions.values()
                    if partition.wants_saving(loop.time())
                ]
                await asyncio.gather(*(partition.save(self._ack) for partition in due))
            await asyncio.sleep(0.02)


async def _in_thread(work: Callable[..., object], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def _end_with(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        die(task.exception() or RuntimeError("a task that never ends has ended"))


def build_app(config: Config) -> faust.App:
    """Wires the resolver onto Kafka. Starts nothing."""
    resolver = Resolver(config)
    folder = Path(config.state.folder) / "resolver"
    app = build_faust_app(config.kafka, resolver.group, data_folder=folder)
    gate = AssignmentGate(app)
    work = Work(resolver, gate)
    # Faust types its signals by a keyword that it never passes.
    app.on_partitions_revoked.connect(work.revoked)  # type: ignore[arg-type]
    app.on_partitions_assigned.connect(work.assigned)  # type: ignore[arg-type]
    routed = app.topic(
        *(resolver.topics.routed(target.name) for target in config.targets),
        key_serializer="raw",
        value_serializer="raw",
    )

    @app.agent(routed)
    async def resolve_changes(stream: Any) -> AsyncIterator[None]:
        work.start(stream.ack)
        loop = asyncio.get_running_loop()
        try:
            async for event in stream.noack().events():
                message = event.message
                if not await gate.lets_through(message):
                    continue
                partition = resolver.partitions[message.topic, message.partition]
                if message.offset < partition.state.next_input:
                    await stream.ack(event)
                    continue
                partition.take_in(event, message, resolver.plans.get, loop.time())
                while resolver.rows_unsaved() > ROWS_UNSAVED_MAX:  # noqa: ASYNC110 - rare, and bounded by a save
                    await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing may be acknowledged after a failure
            die(error)
        yield

    return app
