"""When a sink tells of its lanes' progress. Pure: it is told the time, seconds of a clock that never goes back.

Whoever waits for a marker is told at once when it has passed; what is only a matter of counting is told twice
a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

COUNTS_S: Final = 0.5
"""Between two records of a lane, where no marker has passed."""
PASSED_S: Final = 0.05
"""The same where one has."""

Frontier = Mapping[str, Any]
"""Source to how far it has passed."""


@dataclass(slots=True)
class ProgressPace:
    """The lanes of one target, by partition, and what was told of them last."""

    passed_s: float = PASSED_S
    """0: each marker is told of."""
    _told: dict[int, tuple[float, Frontier]] = field(default_factory=dict)
    """When, and how far the sources were."""

    def due_s(self, partition: int, now_s: float, frontier: Callable[[], Frontier]) -> float:
        """When a lane that has something new may be told of; `frontier` is asked only if it matters."""
        if partition not in self._told:
            return now_s
        told_s, told = self._told[partition]
        if now_s - told_s >= COUNTS_S:
            return now_s
        soon_s = told_s + self.passed_s
        if now_s < soon_s:
            return soon_s
        return now_s if frontier() != told else told_s + COUNTS_S

    def told(self, partition: int, now_s: float, frontier: Frontier) -> None:
        """A lane has been told of."""
        self._told[partition] = now_s, frontier

    def forget(self) -> None:
        """Every lane may be told of at once."""
        self._told.clear()
