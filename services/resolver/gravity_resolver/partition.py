"""One partition in work: its state, what it has sent, and which inputs wait to be acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from gravity.clock import now_us
from gravity.codec import encode_record
from gravity.dead_letter import DEAD_MAX
from gravity.errors import FatalError, FormatError, NewerFormatError
from gravity.fault import FaultPoint, reach
from gravity.header import KafkaHeaders, RoutedHeader, RoutedKind
from gravity.kafka.producer import LogProducer
from gravity.plan import RoutingPlan
from gravity.topic import Topics
from gravity_resolver.effects import Effects
from gravity_resolver.replica import PartitionState
from gravity_resolver.store import PartitionStore

SAVE_INTERVAL_S = 1.0
SAVE_ROWS_MAX = 10_000
SAVE_BYTES_MAX = 16 * 1024 * 1024
MARKERS_ONLY_INTERVAL_S = 60.0
"""How long inputs that carry no rows may wait: long, since each save is a transaction."""
FINISH_S_MAX = 5.0
"""How long a partition that is taken away, or a process that is told to end, waits for an input that has been
applied in part: far less than a rebalance or a stop may take."""
_ACKS_AT_ONCE = 200
"""Acknowledgements between two breaths of the event loop."""

Ack = Callable[[Any], Awaitable[object]]
PlanOf = Callable[[int], RoutingPlan]


@dataclass(slots=True)
class _Sent:
    """Messages sent since the last save, and the offsets of those that the broker has."""

    messages: int = 0
    offsets: list[int] = field(default_factory=list)
    """Appended to by the producer's thread."""

    @property
    def all_there(self) -> bool:
        return len(self.offsets) == self.messages


@dataclass(slots=True)
class _Told:
    """How many rows on hold the log says there are: what the broker has, not what has only been queued."""

    rows: int = 0
    """As the last message says. Of what an earlier owner told nothing is known but that more is told soon."""
    last: int = 0
    """Number of that message; `since`: of the first of those that have said the same one after the other."""
    since: int = 0
    there: int = 0
    """Number of the last message that the broker has. Written by the producer's thread."""

    def tell(self, rows: int) -> Callable[[], None]:
        """A message is about to be sent; returns what to call once the broker has it."""
        self.last += 1
        number = self.last
        if rows != self.rows:
            self.rows, self.since = rows, number

        def is_there() -> None:
            self.there = max(self.there, number)

        return is_there

    def is_told(self, rows: int) -> bool:
        """Whether the log says so, and nothing on its way says otherwise."""
        return rows == self.rows and self.there >= self.since


