"""Checkpoints, and the look-out for new owners: one thread beside the sources' own, for all of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from gravity.errors import FencedError, GravityError
from gravity.fault import FaultPoint, reach
from gravity.ingest_log import Checkpoint
from gravity.topic import checkpoint_key, newest_plan
from gravity_collector.desk import Desk
from gravity_collector.owner import Control, assert_still_owner, checkpoint_record

log = structlog.get_logger()

KEEPER_S: Final = 5.0
"""How often checkpoints are written and control is read."""
_JOIN_S_MAX: Final = 30.0


class Acknowledging(Protocol):
    """A publisher, as far as checkpoints go."""

    @property
    def acknowledged(self) -> Checkpoint | None:
        """The newest state of which every message is with the broker."""


class Kept:
    """One ownership in the keeper's care. `failure` is for the source's thread to raise."""

    def __init__(
        self,
        keeper: Keeper,
        publisher: Acknowledging,
        source: str,
        owner: int,
        desk: Desk | None = None,
        *,
        plan: int,
    ) -> None:
        self._keeper = keeper
        self._plan = plan
        self._desk = desk
        self._publisher = publisher
        self._source = source
        self._owner = owner
        self._written = 0
        self._turn = threading.Lock()
        self.failure: GravityError | None = None
        self.is_outdated = False
        """Whether there is a newer plan than the one the ownership began under."""

    def keep(self) -> None:
        """Writes the newest acknowledged state, if there is a newer one than last time."""
        with self._turn:
            point = self._publisher.acknowledged
            if point is not None and point.seq > self._written:
                reach(FaultPoint.COLLECTOR_PUBLISHED_NOT_CHECKPOINTED)
                self._keeper.control.write(
                    checkpoint_key(self._source, self._owner), checkpoint_record(point)
                )
                self._written = point.seq

    def look_out(self, records: Mapping[str, Any]) -> None:
        """Raises FencedError when a greater owner's fence is in the log; else serves operators' requests.

        Notices a newer plan.
        """
        assert_still_owner(records, self._source, self._owner)
        self.is_outdated = newest_plan(records) > self._plan
        if self._desk is not None:
            self._desk.look(records)
            self._desk.write(self._keeper.control, self._publisher.acknowledged)

    def start(self) -> None:
        """From now on the keeper looks after it."""
        self._keeper.add(self)

    def end(self) -> None:
        """The keeper leaves it alone; harmless when repeated."""
        self._keeper.remove(self)

    def raise_if_fenced(self, error: GravityError) -> None:
        """Ends it; raises FencedError, because of `error`, when the source has a new owner."""
        self.end()
        try:
            records = self._keeper.control.refresh()
        except GravityError:
            return
        try:
            self.look_out(records)
        except FencedError as fenced:
            raise fenced from error


class Keeper(threading.Thread):
    """Writes what publishers know to be in the log to control. A thread, since it waits for Kafka."""

    def __init__(self, control: Control, *, every_s: float = KEEPER_S) -> None:
        super().__init__(name="keeper", daemon=True)
        self.control = control
        self._every_s = every_s
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._kept: list[Kept] = []

    def care_for(
        self,
        publisher: Acknowledging,
        source: str,
        owner: int,
        desk: Desk | None = None,
        *,
        plan: int,
    ) -> Kept:
        """An ownership to be looked after, once it is started; `desk` takes its operators' requests.

        `plan`: the plan that it began under.
        """
        return Kept(self, publisher, source, owner, desk, plan=plan)

    def add(self, kept: Kept) -> None:
        """Takes an ownership into care."""
        with self._turn:
            self._kept.append(kept)

    def remove(self, kept: Kept) -> None:
        """Leaves an ownership alone from now on."""
        with self._turn:
            if kept in self._kept:
                self._kept.remove(kept)

    def run(self) -> None:
        """The thread's body."""
        while not self._ended.wait(self._every_s):
            self.round()

    def round(self) -> None:
        """One checkpoint for each ownership, and one look at control for all of them."""
        with self._turn:
            round_of = list(self._kept)
        for kept in round_of:
            _fail_alone(kept, kept.keep)
        try:
            # With nothing in care too: who waits for a newer plan looks at what was read (recall.py).
            records = self.control.refresh()
        except GravityError as error:
            log.warning("control_not_read", sources=len(round_of), reason=str(error))
            for kept in round_of:
                kept.failure = kept.failure or error
            return
        for kept in round_of:
            _fail_alone(kept, lambda kept=kept: kept.look_out(records))  # type: ignore[misc]

    def end(self) -> None:
        """Ends the thread. Harmless when repeated."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=_JOIN_S_MAX)


def _fail_alone(kept: Kept, step: Callable[[], None]) -> None:
    try:
        step()
    except GravityError as error:
        kept.failure = kept.failure or error
