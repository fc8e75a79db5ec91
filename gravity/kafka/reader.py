"""Reading partitions by offset, and sharing them out over a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from gravity.errors import OffsetLostError, TransientError
from gravity.kafka.client import consumer_settings, kafka_error, metadata_error

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message as it stands in its partition."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


def _message(message: Message) -> LogMessage:
    return LogMessage(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        _bytes(message.key()),
        _bytes(message.value()),
        [
            (str(name), value if isinstance(value, bytes) else b"")
            for name, value in list(message.headers() or ())
        ],
        message.timestamp()[1],
    )


def _bytes(data: bytes | str | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


class LogReader:
    """Reads partitions from given offsets, without a group. Raises OffsetLostError for offsets that are gone."""

    def __init__(
        self,
        cluster: Cluster,
        client_id: str,
        *,
        uncommitted: bool = False,
        idle_fetch_ms: int | None = None,
    ) -> None:
        """`idle_fetch_ms`: how long the broker keeps a fetch open that finds nothing.

        What is asked next waits behind it: small for who jumps from place to place, not for who follows a log.
        """
        self._cluster = cluster
        settings = consumer_settings(cluster, client_id)
        if idle_fetch_ms is not None:
            settings["fetch.wait.max.ms"] = idle_fetch_ms
        settings["group.id"] = (
            client_id  # librdkafka wants one; it is never joined nor committed to.
        )
        # The end of a partition must be told: behind a transaction stands a record that is no message.
        settings["enable.partition.eof"] = True
        if uncommitted:
            settings["isolation.level"] = "read_uncommitted"
        self._consumer = Consumer(settings)

    def bounds(self, topic: str, partition: int, timeout_s: float = 20.0) -> tuple[int, int]:
        """(first offset there is, offset of the next message to be written).

        A partition that is just being made, or changes its leader, is asked again until `timeout_s`.
        """
        asked = TopicPartition(topic, partition)
        for attempt in Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_delay(timeout_s),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.05),
            reraise=True,
        ):
            with attempt:
                try:
                    low, high = self._consumer.get_watermark_offsets(asked, timeout=timeout_s)
                except KafkaException as error:
                    raise kafka_error(error, f"{topic}/{partition}") from error
        return low, high

    def offset_at(self, topic: str, partition: int, time_ms: int, timeout_s: float = 20.0) -> int:
        """Offset of the first message whose producer's clock said `time_ms` or later; the end where there is none."""
        asked = TopicPartition(topic, partition, max(0, time_ms))
        try:
            (found,) = self._consumer.offsets_for_times([asked], timeout=timeout_s)
        except KafkaException as error:
            raise kafka_error(error, f"{topic}/{partition}") from error
        if found.error is not None:
            raise kafka_error(found.error, f"{topic}/{partition}")
        # librdkafka gives OFFSET_END, which is negative, where every message is older.
        return found.offset if found.offset >= 0 else self.bounds(topic, partition)[1]

    def partitions(self, topic: str, timeout_s: float = 20.0) -> int:
        """How many partitions `topic` has; 0 when there is no such topic."""
        try:
            metadata = self._consumer.list_topics(topic, timeout=timeout_s).topics.get(topic)
        except KafkaException as error:
            raise metadata_error(error, self._cluster, topic) from error
        return 0 if metadata is None or metadata.error is not None else len(metadata.partitions)

    def assign(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Reads these partitions from these offsets on."""
        self._consumer.assign(
            [TopicPartition(topic, q, offset) for (topic, q), offset in offsets.items()]
        )

    def poll(self, timeout_s: float, rows_max: int = 500) -> list[LogMessage]:
        """Messages that are there; waits for the first at most `timeout_s`."""
        return _consume(self._consumer, timeout_s, rows_max)

    def read(
        self, topic: str, partition: int, start: int, end: int, timeout_s: float = 60.0
    ) -> Iterator[LogMessage]:
        """The messages of [start, end) that still exist, in order; compaction may have left holes.

        Raises OffsetLostError when `start` itself lies before the log's beginning.
        """
        low, high = self.bounds(topic, partition)
        if start < low:
            raise OffsetLostError(
                f"offset {start} is gone, the log begins at {low}",
                where=f"{topic}/{partition}",
                remedy="retention has taken messages that were not read yet: see docs/what-if.md",
            )
        end = min(end, high)
        if start >= end:
            return
        self.assign({(topic, partition): start})
        deadline = time.monotonic() + timeout_s
        while True:
            for raw in _raw(self._consumer, 0.1, 500):
                error = raw.error()
                if error is None:
                    deadline = time.monotonic() + timeout_s
                    message = _message(raw)
                    if message.offset >= end:
                        return
                    yield message
                    if message.offset == end - 1:
                        return
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.code() not in PASSING_ERRORS:
                    raise kafka_error(error, f"{topic}/{partition}")
            if time.monotonic() > deadline:
                raise TransientError(
                    f"no message for {timeout_s} s on the way to offset {end}",
                    where=f"{topic}/{partition}",
                )

    def close(self) -> None:
        """Gives the connections up."""
        self._consumer.close()


def committed_offsets(
    cluster: Cluster, group: str, partitions: Iterable[tuple[str, int]], timeout_s: float = 20.0
) -> dict[tuple[str, int], int]:
    """What a group has committed; partitions without a commit are left out."""
    consumer = Consumer({**consumer_settings(cluster, f"{group}.offsets"), "group.id": group})
    try:
        found = consumer.committed(
            [TopicPartition(topic, partition) for topic, partition in partitions], timeout=timeout_s
        )
    except KafkaException as error:
        raise kafka_error(error, group) from error
    finally:
        consumer.close()
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


def _raw(consumer: Consumer, timeout_s: float, rows_max: int) -> list[Message]:
    # `consume` waits its whole timeout for a full batch; so wait for one, then take what is there.
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *consumer.consume(rows_max - 1, 0)] if rows_max > 1 else [first]


def _consume(consumer: Consumer, timeout_s: float, rows_max: int) -> list[LogMessage]:
    messages = []
    for message in _raw(consumer, timeout_s, rows_max):
        error = message.error()
        if error is None:
            messages.append(_message(message))
        elif error.code() not in PASSING_ERRORS:
            raise kafka_error(error, f"{message.topic()}/{message.partition()}")
    return messages


PASSING_ERRORS = frozenset(
    code
    for code in (
        KafkaError._PARTITION_EOF,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
    )
)
"""Errors that librdkafka mends by itself while we go on polling."""

OnAssign = Callable[[list[int]], Mapping[int, int]]
"""Given the partitions that became ours, says from which offset each is to be read."""
OnRevoke = Callable[[list[int]], None]


class GroupReader:
    """A share of one topic's partitions, by consumer group; where to read from is the caller's word.

    Group offsets are hints only: `on_assign` returns the offset to start from (from the target's
    progress), and `remember` commits for the sake of `gravity status` and Kafka's own tools.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topic: str,
        *,
        on_assign: OnAssign,
        on_revoke: OnRevoke,
        session_timeout_ms: int = 10000,
        member: str = "",
    ) -> None:
        """`member` is a name that outlives the process: whoever comes back under it need not wait."""
        settings = consumer_settings(cluster, group)
        settings.update(
            {
                "group.id": group,
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": max(300, session_timeout_ms // 6),
                "max.poll.interval.ms": 600000,
                "partition.assignment.strategy": "cooperative-sticky",
            }
        )
        if member:
            settings["group.instance.id"] = member
        self._consumer = Consumer(settings)
        self._topic = topic
        self._failure: Exception | None = None

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # An exception in this callback would be printed and lost by librdkafka's binding.
            try:
                starts = on_assign([p.partition for p in partitions])
            except Exception as error:  # noqa: BLE001 - raised again by poll, in the caller's own loop
                self._failure = error
                return
            consumer.incremental_assign(
                [TopicPartition(topic, q, offset) for q, offset in starts.items()]
            )

        def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                on_revoke([p.partition for p in partitions])
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = error
            consumer.incremental_unassign(partitions)

        self._consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)

    def poll(self, timeout_s: float, rows_max: int = 500) -> list[LogMessage]:
        """Messages that are there; waits for the first at most `timeout_s`. Runs assignment callbacks."""
        try:
            return _consume(self._consumer, timeout_s, rows_max)
        finally:
            # What a callback raised comes first: the errors that follow from it say less.
            if self._failure is not None:
                raise self._failure

    def remember(self, offsets: Mapping[int, int]) -> None:
        """Commits offsets to the group without waiting: a hint for tools."""
        if offsets:
            try:
                self._consumer.commit(
                    offsets=[
                        TopicPartition(self._topic, q, offset) for q, offset in offsets.items()
                    ],
                    asynchronous=True,
                )
            except KafkaException as error:
                problem = kafka_error(error, self._topic)
                if not isinstance(problem, TransientError):
                    raise problem from error

    def pause(self, partitions: list[int]) -> None:
        """Stops fetching these; what was fetched already still comes."""
        self._consumer.pause([TopicPartition(self._topic, q) for q in partitions])

    def resume(self, partitions: list[int]) -> None:
        """Fetches these again."""
        self._consumer.resume([TopicPartition(self._topic, q) for q in partitions])

    def close(self) -> None:
        """Leaves the group; `on_revoke` runs for what is still ours."""
        self._consumer.close()
