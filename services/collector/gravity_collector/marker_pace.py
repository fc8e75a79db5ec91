"""When a source's next marker is due. Pure: it is told the time, seconds of a clock that never goes back.

Whoever waits for a transaction at a target waits for the marker behind it, so it should come soon. But each
marker becomes a message for every partition of every target, so they are limited: by a bucket of markers
that may come soon, filled at a rate that the number of those messages bounds for all sources together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from gravity.plan import RoutingPlan

FLOWING_S: Final = 1.0
"""Between markers while rows flow, however busy the source is; also where only other tables are written to."""
IDLE_S: Final = 5.0
SOON_S: Final = 0.02
"""Least time between two markers that come soon."""
SOON_PER_S: Final = 10.0
"""Of these a second, as long as the bucket is not full."""
SOON_AT_ONCE: Final = 10
"""Markers that a full bucket holds."""
ROWS_FOR_ONE: Final = 500
"""So many rows before a marker make it take one more: at 2,500 rows a second half as many come, from 5,000 on one a second."""
COPIES_PER_S_MAX: Final = 400
"""Messages a second that the markers that come soon become, of all sources together, once the buckets are empty."""


@dataclass(slots=True)
class MarkerPace:
    """The markers of one source, and what has come since the last."""

    copies: int = 1
    """Messages that one marker of each source of the installation becomes, all together."""
    _marked_s: float = float("-inf")
    _rows: int = 0
    """Sent by the last marker; `_transactions` likewise."""
    _transactions: int = 0
    _spare: float = field(default=float(SOON_AT_ONCE))
    """In the bucket behind the last marker, which took what it cost; less than 0: it took more than there was."""

    @classmethod
    def under(cls, plan: RoutingPlan) -> Self:
        """The pace of each source under a plan."""
        return cls(len(plan.sources) * len(plan.targets) * plan.partitions)

    @property
    def _per_s(self) -> float:
        return min(SOON_PER_S, COPIES_PER_S_MAX / self.copies)

    def hurry(self) -> None:
        """The next marker is due at once."""
        self._marked_s = float("-inf")

    def marked(self, now_s: float, *, rows: int, transactions: int) -> None:
        """A marker stands behind everything so far: that many rows have been sent, transactions read."""
        filled = self._spare + max(0.0, now_s - self._marked_s) * self._per_s
        cost = 1 + (rows - self._rows) / ROWS_FOR_ONE
        self._spare = max(-float(SOON_AT_ONCE), min(SOON_AT_ONCE, filled) - cost)
        self._marked_s, self._rows, self._transactions = now_s, rows, transactions

    def due_s(self, *, rows: int, transactions: int, is_at_end: bool, is_often: bool) -> float:
        """When the next marker is due, if nothing else comes.

        `is_at_end`: nothing more was waiting to be read, nor waits to be sent. `is_often`: markers are wanted
        while no rows flow, too.
        """
        flows = rows != self._rows
        due_s = self._marked_s + (FLOWING_S if flows or is_often else IDLE_S)
        if not is_at_end or transactions == self._transactions:
            return due_s
        if not flows:
            return min(due_s, self._marked_s + FLOWING_S)
        wait_s = max(SOON_S, (1 - self._spare) / self._per_s)
        return min(due_s, self._marked_s + wait_s)
