"""One partition in work: its state, what it has sent, and which inputs wait to be acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gravity.fault import FaultPoint, reach
from gravity.header import RoutedHeader, RoutedKind
from gravity.kafka.producer import Delivered, LogProducer
from gravity.plan import RoutingPlan
from gravity_resolver.replica import PartitionState
from gravity_resolver.store import PartitionStore

SAVE_INTERVAL_S = 1.0
SAVE_ROWS_MAX = 10_000
SAVE_BYTES_MAX = 16 * 1024 * 1024
MARKERS_ONLY_INTERVAL_S = 60.0
"""How long inputs that carry no rows may wait: long, since each save is a transaction."""


@dataclass(slots=True)
class _Sent:
    """Outputs since the last save that the broker has not acknowledged."""

    left: int = 0

    def delivered(self, _offset: int) -> None:
        self.left -= 1


@dataclass(slots=True)
class Partition:
    """A partition that this process owns."""

    number: int
    state: PartitionState
    store: PartitionStore
    producer: LogProducer
    target_topic: str
    conflicts_topic: str
    events: list[Any] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    due_s: float = 0.0
    """Loop time at which the waiting inputs must be saved."""
    sent: _Sent = field(default_factory=_Sent)
    saving: bool = False

    def take_in(
        self, event: Any, message: Any, plan_of: Callable[[int], RoutingPlan], now_s: float
    ) -> None:
        """Applies one input and sends what it causes."""
        value: bytes = message.value or b""
        header = RoutedHeader.from_kafka(message.headers)
        effects = self.state.apply(header, value, offset=message.offset, plan=plan_of(header.plan))
        for output in effects.outputs:
            self._send(self.target_topic, self.number, output.value, output.header.to_kafka())
        for conflict in effects.conflicts:
            self._send(self.conflicts_topic, 0, conflict, [])
        with_rows = header.kind in (RoutedKind.ROWS, RoutedKind.NOTE, RoutedKind.SCHEMA)
        if not self.events:
            self.due_s = now_s + (SAVE_INTERVAL_S if with_rows else MARKERS_ONLY_INTERVAL_S)
        elif with_rows:
            self.due_s = min(self.due_s, now_s + SAVE_INTERVAL_S)
        self.events.append(event)
        self.rows += header.rows
        self.size_bytes += len(value)

    def _send(
        self, topic: str, partition: int, value: bytes, headers: list[tuple[str, bytes]]
    ) -> None:
        self.sent.left += 1
        delivered: Delivered = self.sent.delivered
        self.producer.send(topic, partition, value, headers, delivered=delivered)

    def wants_saving(self, now_s: float) -> bool:
        """Whether the waiting inputs should be saved now."""
        return (
            bool(self.events)
            and not self.saving
            and (
                now_s >= self.due_s
                or self.rows >= SAVE_ROWS_MAX
                or self.size_bytes >= SAVE_BYTES_MAX
            )
        )

    async def save(self, ack: Callable[[Any], Awaitable[object]]) -> None:
        """Waits for the outputs, saves the state, then acknowledges the inputs, in that order.

        Inputs that arrive meanwhile belong to the next save.
        """
        self.saving = True
        events, sent = self.events, self.sent
        changes = self.state.take_delta()
        self.events, self.sent = [], _Sent()
        self.rows = self.size_bytes = 0
        while sent.left > 0:  # noqa: ASYNC110 - counted down in the producer's thread
            await asyncio.sleep(0.002)
        reach(FaultPoint.RESOLVER_SENT_NOT_SAVED)
        await asyncio.get_running_loop().run_in_executor(None, self.store.save, changes)
        self.state.delta_saved()
        reach(FaultPoint.RESOLVER_STORED_NOT_ACKED)
        for event in events:
            await ack(event)
        self.saving = False

    async def finish(self, ack: Callable[[Any], Awaitable[object]]) -> None:
        """Saves everything that was taken in."""
        while self.saving:  # noqa: ASYNC110 - milliseconds, at a rebalance only
            await asyncio.sleep(0.002)
        if self.events:
            await self.save(ack)
