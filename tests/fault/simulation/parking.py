"""Rows that a MySQL target's foreign keys refuse: they wait in the product's lot, or are set aside.

Tables `parent<n>` and `child<n>`: a child's amount is the key of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from gravity_sink_mysql.parking import Draft, Lot, Parked, ParkedRow, key_text

from gravity.sink import Admitted, Refusal
from gravity.stored import Counts

from .altering import Value

if TYPE_CHECKING:
    from gravity.header import TargetHeader

    from .sinks import Applied
    from .world import Key, World

PARENT, CHILD = "parent", "child"
ROUND_ROWS = 3
"""Parked rows that are tried at once."""
PATIENCE_ENDS = DIES_AT_COMMIT = 0.2
"""How often a refused row is set aside; how often the sink dies between such rows' letters and its COMMIT."""


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

    def __init__(self, world: World, stored: dict[str, Any]) -> None:
        self.world, self.target, self.stored = world, world.mysql, stored
        self._rows_before: dict[Key, Value] = {}
        """The target's rows when the open transaction began."""
        self._replaced: set[tuple[int, int]] = set()
        """Changes that wait no more in the open transaction, since a newer one waits in their place."""
        parked: dict[tuple[int, int], tuple[Parked, Applied]] = stored["parked"]
        self.fruitless = 0
        """Rounds since a row was let go."""
        self.lot = Lot(item for item, _ in parked.values())

    def write(self, rows: list[Applied]) -> tuple[Draft, dict[tuple[int, int], Applied]]:
        """Applies rows; what it comes to for those that wait, and the ones that begin to."""
        draft, refused = Draft(self.lot), {}
        self._rows_before, self._replaced = dict(self.target.rows), set()
        self.fruitless = 0
        for row in rows:
            name, key = f"app.{row.table}", key_text([row.key])
            draft.tables.add(name)
            code = self._apply(row)
            if not code:
                if draft.concerns(name) and self.world.broken != "parked-stays":
                    draft.took(name, key)
                continue
            if self._is_over():
                draft.give_up(_refusal(row.place, code))
                continue
            other = PARENT if code == "1452" else CHILD
            number = row.table.removeprefix(PARENT).removeprefix(CHILD)
            parked = Parked(
                *row.place, name, key, row.source, name, code, 1, f"app.{other}{number}", 1
            )
            self._note_replaced(draft, name, key)
            draft.park(ParkedRow(parked, 0, "{}", b"", ""))
            refused[row.place] = row
        draft.counts = draft.counts.plus(Counts(applied=len(rows)))
        return draft, refused

    def _note_replaced(self, draft: Draft, table: str, key: str) -> None:
        """A change that waits gives its place to a newer one that is refused too, and is not tried again (ADR 0021)."""
        entered = draft.entered.get((table, key))
        waits = entered.parked if entered is not None else self.lot.find(table, key)
        if waits is not None and waits.place not in draft.left:
            self._replaced.add(waits.place)

    @property
    def is_calm(self) -> bool:
        """Whether every row that waits has been tried since one was let go."""
        return not len(self.lot) or self.fruitless > len(self.lot)

    def round(self, now: float) -> bool:
        """A round of parked rows, where it is the time: a transaction of its own, under the same fence.

        False: the sink has died.
        """
        if not self.lot.due(now):
            return True
        draft = Draft(self.lot)
        self._rows_before, self._replaced = dict(self.target.rows), set()
        for parked in self.lot.choose(ROUND_ROWS):
            row = self.stored["parked"][parked.place][1]
            code = self._apply(row)
            if not code:
                draft.released(parked)
                draft.tables.add(parked.table)
            elif self._is_over():
                draft.expired(parked, _refusal(parked.place, code))
        self.lot.tried(now, now, released=bool(draft.left))
        lives = self.commit(draft, {})
        self.fruitless = 0 if draft.left else self.fruitless + 1
        return lives

    def commit(
        self, draft: Draft, refused: Mapping[tuple[int, int], Applied], **moved: object
    ) -> bool:
        """Makes durable what a transaction has changed, with what it has `moved` beside; letters of dead rows first.

        False: the sink has died, before its COMMIT or just behind it.
        """
        dead = [(refusal.message.offset, refusal.row) for refusal in draft.dead]
        dies = bool(dead) and self.world.faults and self.world.patience.random() < DIES_AT_COMMIT
        is_late = self.world.broken == "letter-behind-commit"
        if not is_late:
            self.stored["letters"].update(dead)
            if dies:
                self.target.rows.clear()
                self.target.rows.update(self._rows_before)  # ROLLBACK
                return False
        for place in draft.left:
            del self.stored["parked"][place]
        for entered in draft.entered.values():
            place = entered.parked.place
            self.stored["parked"][place] = (entered.parked, refused[place])
        self.stored["counts"] = self.stored["counts"].plus(draft.counts)
        self.stored["dead"].update(dead)
        self.stored["replaced"].update(self._replaced)
        self.world.stats["dead"] += len(dead)
        self.stored.update(moved)
        self.lot.commit(draft)
        self.lot.wrote(draft.tables)
        if is_late and not dies:
            self.stored["letters"].update(dead)
        return not dies

    def _is_over(self) -> bool:
        """Whether a refused row waits no longer. Drawn by lot: any moment must do."""
        world = self.world
        return world.histories.sets_aside and world.patience.random() < PATIENCE_ENDS

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


def _refusal(place: tuple[int, int], code: str) -> Refusal:
    offset, row = place
    return Refusal(Admitted(cast("TargetHeader", None), offset, b"", None), row, code, "")
