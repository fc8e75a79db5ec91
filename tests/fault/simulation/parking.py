"""Rows that a MySQL target's foreign keys refuse for now: the product's lot over tables in memory.

Tables `parent<n>` and `child<n>`: a child's amount is the key of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gravity_sink_mysql.parking import Draft, Lot, Parked, ParkedRow, key_text

from gravity.stored import Counts

from .altering import Value

if TYPE_CHECKING:
    from .sinks import Applied
    from .world import Key, MysqlTarget

PARENT, CHILD = "parent", "child"
ROUND_ROWS = 3
"""Parked rows that are tried at once."""


def refers(table: str) -> bool:
    """Whether the table has a foreign key, or another one has one to it."""
    return table.startswith((PARENT, CHILD))


def refusal(rows: Mapping[Key, Value], table: str, key: int, value: Value | None) -> str:
    """The code with which a server refuses to write a row, or to delete it (value None); empty: it does not."""
    number = table[len(PARENT) :] if table.startswith(PARENT) else table[len(CHILD) :]
    if table.startswith(CHILD):
        missing = value is not None and (PARENT + number, value[0]) not in rows
        return "1452" if missing else ""
    if table.startswith(PARENT) and value is None:
        children = (row[0] for (name, _), row in rows.items() if name == CHILD + number)
        return "1451" if key in children else ""
    return ""


class Yard:
    """The parked rows of one lane, as its owner knows them; what is durable of them stands beside its progress."""

    def __init__(self, target: MysqlTarget, stored: dict[str, Any], *, careless: bool) -> None:
        """`careless`: a later change of a key leaves what waits under it."""
        self.target, self.stored, self.careless = target, stored, careless
        parked: dict[tuple[int, int], tuple[Parked, Applied]] = stored["parked"]
        self.fruitless = 0
        """Rounds since a row was let go."""
        self.lot = Lot(item for item, _ in parked.values())

    def write(self, rows: list[Applied]) -> tuple[Draft, dict[tuple[int, int], Applied]]:
        """Applies rows; what it comes to for those that wait, and the ones that begin to."""
        draft, refused = Draft(self.lot), {}
        self.fruitless = 0
        for row in rows:
            name, key = f"app.{row.table}", key_text([row.key])
            draft.tables.add(name)
            code = self._apply(row)
            if not code:
                if draft.concerns(name) and not self.careless:
                    draft.took(name, key)
                continue
            other = PARENT if code == "1452" else CHILD
            number = row.table.removeprefix(PARENT).removeprefix(CHILD)
            parked = Parked(
                *row.place, name, key, row.source, name, code, 1, f"app.{other}{number}", 1
            )
            draft.park(ParkedRow(parked, 0, "{}", b"", ""))
            refused[row.place] = row
        draft.counts = draft.counts.plus(Counts(applied=len(rows)))
        return draft, refused

    @property
    def is_calm(self) -> bool:
        """Whether every row that waits has been tried since one was let go."""
        return not len(self.lot) or self.fruitless > len(self.lot)

    def round(self, now: float) -> None:
        """A round of parked rows, where it is the time: a transaction of its own, under the same fence."""
        if not self.lot.due(now):
            return
        draft = Draft(self.lot)
        for parked in self.lot.choose(ROUND_ROWS):
            row = self.stored["parked"][parked.place][1]
            if not self._apply(row):
                draft.released(parked)
                draft.tables.add(parked.table)
        self.lot.tried(now, now, released=bool(draft.left))
        self.commit(draft, {})
        self.fruitless = 0 if draft.left else self.fruitless + 1

    def commit(self, draft: Draft, refused: Mapping[tuple[int, int], Applied]) -> None:
        """Makes durable what a transaction has changed."""
        for place in draft.left:
            del self.stored["parked"][place]
        for entered in draft.entered.values():
            place = entered.parked.place
            self.stored["parked"][place] = (entered.parked, refused[place])
        self.stored["counts"] = self.stored["counts"].plus(draft.counts)
        self.lot.commit(draft)
        self.lot.wrote(draft.tables)

    def _apply(self, row: Applied) -> str:
        value = None if row.removes else row.value
        code = refusal(self.target.rows, row.table, row.key, value)
        if code:
            return code
        if value is None:
            self.target.rows.pop((row.table, row.key), None)
        else:
            self.target.write(row.table, row.key, value, row.third)
        return ""
