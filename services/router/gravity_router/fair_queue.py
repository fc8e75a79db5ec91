"""Which source's message is routed next while several wait. Pure: no Kafka, no clock.

Start-time fair queueing, by priority first and by source within a priority. A message costs its bytes,
at least COST_MIN and at most COST_MAX. What is served next is the waiting priority whose turn begins
earliest in virtual time; being served moves its next turn on by cost / share.

What follows from that, for priorities i and j with shares w (`SHARES`), while both have messages waiting:

- between two messages of i at most `between_max(i, j)` = ceil(COST_MAX / COST_MIN * w_j / w_i) of j are
  served, ceil(w_j / w_i) if all messages cost the same: turns of j lie at least COST_MIN / w_j apart,
  and those served in between begin within the COST_MAX / w_i from one turn of i to the next;
- j gets at least w_j / sum(w) of all service, up to one message: the last priority 10 %, whoever else waits;
- sources of one priority get equal parts of what it gets.

A priority that had nothing waiting begins at the present virtual time: it saves nothing up, and its first
message waits for the one in service and for turns that began before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

SHARES: Final = (11, 4, 3, 2)
"""Of priorities 1, 2, 3, and 4 and above; in twentieths when all of them have messages waiting."""
COST_MIN: Final = 32 * 1024
COST_MAX: Final = 256 * 1024
"""The spread of costs bounds how many small messages may pass a large one."""

_WHOLE: Final = math.lcm(*SHARES)
"""Virtual time is counted in parts of a byte, so that turns are whole numbers."""

Item = TypeVar("Item")
Name = TypeVar("Name", bound=Hashable)


def class_of(priority: int) -> int:
    """The index in SHARES of a source's `priority`."""
    return min(priority, len(SHARES)) - 1


def between_max(served: int, passing: int) -> int:
    """Messages of priority `passing` between two of priority `served`, at most, while both wait."""
    spread = COST_MAX // COST_MIN
    return -(-spread * SHARES[class_of(passing)] // SHARES[class_of(served)])


@dataclass(slots=True)
class _Turns(Generic[Name]):
    """When each of several has its next turn, in virtual time."""

    now: int = 0
    """When the turn that was served last began."""
    _next: dict[Name, int] = field(default_factory=dict)

    def arrive(self, name: Name) -> None:
        """`name` has something waiting again."""
        self._next[name] = max(self._next.get(name, 0), self.now)

    def first(self, waiting: Mapping[Name, object]) -> Name:
        """Whose turn is next; of several at once the one that stands first in `waiting`."""
        return min(waiting, key=self._next.__getitem__)

    def serve(self, name: Name, cost: int) -> None:
        """`name` has had a turn that costs so much of its share."""
        self.now = self._next[name]
        self._next[name] = self.now + cost


@dataclass(slots=True)
class _Backlog(Generic[Item]):
    messages: deque[tuple[Item, int]] = field(default_factory=deque)
    size_bytes: int = 0


@dataclass(slots=True)
class _Class(Generic[Item]):
    turns: _Turns[str] = field(default_factory=_Turns)
    backlogs: dict[str, _Backlog[Item]] = field(default_factory=dict)
    """Of the sources that have messages waiting."""


class FairQueue(Generic[Item]):
    """Messages by source; each source's leave in the order in which they came."""

    def __init__(self, priorities: Mapping[str, int]) -> None:
        """`priorities`: source to its priority, 1 is best."""
        self._class_of = {source: class_of(number) for source, number in priorities.items()}
        self._classes: dict[int, _Class[Item]] = {index: _Class() for index in range(len(SHARES))}
        self._turns: _Turns[int] = _Turns()

    def __bool__(self) -> bool:
        return any(part.backlogs for part in self._classes.values())

    def add(self, source: str, item: Item, size_bytes: int) -> None:
        """Puts a message of `source` behind its earlier ones."""
        index = self._class_of[source]
        part = self._classes[index]
        if not part.backlogs:
            self._turns.arrive(index)
        backlog = part.backlogs.get(source)
        if backlog is None:
            part.turns.arrive(source)
            backlog = part.backlogs[source] = _Backlog()
        backlog.messages.append((item, size_bytes))
        backlog.size_bytes += size_bytes

    def waiting(self, source: str) -> tuple[int, int]:
        """How many messages of `source` there are, and their bytes."""
        backlog = self._classes[self._class_of[source]].backlogs.get(source)
        return (0, 0) if backlog is None else (len(backlog.messages), backlog.size_bytes)

    def pop(self) -> tuple[str, Item]:
        """Takes out the message to be served now, with its source. There must be one."""
        index = self._turns.first({i: p for i, p in self._classes.items() if p.backlogs})
        part = self._classes[index]
        source = part.turns.first(part.backlogs)
        backlog = part.backlogs[source]
        item, size_bytes = backlog.messages.popleft()
        backlog.size_bytes -= size_bytes
        cost = max(COST_MIN, min(COST_MAX, size_bytes))
        self._turns.serve(index, cost * (_WHOLE // SHARES[index]))
        part.turns.serve(source, cost)
        if not backlog.messages:
            del part.backlogs[source]
        return source, item

    def clear(self) -> None:
        """Drops everything that waits."""
        for part in self._classes.values():
            part.backlogs.clear()
