"""How far each source is in a partition's log, and which is down. Pure.

Time is that of the log: when its messages were written there. Sources' own commit times say nothing of
silence, since they fly while old rows are read. A pause in which nobody spoke was the log's own, and
says nothing against one source: it counts as half of the wait at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_BACK_MS: Final = 60_000
"""So far apart routers' clocks may be. A stamp further back says that an earlier one was wrong."""


@dataclass(slots=True)
class SourceClock:
    """What a partition has heard of its sources."""

    frontiers: dict[str, int] = field(default_factory=dict)
    """Source to the commit time, in microseconds, before which it has nothing more to say, by its markers."""
    time_ms: int = 0
    """The log's time: the latest of its messages."""
    spoken_ms: int = 0
    """Log time that has counted so far."""
    heard_ms: dict[str, int] = field(default_factory=dict)
    """Source to `spoken_ms` when it spoke last, or was waited for first."""

    def hear(self, source: str, time_ms: int, *, sources: Iterable[str], max_wait_ms: int) -> None:
        """Takes in that a message of `source` was written at `time_ms`; `sources` are waited for."""
        if time_ms < self.time_ms - _BACK_MS:
            self.time_ms = time_ms
        if self.time_ms:
            self.spoken_ms += min(max(0, time_ms - self.time_ms), max_wait_ms // 2)
        self.time_ms = max(self.time_ms, time_ms)
        for other in sources:
            self.heard_ms.setdefault(other, self.spoken_ms)
        self.heard_ms[source] = self.spoken_ms

    def advance(self, source: str, frontier: int) -> None:
        """Takes in a marker: the source has nothing more to say from before `frontier`."""
        self.frontiers[source] = max(frontier, self.frontiers.get(source, 0))

    def is_down(self, source: str, max_wait_ms: int) -> bool:
        """Whether the source has been silent for so long."""
        return self.spoken_ms - self.heard_ms.get(source, self.spoken_ms) >= max_wait_ms

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "frontiers": self.frontiers,
            "time_ms": self.time_ms,
            "spoken_ms": self.spoken_ms,
            "heard_ms": self.heard_ms,
        }
