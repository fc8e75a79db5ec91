"""Writes lanes to Kafka: rows and progress in one transaction, fenced by the transactional id."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from gravity.batch import TRUNCATE
from gravity.errors import FatalError, FencedError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.client import MESSAGE_BYTES_MAX
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.schema_change import SchemaChange, TableAction
from gravity.schema_follower import means_nothing
from gravity.sink import Admitted, Pace, Refusal, SetAside, Write, split_table
from gravity.stored import Stored
from gravity.topic import Cleanup, TopicSpec
from gravity_sink_kafka.envelope import Envelope, partition_of, progress_text, topic_of
from gravity_sink_kafka.shape import Shape, Shapes

if TYPE_CHECKING:
    from gravity.config.target import KafkaTarget
    from gravity.sink_stage import Surroundings
    from gravity_sink_kafka.avro_row import WriterSchema

INTERVAL_MS = 200
"""A transaction costs the broker 12 ms and more; five a second and lane are cheap."""
_TAIL = 1000
"""The newest progress record is almost always among the last messages; older ones needn't be read."""
_ENVELOPE_BYTES_MAX = MESSAGE_BYTES_MAX - 4096


def progress_topic(target: str) -> str:
    """Where a target keeps its progress, on its own cluster: compacted, one partition a lane."""
    return f"_gravity_progress.{target}"


def schemas_topic(target: str) -> str:
    """Where readers find a target's Avro schemas by their fingerprint: compacted, one partition."""
    return f"_gravity_schemas.{target}"


class TargetTopics:
    """The destination topics: found or made, and claimed for this target."""

    def __init__(self, target: KafkaTarget, around: Surroundings) -> None:
        self._target = target
        self._adopt = around.adopt
        self._admin = TopicAdmin(target)
        self._reader = LogReader(target, f"{around.prefix}{target.name}.topics")
        self._partitions: dict[str, int] = {}

    def partitions(self, topic: str) -> int | None:
        """How many partitions a claimed topic has; None when it must be claimed first."""
        return self._partitions.get(topic)

    def make(self, topic: str, where: str, cleanup: Cleanup) -> tuple[int, bool]:
        """The topic's number of partitions and whether it holds messages; made if it is missing."""
        count = self._admin.partition_counts().get(topic)
        if count is None:
            if not self._target.create_tables:
                raise FatalError(
                    f"topic {topic} does not exist",
                    where=where,
                    remedy="create it, or set create-tables: true",
                )
            count = self._target.partitions
            self._admin.ensure([TopicSpec(topic, count, cleanup)])
            return count, False
        bounds = [self._reader.bounds(topic, q) for q in range(count)]
        return count, any(high > 0 for _, high in bounds)

    def ours(self, topic: str, lanes: int) -> int:
        """How many partitions the topic has; 0 when no lane of this target has written to it."""
        known = self._partitions.get(topic)
        if known is None and topic in self.claims(lanes):
            known = self._admin.partition_counts().get(topic)
        return known or 0

    def remember(self, topic: str, partitions: int) -> None:
        """Notes that the topic is ours."""
        self._partitions[topic] = partitions

    def refuse(self, topic: str, where: str) -> None:
        """Raises FatalError for a topic with foreign messages, unless told to adopt it."""
        if not self._adopt:
            raise FatalError(
                f"topic {topic} already holds messages, and this target has not written them",
                where=where,
                remedy="delete the topic, or start the sink with --adopt to write behind them",
            )

    def ensure_progress(self, partitions: int) -> None:
        """Makes the progress topic."""
        self._admin.ensure([TopicSpec(progress_topic(self._target.name), partitions, "compact")])

    def ensure_schemas(self) -> None:
        """Makes the topic of Avro schemas."""
        self._admin.ensure([TopicSpec(schemas_topic(self._target.name), 1, "compact")])

    def newest(self, partition: int, key: str) -> bytes | None:
        """The last committed progress record under `key`; None when there is none."""
        topic = progress_topic(self._target.name)
        low, high = self._reader.bounds(topic, partition)
        start = max(low, high - _TAIL)
        found = self._last(topic, partition, start, high, key)
        return (
            found
            if found is not None or start == low
            else self._last(topic, partition, low, start, key)
        )

    def _last(self, topic: str, partition: int, start: int, end: int, key: str) -> bytes | None:
        found = None
        for message in self._reader.read(topic, partition, start, end):
            if message.key == key.encode():
                found = message.value
        return found

    def claims(self, partitions: int) -> set[str]:
        """Every topic that a lane of this target has claimed."""
        topic = progress_topic(self._target.name)
        claimed: set[str] = set()
        for partition in range(partitions):
            low, high = self._reader.bounds(topic, partition)
            for message in self._reader.read(topic, partition, low, high):
                name = (message.key or b"").decode()
                if name.startswith("topic/"):
                    claimed.add(name.removeprefix("topic/"))
        return claimed

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()


