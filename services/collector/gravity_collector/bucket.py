"""Rows per second: an upper bound, and how many there are. Pure: the clock is passed in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

BURST_S: Final = 0.5
"""What was not used for so long may be used at once."""
PACE_S: Final = 30.0
"""Over which stretch a pace is taken."""


class Pace:
    """How fast a count grows, over the last half minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def per_s(self, count: int) -> float:
        """Notes the count as of now; gives its growth a second, 0 when that is not known yet."""
        now = self._clock()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] >= PACE_S:  # noqa: PLR2004 - ends of a stretch
            self._points.popleft()
        began, first = self._points[0]
        return (count - first) / (now - began) if now > began else 0.0


class RowBucket:
    """Rows that may pass now. Threads may share it.

    Who has read rows takes them, and waits until the debt is paid before it reads more: how many rows
    come is only known once they are there.
    """

    def __init__(self, rows_per_s_max: int | None, clock: Callable[[], float]) -> None:
        """No `rows_per_s_max`: no bound."""
        self._rate = rows_per_s_max
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_s = 0.0
        """When everything taken so far will have been paid for."""

    def take(self, rows: int) -> None:
        """So many rows have been read."""
        if not self._rate:
            return
        with self._lock:
            self._paid_s = max(self._paid_s, self._clock() - BURST_S) + rows / self._rate

    def debt_s(self) -> float:
        """Seconds to wait before more is read; 0 = none."""
        if not self._rate:
            return 0.0
        with self._lock:
            return max(0.0, self._paid_s - self._clock())
