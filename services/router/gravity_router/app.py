"""The router on Kafka: reads every ingest topic, drops what is void, sends what `route` decides.

Two tasks: one takes messages in as Faust fetches them, the other routes the one whose turn it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
import structlog

from gravity.config import Config
from gravity.errors import FormatError, OffsetLostError
from gravity.fault import FaultPoint, reach
from gravity.faust_app import (
    AssignmentGate,
    OrderedAcks,
    build_faust_app,
    end_with,
    hold_back,
    let_go,
)
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import Fences
from gravity.kafka.control import ControlTopic
from gravity.kafka.fences import known_fences
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader, committed_offsets
from gravity.stage import die
from gravity.topic import Topics
from gravity_router.intake import Intake
from gravity_router.routing import RoutedMessage, route

log = structlog.get_logger()

FETCH_BYTES_MAX = 512 * 1024
"""Small, so that a source that trickles is not kept waiting by a fetch of one that floods."""


class Router:
    """What the agent needs between two messages. Nothing of it decides what a message becomes."""

    def __init__(self, config: Config) -> None:
        self.topics = Topics(config.kafka.topic_prefix)
        self._cluster = config.kafka
        self._group = group = self.topics.group("router")
        self.producer = LogProducer(config.kafka, group, is_awaited=config.has_awaited_targets)
        self._control = ControlTopic(config.kafka, self.topics.control, group)
        self._plans = PlanStore(self._control)
        self._reader = LogReader(config.kafka, f"{group}.fences")
        self._fences: dict[str, Fences] = {}
        self.source_of = {self.topics.ingest(source.name): source.name for source in config.sources}

    def learn_fences(self, ingest_topics: set[str]) -> None:
        """Reads the fences of logs that became ours.

        Raises OffsetLostError when retention has taken messages that were not routed: Kafka's client
        would go on behind the gap without a word.
        """
        committed = committed_offsets(
            self._cluster, self._group, [(topic, 0) for topic in ingest_topics]
        )
        for topic in ingest_topics:
            low, _ = self._reader.bounds(topic, 0)
            if (start := committed.get((topic, 0), 0)) < low:
                raise OffsetLostError(
                    f"offset {start} has not been routed and is gone; the log begins at {low}",
                    where=f"{topic}/0",
                    remedy="raise the topic's retention; `gravity reset --source` copies the source anew",
                )
            self._fences[topic] = known_fences(
                self._control, self._reader, topic, self.source_of[topic]
            )

    def decide(
        self, topic: str, offset: int, headers: list[tuple[str, bytes]], value: bytes
    ) -> list[RoutedMessage]:
        """The outputs of one ingest message; none for a void one."""
        header = IngestHeader.from_kafka(headers)
        fences = self._fences[topic]
        if header.kind is IngestKind.FENCE:
            fences.add(offset, header.owner)
            return []
        if fences.is_void(offset, header.owner):
            log.debug(
                "void_message_dropped", source=header.source, offset=offset, owner=header.owner
            )
            return []
        try:
            return route(header, value, self._plans.get(header.plan))
        except FormatError as error:
            # What the router can't read it can't route, and rows may not vanish: halt by name.
            raise FormatError(
                error.what, where=f"{topic}/0 offset {offset}", remedy=error.remedy
            ) from error

    def send(self, message: RoutedMessage, delivered: Any) -> None:
        """Queues one output."""
        self.producer.send(
            self.topics.routed(message.target),
            message.partition,
            message.value,
            message.header.to_kafka(),
            delivered=delivered,
        )


def build_app(config: Config, *, member: str = "") -> faust.App:
    """Wires the router onto Kafka. Starts nothing. `member` as `build_faust_app` has it."""
    router = Router(config)
    app = build_faust_app(
        config.kafka,
        router.topics.group("router"),
        data_folder=Path(config.state.folder) / "router",
        fetch_bytes_max=FETCH_BYTES_MAX,
        member=member,
    )
    sources = app.topic(
        *(router.topics.ingest(source.name) for source in config.sources),
        key_serializer="raw",
        value_serializer="raw",
    )

    gate = AssignmentGate(app)
    intake = Intake(
        router.source_of,
        {source.name: source.priority for source in config.sources},
        hold_back=lambda topic: hold_back(app, topic, 0),
        let_go=lambda topic: let_go(app, topic, 0),
    )

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        gate.close()
        intake.clear()

    @app.on_partitions_assigned.connect  # type: ignore[arg-type]  # Faust types a keyword it never passes
    async def assigned(_app: Any, *arguments: Any, **_: Any) -> None:
        try:
            names = {partition.topic for partition in arguments[0]}
            await asyncio.get_running_loop().run_in_executor(None, router.learn_fences, names)
        except Exception as error:  # noqa: BLE001 - Faust would log it and go on without fences
            die(error)
        gate.open()
        log.info("partitions_assigned", topics=sorted(names))

    async def route_in_turn(acks: OrderedAcks) -> None:
        while True:
            event = await intake.next()
            message = event.message
            if not await gate.lets_through(message):
                continue
            outputs = router.decide(
                message.topic, message.offset, message.headers, message.value or b""
            )
            delivered = await acks.expect(event, len(outputs))
            for output in outputs:
                router.send(output, delivered)
            reach(FaultPoint.ROUTER_SENT_NOT_ACKED)
            await intake.let_in()

    @app.agent(sources)
    async def take_changes_in(stream: Any) -> AsyncIterator[None]:
        acks = OrderedAcks(router.producer, stream.ack)
        acks.start()
        routing = asyncio.get_running_loop().create_task(route_in_turn(acks))
        routing.add_done_callback(end_with)
        try:
            async for event in stream.noack().events():
                intake.put(event)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing may be acknowledged after a failure
            die(error)
        finally:
            routing.cancel()
        yield

    return app
