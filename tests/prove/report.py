"""What a proof found, line by line, and whether all of it holds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

JOBS = 2
"""Processes that what is random is tried in, side by side."""


@dataclass(frozen=True)
class Verdict:
    """What the targets hold of one table."""

    name: str
    rows: int
    """Rows that they must hold."""
    wrong: list[str]
    """Those that differ."""


@dataclass
class Report:
    """The sums over all lines of one run."""

    what: str
    seed: int = 1
    scale: float = 1.0
    """1 = the full proof; less = that part of it."""
    seeds: int = 1000
    """How many random histories or schedules a line tries, where it counts by them."""
    pairs: int = 0
    differences: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """What else was tried, by its noun."""
    servers: set[str] = field(default_factory=set)
    """Kind and version of each server that took part, such as `mysql-9.7.4`; empty = it does not matter."""

    def scaled(self, pairs: int) -> int:
        """`pairs`, or the part of them that is asked for."""
        return max(1, round(pairs * self.scale))

    def verdict(self, verdict: Verdict) -> None:
        """Prints what the targets hold of one table, and adds it up."""
        self.line(
            verdict.name,
            pairs=verdict.rows,
            differences=len(verdict.wrong),
            examples=verdict.wrong[:5],
        )

    def line(
        self,
        name: str,
        *,
        pairs: int,
        differences: int,
        examples: Sequence[str] = (),
        note: str = "",
    ) -> None:
        """Prints one result and adds it up."""
        self.pairs += pairs
        self.differences += differences
        sys.stdout.write(f"{name}: pairs={pairs} differences={differences} {note}\n")
        for example in examples:
            sys.stdout.write(f"  {example}\n")
        sys.stdout.flush()

    def tally(self, name: str, *, wrong: Sequence[str], **counts: int) -> None:
        """Prints one result that is not one of pairs, with the first of what was wrong, and adds it up."""
        self.counts.update(counts)
        self.differences += len(wrong)
        sys.stdout.write(f"{name}: {_numbers(counts)} divergences={len(wrong)}\n")
        for example in wrong[:3]:
            sys.stdout.write(f"  {example[:1000]}\n")
        sys.stdout.flush()

    def end(self) -> int:
        """Prints the sum; the exit code."""
        verdict = "proved" if not self.differences else "NOT proved"
        servers = f"servers={','.join(sorted(self.servers))} " if self.servers else ""
        counts = _numbers(self.counts)
        found = f"pairs={self.pairs} {servers}differences={self.differences} {counts}".rstrip()
        if not self.pairs and counts:
            found = f"{counts} divergences={self.differences}"
        sys.stdout.write(f"{verdict}: {self.what} {found} seed={self.seed}\n")
        return 1 if self.differences else 0


def _numbers(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name}={count}" for name, count in counts.items())
