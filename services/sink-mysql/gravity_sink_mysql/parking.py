"""Rows that the target's constraints refuse for now: which wait, whose turn it is, what each counts as. Pure.

Of one key at most one row waits: its newest change. A row image is whole, so a later change of the key
stands for the earlier one, whether it is taken, or waits in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gravity.batch import ChangeBatch, Value
from gravity.resolution.cell import cell_to_json, readable_json
from gravity.sink import Refusal
from gravity.stored import Counts

ROUND_ROWS_MAX, ROUND_BYTES_MAX = 200, 16 * 1024 * 1024
"""What is tried again in one transaction."""
ROUND_EVERY_S = 1.0
"""Pause between rounds while nothing says that a row's turn has come."""
REST = 9
"""A lane rests for so many times as long as its last round took: rounds take a tenth of its time at most."""

_NAME: Final = r"`(?:[^`]|``)+`"
_FOREIGN_KEY = re.compile(
    rf"\(({_NAME})\.({_NAME}), CONSTRAINT .* REFERENCES (?:({_NAME})\.)?({_NAME}) \("
)
_CHILD_REFUSED: Final = ("1452", "1216")
_PARENT_REFUSED: Final = ("1451", "1217")
_UNIQUE: Final = ("1062", "1586")


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that waits, without its values."""

    offset: int
    """Of its message in the target topic."""
    row: int
    """Its number in that message."""
    table: str
    """`database.table` at the target."""
    key: str
    source: str
    origin: str
    """`database.table` at the source."""
    code: str
    """The target's error code when it was refused last."""
    since: int
    """The source's commit time when it was parked, microseconds; 0 = not known yet."""
    waits_for: str
    """The table in which a change may let it go; empty = not known."""
    size: int
    """Of its values as they are stored, bytes."""

    @property
    def place(self) -> tuple[int, int]:
        """Names it within the lane; greater ones came later."""
        return self.offset, self.row


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """What is stored of a row that begins to wait."""

    parked: Parked
    op: int
    header: str
    """Its message's headers, as JSON."""
    payload: bytes
    """A batch of this row alone."""
    reason: str


def key_text(key: Sequence[Value]) -> str:
    """A key as text, the same whether its column holds a number or, later, the number as text."""
    return readable_json(
        [str(cell) if isinstance(cell, int) else cell_to_json(cell) for cell in key]
    )


def single_row(batch: ChangeBatch, row: int) -> ChangeBatch:
    """The batch of this row alone, without what belongs to its neighbours."""
    taken = batch.take([row])
    return replace(taken, transactions=[batch.transactions[batch.tx[row]]], tx=[0])


def blocker_of(code: str, reason: str, table: str) -> str:
    """The table in which a change may let a row of `table` go; empty where the server does not tell it."""
    if code in _UNIQUE:
        return table
    found = _FOREIGN_KEY.search(reason)
    if found is None:
        return ""
    database, child, other, parent = (
        None if name is None else name[1:-1].replace("``", "`") for name in found.groups()
    )
    if code in _CHILD_REFUSED:
        return f"{other or database}.{parent}"
    return f"{database}.{child}" if code in _PARENT_REFUSED else ""


def is_over(waits_us: int | None, since: int, now: int | None) -> bool:
    """Whether a row has waited long enough. `now` is the source's commit time that all lanes have passed.

    `waits_us` None = it waits for ever; `now` None, `since` 0 = not known.
    """
    if waits_us is None:
        return False
    return waits_us == 0 or (now is not None and since > 0 and now - since >= waits_us)


