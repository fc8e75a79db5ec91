"""Whether a target holds what it should."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tests.oracle.cell import Row


@dataclass(frozen=True)
class Comparison:
    """A target table beside what the sources say."""

    target: str
    table: str
    rows: int
    checksum: str
    equal: bool
    examples: tuple[str, ...] = ()
    """A few differing keys: what the target has and what it should have."""

    def __str__(self) -> str:
        verdict = "equal" if self.equal else "DIFFERENT"
        return f"{self.target} {self.table} {self.rows} {self.checksum} {verdict}"


def checksum(rows: Mapping[Row, Row]) -> str:
    """12 hex digits that do not depend on the order of the rows."""
    total = 0
    for row in rows.values():
        digest = hashlib.sha256(
            "\x1f".join("\\N" if c is None else c for c in row).encode()
        ).digest()
        total = (total + int.from_bytes(digest[:16])) % (1 << 128)
    return f"{len(rows):x}-{total:032x}"[:12] if not rows else f"{total:032x}"[:12]


def compare(
    target: str, table: str, have: Mapping[Row, Row], want: Mapping[Row, Row]
) -> Comparison:
    """`have` beside `want`, row by row."""
    wrong = [key for key in have.keys() | want.keys() if have.get(key) != want.get(key)]
    examples = tuple(
        f"{key}: has {have.get(key)}, should have {want.get(key)}" for key in wrong[:3]
    )
    return Comparison(target, table, len(have), checksum(have), not wrong, examples)
