"""Until when a source has surely nothing more to say: what the server's heartbeats at the end of its binlog prove. Pure.

Rows prove how far a source is by their commit times. A source without any needs another proof, or whoever
merges sources by time would wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gravity_collector.event import Event, Heartbeat

SLACK_US: Final = 2_000_000
"""One second for servers that write commit times in whole seconds, one for clocks and the way between."""
_BLOCKED_US: Final = 5_000
"""A read that took this long found nothing waiting when it began."""


@dataclass(slots=True)
class QuietTime:
    """What the reads of one binlog have proved."""

    _empty_us: int = 0
    """When a read had last found nothing; 0: none has."""
    _proved_us: int = 0

    def read(self, events: Sequence[Event], *, began_us: int, ended_us: int) -> None:
        """Takes in what a read gave that lasted from `began_us` to `ended_us` by our clock."""
        if not events:
            self._empty_us = ended_us
            return
        # A heartbeat that was read late, after a pause of ours, may have rows right behind it. So it
        # counts from the last moment at which it had surely not come yet.
        waited_us = began_us if ended_us - began_us >= _BLOCKED_US else self._empty_us
        if waited_us and all(isinstance(event, Heartbeat) for event in events):
            self._proved_us = max(self._proved_us, waited_us)

    @property
    def until_us(self) -> int:
        """The commit time before which nothing more is to be expected; 0: not known."""
        return max(0, self._proved_us - SLACK_US)
