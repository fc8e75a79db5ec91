"""The control topic: small records by key, the last one of a key counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster


class ControlTopic:
    """Reads a compacted one-partition topic into memory and appends to it. JSON values."""

    def __init__(self, cluster: Cluster, topic: str, client_id: str) -> None:
        self._topic = topic
        self._reader = LogReader(cluster, f"{client_id}.control")
        self._producer = LogProducer(cluster, f"{client_id}.control")
        self._next_offset = 0
        self.records: dict[str, Any] = {}

    def refresh(self) -> dict[str, Any]:
        """Reads everything up to the present end; returns all records by key."""
        low, high = self._reader.bounds(self._topic, 0)
        start = max(self._next_offset, low)
        for message in self._reader.read(self._topic, 0, start, high):
            key = (message.key or b"").decode()
            if message.value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = json.loads(message.value)
        self._next_offset = max(self._next_offset, high)
        return self.records

    def write(self, key: str, value: Any) -> None:
        """Appends a record and returns once the broker has it."""
        self._producer.send(
            self._topic, 0, json.dumps(value, separators=(",", ":")).encode(), key=key.encode()
        )
        self._producer.flush()

    def delete(self, key: str) -> None:
        """Removes a record."""
        self._producer.send(self._topic, 0, None, key=key.encode())
        self._producer.flush()

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()
