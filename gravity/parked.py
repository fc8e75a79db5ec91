"""Rows that wait at a MySQL target because its constraints refuse them, as an operator sees them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gravity.stored import FrontierPoint

_CONSTRAINT = re.compile(r"CONSTRAINT `((?:[^`]|``)+)`")
_INDEX = re.compile(r"for key '(?:[^']*\.)?([^'.]+)'\Z")


def passed_by_all(
    lanes_frontiers: Sequence[Mapping[str, FrontierPoint]], source: str, *, lanes: int
) -> int | None:
    """The commit time of `source` that every one of a target's `lanes` has passed; None = not known.

    A lane alone can't tell: the parent may be on its way in another that is far behind.
    """
    if len(lanes_frontiers) < lanes:
        return None
    points = [frontier.get(source) for frontier in lanes_frontiers]
    times = [point.ets for point in points if point is not None]
    return min(times) if len(times) == len(points) else None


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """One row that waits. Times are of its source's commits, in microseconds since 1970."""

    target: str
    topic: str
    """Of the target, with partition and offset the place of the row's message."""
    partition: int
    offset: int
    row: int
    """Its number in the message."""
    table: str
    """`database.table` at the target."""
    key: str
    """A JSON array of its cells."""
    operation: str
    source: str
    origin: str
    """`database.table` at the source."""
    code: str
    """The target's error code when it was refused last."""
    kind: str
    """Which part of `constraint` that is; see `gravity.dead_letter.kind_of`."""
    reason: str
    """What the target said when it was parked."""
    waits_for: str
    """The table in which a change may let it go; empty = not known."""
    since_us: int
    """When it was parked; 0 = before its source's first commit."""
    passed_us: int | None
    """What every partition of the target has passed of its source; None = not known."""
    park_us: int | None
    """How long it may wait, by the configuration; None = for ever."""

    @property
    def name(self) -> str:
        """What an operator calls it, and its dead letter if it becomes one."""
        return f"{self.topic}/{self.partition}/{self.offset}/{self.row}"

    @property
    def left_us(self) -> int | None:
        """How much of its time is left, 0 when it is over; None = for ever, or not known yet."""
        if self.park_us is None:
            return None
        if self.park_us == 0:
            return 0
        if not self.since_us or self.passed_us is None:
            return None
        return max(0, self.since_us + self.park_us - self.passed_us)

    @property
    def blocker(self) -> str:
        """The foreign key or index that refuses it; empty where the target's words don't tell."""
        found = (_INDEX if self.kind == "unique_secondary" else _CONSTRAINT).search(self.reason)
        return "" if found is None else found[1].replace("``", "`")

    @property
    def why(self) -> str:
        """What it waits for, in words and without the values of any row."""
        by = f" ({self.blocker})" if self.blocker else ""
        match self.kind:
            case "fk_parent_missing":
                return f"its parent in {self.waits_for or 'another table'} is missing{by}"
            case "fk_child_exists":
                return f"rows in {self.waits_for or 'another table'} still refer to it{by}"
            case "unique_secondary":
                return f"another row has its value of {self.blocker or 'a unique key'}"
            case _:
                return self.reason

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name, "target": self.target, "table": self.table, "key": json.loads(self.key),
            "operation": self.operation, "source": self.source, "origin": self.origin,
            "code": self.code, "kind": self.kind, "why": self.why, "blocker": self.blocker,
            "reason": self.reason, "waits_for": self.waits_for, "since_us": self.since_us,
            "passed_us": self.passed_us, "park_us": self.park_us, "left_us": self.left_us,
            "then": "hold" if self.park_us is None else "dlq",
        }  # fmt: skip
