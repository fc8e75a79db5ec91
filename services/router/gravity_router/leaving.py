"""Rows that earlier plans sent where this one has no place for them: which must go from where. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gravity.batch import DELETE, INSERT, READ, UPDATE, ChangeBatch
from gravity.placed_anew import Leaving
from gravity.plan_part import Feed
from gravity_router.deciding import Deciding


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that an earlier plan may have sent to a target where they have no place today."""

    now: frozenset[int] = frozenset()
    """Those known there by the key they have."""
    old: frozenset[int] = frozenset()
    """Updates: those known there by the key they had."""

    def __bool__(self) -> bool:
        return bool(self.now or self.old)


_NONE_LEFT = Left()


class Earlier:
    """A batch under the earlier plans that may have sent its rows elsewhere."""

    def __init__(self, batch: ChangeBatch, ways: Mapping[str, tuple[Leaving, ...]]) -> None:
        self._batch = batch
        self.ways = ways
        self._deciding: dict[int, Deciding] = {}

    def left(
        self, ways: Sequence[Leaving], feed: Feed, deciding: Deciding, *, anywhere: bool
    ) -> Left:
        """Which rows must go from the target, to which they came by `ways` and go by `feed` now.

        `anywhere`: a row that is there already may be there, whatever the rules say of it.

        A row lies where its last change under the earlier plan sent it: that is what it was before an
        update, what it is when it is read or deleted. A new row lies nowhere yet.
        """
        batch = self._batch
        if anywhere and any(op != INSERT for op in batch.ops):
            has = deciding.takes(feed, after=True)
            return Left(
                frozenset(
                    row for row, op in enumerate(batch.ops) if op in (READ, DELETE) and not has[row]
                ),
                frozenset(row for row, op in enumerate(batch.ops) if op == UPDATE),
            )
        if not ways:
            return _NONE_LEFT
        has = deciding.takes(feed, after=True)
        now: set[int] = set()
        old: set[int] = set()
        for way in ways:
            under = self._deciding.setdefault(id(way.plan), Deciding(batch, way.plan))
            held = under.held(way.feed, after=True)
            had = under.held(way.feed, after=False) if UPDATE in batch.ops else held
            for row, op in enumerate(batch.ops):
                if op == UPDATE:
                    if had[row]:
                        old.add(row)
                elif held[row] and not has[row] and op in (READ, DELETE):
                    now.add(row)
        return Left(frozenset(now), frozenset(old))


def ways_to(feed: Feed | None, left: Sequence[Leaving]) -> Iterator[tuple[Feed, Sequence[Leaving]]]:
    """The ways of a batch to one target, one for each name that its table has there, and the earlier ones of each.

    `feed`: today's, which alone is of interest if there is one. `left`: the earlier ones, the oldest first.
    """
    if feed is not None:
        yield feed, left
        return
    for table in dict.fromkeys(way.feed.table for way in left):
        ways = [way for way in left if way.feed.table == table]
        # No row goes there any more; the last of them says how those that do lie there.
        yield replace(ways[-1].feed, conditions=(), shares=()), ways
