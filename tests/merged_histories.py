"""Random histories of sources of different speeds, one of which dies, and what a merge must make of them.

The model below knows single rows and one list. It shares nothing with the resolver but the rule.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from gravity.batch import TableSchema
from gravity.codec import decode_batch
from gravity.header import RoutedKind
from gravity.merge_order import MergeOrder
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.resolver_replica import TARGET, Replica, plan_of

SOURCES = ("a", "b", "c")
RANKS = {"a": 1, "b": 2, "c": 3}
OWN = {
    name: table(f"shop.{name}", [("id", "int"), ("name", "varchar(20)")], ["id"])
    for name in SOURCES
}
"""A table of each source alone: rows pass as they come, and only the merge orders them."""
ORDER = MergeOrder("time-ordered", RANKS)
SECOND_MS = 1000


def merging_plan(order: MergeOrder | None = ORDER, *, version: int = 1) -> RoutingPlan:
    """Each source has a table of its own; `shop.users` is everybody's."""
    feeding = {f"shop.{name}": (name,) for name in SOURCES} | {"shop.users": SOURCES}
    plan = plan_of(Resolution("timestamp-latest", RANKS), version)
    return replace(plan, feeding={TARGET: feeding}, merge=order)


@dataclass(frozen=True)
class Said:
    """A message of a source as the log has it."""

    source: str
    time_ms: int
    """When it was written there."""
    rows: tuple[tuple[int, int], ...] = ()
    """Commit time in milliseconds, and the row's number at its source."""
    quiet_ms: int = 0
    """Of a marker."""
    cut: str = ""
    """Of a marker, too."""


@dataclass(frozen=True, order=True)
class Row:
    """A row in the order of a merge."""

    ets_ms: int
    rank: int
    number: int


@dataclass(frozen=True)
class Out:
    """A row that left."""

    row: Row
    late: bool


@dataclass
class History:
    """What came, in the log's order."""

    said: list[Said] = field(default_factory=list)

    @classmethod
    def random(
        cls,
        rng: random.Random,
        *,
        seconds: int,
        dies: str = "",
        for_ms: int = 0,
        coarse: bool = False,
    ) -> History:
        """Sources of speeds 1 : 3 : 10 whose log comes with delays; `dies` says nothing for a while.

        `coarse`: commit times in whole seconds, so that many are equal.
        """
        coming: list[tuple[int, int, Said]] = []
        dead_from = rng.randint(2, max(3, seconds - 5)) * SECOND_MS if dies else 0
        for source, pause_ms in zip(SOURCES, rng.sample((100, 330, 1000), 3), strict=True):
            now, number, open_rows, last = 0, 0, [], 0
            while now < seconds * SECOND_MS:
                now += rng.randint(1, 2 * pause_ms)
                ets = now // 1000 * 1000 if coarse else now
                for _ in range(rng.choice((1, 1, 1, 3))):
                    number += 1
                    open_rows.append((ets, number))
                if rng.random() < 0.4:
                    arrives = max(last, now + rng.randint(0, 300))
                    last = _wakes(arrives, source == dies, dead_from, for_ms)
                    coming.append((last, len(coming), Said(source, last, tuple(open_rows))))
                    open_rows = []
            if open_rows:
                last = _wakes(max(last, now), source == dies, dead_from, for_ms)
                coming.append((last, len(coming), Said(source, last, tuple(open_rows))))
        for source in SOURCES:
            mine = [said for _, _, said in coming if said.source == source and said.rows]
            for second in range(1, seconds + 1):
                # A marker proves what stands in front of it in the log, and no more.
                at = _wakes(second * SECOND_MS, source == dies, dead_from, for_ms)
                later = [said.rows[0][0] for said in mine if said.time_ms >= at]
                quiet = min([second * SECOND_MS - 500, *later])
                coming.append((at, -1, Said(source, at, (), max(0, quiet))))
        coming.sort(key=lambda item: item[:2])
        return cls([said for _, _, said in coming])

    def with_end(self) -> History:
        """And then everybody says that nothing is left."""
        end = max(said.time_ms for said in self.said)
        return History([*self.said, *(Said(source, end, (), 10**12) for source in SOURCES)])

    @property
    def rows(self) -> list[Row]:
        """Everything that was said."""
        return [
            Row(ets, RANKS[said.source], number) for said in self.said for ets, number in said.rows
        ]


def _wakes(at_ms: int, is_mortal: bool, dead_from: int, for_ms: int) -> int:
    return dead_from + for_ms if is_mortal and dead_from <= at_ms < dead_from + for_ms else at_ms


