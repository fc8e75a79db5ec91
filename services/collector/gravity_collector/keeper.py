"""Checkpoints, and the look-out for a new owner, beside a source's own thread."""

from __future__ import annotations

import threading
from typing import Final

from gravity.errors import FencedError, GravityError
from gravity.fault import FaultPoint, reach
from gravity.kafka.control import ControlTopic
from gravity.topic import checkpoint_key
from gravity_collector.owner import assert_still_owner, checkpoint_record
from gravity_collector.publisher import Publisher

KEEPER_S: Final = 5.0
"""How often a checkpoint is written and control is read."""


class Keeper(threading.Thread):
    """Writes what the publisher knows to be in the log to control. A thread, since it waits for Kafka.

    `failure` is what ended it, for the source's thread to raise.
    """

    def __init__(
        self, control: ControlTopic, publisher: Publisher, source: str, owner: int
    ) -> None:
        super().__init__(name=f"keeper-{source}", daemon=True)
        self._control = control
        self._publisher = publisher
        self._source = source
        self._owner = owner
        self._ended = threading.Event()
        self._written = 0
        self.failure: GravityError | None = None

    def run(self) -> None:
        """The thread's body."""
        try:
            while not self._ended.wait(KEEPER_S):
                self.keep()
                assert_still_owner(self._control.refresh(), self._source, self._owner)
        except GravityError as error:
            self.failure = error

    def keep(self) -> None:
        """Writes the newest acknowledged state, if there is a newer one than last time."""
        point = self._publisher.acknowledged
        if point is not None and point.seq > self._written:
            reach(FaultPoint.COLLECTOR_PUBLISHED_NOT_CHECKPOINTED)
            self._control.write(checkpoint_key(self._source, self._owner), checkpoint_record(point))
            self._written = point.seq

    def end(self) -> None:
        """Ends the thread; control may be used by others again. Harmless when repeated."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=30)

    def raise_if_fenced(self, error: GravityError) -> None:
        """Ends the thread; raises FencedError, because of `error`, when the source has a new owner."""
        self.end()
        try:
            records = self._control.refresh()
        except GravityError:
            return
        try:
            assert_still_owner(records, self._source, self._owner)
        except FencedError as fenced:
            raise fenced from error