class KafkaLane:
    """One lane. The contract is `gravity.sink.LaneWriter`."""

    def __init__(
        self, target: KafkaTarget, around: Surroundings, topics: TargetTopics, partition: int
    ) -> None:
        self._target = target
        self._around = around
        self._topics = topics
        self._partition = partition
        self._producer: LogProducer | None = None
        self._lost: FencedError | None = None
        self._shapes = Shapes(target)
        self._published: set[str] = set()
        """Fingerprints of the Avro schemas that this lane has published."""

    @property
    def _key(self) -> str:
        return f"progress/{self._around.resolver_epoch}"

    def open(self) -> Stored:
        """Fences every earlier producer of this lane and returns what they left committed."""
        name = f"{self._around.prefix}{self._target.name}.{self._partition}"
        self._producer = LogProducer(self._target, f"gravity.sink.{name}", transactional_id=name)
        self._producer.init_transactions()
        record = self._topics.newest(self._partition, self._key)
        return Stored() if record is None else Stored.from_json(json.loads(record))

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Sends the rows and the progress in one transaction."""
        if self._lost is not None:
            raise self._lost  # A new producer would only fence the lane's new owner.
        try:
            if self._producer is None:
                stored = self.open()
                if stored.progress.next_offset != write.before.progress.next_offset:
                    return self._after_doubt(stored, write)
            assert self._producer is not None
            return self._transact(self._producer, write, set_aside)
        except GravityError as error:
            # The producer keeps its first failure; the next attempt fences it and begins anew.
            self._leave()
            if isinstance(error, FencedError):
                self._lost = error
            if isinstance(error, PoisonError):
                raise FatalError(error.what, where=error.where, remedy=error.remedy) from error
            raise

    def _after_doubt(self, stored: Stored, write: Write) -> Stored:
        """What became of a transaction whose commit was not answered; only we can have moved it so far."""
        before, after = write.before.progress, write.after.progress
        if before.next_offset < stored.progress.next_offset <= after.next_offset:
            return stored
        raise FencedError(
            f"another process has moved this lane to offset {stored.progress.next_offset}",
            where=f"target {self._target.name}, partition {self._partition}",
            remedy="nothing to do; this process ends and may be started again",
        )

    def _transact(self, producer: LogProducer, write: Write, set_aside: SetAside) -> Stored:
        for message in write.messages:
            self._claim(producer, message)
            self._publish(producer, self._writer_schema(message))
        producer.begin()
        refusals: list[Refusal] = []
        for message in write.messages:
            refusals += self._send(producer, message)
        stored = write.after
        if refusals:
            set_aside(refusals)
            stored = write.dead_lettered(len(refusals))
        self._send_progress(producer, stored)
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        producer.commit()
        return stored

    def _send(self, producer: LogProducer, message: Admitted) -> list[Refusal]:
        batch = message.batch
        if batch is None:
            self._say_all_gone(producer, message)
            return []
        shape = self._shapes.of(batch.schema.database, batch.schema.table)
        topic = self._topic(message, shape)
        partitions = self._topics.partitions(topic)
        assert partitions is not None
        refusals = []
        for row, envelope in enumerate(shape.envelopes(batch, message.header)):
            if len(envelope.value) + len(envelope.key) > _ENVELOPE_BYTES_MAX:
                reason = (
                    f"a message of {len(envelope.value)} bytes is more than {_ENVELOPE_BYTES_MAX}"
                )
                refusals.append(Refusal(message, row, "MSG_SIZE_TOO_LARGE", reason))
                continue
            _send_row(producer, topic, partitions, envelope)
        return refusals

    def _say_all_gone(self, producer: LogProducer, message: Admitted) -> None:
        """Tells readers that a table was emptied or dropped. Of other changes the next rows tell."""
        change = SchemaChange.decode(message.value)
        if means_nothing(change):
            return
        if change.action is not TableAction.TRUNCATE and self._target.schema_evolution == "stop":
            raise FatalError(
                f"schema-evolution is `stop`, and the source ran: {change.statement[:500]}",
                where=f"target {self._target.name}, table {message.header.routed.table}",
                remedy="tell the topic's readers, then start the sink with schema-evolution: apply",
            )
        follows = self._target.schema_evolution == "apply"
        if change.action is TableAction.TRUNCATE or (change.action is TableAction.DROP and follows):
            shape = self._shape(message)
            envelope = shape.all_gone(change, message.header)
            topic = self._topic(message, shape)
            for partition in range(self._topics.ours(topic, self._around.partitions)):
                producer.send(topic, partition, envelope.value, envelope.headers, key=envelope.key)

    def _send_progress(self, producer: LogProducer, stored: Stored) -> None:
        producer.send(
            progress_topic(self._target.name),
            self._partition,
            progress_text(stored.to_json()),
            key=self._key.encode(),
        )

    def _shape(self, message: Admitted) -> Shape:
        about = (
            SchemaChange.decode(message.value) if message.batch is None else message.batch.schema
        )
        return self._shapes.of(about.database, about.table)

    def _writer_schema(self, message: Admitted) -> WriterSchema | None:
        schema = None if message.batch is None else message.batch.schema
        return self._shape(message).writer_schema(schema)

    def _publish(self, producer: LogProducer, schema: WriterSchema | None) -> None:
        """Makes sure that readers can find the schema. It is committed before the first value that needs it.

        Once in each process: compaction leaves one of the equal records.
        """
        if schema is None or schema.id in self._published:
            return
        self._topics.ensure_schemas()
        producer.begin()
        producer.send(schemas_topic(self._target.name), 0, schema.text, key=schema.id.encode())
        producer.commit()
        self._published.add(schema.id)

    def _topic(self, message: Admitted, shape: Shape) -> str:
        database, table = split_table(message.header)
        return topic_of(
            shape.topic,
            source=message.header.routed.source,
            target=self._target.name,
            database=database,
            table=table,
        )

    def _claim(self, producer: LogProducer, message: Admitted) -> None:
        """Makes sure the topic is there and ours. The claim is committed before the first row."""
        batch = message.batch
        if batch is None:
            return
        where = f"target {self._target.name}, table {message.header.routed.table}"
        if TRUNCATE in batch.ops:
            raise FatalError(
                "a TRUNCATE among rows",
                where=f"{where}, source {message.header.routed.source}, position {message.header.routed.from_}",
                remedy="it was written by another version of gravity: see docs/schema-changes.md",
            )
        if not batch.schema.key:
            raise FatalError(
                "the source's table has neither a primary nor a unique key",
                where=where,
                remedy="give it one, or exclude the table",
            )
        shape = self._shape(message)
        topic = self._topic(message, shape)
        if self._topics.partitions(topic) is not None:
            return
        count, filled = self._topics.make(topic, where, shape.cleanup)
        # Claims are read only after the messages were seen: whoever wrote them has claimed before.
        lanes = self._around.partitions
        if topic not in self._topics.claims(lanes):
            if filled:
                self._topics.refuse(topic, where)
            producer.begin()
            producer.send(
                progress_topic(self._target.name),
                self._partition,
                b"{}",
                key=f"topic/{topic}".encode(),
            )
            producer.commit()
        self._topics.remember(topic, count)

    def retry(self, stored: Stored, set_aside: SetAside) -> None:
        """Nothing is parked: a topic knows no constraints."""

    def stands(self) -> bool:
        """Never: there are no cuts here."""
        return False

    def keep_alive(self) -> None:
        """Serves the producer's callbacks."""
        if self._producer is not None:
            try:
                self._producer.serve()
            except TransientError:
                self._leave()

    def close(self) -> None:
        """Lets the producer go; an open transaction is aborted by the next owner."""
        self._leave()

    def _leave(self) -> None:
        self._producer = None


