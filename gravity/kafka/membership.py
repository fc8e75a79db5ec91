"""A place in a consumer group that shares work out by topics, without reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from gravity.kafka.client import consumer_settings, kafka_error
from gravity.kafka.reader import PASSING_ERRORS

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

log = structlog.get_logger()

_POLL_INTERVAL_MS_MAX: Final = 60_000
"""A member that does not poll for so long has hung: its topics go to others."""

OnTopics = Callable[[list[str]], None]


class Membership:
    """Holds a share of some topics of one partition each: who holds a topic does its work.

    Nothing is fetched and nothing committed. Holding a topic is a hint: two members may believe that
    they hold it for a while, so whoever writes must be fenced by other means.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[str],
        *,
        client_id: str,
        on_gain: OnTopics,
        on_give_up: OnTopics,
        session_timeout_ms: int,
        member: str = "",
    ) -> None:
        """Joins with the first `poll`. Callbacks run inside `poll` and `close`, in the caller's thread.

        The group waits for `on_give_up`: when it returns, others get the topics. `member` is a name
        that outlives the process: whoever comes back under it gets its topics back at once, and
        whoever else goes by it is fenced.
        """
        settings = consumer_settings(cluster, client_id) | {
            "group.id": group,
            "session.timeout.ms": session_timeout_ms,
            "heartbeat.interval.ms": max(300, session_timeout_ms // 6),
            "max.poll.interval.ms": max(_POLL_INTERVAL_MS_MAX, session_timeout_ms),
            "partition.assignment.strategy": "cooperative-sticky",
        }
        if member:
            settings["group.instance.id"] = member
        self._consumer = Consumer(settings)
        self._group = group
        self._failure: Exception | None = None
        self._missing: set[str] = set()

        def gained(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # At the end and paused: the partition is held, not read.
            consumer.incremental_assign(
                [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
            )
            consumer.pause(partitions)
            self._tell(on_gain, partitions)

        def given_up(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._tell(on_give_up, partitions)
            consumer.incremental_unassign(partitions)

        self._consumer.subscribe(
            list(topics), on_assign=gained, on_revoke=given_up, on_lost=given_up
        )

    def _tell(self, callback: OnTopics, partitions: list[TopicPartition]) -> None:
        # An exception in librdkafka's callback would be printed and lost.
        try:
            callback([p.topic for p in partitions])
        except Exception as error:  # noqa: BLE001 - raised again by poll, in the caller's own loop
            self._failure = self._failure or error

    def poll(self, timeout_s: float) -> None:
        """Takes part in the group for `timeout_s`, running callbacks.

        Raises:
            FencedError: another process goes by our `member` name; GravityError: the group refuses us.
        """
        message = self._consumer.poll(timeout_s)
        if self._failure is not None:
            raise self._failure
        error = None if message is None else message.error()
        if message is None or error is None or error.code() in PASSING_ERRORS:
            return
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            # It may be just being made; librdkafka looks again by itself.
            topic = str(message.topic())
            if topic not in self._missing:
                self._missing.add(topic)
                log.warning("topic_missing", topic=topic, remedy="run `gravity topics CONFIG`")
            return
        raise kafka_error(error, f"group {self._group}")

    def close(self) -> None:
        """Gives everything up and leaves; a member by name is missed only after the session timeout."""
        try:
            self._consumer.close()
        except KafkaException as error:
            raise kafka_error(error, f"group {self._group}") from error
