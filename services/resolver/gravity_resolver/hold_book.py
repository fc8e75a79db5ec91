"""Rows on hold by table: how many, since when, and what has to stand still because of them. Pure.

Which rows are on hold stands in their own states; here are the counts, and an index of the holds in the
order in which they began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from gravity.plan import RoutingPlan

_PREFIX: Final = b"h\x00"

Put = MutableMapping[bytes, bytes | None]
Under = Callable[[bytes], Iterator[tuple[bytes, bytes]]]
"""Every key of the state that begins with a prefix and its value, in the order of keys."""


@dataclass(slots=True)
class HoldBook:
    """The open holds of a partition."""

    tables: dict[str, int] = field(default_factory=dict)
    """Table to its rows on hold; none with 0."""
    _oldest_us: dict[str, int] = field(default_factory=dict, compare=False)
    """What `oldest_us` found, until the table's oldest hold may be another."""

    @property
    def total(self) -> int:
        """Rows on hold in all tables."""
        return sum(self.tables.values())

    def note(self, table: str, slot: bytes, before: str, now: str, *, ets: int, put: Put) -> None:
        """Takes in that the row under `slot` went from hold `before` to hold `now`; empty: none.

        `ets`: the commit time, in microseconds, of what began it.
        """
        if before == now:
            return
        count = self.tables.pop(table, 0)
        if before:
            put[_entry(table, before, slot)] = None
            count -= 1
            self._oldest_us.pop(table, None)
        if now:
            put[_entry(table, now, slot)] = b"%d" % ets
            count += 1
        if count > 0:
            self.tables[table] = count

    def oldest_us(self, table: str, under: Under) -> int:
        """The commit time of what began the table's oldest hold; 0 where none is open."""
        if table not in self._oldest_us:
            _, ets = next(under(_PREFIX + table.encode() + b"\x00"), (b"", b"0"))
            self._oldest_us[table] = int(ets)
        return self._oldest_us[table]


def _entry(table: str, hold: str, slot: bytes) -> bytes:
    # A hold's name ends with the input and the row that began it. Rows that one schema change put on
    # hold may share it, so the slot belongs to the key.
    _, offset, row = hold.rsplit(".", 2)
    return _PREFIX + f"{table}\x00{int(offset):016d}.{int(row):06d}\x00".encode() + slot


def stopped_by(held: Iterable[str], target: str, plan: RoutingPlan) -> Callable[[str], bool]:
    """Tells of a target table whether its changes must wait while the tables `held` have rows on hold.

    By the rules of `plan`: a new one with a narrower scope lets go what an older one stopped.
    """
    units: set[str] = set()
    for table in held:
        rule = plan.resolution(target, table)
        stops = "key" if rule is None else rule.stops
        if stops == "job":
            return lambda _table: True
        if stops == "table":
            units.add(plan.line(target, table))
    if not units:
        return lambda _table: False
    return lambda table: plan.line(target, table) in units
