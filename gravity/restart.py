"""When a stage that ended is started again. Pure: times are passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from gravity.errors import EXIT_HALTED

WAIT_S_MIN, WAIT_S_MAX = 0.5, 30.0
HEALTHY_S = 60.0
"""A stage that ran so long was not in a crash loop: its next failure counts as the first."""


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after a pause."""

    wait_s: float
    failures: int
    """Failures in a row, this one included."""


@dataclass(frozen=True, slots=True)
class Halted:
    """It has halted by name: only an operator can help."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It failed too often in a row."""

    failures: int


Verdict = Again | Halted | GivenUp


@dataclass(slots=True)
class Restarts:
    """The failures of one stage. `failures_max` in a row are the end; 0 = never."""

    failures_max: int
    failures: int = field(default=0)

    def ended(self, exit_code: int, *, ran_s: float) -> Verdict:
        """What to do about a stage that ended unasked after `ran_s` seconds.

        A clean end counts too: somebody stopped it by hand, and a machine that runs all stages
        wants it back.
        """
        if exit_code == EXIT_HALTED:
            return Halted()
        self.failures = 1 if ran_s >= HEALTHY_S else self.failures + 1
        if self.failures_max and self.failures >= self.failures_max:
            return GivenUp(self.failures)
        return Again(min(WAIT_S_MAX, WAIT_S_MIN * 2.0 ** (self.failures - 1)), self.failures)
