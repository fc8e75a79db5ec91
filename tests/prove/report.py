"""What a proof found, line by line, and whether all of it holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Report:
    """The sums over all lines of one run."""

    what: str
    seed: int = 1
    scale: float = 1.0
    """1 = the full proof; less = that part of it."""
    pairs: int = 0
    differences: int = 0

    def scaled(self, pairs: int) -> int:
        """`pairs`, or the part of them that is asked for."""
        return max(1, round(pairs * self.scale))

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

    def end(self) -> int:
        """Prints the sum; the exit code."""
        verdict = "proved" if not self.differences else "NOT proved"
        sys.stdout.write(
            f"{verdict}: {self.what} pairs={self.pairs} differences={self.differences} seed={self.seed}\n"
        )
        return 1 if self.differences else 0