@dataclass
class Model:
    """The rule, row by row."""

    max_wait_ms: int
    rows_max: int = 10**9
    releases: bool = True
    out: list[Out] = field(default_factory=list)
    unawaited: int = 0
    waiting: list[tuple[Row, int]] = field(default_factory=list)
    """Rows, and the number of the message that brought them."""
    _floor: tuple[int, int] = (-1, 0)
    _known: dict[int, int] = field(default_factory=lambda: dict.fromkeys(RANKS.values(), -1))
    _silent_ms: dict[int, int] = field(default_factory=lambda: dict.fromkeys(RANKS.values(), 0))
    _now_ms: int = 0
    _messages: int = 0

    def take(self, said: Said) -> None:
        rank = RANKS[said.source]
        passed = (
            min(max(0, said.time_ms - self._now_ms), self.max_wait_ms // 2) if self._now_ms else 0
        )
        self._now_ms = max(self._now_ms, said.time_ms)
        for other in self._silent_ms:
            self._silent_ms[other] += passed
        self._silent_ms[rank] = 0
        self._messages += 1
        if not said.rows:
            self._known[rank] = max(self._known[rank], said.quiet_ms)
        waits = any(row.rank == rank for row, _ in self.waiting)
        for ets, number in said.rows:
            self._known[rank] = max(self._known[rank], ets)
            row = Row(ets, rank, number)
            if not waits and (ets, rank) < self._floor:
                self.out.append(Out(row, late=True))
            else:
                self.waiting.append((row, self._messages))
        self.waiting.sort()
        while self.waiting and not self._lacking(self.waiting[0][0]):
            self._let_go()
        while len(self.waiting) > self.rows_max:
            first, message = self.waiting[0]
            while (
                self.waiting
                and self.waiting[0][1] == message
                and _place(self.waiting[0][0]) == _place(first)
            ):
                self._let_go()

    def _let_go(self) -> None:
        row, _ = self.waiting.pop(0)
        self.unawaited += bool(self._lacking(row, down=True))
        self._floor = max(self._floor, (row.ets_ms, row.rank))
        self.out.append(Out(row, late=False))

    def _lacking(self, row: Row, *, down: bool = False) -> list[int]:
        """The sources that might still have something to say from before the row."""
        present = {other.rank for other, _ in self.waiting} | {row.rank}
        return [
            rank
            for rank, known in self._known.items()
            if rank not in present
            and (known, rank) <= (row.ets_ms, row.rank)
            and (down or not self.releases or self._silent_ms[rank] < self.max_wait_ms)
        ]


class MergeReplica:
    """The resolver's function, fed with a history; `schema`: the table that all sources write, else each its own."""

    def __init__(self, order: MergeOrder | None = ORDER, schema: TableSchema | None = None) -> None:
        self.replica = Replica()
        self.replica.plan = merging_plan(order)
        self.schema = schema
        self.logs = {source: RoutedLog(source) for source in SOURCES}

    def take(self, said: Said) -> None:
        self.replica.apply(*self.message(said), time_ms=said.time_ms)

    def message(self, said: Said) -> RoutedMessage:
        log = self.logs[said.source]
        if not said.rows:
            return log.marker(0, us(said.quiet_ms), said.cut)
        shift = 0 if self.schema is None else RANKS[said.source] * 1_000_000
        changes = [
            RowChange("I", (shift + number, said.source), 0, ets_us=us(ets))
            for ets, number in said.rows
        ]
        return log.rows(self.schema or OWN[said.source], changes)

    def out(self) -> list[Out]:
        """The rows that left, in order."""
        found = []
        for header, value in self.replica.outputs:
            routed = header.routed
            if routed.kind is not RoutedKind.ROWS:
                continue
            batch = decode_batch(value)
            assert len(batch) == routed.rows == routed.counted
            for tx, row in zip(batch.tx, batch.rows(), strict=True):
                ets = (batch.transactions[tx].ets - EPOCH_US) // 1000
                number = int(row[0] or 0) % 1_000_000
                found.append(Out(Row(ets, RANKS[routed.source], number), routed.late))
        return found

    def kinds(self) -> list[str]:
        """What left, in short: each message's kind and source."""
        return [f"{h.routed.kind.value} {h.routed.source}" for h, _ in self.replica.outputs]

    def counted(self, name: str) -> int:
        return sum(getattr(c, name) for c in self.replica.state.counters.values())


def _place(row: Row) -> tuple[int, int]:
    return row.ets_ms, row.rank


def us(ets_ms: int) -> int:
    """A history's time as messages have it."""
    return EPOCH_US + ets_ms * 1000
