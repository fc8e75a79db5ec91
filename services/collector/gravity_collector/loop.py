"""The loop of one source: read, publish, and do what is due in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gravity.clock import monotonic_s, now_us
from gravity.position import Position
from gravity_collector.acknowledger import Acknowledger
from gravity_collector.binlog import BinlogStream
from gravity_collector.bucket import RowBucket
from gravity_collector.copier import Copier
from gravity_collector.cut_desk import CutDesk
from gravity_collector.keeper import Kept
from gravity_collector.marker_pace import MarkerPace
from gravity_collector.publisher import Publisher
from gravity_collector.quiet import QuietTime
from gravity_collector.stream import Stream

PROGRESS_S: Final = 1.0
PROGRESS_IDLE_S: Final = 5.0
_IDLE_READ_S: Final = 1.0
"""Longest wait for the server: a heartbeat comes as often, and a stop is noticed as late."""
_SNAPSHOT_READ_S: Final = 0.01
_HOLD_STEP_S: Final = 0.05
_HELD_BACK_STEP_S: Final = 0.05
_HELD_BACK_S_MAX: Final = 5.0
"""A server closes the connection of a replica that reads nothing for a minute; something is read as often."""


@dataclass(slots=True)
class _Due:
    """When the periodic things happen next, by the monotonic clock."""

    progress_s: float = 0.0
    told_s: float = 0.0
    """When the last progress record was sent."""
    last_span_s: float = 0.0
    read_s: float = 0.0
    """When the binlog was read last."""
    rows_charged: int = 0
    """Rows of the stream that the bucket knows of."""
    at_progress: tuple[Position, int] | None = None
    """Position and rows of the last progress record."""


@dataclass(slots=True)
class Loop:
    """The parts of one ownership of a source, at work. Runs in the source's thread."""

    source: str
    binlog: BinlogStream
    stream: Stream
    publisher: Publisher
    copier: Copier
    keeper: Kept
    pace_s: float
    """Least time between spans under a steady trickle."""
    bucket: RowBucket
    markers: MarkerPace
    cuts: CutDesk
    """Operators' requests for the markers of cuts."""
    is_new_epoch: bool = False
    """Whether the log does not say yet where this server's binlog was begun."""
    ends_with_copy: bool = False
    """Whether there is nothing to do once all existing rows are in the log."""
    acknowledger: Acknowledger | None = None
    """Where COMMITs at the source wait for targets."""
    open_joined: Callable[[Position], BinlogStream] | None = None
    """Opens the binlog anew, with answers, at a place that all these targets have passed."""
    _is_idle: bool = False
    """Whether the server had nothing more when it was read last."""
    _due: _Due = field(default_factory=_Due)
    _quiet: QuietTime = field(default_factory=QuietTime)

    def run(self, stop: threading.Event) -> bool:
        """Goes on until `stop`, a newer plan, or (true) the end of the copy where that is all.

        Then everything read is in the log and the checkpoint says so.
        """
        is_copied = False
        while not (stop.is_set() or is_copied or self.keeper.is_outdated):
            if self.acknowledger is not None and self.acknowledger.is_holding:
                self.acknowledger.watch.wait(_HOLD_STEP_S)
            elif not self._is_held_back(stop):
                self._read()
            if self.acknowledger is not None:
                self._acknowledge(self.acknowledger)
            self.publisher.serve()
            if self.keeper.failure is not None:
                raise self.keeper.failure
            if self.stream.is_between_transactions:
                if self.copier.serve():
                    # Who waits for the copy is told at once.
                    self._due.progress_s = 0.0
                    self.markers.hurry()
                self._mark_cuts()
                is_copied = self.ends_with_copy and not self.copier.is_busy
                if is_copied:
                    self._due.progress_s = 0.0
                    self.markers.hurry()
            self._serve_what_is_due()
        if self.stream.is_between_transactions:
            self.stream.end_span()
        self.publisher.flush()
        self.keeper.end()
        self.keeper.keep()
        return is_copied

    def _is_held_back(self, stop: threading.Event) -> bool:
        """Whether the stream is read no further for now, since the source gave as many rows as it may."""
        due = self._due
        self.bucket.take(self.publisher.stream_rows - due.rows_charged)
        due.rows_charged = self.publisher.stream_rows
        debt_s = self.bucket.debt_s()
        now = monotonic_s()
        if not debt_s or now - due.read_s > _HELD_BACK_S_MAX:
            due.read_s = now
            return False
        stop.wait(min(debt_s, _HELD_BACK_STEP_S))
        return True

    def _read(self) -> None:
        """Reads what is there; with nothing more to read, what has been read is sent.

        The first rows after a pause leave at once; under a steady trickle a span waits for `batch.wait-ms-max`
        since the last, so that messages don't become as many as rows. Where a COMMIT waits, nothing does.
        """
        stream = self.stream
        waits_since_s = self.acknowledger.unmarked_since_s if self.acknowledger else None
        can_send = stream.is_between_transactions
        if not can_send or not (stream.has_rows or waits_since_s is not None):
            self._take(self._longest_wait_s())
            return
        if waits_since_s is not None:
            is_time = not self._take(0) or monotonic_s() - waits_since_s > self.pace_s
            if is_time and stream.is_between_transactions:
                self._mark()
            return
        if self._take(0):
            return
        wait_s = self._due.last_span_s + self.pace_s - monotonic_s()
        if wait_s <= 0:
            stream.end_span()
            self._due.last_span_s = monotonic_s()
            return
        self._take(wait_s)

    def _take(self, wait_s: float) -> bool:
        """Reads the next events; false: there were none."""
        began_us = now_us()
        events = self.binlog.read(wait_s)
        self._quiet.read(events, began_us=began_us, ended_us=now_us())
        self.stream.take(events)
        self._is_idle = not events
        return bool(events)

    def _acknowledge(self, acknowledger: Acknowledger) -> None:
        """Answers COMMITs, or makes that they are answered."""
        stream = self.stream
        now = monotonic_s()
        acknowledger.take(stream.take_asked(), now)
        acknowledger.answer(self.binlog)
        acknowledger.look(self.binlog, now)
        if self.copier.is_busy:
            # A chunk of existing rows waits for the binlog to be read to where it was seen.
            acknowledger.go_on()
        elif self._is_idle and stream.is_between_transactions:
            assert self.open_joined is not None
            self.binlog = acknowledger.join(
                self.binlog, stream.position, now, mark=self._mark, open_at=self.open_joined
            )

    def _mark_cuts(self) -> None:
        """Sends the markers that operators have asked for, if the log has all existing rows."""
        for mark in self.cuts.arrived():
            error = (
                "existing rows are being read: a cut would lack some" if self.copier.is_busy else ""
            )
            if not error:
                self._mark(cut=str(mark))
            self.cuts.answer(mark, seq=self.publisher.seq, error=error)

    def _mark(self, *, cut: str = "") -> None:
        """Sends what has been read, and says that it is all up to here; `cut` as in IngestHeader."""
        stream = self.stream
        stream.end_span()
        self.publisher.publish_marker(
            plan=stream.plan_version, quiet=self._quiet.until_us if stream.merges else 0, cut=cut
        )
        self.markers.marked(
            monotonic_s(), rows=self.publisher.rows, transactions=stream.transactions
        )
        if self.acknowledger is not None:
            self.acknowledger.marked()

    def _marker_due_s(self, *, is_idle: bool) -> float:
        """When the next marker is due; `is_idle`: the server had nothing more."""
        stream, is_copying = self.stream, self.copier.is_busy
        return self.markers.due_s(
            rows=self.publisher.rows,
            transactions=stream.transactions,
            # While existing rows are copied no wait ends.
            is_at_end=is_idle and not stream.has_rows and not is_copying,
            # Others' rows wait for an idle source's markers where sources are merged.
            is_often=is_copying or stream.merges,
        )

    def _longest_wait_s(self) -> float:
        """How long nothing but the server can have something to do for us."""
        if self.copier.is_busy:
            return _SNAPSHOT_READ_S
        due_s = self._due.progress_s
        if self.stream.is_between_transactions:
            due_s = min(due_s, self._marker_due_s(is_idle=True))
        return max(0.0, min(_IDLE_READ_S, due_s - monotonic_s()))

    def _serve_what_is_due(self) -> None:
        now, due, publisher = monotonic_s(), self._due, self.publisher
        if self.stream.is_between_transactions and now >= self._marker_due_s(is_idle=self._is_idle):
            self._mark()
        here = publisher.next_position, publisher.rows
        if here != due.at_progress:
            due.progress_s = min(due.progress_s, due.told_s + PROGRESS_S)
        if now >= due.progress_s:
            due.progress_s, due.told_s = now + PROGRESS_IDLE_S, now
            due.at_progress = here
            publisher.publish_progress(
                f"collector/{self.source}",
                {
                    "position": str(publisher.next_position),
                    "gtids": publisher.gtids,
                    "ets": publisher.ets,
                    "seq": publisher.seq,
                    "rows": publisher.rows,
                    "plan": self.stream.plan_version,
                    "snapshot": self.copier.progress(),
                    **(
                        {}
                        if self.acknowledger is None
                        else {"semi_sync": self.acknowledger.progress()}
                    ),
                    "at_us": now_us(),
                },
            )
