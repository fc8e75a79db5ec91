"""A real router between a source that floods and one that trickles: what passes before the trickle's messages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from gravity.batch import INSERT, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import encode_batch
from gravity.config import load_config
from gravity.header import IngestHeader, IngestKind, RoutedHeader
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.plan_compiler import compile_plan
from gravity.testing.waiting import wait_until
from gravity.topic import Topics, owner_key, plan_key

SCHEMA = TableSchema("app", "t", (Column("id", "bigint"), Column("v", "text")), (0,))
FLOOD, TRICKLE = "flood", "trickle"


def _now_ms() -> float:
    return time.time() * 1000


@dataclass
class Race:
    """Two ingest logs in front of one router. Times are milliseconds since 1970."""

    folder: Path
    brokers: str
    flood_priority: int
    flood_rows: int = 200
    """Rows of each message of the flood; the trickle's have one."""
    sent_ms: list[float] = field(default_factory=list)
    """When the broker had each message of the trickle."""
    sent_at: list[int] = field(default_factory=list)
    """Messages that had been routed by then."""

    def __post_init__(self) -> None:
        path = self.folder / "gravity.yaml"
        path.write_text(
            f"""
sources: [{{name: {TRICKLE}, priority: 1}}, {{name: {FLOOD}, priority: {self.flood_priority}}}]
targets: [{{name: t, type: kafka, brokers: ["{self.brokers}"]}}]
kafka: {{brokers: ["{self.brokers}"], partitions: 1, topic-prefix: "p{uuid.uuid4().hex[:8]}."}}
state: {{folder: "{self.folder}/state"}}
""",
            encoding="utf-8",
        )
        config = load_config(path).config
        self._config_path = path
        self._topics = Topics(config.kafka.topic_prefix)
        names = [TRICKLE, FLOOD]
        TopicAdmin(config.kafka).ensure(self._topics.all_specs(names, ["t"], 1))
        self._stamp_on_arrival()
        control = ControlTopic(config.kafka, self._topics.control, "test")
        control.refresh()
        control.write(plan_key(1), compile_plan(config, []).to_json())
        self._producer = LogProducer(config.kafka, "test")
        self._reader = LogReader(config.kafka, "test")
        self._next = dict.fromkeys(names, 1)
        for name in names:
            control.write(owner_key(name, 1), {"offset": 0})
            fence = IngestHeader(IngestKind.FENCE, name, 1).to_kafka()
            self._producer.send(self._topics.ingest(name), 0, b"", fence)
        self._producer.flush()
        self._process: subprocess.Popen[bytes] | None = None

    def _stamp_on_arrival(self) -> None:
        """Has the broker say when it got a routed message, not the router when it made it."""
        entry = ConfigEntry(
            "message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET
        )
        topic = self._topics.routed("t")
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gravity_router", str(self._config_path)],
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )

    def send(self, source: str, messages: int, rows: int) -> None:
        """Appends messages to a source's ingest log; returns once the broker has them."""
        random = Random(1)
        texts = [random.randbytes(30).hex() for _ in range(rows)]
        for _ in range(messages):
            number = self._next[source]
            self._next[source] += 1
            batch = ChangeBatch(
                source, 1, SCHEMA, [Transaction("g", 1, number, 0, 0)], bytes([INSERT]) * rows,
                [0] * rows, range(rows), [[number * rows + row for row in range(rows)], texts],
                (0,), [[None] * rows],
            )  # fmt: skip
            header = IngestHeader(
                IngestKind.ROWS, source, 1, number, rows=rows, plan=1, table="app.t"
            )
            self._producer.send(
                self._topics.ingest(source), 0, encode_batch(batch), header.to_kafka()
            )
        self._producer.flush()

    def routed(self) -> int:
        """How many messages have been routed."""
        return self._reader.bounds(self._topics.routed("t"), 0)[1]

    def await_routed(self, count: int, every_s: float = 0.05) -> None:
        wait_until(
            lambda: self.routed() >= count,
            180,
            what=f"{count} messages are routed",
            every_s=every_s,
            tell=lambda: (self.folder / "log").read_text()[-3000:],
        )

    def trickle(self, messages: int, *, apart: int = 0, pause_s: float = 0.0) -> None:
        """One message after the other, each into whatever waits by then.

        The next comes when `apart` more have been routed, however fast that is, and after `pause_s`: the
        pace of a trickle that has the router to itself, where nothing that is routed could give one.
        """
        for _ in range(messages):
            self.send(TRICKLE, 1, 1)
            self.sent_ms.append(_now_ms())
            self.sent_at.append(self.routed())
            self.await_routed(self.sent_at[-1] + apart, every_s=0.002)
            time.sleep(pause_s)  # The pace of the load.

    def outcome(self) -> Outcome:
        """Everything that has been routed, in order."""
        topic = self._topics.routed("t")
        low, high = self._reader.bounds(topic, 0)
        order, times = [], []
        for message in self._reader.read(topic, 0, low, high):
            header = RoutedHeader.from_kafka(message.headers)
            order.append((header.source, header.seq))
            times.append(float(message.timestamp_ms))
        return Outcome(order, times, self.sent_at, self.sent_ms)


@dataclass
class Outcome:
    order: list[tuple[str, int]]
    """(source, ingest number) of every message, as routed."""
    times_ms: list[float]
    sent_at: list[int]
    sent_ms: list[float]

    @property
    def _places(self) -> list[int]:
        return [place for place, (source, _) in enumerate(self.order) if source == TRICKLE]

    @property
    def passed(self) -> list[int]:
        """For each message of the trickle: how many of the flood were routed while it waited."""
        return [max(0, place - at) for place, at in zip(self._places, self.sent_at, strict=True)]

    @property
    def waits_ms(self) -> list[float]:
        """For each message of the trickle: from the ingest log into the routed one."""
        return [
            max(0.0, self.times_ms[place] - sent)
            for place, sent in zip(self._places, self.sent_ms, strict=True)
        ]

    @property
    def flood_waited(self) -> bool:
        """Whether messages of the flood were still waiting when the trickle's last was routed."""
        return self._places[-1] < len(self.order) - 1

    def numbers(self, source: str) -> list[int]:
        return [number for name, number in self.order if name == source]
