"""What a source server says of semi-synchronous replication, asked once a second on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from gravity.semi_sync import QUESTIONS, ServerSemiSync, alarms

if TYPE_CHECKING:
    from gravity_collector.snapshot import SourceConnection

log = structlog.get_logger()

LOOK_S: Final = 1.0
_JOIN_S_MAX: Final = 10.0


class ServerWatch(threading.Thread):
    """Looks at the server and says aloud what changes. `state` is for another thread to read."""

    def __init__(self, source: str, connect: Callable[[], SourceConnection]) -> None:
        super().__init__(name=f"semi-sync-{source}", daemon=True)
        self._source = source
        self._connect = connect
        self._ended = threading.Event()
        self._connection: SourceConnection | None = None
        self._is_seen = True
        self.state: ServerSemiSync | None = None
        """As last seen; None before the first look."""
        self.looks = 0
        """How often it was seen."""

    def run(self) -> None:
        """The thread's body."""
        while True:
            self.look()
            if self._ended.wait(LOOK_S):
                break
        self._disconnect()

    def look(self) -> None:
        """Asks once, and says what has changed; that it can't be asked is said once, too."""
        try:
            self._connection = self._connection or self._connect()
            now = ServerSemiSync.of([self._connection.query(question) for question in QUESTIONS])
        except Exception as error:  # noqa: BLE001 - a look that fails must not end all further ones
            # The binlog connection meets the same trouble, and halts or is opened again.
            if self._is_seen:
                log.warning("semi_sync_not_seen", source=self._source, reason=str(error))
            self._is_seen = False
            self._disconnect()
            return
        self._is_seen = True
        for alarm in alarms(self.state, now):
            say = log.error if alarm.is_error else log.warning
            say(alarm.event, source=self._source, **alarm.fields)
        self.state = now
        self.looks += 1

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def end(self) -> None:
        """Ends the thread. Harmless when repeated."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=_JOIN_S_MAX)
