"""The wire protocol of semi-synchronous replication, as far as a replica speaks it. Pure.

A replica that sets `SESSION_STATEMENT` before it asks for the binlog gets two bytes more in front of every
event: MAGIC, and a flag that is 1 where a COMMIT at the server waits for the answer. An answer names a place:
everything before it is acknowledged. **So does the place that a dump begins at**: the server takes all before
it for received, whoever has it. A dump may therefore begin only where all targets are (docs/adr/0019).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gravity.position import Position
from gravity_collector.event import AckAsked

MAGIC: Final = 0xEF
LEAD_BYTES: Final = 2
"""MAGIC and the flag."""
IS_ASKED: Final = 1
"""The flag's only meaning so far."""

SESSION_STATEMENT: Final = "SET @rpl_semi_sync_slave = 1, @rpl_semi_sync_replica = 1"
"""Servers before MySQL 8.0.26 and all of MariaDB read the first, newer plugins of MySQL the second."""

_ASKED_MAX: Final = 10_000
_OFFSET_BYTES: Final = 8


def answer(file_name: str, next_offset: int) -> bytes:
    """The packet that acknowledges everything before byte `next_offset` of a binlog file.

    It begins a new exchange on the connection, so its number is 0.
    """
    payload = bytes((MAGIC,)) + next_offset.to_bytes(_OFFSET_BYTES, "little") + file_name.encode()
    return len(payload).to_bytes(3, "little") + b"\x00" + payload


@dataclass(slots=True)
class AskedFor:
    """The transactions whose COMMIT waits, in the order of the binlog of one server and epoch."""

    epoch: int
    _waiting: deque[AckAsked] = field(default_factory=deque)

    def add(self, asked: Iterable[AckAsked]) -> None:
        """Takes in what the server asks for next."""
        self._waiting += asked
        # One answer covers all before it, so of too many the older half need no answer of their own.
        while len(self._waiting) > _ASKED_MAX:
            self._waiting.popleft()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def first(self) -> AckAsked | None:
        """The one that has waited longest."""
        return self._waiting[0] if self._waiting else None

    def covered(self, frontier: Position | None) -> AckAsked | None:
        """Takes out what lies before `frontier` and gives the last of it; None when nothing does.

        A frontier of another epoch speaks of another server's binlog, or of one that was begun anew: it
        covers nothing here, however great it is.
        """
        if frontier is None or frontier.epoch != self.epoch:
            return None
        last: AckAsked | None = None
        place = frontier.file_index, frontier.offset
        while (
            self._waiting and (self._waiting[0].file_index, self._waiting[0].next_offset) <= place
        ):
            last = self._waiting.popleft()
        return last
