"""The resolver on Kafka: one deterministic replica per partition of every routed topic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faust
import structlog

from gravity.config import Config
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.faust_app import AssignmentGate, build_faust_app, end_with
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader, committed_offsets
from gravity.stage import die
from gravity.topic import Topics
from gravity_resolver.partition import Ack, Partition
from gravity_resolver.replica import META_KEY, PartitionState
from gravity_resolver.store import PartitionStore
from gravity_resolver.term import adopt_function_version

log = structlog.get_logger()

TopicPartition = tuple[str, int]

ROWS_UNSAVED_MAX = 200_000
"""Rows taken in but not saved, over all partitions; more wait. Bounds memory and replay."""
BYTES_UNSAVED_MAX = 256 * 1024 * 1024
_RESTORES_AT_ONCE = 8


class Resolver:
    """The partitions of this process and what they share."""

    def __init__(self, config: Config) -> None:
        cluster = config.kafka
        self._cluster = cluster
        self._folder = Path(config.state.folder) / "resolver"
        self._waiting_rows_max = config.state.waiting_rows_max
        control = ControlTopic(cluster, Topics(cluster.topic_prefix).control, "resolver")
        self.plans = PlanStore(control)
        plan = self.plans.require_newest()
        self._resolver_epoch = plan.resolver_epoch
        self.topics = Topics(cluster.topic_prefix, plan.resolver_epoch)
        self.group = self.topics.group("resolver")
        self._target_of = {self.topics.routed(t.name): t.name for t in plan.targets}
        self._admin = TopicAdmin(cluster)
        self.producer = LogProducer(cluster, self.group, is_awaited=config.has_awaited_targets)
        self.partitions: dict[TopicPartition, Partition] = {}

    @property
    def routed_topics(self) -> list[str]:
        """What is read."""
        return sorted(self._target_of)

    def restore(self, owned: set[TopicPartition]) -> None:
        """Brings up the replicas of `owned`, and of nothing else. Blocks."""
        self.close()
        if not owned:
            return
        committed = committed_offsets(self._cluster, self.group, owned)
        order = sorted(owned)
        with ThreadPoolExecutor(max_workers=min(_RESTORES_AT_ONCE, len(order))) as pool:
            restored = pool.map(lambda tp: self._restore_one(tp, committed.get(tp, 0)), order)
            self.partitions = dict(zip(order, restored, strict=True))

    def _restore_one(self, owned: TopicPartition, committed: int) -> Partition:
        topic, number = owned
        target = self._target_of[topic]
        state_topic = self.topics.state(target)
        store = PartitionStore(
            self._cluster,
            topic=state_topic,
            topic_id=self._admin.topic_id(state_topic),
            partition=number,
            group=self.group,
            folder=self._folder / state_topic / str(number),
        )
        records = store.open()
        state = PartitionState(
            target, store, self._resolver_epoch, number,
            waiting_rows_max=self._waiting_rows_max, plans=self.plans.get,
        )  # fmt: skip
        meta = store.get(META_KEY)
        if meta is not None:
            state.load_meta(meta)
        if committed > state.next_input:
            raise FatalError(
                f"changelog lost: input is committed up to {committed}, the state ends at "
                f"{state.next_input}",
                where=f"{state_topic}/{number}",
                remedy=f"restore the changelog topic, or {BEGIN_ANEW}",
            )
        if meta is None:
            # Before the first output: a later version must be able to see whose outputs there are.
            store.save(state.take_delta())
            state.delta_saved()
        reader = LogReader(self._cluster, f"{self.group}.term")
        adopt_function_version(
            state,
            store,
            self.producer,
            reader,
            topic=self.topics.target(target),
            partition=number,
        )
        reader.close()
        log.info("state_restored", target=target, partition=number, records=records)
        return Partition(number, state, store, self.producer, self.topics)

    def has_room(self) -> bool:
        """Whether more may be taken in before something is saved."""
        partitions = self.partitions.values()
        return (
            sum(partition.rows for partition in partitions) <= ROWS_UNSAVED_MAX
            and sum(partition.size_bytes for partition in partitions) <= BYTES_UNSAVED_MAX
        )

    def close(self) -> None:
        """Gives up all partitions."""
        for partition in self.partitions.values():
            partition.store.close()
        self.partitions.clear()


class Work:
    """What runs beside the agent: deliveries, save points, rebalances, the end."""

    def __init__(self, resolver: Resolver, gate: AssignmentGate) -> None:
        self._resolver = resolver
        self._gate = gate
        self._ack: Ack | None = None
        self._saves: asyncio.Task[None] | None = None
        self._ended = threading.Event()

    def start(self, ack: Ack) -> None:
        """Begins, in the running event loop."""
        self._ack = ack
        if self._saves is None:
            threading.Thread(target=self._serve_deliveries, daemon=True).start()
            self._saves = asyncio.get_running_loop().create_task(self._save_when_due())
            self._saves.add_done_callback(end_with)

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

    async def ending(self, *_: Any, **__: Any) -> None:
        """Saves and acknowledges what was taken in; Faust commits it afterwards."""
        await self.revoked()
        self._ended.set()
        if self._saves is not None:
            self._saves.cancel()
        self._resolver.close()

    def _serve_deliveries(self) -> None:
        try:
            while not self._ended.is_set():
                self._resolver.producer.serve(0.1)
        except Exception as error:  # noqa: BLE001 - a thread's failure must end the process
            die(error)

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


def build_app(config: Config, *, session_timeout_s: float = 10.0, member: str = "") -> faust.App:
    """Wires the resolver onto Kafka. Starts nothing; reads the newest plan. Options as `build_faust_app` has them."""
    resolver = Resolver(config)
    folder = Path(config.state.folder) / "resolver"
    app = build_faust_app(
        config.kafka,
        resolver.group,
        data_folder=folder,
        session_timeout_s=session_timeout_s,
        member=member,
    )
    gate = AssignmentGate(app)
    work = Work(resolver, gate)
    # Faust types its signals by a keyword that it never passes.
    app.on_partitions_revoked.connect(work.revoked)
    app.on_partitions_assigned.connect(work.assigned)  # type: ignore[arg-type]
    app.on_before_shutdown.connect(work.ending)
    routed = app.topic(*resolver.routed_topics, key_serializer="raw", value_serializer="raw")

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
                await partition.take_in(event, message, resolver.plans.get, loop.time())
                while not resolver.has_room():  # noqa: ASYNC110 - rare, and bounded by a save
                    await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing may be acknowledged after a failure
            die(error)
        yield

    return app
