"""Writing operators' decisions into the log, and reading what became of rows in conflict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gravity.clock import monotonic_s, now_us
from gravity.codec import decode_record, encode_record
from gravity.decision import Message
from gravity.errors import FatalError
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.plan import RoutingPlan
from gravity.reread import Reread
from gravity.resolution.register import OPERATOR
from gravity.topic import Topics, snapshot_request_key

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

_CLIENT = "gravity-operator"


class DecisionLog:
    """One operator's hold on an installation's conflicts and dead letters."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self._reader = LogReader(cluster, _CLIENT)
        control_topic = Topics(prefix).control
        if not self._reader.partitions(control_topic):
            raise FatalError(
                f"topic {control_topic} does not exist: this installation never ran",
                remedy="`gravity run` or `gravity topics` makes it",
            )
        self._control = ControlTopic(cluster, control_topic, _CLIENT)
        self.plan: RoutingPlan = PlanStore(self._control).require_newest()
        self.topics = Topics(prefix, self.plan.resolver_epoch)
        self._producer = LogProducer(cluster, _CLIENT)
        self._last_request = 0

    def conflicts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every record of the conflicts topic with its offset."""
        return self._records(self.topics.conflicts, "conflict")

    def dead_letters(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every record of the dead letters with its offset."""
        return self._records(self.topics.dead_letters, "dead_letter")

    def _records(
        self, topic: str, name: str, start: int = 0
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        low, high = self._reader.bounds(topic, 0)
        for message in self._reader.read(topic, 0, max(low, start), high):
            yield message.offset, decode_record(name, message.value or b"")

    def send(self, target: str, partition: int, message: Message) -> int:
        """Appends a decision to the row's partition; returns its offset once the broker has it."""
        if partition < 0:
            raise FatalError(
                "the record does not say which partition the row lies in: an older version wrote it",
                remedy="have one of its sources write the row again, then decide",
            )
        header, value = message
        offsets: list[int] = []
        self._producer.send(
            self.topics.routed(target),
            partition,
            value,
            header.to_kafka(),
            delivered=offsets.append,
        )
        self._producer.flush()
        return offsets[0]

    def note_letter(self, record: dict[str, Any], state: str, note: str) -> None:
        """Writes what became of a dead letter; returns once the broker has it."""
        fields = {name: value for name, value in record.items() if name != "format"}
        value = encode_record("dead_letter", {**fields, "state": state, "note": note})
        self._producer.send(self.topics.dead_letters, 0, value)
        self._producer.flush()

    def ask_to_read(self, reread: Reread) -> int:
        """Asks the source's collector to read rows again, as `gravity snapshot` does; the request's id."""
        self._last_request = max(now_us(), self._last_request + 1)
        wish = {
            "id": self._last_request,
            "database": reread.database,
            "table": reread.table,
            "where": reread.where,
        }
        self._control.write(snapshot_request_key(reread.source, self._last_request), wish)
        return self._last_request

    def end_of_conflicts(self) -> int:
        """The offset of the next record of a conflict."""
        return self._reader.bounds(self.topics.conflicts, 0)[1]

    def await_answer(
        self, target: str, partition: int, offset: int, start: int, timeout_s: float
    ) -> dict[str, Any] | None:
        """The resolver's record of the decision at `offset`; None if it does not come in time.

        `start` is where the conflicts topic ended before the decision was sent.
        """
        deadline = monotonic_s() + timeout_s
        self._reader.assign({(self.topics.conflicts, 0): start})
        while monotonic_s() < deadline:
            for message in self._reader.poll(0.5):
                record = decode_record("conflict", message.value or b"")
                place = (record["source"], record["target"], record["partition"], record["seq"])
                if place == (OPERATOR, target, partition, offset):
                    return record
        return None

    def close(self) -> None:
        """Gives the connections up."""
        self._control.close()
        self._reader.close()
