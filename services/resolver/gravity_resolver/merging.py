"""The rows of several sources in one partition, put into the order of their commit times. Pure.

A row leaves when every other source that is merged with it is known to be as far: by a marker, by a row
of its own, or because the source is down. What waits is part of the partition's state.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from zlib import crc32

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch
from gravity.errors import FatalError
from gravity.header import RoutedHeader, RoutedKind
from gravity.merge_order import MergeOrder
from gravity.plan import RoutingPlan
from gravity_resolver.effects import Counters
from gravity_resolver.hold_book import Under
from gravity_resolver.merge_queue import (
    PREFIX,
    Opened,
    Piece,
    Place,
    Waiting,
    load_waiting_message,
    slot_of,
)
from gravity_resolver.source_clock import SourceClock
from gravity_resolver.waiting_line import Message

PlanOf = Callable[[int], RoutingPlan]

OPENED_BYTES_MAX = 4 * 1024 * 1024
"""Of the messages that a partition keeps decoded while they wait; decoded they take about eight times as much."""


class Shelf(Protocol):
    """The partition's state, where messages lie while they wait."""

    def fetch(self, key: bytes) -> bytes | None:
        """The value under `key`."""

    def store(self, key: bytes, value: bytes | None) -> None:
        """Puts a value under `key`; None removes it."""

    def count(self, source: str) -> Counters:
        """How the source's rows ended."""


