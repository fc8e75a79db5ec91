"""The control topic: small records by key. The last one of a key counts; of a routing plan's number, the first."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from gravity.errors import GravityError
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.topic import is_plan_key

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster


class ControlTopic:
    """Reads a compacted one-partition topic into memory and appends to it. JSON values.

    Threads may share it; one at a time reads or writes.
    """

    def __init__(self, cluster: Cluster, topic: str, client_id: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._client_id = f"{client_id}.control"
        self._reader = LogReader(cluster, self._client_id)
        self._producer: LogProducer | None = None
        self._next_offset = 0
        self._turn = threading.Lock()
        self.records: dict[str, Any] = {}
        """All records, as of the last `refresh`; replaced, never changed."""

    def refresh(self) -> dict[str, Any]:
        """Reads everything up to the present end; returns all records by key."""
        with self._turn:
            return self._read_on()

    def _read_on(self) -> dict[str, Any]:
        low, high = self._reader.bounds(self._topic, 0)
        records = dict(self.records)
        if high < self._next_offset:
            # Deleted and made again: what we know of it is of another topic.
            records, self._next_offset = {}, low
        start = max(self._next_offset, low)
        for message in self._reader.read(self._topic, 0, start, high):
            key = (message.key or b"").decode()
            if message.value is None:
                records.pop(key, None)
            elif not (is_plan_key(key) and key in records):
                # Of two activations at once the first wins (ADR 0001): whoever reads in between, and whoever
                # reads later, must find one content. Guarded by test_of_a_plans_number_the_first_record_counts.
                records[key] = json.loads(message.value)
        self._next_offset = max(self._next_offset, high)
        self.records = records
        return records

    def write(self, key: str, value: Any) -> None:
        """Appends a record and returns once the broker has it."""
        self._append(key, json.dumps(value, separators=(",", ":")).encode())

    def delete(self, key: str) -> None:
        """Removes a record."""
        self._append(key, None)

    def _append(self, key: str, value: bytes | None) -> None:
        with self._turn:
            if self._producer is None:
                self._producer = LogProducer(self._cluster, self._client_id)
            try:
                self._producer.send(self._topic, 0, value, key=key.encode())
                self._producer.flush()
            except GravityError:
                # A producer never forgets its first failure; whoever tries again gets another one.
                self._producer = None
                raise

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()
