"""The one loop of all sinks: a target's partitions in, writes out, progress published."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import structlog

from gravity.clock import monotonic_s, now_us
from gravity.dead_letter import DeadLetters
from gravity.errors import FatalError, OffsetLostError, SchemaConflictError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import GroupReader, LogMessage, LogReader
from gravity.progress_pace import PASSED_S, ProgressPace
from gravity.sink import Lane, SetAside, SinkWriter
from gravity.stored import Stored

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster
    from gravity.topic import Topics

log = structlog.get_logger()

STAND_S = 0.05
"""How often a lane at a cut looks whether it may go on."""
RETRY_WAIT_S_MIN, RETRY_WAIT_S_MAX = 0.2, 10.0
TAKE_OVER_S_MAX = 120.0
"""Longest time a target may be away while a lane is taken over; afterwards the stage starts anew."""
DRAIN_S_MAX = 10.0
"""Longest time for writing what is in memory when the stage is asked to stop."""

Result = TypeVar("Result")


def retry_wait_s(attempt: int, draw: Callable[[], float] = random.random) -> float:
    """Pause before the next attempt: doubles up to a bound, and is spread so that lanes don't march."""
    return float(min(RETRY_WAIT_S_MAX, RETRY_WAIT_S_MIN * 2**attempt) * (0.5 + 0.5 * draw()))


