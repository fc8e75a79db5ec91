"""Topics: made on purpose, never by auto-create."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from gravity.errors import BEGIN_ANEW, FatalError
from gravity.kafka.client import (
    MESSAGE_BYTES_MAX,
    Cluster,
    client_settings,
    kafka_error,
    unreachable,
)
from gravity.topic import TopicSpec


class ReplicatedCluster(Cluster, Protocol):
    """A cluster, and how many copies of a new topic it should keep."""

    @property
    def replication_factor(self) -> int:
        """Copies of a topic that is created."""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A process in a consumer group, and the topics of which it holds partitions."""

    client_id: str
    host: str
    topics: tuple[str, ...]


class TopicAdmin:
    """Creates and inspects topics of one cluster."""

    def __init__(self, cluster: ReplicatedCluster) -> None:
        self._cluster = cluster
        # Kept for the object's life: results of a temporary AdminClient fail with _DESTROY.
        self._admin = AdminClient(client_settings(cluster, "gravity-admin"))  # type: ignore[arg-type]

    def partition_counts(self, timeout_s: float = 20.0) -> dict[str, int]:
        """Every topic of the cluster and how many partitions it has. TransientError while Kafka is away."""
        try:
            topics = self._admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise unreachable(error, self._cluster) from error
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def topic_id(self, name: str, timeout_s: float = 20.0) -> str:
        """The topic's identity: a topic that is deleted and made again has another.

        Raises FatalError when there is no such topic, TransientError while Kafka is away.
        """
        futures = self._admin.describe_topics(TopicCollection([name]), request_timeout=timeout_s)
        try:
            description = futures[name].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise FatalError(
                    f"topic {name} does not exist",
                    remedy="run `gravity topics CONFIG` (or `gravity run`) first",
                ) from error
            raise kafka_error(error, name) from error
        return str(description.topic_id)

    def members(self, group: str, timeout_s: float = 20.0) -> list[GroupMember]:
        """The processes of a consumer group as the broker knows them; none for an unknown group."""
        futures = self._admin.describe_consumer_groups([group], request_timeout=timeout_s)
        try:
            description = futures[group].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            raise kafka_error(error, f"group {group}") from error
        return [
            GroupMember(
                member.client_id,
                member.host.lstrip("/"),
                tuple(sorted({p.topic for p in member.assignment.topic_partitions})),
            )
            for member in description.members
        ]

    def ensure(self, specs: Iterable[TopicSpec]) -> list[str]:
        """Creates the topics that are missing and returns their names.

        Raises FatalError when a topic exists with another number of partitions: rows would change
        their partition, and with it their order.
        """
        existing = self.partition_counts()
        missing = []
        for spec in specs:
            count = existing.get(spec.name)
            if count is None:
                missing.append(spec)
            elif count != spec.partitions:
                raise FatalError(
                    f"topic {spec.name} has {count} partitions, the configuration says {spec.partitions}",
                    remedy=f"set kafka.partitions to what the topics have, or {BEGIN_ANEW}",
                )
        if not missing:
            return []
        futures = self._admin.create_topics(
            [
                NewTopic(
                    spec.name,
                    num_partitions=spec.partitions,
                    replication_factor=self._cluster.replication_factor,
                    config={
                        "cleanup.policy": spec.cleanup,
                        "max.message.bytes": str(MESSAGE_BYTES_MAX),
                    },
                )
                for spec in missing
            ]
        )
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise kafka_error(error, name) from error
        return [spec.name for spec in missing]

    def delete(self, names: Iterable[str]) -> None:
        """Deletes topics that exist."""
        existing = self.partition_counts()
        doomed = [name for name in names if name in existing]
        if doomed:
            for name, future in self._admin.delete_topics(doomed).items():
                try:
                    future.result()
                except KafkaException as error:
                    raise kafka_error(error, name) from error
