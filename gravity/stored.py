"""What a target knows of its own past in one lane: how far it is, from where, and what became of the rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gravity.progress import SinkProgress


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """How far one source has been applied: everything of it before `position` is in the target."""

    position: str
    gtids: str
    ets: int
    """Commit time of the last transaction that has passed, microseconds by the source's clock."""
    time_us: int
    """When the collector wrote the marker that says so, microseconds by its own clock."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what became of them. They add up to the rows of all messages before `next_offset`."""

    applied: int = 0
    dead: int = 0
    """Set aside in the dead-letter topic."""
    repeats: int = 0
    """In messages that had been applied before."""
    void: int = 0
    """In messages of a resolver that had been replaced."""
    truncated: int = 0
    """Deleted by TRUNCATE TABLE, counted apart: they are no rows of a message. ClickHouse: keys."""
    parked: int = 0
    """Wait at the target, because its constraints refuse them for now. Goes down as well as up."""
    superseded: int = 0
    """Were parked when a later change of their key came."""

    def plus(self, other: Counts) -> Counts:
        """The sum of both."""
        return Counts(
            self.applied + other.applied,
            self.dead + other.dead,
            self.repeats + other.repeats,
            self.void + other.void,
            self.truncated + other.truncated,
            self.parked + other.parked,
            self.superseded + other.superseded,
        )

    def minus(self, other: Counts) -> Counts:
        """What has to be added to `other` to give this."""
        return self.plus(
            Counts(
                -other.applied, -other.dead, -other.repeats, -other.void, -other.truncated,
                -other.parked, -other.superseded,
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """What a target knows of its own past in one lane; durable with the rows it speaks of."""

    progress: SinkProgress = field(default_factory=SinkProgress)
    frontier: Mapping[str, FrontierPoint] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    def to_json(self) -> dict[str, object]:
        """As JSON values; the inverse of `from_json`."""
        p, c = self.progress, self.counts
        return {
            "next_offset": p.next_offset, "last_seq": p.last_seq, "term": p.term,
            "frontier": {
                source: {"position": f.position, "gtids": f.gtids, "ets": f.ets, "time_us": f.time_us}
                for source, f in self.frontier.items()
            },
            "applied": c.applied, "dead": c.dead, "repeats": c.repeats, "void": c.void,
            "truncated": c.truncated, "parked": c.parked, "superseded": c.superseded,
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Stored:
        """The value that `to_json` gave `record` for; keys it does not have count as 0 or empty."""

        def number(name: str) -> int:
            value = record.get(name, 0)
            return value if isinstance(value, int) else 0

        points = record.get("frontier", {})
        assert isinstance(points, Mapping)
        return cls(
            SinkProgress(number("next_offset"), number("last_seq"), number("term")),
            {source: FrontierPoint(**point) for source, point in points.items()},
            Counts(
                number("applied"),
                number("dead"),
                number("repeats"),
                number("void"),
                number("truncated"),
                number("parked"),
                number("superseded"),
            ),
        )