@dataclass(slots=True)
class Partition:
    """A partition that this process owns."""

    number: int
    state: PartitionState
    store: PartitionStore
    producer: LogProducer
    topics: Topics
    events: list[Any] = field(default_factory=list)
    rows: int = 0
    """Rows taken in since the last save began; `size_bytes` likewise."""
    size_bytes: int = 0
    due_s: float = 0.0
    """Loop time at which the waiting inputs must be saved."""
    saving: bool = False
    in_between: bool = False
    """Whether an input has been applied in part."""
    given_up: bool = False
    _sent: _Sent = field(default_factory=_Sent)
    _dead: int = 0
    _told: _Told = field(default_factory=_Told)

    async def take_in(self, event: Any, message: Any, plan_of: PlanOf, now_s: float) -> None:
        """Applies one input and sends what it causes; in many steps if that is a great deal.

        Raises NewerFormatError for a message that only a newer version can read; one that is
        damaged is set aside.
        """
        value: bytes = message.value or b""
        parked = self.state.merging.rows
        try:
            header, effects = self._apply(message, value, plan_of)
        except NewerFormatError as error:
            raise NewerFormatError(
                error.what, where=_place(message), remedy=error.remedy
            ) from error
        reach(FaultPoint.RESOLVER_APPLIED_NOT_SENT)
        if not await self._tell_holds(effects):
            return
        self._send_all(effects, header, message)
        if effects.rest is not None and not await self._send_rest(effects.rest, header, message):
            return
        left = max(0, parked - self.state.merging.rows)
        self._remember(event, header, len(value), now_s, released=left)

    async def _send_rest(self, rest: Iterator[Effects], header: RoutedHeader, message: Any) -> bool:
        """Sends the rest of an input's effects, a breath after each step; False: the partition was given up.

        In between the state is neither before the input nor after it, so nothing is saved.
        """
        self.in_between = True
        for effects in rest:
            if not await self._tell_holds(effects):
                return False
            self._send_all(effects, header, message)
            reach(FaultPoint.RESOLVER_SENT_IN_PART)
            await asyncio.sleep(0)
            if self.given_up:
                return False
        self.in_between = False
        return True

    async def _tell_holds(self, effects: Effects) -> bool:
        """Has the number of rows on hold in the log before a marker goes out; False: the partition was given up.

        Whoever finds that the marker has passed then knows of the rows before it that are not there.
        """
        kinds = (output.header.routed.kind for output in effects.outputs)
        if self._told.is_told(self.state.holds) or RoutedKind.MARKER not in kinds:
            return True
        loop, is_there = asyncio.get_running_loop(), asyncio.Event()
        was_in_between, self.in_between = self.in_between, True

        self._send_progress(lambda: loop.call_soon_threadsafe(is_there.set))
        await is_there.wait()
        self.in_between = was_in_between
        return not self.given_up

    def _apply(self, message: Any, value: bytes, plan_of: PlanOf) -> tuple[RoutedHeader, Effects]:
        try:
            header = RoutedHeader.from_kafka(message.headers)
        except NewerFormatError:
            raise
        except FormatError as error:
            self.state.skip_unreadable(message.offset)
            return RoutedHeader(RoutedKind.ROWS, "", 0), Effects(damage=str(error))
        plan = plan_of(header.plan)
        return header, self.state.apply(
            header,
            value,
            offset=message.offset,
            plan=plan,
            time_ms=round((message.timestamp or 0) * 1000),
        )

    def _send_all(self, effects: Effects, header: RoutedHeader, message: Any) -> None:
        target_topic = self.topics.target(self.state.target)
        for output in effects.outputs:
            self._send(target_topic, self.number, output.value, output.header.to_kafka())
        for conflict in effects.conflicts:
            self._send(self.topics.conflicts, 0, conflict)
        cause, offset = effects.cause or (header, message.offset)
        for row, value in effects.too_late:
            reason = (
                "older than what has been forgotten of its table: it may have been deleted since"
            )
            self._set_aside(
                reason, cause, message, code="late_after_gc", offset=offset, row=row, value=value
            )
        if effects.damage:
            self._set_aside(effects.damage, header, message)

    def _remember(
        self, event: Any, header: RoutedHeader, size: int, now_s: float, *, released: int
    ) -> None:
        with_rows = header.kind is not RoutedKind.MARKER or released > 0
        if not self.events:
            self.due_s = now_s + (SAVE_INTERVAL_S if with_rows else MARKERS_ONLY_INTERVAL_S)
        elif with_rows:
            self.due_s = min(self.due_s, now_s + SAVE_INTERVAL_S)
        self.events.append(event)
        self.rows += header.rows + released
        self.size_bytes += size

    def _send(
        self, topic: str, partition: int, value: bytes, headers: KafkaHeaders | None = None
    ) -> None:
        self._sent.messages += 1
        self.producer.send(
            topic, partition, value, headers or (), delivered=self._sent.offsets.append
        )

    def _set_aside(
        self,
        reason: str,
        header: RoutedHeader,
        message: Any,
        *,
        code: str = "unreadable",
        offset: int = -1,
        row: int = -1,
        value: bytes = b"",
    ) -> None:
        self._dead += 1
        if self._dead > DEAD_MAX:
            raise FatalError(
                f"more than {DEAD_MAX} messages or rows were set aside; the last: {reason}",
                where=_place(message),
                remedy=f"what was set aside is in topic {self.topics.dead_letters}",
            )
        letter = {
            "stage": "resolver",
            "target": self.state.target,
            "source": header.source,
            "table": header.table,
            "reason": reason,
            "code": code,
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset if offset < 0 else offset,
            "row": row,
            "origin_seq": header.seq,
            "origin_row": -1,
            "position": str(header.from_),
            "gtid": "",
            "schema": header.schema,
            "time_us": now_us(),
            "value": value or message.value or b"",
        }
        self._send(self.topics.dead_letters, 0, encode_record("dead_letter", letter))

    def wants_saving(self, now_s: float) -> bool:
        """Whether the waiting inputs should be saved now."""
        return (
            bool(self.events)
            and not self.saving
            and not self.in_between
            and (
                now_s >= self.due_s
                or self.rows >= SAVE_ROWS_MAX
                or self.size_bytes >= SAVE_BYTES_MAX
            )
        )

    async def save(self, ack: Ack) -> None:
        """Waits for the outputs, saves the state, then acknowledges the inputs, in that order.

        Inputs that arrive meanwhile belong to the next save.
        """
        self.saving = True
        events, sent = self.events, self._sent
        changes = self.state.take_delta()
        self.events, self._sent = [], _Sent()
        self.rows = self.size_bytes = 0
        while not sent.all_there:  # noqa: ASYNC110 - filled by the producer's thread
            await asyncio.sleep(0.002)
        reach(FaultPoint.RESOLVER_SENT_NOT_SAVED)
        await asyncio.get_running_loop().run_in_executor(None, self.store.save, changes)
        self.state.delta_saved()
        reach(FaultPoint.RESOLVER_STORED_NOT_ACKED)
        self._send_progress()
        for number, event in enumerate(events, 1):
            await ack(event)
            if number % _ACKS_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.saving = False

    def _send_progress(self, then: Callable[[], object] | None = None) -> None:
        """Tells how the rows taken in so far have ended, by source: never less than was told before.

        `then` is called, in the producer's thread, once the broker has it.
        """
        record = {
            "next_input": self.state.next_input,
            "out_seq": self.state.out_seq,
            "holds": self.state.holds,
            "held": self.state.held_tables(),
            "waiting_rows": self.state.line.rows,
            "parked_rows": self.state.merging.rows,
            "down": self.state.merging.down(),
            "counters": {source: asdict(c) for source, c in self.state.counters.items()},
            "at_us": now_us(),
        }
        told = self._told.tell(self.state.holds)

        def delivered(_: int) -> None:
            told()
            if then is not None:
                then()

        self.producer.send(
            self.topics.progress,
            0,
            json.dumps(record, separators=(",", ":")).encode(),
            key=f"resolver/{self.state.target}/{self.number}".encode(),
            delivered=delivered,
        )

    async def finish(self, ack: Ack) -> None:
        """Saves everything that was taken in. The partition is not ours afterwards.

        An input that has been applied in part is waited for, so that all that was sent is saved: the next
        version of the function asks for that. After FINISH_S_MAX it is left to the next owner, with all that is
        not saved.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + FINISH_S_MAX
        # Milliseconds as a rule, at a rebalance only.
        while self.saving or (self.in_between and loop.time() < until_s):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        self.given_up = True
        if self.events and not self.in_between:
            await self.save(ack)


def _place(message: Any) -> str:
    return f"{message.topic}/{message.partition} offset {message.offset}"