class SinkLoop:
    """Copies one target's partitions, as many as the consumer group gives us, into the target.

    Where a lane begins is the target's word: its progress is stored there with the rows. The offsets
    committed to the group are hints for tools.
    """

    def __init__(
        self,
        *,
        stage: str,
        target: str,
        cluster: Cluster,
        topics: Topics,
        writer: SinkWriter,
        session_timeout_ms: int = 10000,
        member: str = "",
        is_awaited: bool = False,
    ) -> None:
        """`is_awaited`: COMMITs at a source wait for the target, so its progress is told at once."""
        self._stage = stage
        self._target = target
        self._topics = topics
        self._topic = topics.target(target)
        self._cluster = cluster
        self._writer = writer
        self._session_timeout_ms = session_timeout_ms
        self._member = member
        self._lanes: dict[int, Lane] = {}
        self._halts: dict[int, FatalError] = {}
        self._paused: set[int] = set()
        self._standing: set[int] = set()
        """Lanes at a cut, as of the last look."""
        self._progress_pace = ProgressPace(0.0 if is_awaited else PASSED_S)
        self._unpublished: set[int] = set()
        self._publish_at_s = float("inf")
        """When the next of these may be published."""
        client = topics.group("sink", target)
        self._producer = LogProducer(cluster, client, is_awaited=is_awaited)
        self._dead_letters = DeadLetters(
            LogProducer(cluster, f"{client}.dead"),
            topics.dead_letters,
            conflicts=topics.conflicts,
            stage=stage,
            target=target,
            target_topic=self._topic,
        )
        self._bounds = LogReader(cluster, f"{client}.bounds")

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; raises what only a restart or an operator can mend."""
        self._until_there(self._writer.open, stop, give_up_s=float("inf"))
        if stop.is_set():
            return
        reader = GroupReader(
            self._cluster,
            self._topics.group("sink", self._target),
            self._topic,
            on_assign=lambda partitions: self._assigned(partitions, stop),
            on_revoke=self._revoked,
            session_timeout_ms=self._session_timeout_ms,
            member=self._member,
        )
        while not stop.is_set():
            self._step(reader)
        self._drain(reader)
        reader.close()
        self._writer.close()
        self._producer.flush()

    def _step(self, reader: GroupReader) -> None:
        now = monotonic_s()
        # A lane at a cut is not due, whatever waits in it.
        dues_s = (
            STAND_S if q in self._standing else lane.next_due_s(now)
            for q, lane in self._lanes.items()
        )
        wait_s = min([0.5, self._publish_at_s - now, *dues_s])
        messages = reader.poll(max(wait_s, 0.001))
        now = monotonic_s()
        for message in messages:
            # A partition given up while its messages were on their way: its new owner reads them.
            lane = self._lanes.get(message.partition)
            if lane is not None and message.partition not in self._halts:
                self._offer(lane, message, now)
        for lane in list(self._lanes.values()):
            if self._stands(lane):
                self._hold_back(lane, reader)
                continue
            halt = self._halts.get(lane.partition)
            if halt is not None and not lane.has_messages:
                raise halt
            if halt is not None or lane.due(monotonic_s(), caught_up=not messages):
                done = self._write(lane, reader)
            else:
                lane.writer.keep_alive()
                done = True
            if done and halt is None:
                self._retry(lane)
            self._hold_back(lane, reader)
        if messages:
            # A marker without rows is not worth a write of its own, but those who wait are told of it.
            self._unpublished.update({m.partition for m in messages} & self._lanes.keys())
        self._publish()
        self._producer.serve()

    def _offer(self, lane: Lane, message: LogMessage, now_s: float) -> None:
        try:
            lane.offer(message.headers, message.value, message.offset, now_s)
        except FatalError as error:
            # What stands before it in the topic is good, and is written before we halt.
            self._halts[lane.partition] = error

    def _write(self, lane: Lane, reader: GroupReader) -> bool:
        write = lane.cut(monotonic_s())
        if write is None:
            return True
        try:
            stored = lane.writer.write(write, self._set_aside(lane))
        except TransientError as error:
            self._failed(lane, error)
            return False
        except SchemaConflictError as error:
            assert write.schema_change is not None
            self._dead_letters.tell_schema_conflict(lane.partition, write.schema_change, error)
            raise
        reach(FaultPoint.SINK_COMMITTED_NOT_REMEMBERED)
        for message in write.messages:
            if message.batch is None:
                routed = message.header.routed
                log.info(
                    "schema_change_passed",
                    target=self._target,
                    table=routed.table,
                    source=routed.source,
                )
        self._tell_parked(lane, stored)
        lane.done(stored, monotonic_s())
        reader.remember({lane.partition: stored.progress.next_offset})
        self._unpublished.add(lane.partition)
        return True

    def _retry(self, lane: Lane) -> None:
        """Has the target look at its parked rows again, if it has any."""
        try:
            stored = lane.writer.retry(lane.stored, self._set_aside(lane))
        except TransientError as error:
            self._failed(lane, error)
            return
        if stored is not None:
            self._tell_parked(lane, stored)
            lane.moved(stored)
            self._unpublished.add(lane.partition)

    def _stands(self, lane: Lane) -> bool:
        """Whether the lane may write nothing now, since it is at a cut."""
        stands = True
        if monotonic_s() >= lane.retry_at or lane.partition not in self._standing:
            try:
                stands = lane.writer.stands()
            except TransientError as error:
                self._failed(lane, error)
        if stands:
            self._standing.add(lane.partition)
        else:
            self._standing.discard(lane.partition)
        return stands

    def _set_aside(self, lane: Lane) -> SetAside:
        return lambda refusals: self._dead_letters.set_aside(lane.partition, refusals)

    def _failed(self, lane: Lane, error: TransientError) -> None:
        wait_s = retry_wait_s(lane.attempts)
        log.warning(
            "write_failed",
            target=self._target,
            partition=lane.partition,
            attempt=lane.attempts + 1,
            retry_in_s=round(wait_s, 1),
            reason=str(error),
        )
        lane.failed(monotonic_s() + wait_s)

    def _tell_parked(self, lane: Lane, stored: Stored) -> None:
        """Says when rows begin to wait at the target, and when the last of them is gone; not each."""
        before, after = lane.stored.counts.parked, stored.counts.parked
        if bool(before) != bool(after):
            log.info(
                "rows_parked" if after else "rows_no_longer_parked",
                target=self._target,
                partition=lane.partition,
                rows=after or before,
            )

    def _hold_back(self, lane: Lane, reader: GroupReader) -> None:
        """Bounds memory: a lane with enough to do fetches no more until it has room."""
        if lane.full and lane.partition not in self._paused:
            reader.pause([lane.partition])
            self._paused.add(lane.partition)
        elif lane.partition in self._paused and lane.has_room:
            reader.resume([lane.partition])
            self._paused.discard(lane.partition)

    def _drain(self, reader: GroupReader) -> None:
        """Writes what is in memory, if that can be done soon. What is left is read again later."""
        deadline = monotonic_s() + DRAIN_S_MAX
        for lane in list(self._lanes.values()):
            while (
                monotonic_s() < deadline
                and lane.has_messages
                and not self._stands(lane)
                and self._write(lane, reader)
            ):
                pass
        self._progress_pace.forget()
        self._publish()

    def _assigned(self, partitions: list[int], stop: threading.Event) -> Mapping[int, int]:
        starts: dict[int, int] = {}
        for partition in partitions:
            writer, stored = self._until_there(
                lambda q=partition: self._writer.take_over(q),  # type: ignore[misc]
                stop,
                give_up_s=TAKE_OVER_S_MAX,
            )
            self._lanes[partition] = Lane(
                self._target, partition, writer, stored, self._writer.pace
            )
            starts[partition] = stored.progress.next_offset
            self._check_offset(partition, stored.progress.next_offset)
            self._unpublished.add(partition)
        return starts

    def _check_offset(self, partition: int, next_offset: int) -> None:
        low, high = self._bounds.bounds(self._topic, partition)
        where = f"{self._topic}/{partition}"
        if next_offset < low:
            raise OffsetLostError(
                f"target {self._target} needs resync: it continues at offset {next_offset}, "
                f"the topic begins at {low}",
                where=where,
                remedy="retention has taken messages that were not applied: see docs/what-if.md",
            )
        if next_offset > high:
            raise FatalError(
                f"target {self._target} has applied up to offset {next_offset}, the topic ends at {high}",
                where=where,
                remedy="was the topic deleted, or is this another Kafka cluster? See docs/what-if.md",
            )

    def _revoked(self, partitions: list[int]) -> None:
        for partition in partitions:
            lane = self._lanes.pop(partition, None)
            if lane is not None:
                lane.writer.close()
            self._halts.pop(partition, None)
            self._paused.discard(partition)
            self._standing.discard(partition)
            self._unpublished.discard(partition)

    def _until_there(
        self, step: Callable[[], Result], stop: threading.Event, *, give_up_s: float
    ) -> Result:
        deadline = monotonic_s() + give_up_s
        attempt = 0
        while True:
            try:
                return step()
            except TransientError as error:
                wait_s = retry_wait_s(attempt)
                if stop.is_set() or monotonic_s() + wait_s > deadline:
                    raise
                log.warning(
                    "target_away",
                    target=self._target,
                    retry_in_s=round(wait_s, 1),
                    reason=str(error),
                )
                stop.wait(wait_s)
                attempt += 1

    def _publish(self) -> None:
        now, pace = monotonic_s(), self._progress_pace
        self._publish_at_s = float("inf")
        for partition in list(self._unpublished):
            lane = self._lanes[partition]
            due_s = pace.due_s(partition, now, lambda lane=lane: lane.passed)  # type: ignore[misc]
            if due_s > now:
                self._publish_at_s = min(self._publish_at_s, due_s)
                continue
            told = replace(lane.stored, frontier=lane.passed)
            record = {**told.to_json(), "at_us": now_us()}
            self._producer.send(
                self._topics.progress,
                0,
                json.dumps(record, separators=(",", ":")).encode(),
                key=f"sink/{self._target}/{partition}".encode(),
            )
            pace.told(partition, now, told.frontier)
            self._unpublished.discard(partition)
