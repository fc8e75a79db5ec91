"""Who reads which chunk of the existing rows. Pure; the readers' threads share one under a lock.

A table's rows that are missing are gaps between what is done, and an open tail. A gap is read as one
chunk. From the tail one reader at a time cuts the next chunk by asking the server for the key that many
rows ahead; the others read meanwhile what has been cut, or cut from another table.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gravity_collector.chunk import Chunk, Key, Work


@dataclass(frozen=True, slots=True)
class Taken:
    """A chunk in somebody's hands."""

    chunk: Chunk
    generation: int
    """Which reading of its work it is part of: the work may be begun anew meanwhile."""
    is_tail: bool = False
    """Whether it must be cut before it is read."""


class Agenda:
    """The chunks that nobody has, and how many somebody has: no more than `in_hand_max`.

    So many at most are read again if everything dies at this moment.
    """

    def __init__(self, in_hand_max: int) -> None:
        self._in_hand_max = in_hand_max
        self._gaps: dict[Work, deque[Chunk]] = {}
        self._tails: dict[Work, Chunk] = {}
        self._again: deque[Taken] = deque()
        self._generations: Counter[Work] = Counter()
        self._in_hand = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left and nothing is in anybody's hands."""
        return not (self._in_hand or self._again or self._gaps or self._tails)

    def begin(self, work: Work, gaps: Iterable[Chunk]) -> None:
        """Puts what is missing of a work on the agenda; what was there or is in hand of it is void."""
        self.end(work)
        closed = deque[Chunk]()
        for gap in gaps:
            if gap.through is None:
                self._tails[work] = gap
            else:
                closed.append(gap)
        if closed:
            self._gaps[work] = closed

    def end(self, work: Work) -> None:
        """Takes the work off; what is in hand of it is void."""
        self._generations[work] += 1
        self._gaps.pop(work, None)
        self._tails.pop(work, None)
        self._again = deque(taken for taken in self._again if taken.chunk.work != work)

    def take(self) -> Taken | None:
        """The next chunk for a reader; None when there is none now, or too many are in hand."""
        if self._in_hand >= self._in_hand_max:
            return None
        if self._again:
            self._in_hand += 1
            return self._again.popleft()
        for work, gaps in self._gaps.items():
            chunk = gaps.popleft()
            if not gaps:
                del self._gaps[work]
            self._in_hand += 1
            return Taken(chunk, self._generations[work])
        for work, tail in self._tails.items():
            del self._tails[work]
            self._in_hand += 1
            return Taken(tail, self._generations[work], is_tail=True)
        return None

    def cut(self, taken: Taken, through: Key | None) -> Taken:
        """The tail's first chunk, which ends at `through`; None: it is the last. The rest is a tail again."""
        chunk = replace(taken.chunk, through=through)
        if through is not None and self.is_current(taken):
            self._tails[chunk.work] = replace(
                taken.chunk, after=through, number=taken.chunk.number + 1
            )
        return replace(taken, chunk=chunk, is_tail=False)

    def is_current(self, taken: Taken) -> bool:
        """Whether the chunk's work has not been begun anew since."""
        return self._generations[taken.chunk.work] == taken.generation

    def give_back(self, taken: Taken) -> None:
        """The chunk must be read again."""
        self._in_hand -= 1
        if self.is_current(taken):
            self._again.append(taken)

    def finish(self, taken: Taken) -> None:
        """The chunk is in the log, or of no use any more."""
        del taken
        self._in_hand -= 1
