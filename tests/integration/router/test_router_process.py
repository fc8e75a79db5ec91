"""A real router on a real broker: what it is refused, or dies over, is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from gravity_devstack import Stack

from gravity.batch import INSERT, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import encode_batch
from gravity.config import load_config
from gravity.fault import FaultPoint
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.plan_compiler import compile_plan
from gravity.testing.waiting import wait_until
from gravity.topic import Topics, owner_key, plan_key

PARTITIONS = 2
MESSAGES = 40
LARGE = 17
"""Number of the message that is too large for the routed topic as long as it is narrow."""
NARROW_BYTES = 4000

SCHEMA = TableSchema("app", "t", (Column("id", "bigint"), Column("v", "text")), (0,))


class World:
    """An ingest log with numbered one-row messages, and a router to be started on it."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self._folder = folder
        self._brokers = brokers
        self.path = folder / "gravity.yaml"
        self.path.write_text(
            f"""
sources: [{{name: s}}]
targets: [{{name: t, type: kafka, brokers: ["{brokers}"], order-by: key}}]
kafka: {{brokers: ["{brokers}"], partitions: {PARTITIONS}, topic-prefix: "r{uuid.uuid4().hex[:8]}."}}
state: {{folder: "{folder}/state"}}
""",
            encoding="utf-8",
        )
        config = load_config(self.path).config
        self.topics = Topics(config.kafka.topic_prefix)
        TopicAdmin(config.kafka).ensure(self.topics.all_specs(["s"], ["t"], PARTITIONS))
        self._reader = LogReader(config.kafka, "test")
        control = ControlTopic(config.kafka, self.topics.control, "test")
        control.refresh()
        control.write(plan_key(1), compile_plan(config, []).to_json())
        control.write(owner_key("s", 1), {"offset": 0})
        producer = LogProducer(config.kafka, "test")
        ingest = self.topics.ingest("s")
        producer.send(ingest, 0, b"", IngestHeader(IngestKind.FENCE, "s", 1).to_kafka())
        for number in range(1, MESSAGES + 1):
            text = os.urandom(2 * NARROW_BYTES).hex() if number == LARGE else "x"
            batch = ChangeBatch(
                "s", 1, SCHEMA, [Transaction("g", 1, number, 0, 0)], bytes([INSERT]), [0], [0],
                [[number], [text]], (0,), [[None]],
            )  # fmt: skip
            header = IngestHeader(IngestKind.ROWS, "s", 1, number, rows=1, plan=1, table="app.t")
            producer.send(ingest, 0, encode_batch(batch), header.to_kafka())
        producer.flush()
        self._processes: list[subprocess.Popen[bytes]] = []

    def routed_bytes_max(self, size: int) -> None:
        """Sets how large a message the routed topic takes."""
        entry = ConfigEntry(
            "max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(
            ResourceType.TOPIC, self.topics.routed("t"), incremental_configs=[entry]
        )
        admin = AdminClient({"bootstrap.servers": self._brokers})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()

    def forget_before(self, offset: int) -> None:
        """Lets retention take the ingest log's beginning."""
        admin = AdminClient({"bootstrap.servers": self._brokers})
        doomed = TopicPartition(self.topics.ingest("s"), 0, offset)
        for future in admin.delete_records([doomed]).values():
            future.result()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self, fault: str = "") -> subprocess.Popen[bytes]:
        """Starts a router."""
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gravity_router", str(self.path)],
                env={**os.environ, "GRAVITY_FAULT": fault},
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def first_sights(self) -> list[list[int]]:
        """Per partition the ingest numbers of the rows there, each at its first sight."""
        found = []
        for partition in range(PARTITIONS):
            topic = self.topics.routed("t")
            low, high = self._reader.bounds(topic, partition)
            numbers: dict[int, None] = {}
            for message in self._reader.read(topic, partition, low, high):
                header = RoutedHeader.from_kafka(message.headers)
                if header.kind is RoutedKind.ROWS:
                    numbers.setdefault(header.seq)
            found.append(list(numbers))
        return found

    def wait_complete(self) -> None:
        """Returns once every row has been routed."""
        wait_until(
            lambda: sum(map(len, self.first_sights())) == MESSAGES,
            90,
            what="every row is routed",
            every_s=0.2,
            tell=lambda: self.log[-3000:],
        )

    def assert_lawful(self) -> None:
        """Every row is there, and in each partition first sights come in ingest order."""
        sights = self.first_sights()
        assert sorted(number for part in sights for number in part) == list(range(1, MESSAGES + 1))
        assert all(part == sorted(part) for part in sights)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def world(stack: Stack, tmp_path: Path) -> Iterator[World]:
    made = World(stack.kafka().brokers, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("visit", [1, MESSAGES // 2])
def test_a_router_killed_between_sending_and_acknowledging_loses_nothing(
    world: World, visit: int
) -> None:
    process = world.start(f"{FaultPoint.ROUTER_SENT_NOT_ACKED}:{visit}:kill")
    assert process.wait(60) == -signal.SIGKILL
    world.start()
    world.wait_complete()
    world.assert_lawful()


def test_what_the_broker_refuses_is_not_lost(world: World) -> None:
    world.routed_bytes_max(NARROW_BYTES)
    for _ in range(2):
        assert world.start().wait(60) in (70, 78), "a refused send ends the process"
    assert LARGE not in {number for part in world.first_sights() for number in part}
    world.routed_bytes_max(1_000_000)
    world.start()
    world.wait_complete()
    world.assert_lawful()


def test_messages_that_retention_took_unrouted_halt_the_router_by_name(world: World) -> None:
    world.forget_before(5)
    assert world.start().wait(60) == 78
    assert "OffsetLostError" in world.log
    assert not any(world.first_sights())
