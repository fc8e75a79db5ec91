"""What every sink shares: the port a target is written through, and the lane that feeds it. Pure.

A lane is one partition of `target.<target>`. It admits messages in offset order, keeps them until a
write is worth its price, and hands the writer one `Write` at a time together with the progress that
must become durable with the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch, decode_record
from gravity.cut import Arrival
from gravity.errors import FatalError
from gravity.header import RoutedKind, TargetHeader
from gravity.progress import Admission, SinkProgress
from gravity.stored import Counts, FrontierPoint, Stored


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that is to be applied."""

    header: TargetHeader
    offset: int
    value: bytes
    batch: ChangeBatch | None
    """The rows; None for a schema change, which is alone in its write."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the target does not take."""

    message: Admitted
    row: int
    """Where it stands in `message.batch`."""
    code: str
    """The target's error code, or a name of our own."""
    reason: str
    sent_as: int | None = None
    """Its number in the message as it was sent, where `message.batch` is only a part of that."""

    @property
    def number(self) -> int:
        """Its number in the message as it was sent."""
        return self.row if self.sent_as is None else self.sent_as


SetAside = Callable[[Sequence[Refusal]], None]
"""Puts rows into the dead-letter topic and returns once they are durable there.

Raises FatalError when there are too many of them.
"""


@dataclass(frozen=True, slots=True)
class Write:
    """Messages of one lane to be applied at once, and what must become durable with them."""

    partition: int
    before: Stored
    after: Stored
    """As if every row were applied; `dead_lettered` corrects the counts."""
    messages: tuple[Admitted, ...]
    """Either rows, or one schema change."""
    rows: int
    cut: Arrival | None = None
    """The cut whose marker is the last that this write passes."""

    @property
    def schema_change(self) -> Admitted | None:
        """The schema change that this write is about; None: it is about rows."""
        alone = self.messages[0] if self.messages else None
        return alone if alone is not None and alone.batch is None else None

    def truncated(self, rows: int) -> Stored:
        """What is to be stored when a TRUNCATE has deleted so many rows."""
        return replace(self.after, counts=self.after.counts.plus(Counts(truncated=rows)))

    def dead_lettered(self, rows: int) -> Stored:
        """What is to be stored when this many of the rows were set aside."""
        return self.corrected(Counts(applied=-rows, dead=rows))

    def corrected(self, by: Counts) -> Stored:
        """What is to be stored when rows ended otherwise than by being applied."""
        return replace(self.after, counts=self.after.counts.plus(by))

    def behind(self, stored: Stored) -> Write:
        """The same write, where the target's counts have moved by more than `before` knew of."""
        counts = stored.counts.plus(self.after.counts.minus(self.before.counts))
        return replace(self, before=stored, after=replace(self.after, counts=counts))


@dataclass(frozen=True, slots=True)
class Pace:
    """When a lane's messages are worth a write: whichever limit is met first."""

    rows_max: int
    wait_ms_max: int
    """Age of the oldest message."""
    wait_ms_idle: int
    """The same, while no further message is waiting."""
    interval_ms: int = 0
    """Two writes of a lane begin at least so far apart."""
    quiet_ms: int = 1000
    """The same as `wait_ms_max` for messages without rows: markers, repeats."""
    bytes_max: int = 16 * 1024 * 1024


