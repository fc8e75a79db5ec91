"""XA transactions: their changes are held from XA PREPARE to XA COMMIT, and are gone after XA ROLLBACK.

A server logs an XA transaction twice: its rows where it is prepared, and one statement where it is committed
or rolled back, with anything in between. Here the first becomes a transaction without rows and the second one
with them, so that whoever reads on sees ordinary transactions, each where it took effect. Nothing of this is
remembered beyond the process: the place to go on from may lie after an XA PREPARE whose XA COMMIT is still to
come. Then its rows are looked up in the binlog before (docs/adr/0012). Pure but for that look back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gravity_collector.event import (
    AckAsked,
    Begin,
    Commit,
    Event,
    Rollback,
    Rows,
    Statement,
    XaCommit,
    XaPrepare,
    XaRollback,
    XaStart,
)

HELD_BYTES_MAX: Final = 64 << 20
"""Row events of all prepared transactions kept in memory; what is beyond is read again when it commits."""
PREPARED_MAX: Final = 10_000
"""Prepared transactions remembered. Beyond it the oldest is forgotten, and looked for if it commits."""

Place = tuple[int, int]
"""Number of a binlog file and the byte of it where a transaction starts."""
LookBack = Callable[[str, Place | None, Place], Iterator[Event]]
"""Gives the row events of an XA transaction from the binlog: of its name, the place where the transaction that
prepared it starts (None: anywhere before), and the place where the one that commits it starts."""


@dataclass(slots=True)
class _Held:
    place: Place
    events: list[Event] | None = field(default_factory=list)
    """None: too large to be kept."""
    bytes: int = 0


class HeldTransactions:
    """Turns the events of XA transactions into those of ordinary ones. One serves one connection."""

    def __init__(
        self,
        look_back: LookBack,
        *,
        bytes_max: int = HELD_BYTES_MAX,
        prepared_max: int = PREPARED_MAX,
    ) -> None:
        self._look_back = look_back
        self._bytes_max = bytes_max
        self._prepared_max = prepared_max
        self._prepared: dict[str, _Held] = {}
        self._bytes = 0
        self._begin = Begin("", 0, 0, 0)
        self._open: _Held | None = None
        self._open_xid = ""

    @property
    def is_inside(self) -> bool:
        """Whether the transaction that is being read is an XA transaction whose end has not come yet."""
        return self._open is not None

    def settle(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events with XA transactions where they took effect.

        Raises: as the look back.
        """
        for event in events:
            match event:
                case Begin():
                    self._begin = event
                    yield event
                case XaStart():
                    self._open = _Held((self._begin.file_index, self._begin.offset))
                    self._open_xid = event.xid
                case XaPrepare():
                    self._prepare(event.xid)
                    yield _end_of(event)
                case XaCommit():
                    yield from self._rows_of(event.xid, self._forget(event.xid))
                    yield _end_of(event)
                case XaRollback():
                    self._forget(event.xid)
                    yield _end_of(event)
                case _ if self._open is None:
                    yield event
                case AckAsked():  # Nobody who waits may be forgotten.
                    yield event
                case Commit():  # In one phase: it was never prepared.
                    held, self._open = self._open, None
                    self._bytes -= held.bytes
                    yield from self._rows_of(self._open_xid, held)
                    yield event
                case Rollback():
                    self._bytes -= self._open.bytes
                    self._open = None
                    yield event
                case Statement():
                    pass
                case _:
                    self._hold(event)

    def _hold(self, event: Event) -> None:
        held = self._open
        assert held is not None
        if held.events is None:
            return
        size = len(event.body) if isinstance(event, Rows) else 0
        if self._bytes + size > self._bytes_max:
            self._bytes -= held.bytes
            held.events, held.bytes = None, 0
            return
        held.events.append(event)
        held.bytes += size
        self._bytes += size

    def _prepare(self, xid: str) -> None:
        held, self._open = self._open, None
        if held is None:
            return
        self._forget(xid)
        self._prepared[xid] = held
        if len(self._prepared) > self._prepared_max:
            self._forget(next(iter(self._prepared)))

    def _forget(self, xid: str) -> _Held | None:
        held = self._prepared.pop(xid, None)
        if held is not None:
            self._bytes -= held.bytes
        return held

    def _rows_of(self, xid: str, held: _Held | None) -> Iterator[Event]:
        if held is not None and held.events is not None:
            return iter(held.events)
        here = self._begin.file_index, self._begin.offset
        return self._look_back(xid, held.place if held is not None else None, here)


def _end_of(event: XaPrepare | XaCommit | XaRollback) -> Commit:
    return Commit(event.file_index, event.next_offset)