class Lot:
    """The rows of one lane that wait. Knows no clock: it is told seconds of one that never goes back."""

    def __init__(self, rows: Iterable[Parked] = (), *, after: Lot | None = None) -> None:
        """`after`: the lot in whose place it comes, whose rest goes on."""
        self._all: dict[tuple[int, int], Parked] = {}
        self._by_table: dict[str, dict[str, Parked]] = {}
        self._by_blocker: dict[str, dict[tuple[int, int], Parked]] = {}
        self._untried: dict[str, int] = {}
        """Tables that were written since, and how many of the rows that wait for them are to be tried."""
        self._next_s: float = float("-inf") if after is None else after._next_s
        self._rested_s: float = float("-inf") if after is None else after._rested_s
        for parked in sorted(rows, key=lambda item: item.place):
            self._enter(parked)

    def __len__(self) -> int:
        return len(self._all)

    def has_rows_of(self, table: str) -> bool:
        """Whether any row of a target table waits."""
        return table in self._by_table

    def rows_of(self, table: str) -> list[Parked]:
        """The rows of a target table that wait."""
        return list(self._by_table.get(table, {}).values())

    def find(self, table: str, key: str) -> Parked | None:
        """The row that waits under a key."""
        return self._by_table.get(table, {}).get(key)

    def wrote(self, tables: Iterable[str]) -> None:
        """Says that rows of these target tables have changed: what waits for them has its turn."""
        for name in map(str.casefold, tables):
            waiting = self._by_blocker.get(name)
            if waiting:
                self._untried[name] = len(waiting)

    def due(self, now_s: float) -> bool:
        """Whether rows should be tried again now."""
        if not self._all or now_s < self._rested_s:
            return False
        return bool(self._untried) or now_s >= self._next_s

    def choose(self, rows_max: int = ROUND_ROWS_MAX) -> list[Parked]:
        """The rows to try next, in the order in which they came; every row has its turn in time."""
        chosen: dict[tuple[int, int], Parked] = {}
        for name in list(self._untried):
            before = len(chosen)
            all_seen = self._take(self._by_blocker.get(name, {}), chosen, rows_max)
            self._untried[name] -= len(chosen) - before
            if all_seen or self._untried[name] <= 0:
                del self._untried[name]
        self._take(self._all, chosen, rows_max)
        for place in chosen:
            self._to_the_end(place)
        return [chosen[place] for place in sorted(chosen)]

    @staticmethod
    def _take(
        line: Mapping[tuple[int, int], Parked],
        chosen: dict[tuple[int, int], Parked],
        rows_max: int,
    ) -> bool:
        """Adds rows of `line` to `chosen`, up to the limits of a round; whether it got to the line's end."""
        size = sum(parked.size for parked in chosen.values())
        for place, parked in line.items():
            if place in chosen:
                continue
            if chosen and (len(chosen) >= rows_max or size + parked.size > ROUND_BYTES_MAX):
                return False
            chosen[place] = parked
            size += parked.size
        return True

    def tried(self, began_s: float, now_s: float, *, released: bool) -> None:
        """Says when a round was; after one that let rows go others may be able to."""
        self._rested_s = now_s + REST * (now_s - began_s)
        self._next_s = now_s if released else now_s + ROUND_EVERY_S

    def commit(self, draft: Draft) -> None:
        """Takes over what a transaction has made durable."""
        for parked in draft.left.values():
            self._leave(parked)
        for row in draft.entered.values():
            self._enter(row.parked)
        for parked in draft.restamped:
            self._leave(parked)
            self._enter(parked)

    def learn(self, parked: Parked) -> None:
        """Remembers by what a row was refused this time."""
        if parked.place in self._all:
            self._leave(self._all[parked.place])
            self._enter(parked)

    def _enter(self, parked: Parked) -> None:
        self._all[parked.place] = parked
        self._by_table.setdefault(parked.table, {})[parked.key] = parked
        self._by_blocker.setdefault(parked.waits_for.casefold(), {})[parked.place] = parked

    def _leave(self, parked: Parked) -> None:
        known = self._all.pop(parked.place)
        keys = self._by_table[known.table]
        del keys[known.key]
        if not keys:
            del self._by_table[known.table]
        blocker = known.waits_for.casefold()
        line = self._by_blocker[blocker]
        del line[known.place]
        if not line:
            del self._by_blocker[blocker]

    def _to_the_end(self, place: tuple[int, int]) -> None:
        parked = self._all.pop(place)
        self._all[place] = parked
        line = self._by_blocker[parked.waits_for.casefold()]
        line[place] = line.pop(place)


@dataclass(slots=True)
class Draft:
    """What one transaction changes of a lot; nothing of it counts before `Lot.commit`.

    Every row of a write counts as applied until it is said here what else became of it.
    """

    lot: Lot
    counts: Counts = field(default_factory=Counts)
    """What is to be added to the lane's counts."""
    left: dict[tuple[int, int], Parked] = field(default_factory=dict)
    """Rows that wait no more."""
    entered: dict[tuple[str, str], ParkedRow] = field(default_factory=dict)
    """Rows that begin to wait, by table and key."""
    restamped: list[Parked] = field(default_factory=list)
    """Rows of which it is known only now since when they wait."""
    dead: list[Refusal] = field(default_factory=list)
    """Rows to be set aside."""
    tables: set[str] = field(default_factory=set)
    """Target tables that are written."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the lot changes."""
        return not (self.left or self.entered or self.restamped or self.dead)

    @property
    def size(self) -> int:
        """Rows that wait afterwards."""
        return len(self.lot) - len(self.left) + len(self.entered)

    def concerns(self, table: str) -> bool:
        """Whether a row of this target table may wait, so that `took` has to be told."""
        return self.lot.has_rows_of(table) or any(name == table for name, _ in self.entered)

    def took(self, table: str, key: str) -> None:
        """The target has taken a change: what waited under its key does so no more."""
        if self._remove(table, key):
            self.counts = self.counts.plus(Counts(parked=-1, superseded=1))

    def park(self, row: ParkedRow) -> None:
        """A change begins to wait, in the place of what waited under its key."""
        self.took(row.parked.table, row.parked.key)
        self.entered[row.parked.table, row.parked.key] = row
        self.counts = self.counts.plus(Counts(applied=-1, parked=1))

    def give_up(self, refusal: Refusal) -> None:
        """A change is set aside at once. What waits under its key is older and goes on waiting."""
        self.dead.append(refusal)
        self.counts = self.counts.plus(Counts(applied=-1, dead=1))

    def emptied(self, table: str) -> None:
        """All rows of a table are deleted: those that wait are older than that."""
        for parked in self.lot.rows_of(table):
            self.took(table, parked.key)

    def released(self, parked: Parked) -> None:
        """The target has taken a row that waited."""
        self._let_go(parked, Counts(parked=-1, applied=1))

    def expired(self, parked: Parked, refusal: Refusal) -> None:
        """A row has waited long enough and is set aside."""
        self.dead.append(refusal)
        self._let_go(parked, Counts(parked=-1, dead=1))

    def _let_go(self, parked: Parked, counts: Counts) -> None:
        self.left[parked.place] = parked
        self.counts = self.counts.plus(counts)

    def _remove(self, table: str, key: str) -> bool:
        if self.entered.pop((table, key), None) is not None:
            return True
        parked = self.lot.find(table, key)
        if parked is None or parked.place in self.left:
            return False
        self.left[parked.place] = parked
        return True