@dataclass(slots=True)
class Merging:
    """The merge of one partition."""

    target: str
    shelf: Shelf
    plan: RoutingPlan | None = None
    """The newest plan met so far: its order is in force."""
    plan_number: int = 0
    strategy: str = "parallel"
    clock: SourceClock = field(default_factory=SourceClock)
    floors: dict[str, Place] = field(default_factory=dict)
    """Unit to the last place in it that has left: what comes for an earlier one is late."""
    tops: dict[str, dict[str, int]] = field(default_factory=dict)
    """Unit to the commit time of the last row of each source that has come."""
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    """Unit to how many rows of each source's first message have left."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Those of the last order in force: what waits leaves by them when there is none any more."""
    number: int = 0
    """Of the last message that had to wait."""
    rows: int = 0
    """Rows that wait; `size` are the bytes of their messages."""
    size: int = 0
    queues: dict[str, dict[str, deque[Waiting]]] = field(default_factory=dict)
    """Unit to the messages that wait of each source; none is empty."""
    markers: dict[str, deque[int]] = field(default_factory=dict)
    """Source to the numbers of its markers that wait; none is empty."""
    cuts: dict[str, deque[int]] = field(default_factory=dict)
    """Source to those of them that mark a cut."""
    _opened: dict[int, Opened] = field(default_factory=dict)
    """Messages that have been read, by their numbers, those read last; all but the last lie in the state, too."""
    _opened_bytes: int = 0
    _last: Waiting | None = None
    """What the message at hand has put into a queue and is not in the state yet."""

    # ------------------------------------------------------------------ saving and loading

    def to_json(self) -> dict[str, Any]:
        """The small part of what is saved; the messages lie in the state."""
        return {
            "plan": self.plan_number,
            "strategy": self.strategy,
            "clock": self.clock.to_json(),
            "floors": self.floors,
            "tops": self.tops,
            "taken": self.taken,
            "ranks": self.ranks,
            "number": self.number,
        }

    def load(self, record: Mapping[str, Any], under: Under) -> None:
        """Takes over what `to_json` gave, and what waits in the state."""
        self.plan_number, self.strategy = record["plan"], record["strategy"]
        self.clock = SourceClock(**record["clock"])
        self.floors = {unit: (ets, rank) for unit, (ets, rank) in record["floors"].items()}
        self.tops, self.taken, self.number = record["tops"], record["taken"], record["number"]
        self.ranks = record["ranks"]
        # Without a merge nothing waits, and nothing has to be looked for.
        for _, data in under(PREFIX) if self.strategy != "parallel" else ():
            waiting = Waiting.load(data)
            if waiting.is_marker:
                self._line_up(waiting, load_waiting_message(data)[0])
            else:
                self._enqueue(waiting)
        for unit, taken in self.taken.items():
            self.rows -= sum(taken[source] for source in taken if source in self.queues[unit])

    # ------------------------------------------------------------------ what is in force

    def concerns(self, header: RoutedHeader, plan: RoutingPlan, plan_of: PlanOf) -> bool:
        """Whether this partition merges anything with the message at hand, or has merged until now. Changes nothing."""
        return (
            self.strategy != "parallel"
            or self._newest(header, plan, plan_of).merge_at(self.target) is not None
        )

    def hear(self, header: RoutedHeader, time_ms: int, plan: RoutingPlan, plan_of: PlanOf) -> None:
        """Takes in that a message was written at `time_ms`."""
        self.plan = self._newest(header, plan, plan_of)
        self.plan_number = max(self.plan_number, header.plan)
        order = self.order
        if order is not None:
            self.ranks = order.ranks
            self.clock.hear(
                header.source, time_ms, sources=order.ranks, max_wait_ms=order.max_wait_ms
            )

    def _newest(self, header: RoutedHeader, plan: RoutingPlan, plan_of: PlanOf) -> RoutingPlan:
        if header.plan >= self.plan_number:
            return plan
        return self.plan or plan_of(self.plan_number)

    @property
    def order(self) -> MergeOrder | None:
        """The order in force."""
        return None if self.plan is None else self.plan.merge_at(self.target)

    def down(self) -> list[str]:
        """The sources that are waited for no more."""
        order, plan = self.order, self.plan
        if order is None or plan is None:
            return []
        sources = plan.merged_sources(self.target, "")
        return [source for source in sources if self.clock.is_down(source, order.max_wait_ms)]

    def _rank(self, source: str) -> int:
        # One of an earlier plan comes behind all others, and apart from its like.
        return self.ranks.get(source) or len(self.ranks) + 1 + crc32(source.encode())

    def _unit(self, table: str) -> str:
        assert self.plan is not None
        order = self.order
        if order is None or order.strategy == "time-ordered":
            return ""
        return self.plan.line(self.target, table)

    # ------------------------------------------------------------------ coming in

    def take(
        self, message: Message, batch: ChangeBatch | None, offset: int, *, waiting_rows_max: int
    ) -> Iterator[Piece]:
        """Takes in a message, and gives what may leave now, in the order in which it leaves.

        `batch` are its rows, where it has any.

        Raises FatalError when more than `waiting_rows_max` rows would wait for a source that is down
        (`on-down: stall`).
        """
        order, header = self.order, message[0]
        strategy = "parallel" if order is None else order.strategy
        if strategy != self.strategy:
            yield from self._release_all()
            self.strategy = strategy
            self.floors, self.tops = {}, {}
        if order is None or header.kind is RoutedKind.NOTE:
            yield Piece(*message, offset)
        elif header.kind is RoutedKind.MARKER:
            self.clock.advance(header.source, max(header.ets, header.quiet))
            yield from self._take_marker(message, offset)
        else:
            yield from self._take_rows(message, batch, offset)
        if order is not None:
            yield from self._release(order)
            self._keep_last()
            self._require_room(order, waiting_rows_max)

    def _take_marker(self, message: Message, offset: int) -> Iterator[Piece]:
        source = message[0].source
        numbers = [queues[source][-1].number for queues in self.queues.values() if source in queues]
        if not numbers:
            yield Piece(*message, offset)
            return
        waiting = self.markers.setdefault(source, deque())
        marks_cut = waiting and waiting[-1] in self.cuts.get(source, ())
        if waiting and waiting[-1] > max(numbers) and not marks_cut:
            # Nothing came between the two: the earlier one says less.
            self.shelf.store(slot_of(waiting.pop()), None)
        self.number += 1
        entry = Waiting("", source, self.number, offset, 0, 0, 0, is_marker=True)
        self.shelf.store(entry.slot, entry.dump(message))
        self._line_up(entry, message[0])

    def _line_up(self, entry: Waiting, header: RoutedHeader) -> None:
        self.markers.setdefault(entry.source, deque()).append(entry.number)
        if header.cut:
            self.cuts.setdefault(entry.source, deque()).append(entry.number)

    def _overtake(self, source: str, number: int) -> None:
        """Takes the cut from the source's markers in front of `number`: rows from there leave before them.

        Whoever stopped at such a marker would have rows from behind it. No partition arrives at it now.
        """
        cuts = self.cuts.get(source)
        while cuts and cuts[0] < number:
            slot = slot_of(cuts.popleft())
            data = self.shelf.fetch(slot)
            assert data is not None
            header, value = load_waiting_message(data)
            stripped = replace(header, cut="", held=0), value
            self.shelf.store(slot, Waiting.load(data).dump(stripped))

    def _take_rows(
        self, message: Message, batch: ChangeBatch | None, offset: int
    ) -> Iterator[Piece]:
        header = message[0]
        source, unit = header.source, self._unit(header.table)
        waits = source in self.queues.get(unit, {})
        assert self.plan is not None
        if not waits and set(self.plan.merged_sources(self.target, unit)) <= {source}:
            self._overtake(source, self.number + 1)
            yield Piece(*message, offset)
            return
        tops = self.tops.setdefault(unit, {})
        opened = Opened.of(message, batch, offset, at_least=tops.get(source, 0))
        if opened.is_copy and not waits:
            self._overtake(source, self.number + 1)
            yield Piece(*message, offset)
            return
        tops[source] = opened.times[-1]
        late = 0
        if not waits and unit in self.floors:
            late = opened.before(self.floors[unit], self._rank(source), 0)
        if late:
            self._overtake(source, self.number + 1)
            self.shelf.count(source).overtaken += opened.counted(0, late)
            yield opened.piece(0, late, late=True)
        if late < len(opened.times):
            self._put(unit, opened, late)

    def _put(self, unit: str, opened: Opened, start: int) -> None:
        source = opened.header.source
        self.number += 1
        entry = Waiting(
            unit, source, self.number, opened.offset, opened.times[0], len(opened.times),
            len(opened.value),
        )  # fmt: skip
        self._last = entry
        self._remember(entry, opened)
        self.shelf.count(source).parked += opened.counted(start, len(opened.times))
        self._enqueue(entry)
        if start:
            self.taken.setdefault(unit, {})[source] = start
            self.rows -= start

    def _keep_last(self) -> None:
        """Puts what has just come into the state, if it is still here."""
        entry, self._last = self._last, None
        if entry is not None:
            opened = self._opened[entry.number]
            self.shelf.store(entry.slot, entry.dump((opened.header, opened.value)))
            if self.queues[entry.unit][entry.source][0] is not entry:
                self._forget(entry)

    def _enqueue(self, entry: Waiting) -> None:
        queue = self.queues.setdefault(entry.unit, {}).setdefault(entry.source, deque())
        queue.append(entry)
        self.rows += entry.rows
        self.size += entry.size

    # ------------------------------------------------------------------ going out

    def _release(self, order: MergeOrder) -> Iterator[Piece]:
        # By name: the order in which they began to wait is another one after a restart.
        for unit in sorted(self.queues):
            while (pieces := self._step(unit)) is not None:
                yield from pieces
        while order.on_down == "release" and (
            self.rows > order.max_ahead_rows or self.size > order.max_ahead_bytes
        ):
            unit = min(self.queues, key=lambda name: (min(self._heads(name).values()), name))
            too_many = self.rows - order.max_ahead_rows
            yield from self._step(unit, forced=too_many if too_many > 0 else sys.maxsize) or ()

    def _require_room(self, order: MergeOrder, waiting_rows_max: int) -> None:
        if order.on_down == "stall" and self.rows > waiting_rows_max:
            raise FatalError(
                f"more than {waiting_rows_max} rows wait for a source that is behind",
                where=f"target {self.target}, sources that are down: {', '.join(self.down()) or 'none'}",
                remedy="raise state.waiting-rows-max, bring the source back and start again: its rows "
                "come behind those that wait",
            )

    def _release_all(self) -> Iterator[Piece]:
        """Everything that waits, in order: the order in force is another from here on."""
        for unit in sorted(self.queues):
            while (pieces := self._step(unit, forced=sys.maxsize)) is not None:
                yield from pieces

    def _step(self, unit: str, *, forced: int = 0) -> Iterator[Piece] | None:
        """The next rows of a unit, with the markers behind them; None: none may leave.

        `forced`: how many leave although a source is not known to be as far.
        """
        heads = self._heads(unit)
        if not heads:
            return None
        source = min(heads, key=lambda name: heads[name])
        behind = [place for name, place in heads.items() if name != source]
        awaited = self._awaited(unit, source)
        limit = self._least([*behind, *awaited])
        goes = limit is None or heads[source] < limit
        if not goes and not forced:
            return None
        if not goes:
            limit = self._least(behind)
        # Those that are down limit nothing, but what leaves beyond them is counted.
        known = self._least(self._awaited(unit, source, down=True))
        unawaited = known is not None and known <= heads[source]
        if not unawaited:
            limit = self._least([place for place in (limit, known) if place is not None])
        return self._leave(
            unit, source, limit, rows_max=sys.maxsize if goes else forced, unawaited=unawaited
        )

    def _leave(
        self, unit: str, source: str, limit: Place | None, *, rows_max: int, unawaited: bool
    ) -> Iterator[Piece]:
        entry = self.queues[unit][source][0]
        self._overtake(source, entry.number)
        opened = self._open(entry)
        start = self.taken.get(unit, {}).get(source, 0)
        stop = opened.before(limit, self._rank(source), start)
        if stop - start > rows_max:
            # Rows of one time may be one transaction, and two of one update.
            stop = bisect_right(opened.times, opened.times[start + rows_max - 1], hi=stop)
        counters, counted = self.shelf.count(source), opened.counted(start, stop)
        counters.parked -= counted
        counters.unawaited += counted if unawaited else 0
        self.rows -= stop - start
        self._note_left(unit, opened, stop)
        if stop == len(opened.times):
            self._drop_first(unit, source)
        else:
            self.taken.setdefault(unit, {})[source] = stop
        yield opened.piece(start, stop)
        yield from self._passed_markers(source)

    def _drop_first(self, unit: str, source: str) -> None:
        queue = self.queues[unit][source]
        entry = queue.popleft()
        if entry is self._last:
            self._last = None  # It has not been stored.
        else:
            self.shelf.store(entry.slot, None)
        self.size -= entry.size
        self._forget(entry)
        self.taken.get(unit, {}).pop(source, None)
        if not self.taken.get(unit, True):
            del self.taken[unit]
        if not queue:
            del self.queues[unit][source]
        if not self.queues[unit]:
            del self.queues[unit]

    def _passed_markers(self, source: str) -> Iterator[Piece]:
        """The markers of a source before which nothing of it waits any more."""
        waiting = self.markers.get(source)
        if not waiting:
            return
        firsts = [queues[source][0].number for queues in self.queues.values() if source in queues]
        oldest = min(firsts, default=self.number + 1)
        while waiting and waiting[0] < oldest:
            slot = slot_of(number := waiting.popleft())
            data = self.shelf.fetch(slot)
            assert data is not None
            self.shelf.store(slot, None)
            cuts = self.cuts.get(source)
            if cuts and cuts[0] == number:
                cuts.popleft()
            yield Piece(*load_waiting_message(data), Waiting.load(data).offset)
        if not waiting:
            del self.markers[source]

    def _note_left(self, unit: str, opened: Opened, stop: int) -> None:
        if opened.batch is not None:
            place = opened.times[stop - 1], self._rank(opened.header.source)
            self.floors[unit] = max(place, self.floors.get(unit, place))

    def _heads(self, unit: str) -> dict[str, Place]:
        """The place of each source's first row that waits."""
        heads = {}
        for source, queue in self.queues.get(unit, {}).items():
            start = self.taken.get(unit, {}).get(source, 0)
            first = self._open(queue[0]).times[start] if start else queue[0].first
            heads[source] = first, self._rank(source)
        return heads

    def _awaited(self, unit: str, source: str, *, down: bool = False) -> list[Place]:
        """How far the other sources are of which nothing waits; with `down` also those that are down."""
        order, plan = self.order, self.plan
        if order is None or plan is None:
            return []
        waits = self.queues.get(unit, {})
        goes_on = order.on_down == "release" and not down
        found = []
        for other in plan.merged_sources(self.target, unit):
            if other == source or other in waits:
                continue
            if goes_on and self.clock.is_down(other, order.max_wait_ms):
                continue
            came = self.tops.get(unit, {}).get(other, 0)
            found.append((max(came, self.clock.frontiers.get(other, 0)), self._rank(other)))
        return found

    @staticmethod
    def _least(places: list[Place]) -> Place | None:
        return min(places, default=None)

    def _open(self, entry: Waiting) -> Opened:
        opened = self._opened.get(entry.number)
        if opened is None:
            data = self.shelf.fetch(entry.slot)
            assert data is not None, f"message {entry.number} of the merge is not in the state"
            message = load_waiting_message(data)
            rows = message[0].kind is RoutedKind.ROWS
            batch = decode_batch(message[1]) if rows else None
            opened = Opened.of(message, batch, entry.offset, at_least=entry.first)
            self._remember(entry, opened)
        return opened

    def _remember(self, entry: Waiting, opened: Opened) -> None:
        """Keeps a message that has been read; beyond OPENED_BYTES_MAX the ones read first are read again."""
        self._opened[entry.number] = opened
        self._opened_bytes += len(opened.value)
        if self._opened_bytes <= OPENED_BYTES_MAX:
            return
        # What has not been stored can't be read again.
        kept = {entry.number} if self._last is None else {entry.number, self._last.number}
        for number in [number for number in self._opened if number not in kept]:
            self._opened_bytes -= len(self._opened.pop(number).value)
            if self._opened_bytes <= OPENED_BYTES_MAX:
                return

    def _forget(self, entry: Waiting) -> None:
        opened = self._opened.pop(entry.number, None)
        if opened is not None:
            self._opened_bytes -= len(opened.value)