class LaneWriter(Protocol):
    """One lane of one target, ours since `SinkWriter.take_over` until `close`."""

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Applies `write` and returns what is now durable at the target.

        Afterwards the target is as if each row had been applied in order, and its progress says so;
        the two become visible together (ClickHouse: rows first, harmlessly repeated). Rows that the
        target refuses are handed to `set_aside` before progress moves; their neighbours go on. A
        refused row is skipped safely because every later change of its key holds the whole row.

        Raises:
            TransientError: call again with the same or a longer write that begins alike. Whether
                this one became durable may be unknown; the next call finds out.
            FencedError: another process has taken the lane over; nothing more was written.
            FatalError: an operator must act; nothing was written.
        """

    def retry(self, stored: Stored, set_aside: SetAside) -> Stored | None:
        """Tries some of the parked rows again, if it is time; called after writes and while idle.

        `stored` is what the last write or retry returned. What is returned is durable, with the rows that
        the target took and those handed to `set_aside`; None: nothing has moved. Raises as `write` does.
        """

    def stands(self) -> bool:
        """Whether nothing may be written now, since the lane is at a cut. Called often; raises as `write` does."""

    def keep_alive(self) -> None:
        """Called a few times a second; keeps an idle session open."""

    def close(self) -> None:
        """Gives the lane up. What was not durable is rolled back."""


class SinkWriter(Protocol):
    """One target. Lifecycle: open, then take_over and LaneWriter.close in any order, then close."""

    @property
    def pace(self) -> Pace:
        """When a lane of this target should be written."""

    def open(self) -> None:
        """Connects and makes what the sink needs for itself.

        Raises:
            TransientError: the target is away; call again.
            FatalError: it refuses us, or is not what it should be.
        """

    def take_over(self, partition: int) -> tuple[LaneWriter, Stored]:
        """Makes the lane ours. A former owner's writes are decided before this returns, or equal ours.

        Raises:
            TransientError: not now; call again.
        """

    def close(self) -> None:
        """Gives all connections up."""


@dataclass(frozen=True, slots=True)
class _Item:
    header: TargetHeader
    offset: int
    value: bytes
    admission: Admission
    after: SinkProgress

    @property
    def alters(self) -> bool:
        return self.admission is Admission.APPLY and self.header.routed.kind is RoutedKind.SCHEMA

    @property
    def ends_write(self) -> bool:
        """Whether it does not wait for more to be written with it, and nothing behind it is."""
        return self.alters or (self.admission is Admission.APPLY and bool(self.header.routed.cut))


def _point_of(item: _Item) -> FrontierPoint:
    """What a marker says."""
    routed, time_us = item.header.routed, decode_record("marker", item.value)["time_us"]
    return FrontierPoint(str(routed.to), routed.gtids, routed.ets, time_us)


def _split(table: str) -> tuple[str, str]:
    database, _, name = table.partition(".")
    return database, name


def split_table(header: TargetHeader) -> tuple[str, str]:
    """(database, table) at the target."""
    return _split(header.routed.table)


class Lane:
    """Collects one partition's messages and cuts them into writes. Knows no clock: it is told.

    `stored` is what the target has; messages behind it wait in `_items`. Times are seconds of any
    clock that never goes back.
    """

    def __init__(
        self, target: str, partition: int, writer: LaneWriter, stored: Stored, pace: Pace
    ) -> None:
        self.partition = partition
        self.writer = writer
        self.stored = stored
        self.retry_at = 0.0
        self.attempts = 0
        self._pace = pace
        self._where = f"target {target}, partition {partition}"
        self._items: deque[_Item] = deque()
        self._ahead = stored.progress
        self._rows = 0
        self._bytes = 0
        self._urgent = 0
        self._oldest_s = 0.0
        self._oldest_row_s: float | None = None
        self._last_write_s = float("-inf")
        self._passed: dict[str, FrontierPoint] | None = None
        """As `passed`, if it has been asked for since the last write."""
        self._is_clear = False
        """Whether no row waits to be written, so that the next marker has passed."""

    def offer(
        self, headers: list[tuple[str, bytes]], value: bytes | None, offset: int, now_s: float
    ) -> None:
        """Takes the next message in.

        Raises:
            HoleError: a number is missing before it.
            FormatError: it can't be read, or is newer than this reader.
        """
        header = TargetHeader.from_kafka(headers)
        admission, self._ahead = self._ahead.admit(header, offset=offset, where=self._where)
        if not self._items:
            self._oldest_s = now_s
        if (
            admission is Admission.APPLY
            and header.routed.kind is RoutedKind.ROWS
            and self._oldest_row_s is None
        ):
            self._oldest_row_s = now_s
        self._items.append(_Item(header, offset, value or b"", admission, self._ahead))
        if self._passed is not None:
            self._pass(self._passed, self._items[-1])
        self._rows += header.routed.rows
        self._bytes += len(value or b"")
        self._urgent += self._items[-1].ends_write

    @property
    def has_messages(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._items)

    @property
    def full(self) -> bool:
        """Whether no more should be fetched for it at present."""
        return self._rows >= 4 * self._pace.rows_max or self._bytes >= 4 * self._pace.bytes_max

    @property
    def has_room(self) -> bool:
        """Whether fetching may go on after it was full."""
        return self._rows < 2 * self._pace.rows_max and self._bytes < 2 * self._pace.bytes_max

    @property
    def passed(self) -> Mapping[str, FrontierPoint]:
        """How far each source has surely been applied.

        That is what is stored, and the markers behind it before which no row waits to be written: they will
        be stored with a later write.
        """
        if self._passed is None:
            self._passed, self._is_clear = dict(self.stored.frontier), True
            for item in self._items:
                self._pass(self._passed, item)
                if not self._is_clear:
                    break
        return dict(self._passed)

    def _pass(self, frontier: dict[str, FrontierPoint], item: _Item) -> None:
        if item.admission is not Admission.APPLY or not self._is_clear:
            return
        if item.header.routed.kind is RoutedKind.MARKER:
            frontier[item.header.routed.source] = _point_of(item)
        elif item.header.routed.rows or item.alters:
            self._is_clear = False

    def due(self, now_s: float, *, caught_up: bool) -> bool:
        """Whether a write should begin now. `caught_up`: nothing more was waiting in Kafka."""
        if not self._items or now_s < self.retry_at:
            return False
        if now_s - self._last_write_s < self._pace.interval_ms / 1000:
            return False
        if self._urgent:
            return True  # It ends its write: waiting makes none larger.
        if self._rows >= self._pace.rows_max or self._bytes >= self._pace.bytes_max:
            return True
        if self._oldest_row_s is None:
            return now_s - self._oldest_s >= self._pace.quiet_ms / 1000
        wait_ms = self._pace.wait_ms_idle if caught_up else self._pace.wait_ms_max
        return now_s - self._oldest_row_s >= min(wait_ms, self._pace.wait_ms_max) / 1000

    def next_due_s(self, now_s: float) -> float:
        """Seconds until `due` may become true by time alone; a bound for waiting."""
        if not self._items:
            return 1.0
        marks = [self.retry_at, self._last_write_s + self._pace.interval_ms / 1000]
        if self._urgent:
            return max(0.0, max(marks) - now_s)
        if self._oldest_row_s is None:
            marks.append(self._oldest_s + self._pace.quiet_ms / 1000)
        else:
            wait_ms = min(self._pace.wait_ms_idle, self._pace.wait_ms_max)
            marks.append(self._oldest_row_s + wait_ms / 1000)
        return max(0.0, max(marks) - now_s)

    def cut(self, now_s: float) -> Write | None:
        """The next write: the oldest messages up to the limits. None when there is no message.

        A schema change is a write by itself: altering is part of no transaction. A cut's marker ends its write.
        Nothing is forgotten until `done`: the same call gives the same messages again.
        """
        if not self._items:
            return None
        self._last_write_s = now_s
        taken: list[_Item] = []
        rows = size = 0
        for item in self._items:
            if taken and (rows >= self._pace.rows_max or size >= self._pace.bytes_max):
                break
            if taken and item.alters:
                break
            taken.append(item)
            if item.ends_write:
                break
            if item.admission is Admission.APPLY:
                rows += item.header.routed.rows
                size += len(item.value)
        return self._write_of(taken)

    def _write_of(self, taken: list[_Item]) -> Write:
        messages: list[Admitted] = []
        frontier = dict(self.stored.frontier)
        applied = repeats = void = 0
        for item in taken:
            routed = item.header.routed
            if item.admission is Admission.REPEAT:
                repeats += routed.rows
            elif item.admission is Admission.VOID:
                void += routed.rows
            elif routed.kind is RoutedKind.ROWS:
                batch = decode_batch(item.value)
                _check_rows(item, batch)
                applied += len(batch)
                messages.append(Admitted(item.header, item.offset, item.value, batch))
            elif routed.kind is RoutedKind.SCHEMA:
                messages.append(Admitted(item.header, item.offset, item.value, None))
            elif routed.kind is RoutedKind.MARKER:
                frontier[routed.source] = _point_of(item)
        counts = self.stored.counts.plus(Counts(applied, 0, repeats, void))
        after = Stored(taken[-1].after, frontier, counts)
        last = taken[-1]
        cut = Arrival.of(last.header.routed) if last.ends_write and not last.alters else None
        return Write(self.partition, self.stored, after, tuple(messages), applied, cut)

    def done(self, stored: Stored, now_s: float) -> None:
        """Forgets the messages that the target has now."""
        while self._items and self._items[0].offset < stored.progress.next_offset:
            item = self._items.popleft()
            self._rows -= item.header.routed.rows
            self._bytes -= len(item.value)
            self._urgent -= item.ends_write
        self.stored = stored
        self._passed = None
        self.attempts = 0
        self.retry_at = 0.0
        self._oldest_s = now_s
        self._oldest_row_s = now_s if self._rows else None

    def moved(self, stored: Stored) -> None:
        """Remembers what the target has stored beside the lane's messages."""
        self.stored = stored
        self._passed = None

    def failed(self, retry_at_s: float) -> None:
        """Remembers that a write did not succeed and when to try again."""
        self.attempts += 1
        self.retry_at = retry_at_s


def _check_rows(item: _Item, batch: ChangeBatch) -> None:
    if len(batch) != item.header.routed.rows:
        raise FatalError(
            f"a message holds {len(batch)} rows, its header says {item.header.routed.rows}",
            where=f"{item.header.routed.table}, offset {item.offset}",
            remedy="the message was damaged: see docs/what-if.md",
        )
