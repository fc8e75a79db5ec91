"""Reads what `gravity.status` needs: the progress topic, the topics' ends, the groups' offsets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from gravity.clock import now_us
from gravity.errors import FatalError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.reader import LogReader, committed_offsets
from gravity.status import (
    CollectorStatus,
    Installation,
    PipelineStatus,
    ProgressHistory,
    Queue,
    TopicPartition,
)
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config

_CLIENT: Final = "gravity-status"


class StatusReader:
    """The status of one installation, as often as it is asked for. Changes nothing."""

    def __init__(self, config: Config) -> None:
        """Connects to Kafka.

        Raises:
            TransientError: Kafka is away.
            FatalError: the installation's topics have not been made.
        """
        self._cluster = config.kafka
        names = Topics(config.kafka.topic_prefix)
        self._admin = TopicAdmin(config.kafka)
        counts = self._admin.partition_counts()
        if names.control not in counts or names.progress not in counts:
            raise FatalError(
                "this installation has no topics yet",
                where=f"Kafka at {', '.join(config.kafka.brokers)}, {names.progress}",
                remedy="start it with `gravity run CONFIG`, or run `gravity topics CONFIG`; "
                "is kafka.topic-prefix right?",
            )
        self._plans = PlanStore(ControlTopic(config.kafka, names.control, _CLIENT))
        self._reader = LogReader(config.kafka, _CLIENT)
        # Apart, because a question waits for the fetch that stands on the same connection.
        self._bounds = LogReader(config.kafka, f"{_CLIENT}.bounds")
        self._history = ProgressHistory()
        self._next_offset = 0
        self._installation = Installation(
            tuple(source.name for source in config.sources),
            tuple((target.name, target.type or "") for target in config.targets),
            config.kafka.partitions,
        )
        self._prefix = config.kafka.topic_prefix

    def read(self) -> PipelineStatus:
        """The pipeline now. Raises TransientError while Kafka is away."""
        plan = self._plans.newest()
        topics = Topics(self._prefix, 1 if plan is None else plan.resolver_epoch)
        # Ends first, progress last: what flows meanwhile must not look as if it were waiting.
        ends = self._ends(topics)
        groups = self._committed(topics)
        self._read_progress(topics.progress)
        return self._history.status(
            self._installation,
            self._queues(topics, ends, groups),
            None if plan is None else plan.version,
            now_us(),
            self._collectors(topics),
        )

    def _collectors(self, topics: Topics) -> list[CollectorStatus]:
        source_of = {topics.ingest(name): name for name in self._installation.sources}
        return [
            CollectorStatus(
                member.client_id,
                tuple(source_of[topic] for topic in member.topics if topic in source_of),
            )
            for member in self._admin.members(topics.group("collector"))
        ]

    def _read_progress(self, topic: str) -> None:
        low, high = self._bounds.bounds(topic, 0)
        start = max(low, self._next_offset)
        for message in self._reader.read(topic, 0, start, high):
            if message.key is not None and message.value is not None:
                record = json.loads(message.value)
                # Only records that say when they were written can be set against each other.
                if "at_us" in record:
                    self._history.add(message.key.decode(), record)
        self._next_offset = high

    def _partitions(self, topics: Topics) -> dict[str, dict[str, range]]:
        """Stage to the topics it reads, and their partitions."""
        every = range(self._installation.partitions)
        names = [name for name, _ in self._installation.targets]
        return {
            "router": {topics.ingest(name): range(1) for name in self._installation.sources},
            "resolver": {topics.routed(name): every for name in names},
            **{f"sink/{name}": {topics.target(name): every} for name in names},
        }

    def _ends(self, topics: Topics) -> dict[TopicPartition, tuple[int, int]]:
        return {
            (topic, q): self._bounds.bounds(topic, q)
            for read in self._partitions(topics).values()
            for topic, partitions in read.items()
            for q in partitions
        }

    def _committed(self, topics: Topics) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        for stage in ("router", "resolver"):
            read = self._partitions(topics)[stage]
            wanted = [(topic, q) for topic, partitions in read.items() for q in partitions]
            found |= committed_offsets(self._cluster, topics.group(stage), wanted)
        return found

    def _queues(
        self,
        topics: Topics,
        ends: dict[TopicPartition, tuple[int, int]],
        committed: dict[TopicPartition, int],
    ) -> list[Queue]:
        next_offsets = dict(committed)
        for name, _ in self._installation.targets:
            for q in range(self._installation.partitions):
                record = self._history.last(f"sink/{name}/{q}")
                if record is not None:
                    next_offsets[topics.target(name), q] = record["next_offset"]
        return [
            Queue(
                stage,
                topic,
                ends={q: ends[topic, q][1] for q in partitions},
                next_offsets={
                    q: next_offsets[topic, q] for q in partitions if (topic, q) in next_offsets
                },
                beginnings={q: ends[topic, q][0] for q in partitions},
            )
            for stage, read in self._partitions(topics).items()
            for topic, partitions in read.items()
        ]

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()
        self._bounds.close()
