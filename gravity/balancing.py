"""`least-connections`: which buckets go from a target that lags to one that does not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gravity.placement import BUCKETS, Placement, least_loaded

STRATEGY = "least-connections"
MARGIN = 0.5
"""A target must have half the load of another at most to take something from it."""
BUSY_S = 5.0
"""A target that is less behind keeps what it has: no move is worth its price then."""
STEP = BUCKETS // 16
"""Buckets that go at once at most; a target never loses more than half of what it has."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a target still has before it."""

    lag_s: float
    """How old its data is, by the source that is farthest behind."""
    waiting: int
    """Messages that it has not applied."""

    @property
    def weight(self) -> float:
        """One number to compare: the age, and of equal ages the queue."""
        return self.lag_s + min(self.waiting, 10_000) / 1_000_000


@dataclass(frozen=True, slots=True)
class Move:
    """Buckets that change hands."""

    from_: str
    to: str
    buckets: tuple[int, ...]


def next_move(placement: Placement, loads: Mapping[str, Load]) -> Move | None:
    """What should go where now; None where all targets do well enough, or not all are known.

    A target of which nothing is heard has the load that it had when it was last heard of, so it gives
    buckets away and gets none.
    """
    weights = {name: loads[name].weight for name in placement.targets if name in loads}
    if len(weights) < len(placement.targets):
        return None
    counts = {name: placement.buckets.count(place) for place, name in enumerate(placement.targets)}
    holders = [name for name in weights if counts[name] > 1]
    worst = max(holders, key=lambda name: weights[name], default=None)
    if worst is None or loads[worst].lag_s < BUSY_S:
        return None
    best = least_loaded(weights, worst, margin=MARGIN)
    if best == worst:
        return None
    mine = [b for b, place in enumerate(placement.buckets) if placement.targets[place] == worst]
    return Move(worst, best, tuple(mine[-min(STEP, len(mine) // 2) :]))


def next_moves(
    placements: Iterable[Placement], loads: Mapping[str, Load], *, is_copying: bool
) -> dict[str, Move]:
    """Placement → what should go where now, of those that loads decide.

    `is_copying`: whether existing rows of some source are still being read. Then nothing moves that would have
    a table read again: what has been read of it would count no more, and the lag is the copy's own.
    """
    found: dict[str, Move] = {}
    for placement in placements:
        if placement.strategy != STRATEGY or (is_copying and not placement.append_only):
            continue
        move = next_move(placement, loads)
        if move is not None:
            found[placement.name] = move
    return found


def moved(placement: Placement, move: Move) -> Placement:
    """The placement after the move."""
    to, gone = placement.targets.index(move.to), set(move.buckets)
    buckets = tuple(to if b in gone else place for b, place in enumerate(placement.buckets))
    return replace(placement, buckets=buckets)