def _send_row(producer: LogProducer, topic: str, partitions: int, envelope: Envelope) -> None:
    partition = partition_of(envelope.key, partitions)
    producer.send(topic, partition, envelope.value, envelope.headers, key=envelope.key)
    if envelope.removes:
        producer.send(topic, partition, None, envelope.headers, key=envelope.key)


class KafkaWriter:
    """One Kafka target. The contract is `gravity.sink.SinkWriter`."""

    def __init__(self, target: KafkaTarget, around: Surroundings) -> None:
        self._target = target
        self._around = around
        self._topics: TargetTopics | None = None

    @property
    def pace(self) -> Pace:
        """As configured, but a transaction at most every INTERVAL_MS."""
        return replace(
            self._around.pace, wait_ms_idle=self._around.pace.wait_ms_max, interval_ms=INTERVAL_MS
        )

    def open(self) -> None:
        """Makes the progress topic."""
        if self._topics is None:
            self._topics = TargetTopics(self._target, self._around)
        self._topics.ensure_progress(self._around.partitions)

    def take_over(self, partition: int) -> tuple[KafkaLane, Stored]:
        """Fences the lane's former producer; its open transaction is aborted."""
        if self._topics is None:
            self.open()
        assert self._topics is not None
        lane = KafkaLane(self._target, self._around, self._topics, partition)
        return lane, lane.open()

    def close(self) -> None:
        """Gives the connections up."""
        if self._topics is not None:
            self._topics.close()
            self._topics = None
