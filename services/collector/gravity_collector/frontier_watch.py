"""How far the targets are that a source's COMMITs wait for, learnt while the source's thread does other things."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

import structlog

from gravity.errors import FatalError, GravityError, TransientError
from gravity.recency import Frontier, Frontiers
from gravity.recency_reader import ProgressFollower

if TYPE_CHECKING:
    from gravity.config import Config

log = structlog.get_logger()

_POLL_S: Final = 0.5
_RETRY_S: Final = 1.0
_JOIN_S_MAX: Final = 10.0


class FrontierWatch(threading.Thread):
    """Follows the progress topic. `frontier` and `failure` are for another thread to read.

    What it holds is the last record of each key, however many there were.
    """

    def __init__(self, config: Config, source: str, targets: tuple[str, ...]) -> None:
        super().__init__(name=f"frontier-{source}", daemon=True)
        self._config = config
        self._source = source
        self._targets = targets
        self._ended = threading.Event()
        self.waker, self._wakes = socket.socketpair()
        """Readable when `frontier` has moved; whoever waits empties it."""
        self.waker.setblocking(False)
        self._wakes.setblocking(False)
        self.frontier: Frontier | None = None
        """The least of all partitions of all targets; None while one is not known."""
        self.failure: GravityError | None = None
        """Why it has ended."""

    def run(self) -> None:
        """The thread's body."""
        while not self._ended.is_set():
            try:
                self._follow()
            except TransientError as error:
                # Nothing is acknowledged meanwhile: the server's own timeout decides.
                self._tell(None)
                log.warning("frontier_unknown", source=self._source, reason=str(error))
                self._ended.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - raised in the source's own thread
                self.failure = _as_failure(error, self._source)
                return

    def _follow(self) -> None:
        frontiers = Frontiers(self._config.kafka.partitions)
        follower = ProgressFollower(self._config, f"gravity-frontier-{self._source}")
        try:
            while not self._ended.is_set():
                for record in follower.records(_POLL_S):
                    frontiers.add(*record)
                self._tell(frontiers.least(self._source, self._targets))
        finally:
            follower.close()

    def _tell(self, frontier: Frontier | None) -> None:
        if frontier != self.frontier:
            self.frontier = frontier
            with contextlib.suppress(OSError):  # Full: whoever waits has been woken long since.
                self._wakes.send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Returns when the frontier has moved, or after `timeout_s`."""
        poller = select.poll()  # select.select takes no descriptor above 1023.
        poller.register(self.waker, select.POLLIN)
        if poller.poll(timeout_s * 1000):
            with contextlib.suppress(BlockingIOError):
                self.waker.recv(4096)

    def end(self) -> None:
        """Ends the thread. Harmless when repeated."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=_JOIN_S_MAX)
        self.waker.close()
        self._wakes.close()


def _as_failure(error: Exception, source: str) -> GravityError:
    if isinstance(error, GravityError):
        return error
    return FatalError(
        f"what the targets say of their progress can't be followed: {error!r}",
        where=f"source {source}",
        remedy="COMMITs that wait would wait in vain: take `semi-sync` out, and report it",
    )
