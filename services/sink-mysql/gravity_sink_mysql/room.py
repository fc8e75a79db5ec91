"""Room for parked rows: how long a lane stands still for it before the sink halts."""

from __future__ import annotations

from gravity.clock import monotonic_s
from gravity.errors import FatalError, TransientError
from gravity_sink_mysql.parking import Draft

ROOM_WAIT_S = 60.0
"""How long a lane whose parked rows are too many stands still without one being let go, before it halts."""


class NoRoomError(TransientError):
    """More rows would be parked than may be. The session is good: rounds of parked rows go on."""


class Room:
    """What a lane's parked rows may take up."""

    def __init__(self, rows_max: int, *, where: str) -> None:
        self._rows_max = rows_max
        self._where = where
        self._full_since_s: float | None = None

    def require(self, draft: Draft) -> None:
        """Returns where the rows that `draft` parks have room.

        Raises:
            NoRoomError: the lane waits for its parked rows, or for the lanes that bring their parents.
            FatalError: it has waited for `ROOM_WAIT_S`, and none was let go.
        """
        if not draft.entered or draft.size <= self._rows_max:
            return
        row = next(iter(draft.entered.values()))
        what = (
            f"more than {self._rows_max} rows would be parked; "
            f"the next: {row.parked.code} {row.reason}"
        )
        where = f"{self._where}, table {row.parked.table}"
        now_s = monotonic_s()
        if self._full_since_s is None:
            self._full_since_s = now_s
        if now_s - self._full_since_s < ROOM_WAIT_S:
            raise NoRoomError(what, where=where)
        raise FatalError(
            what,
            where=where,
            remedy="see to the rows they wait for, raise sink.parked-rows-max, or have `constraint` "
            "dead-letter them: see docs/conflicts.md, Constraints",
        )

    def moved(self) -> None:
        """The lane went on, or a parked row left it or entered: whoever waits begins anew."""
        self._full_since_s = None
