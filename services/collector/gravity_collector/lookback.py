"""Looks back in a source's binlog, over a connection of its own, for the rows of a prepared XA transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, Protocol

import structlog

from gravity.errors import FatalError, PositionLostError
from gravity_collector.event import Begin, Commit, Event, Rollback, Rotate, Rows, XaPrepare, XaStart
from gravity_collector.file_name import file_index_of
from gravity_collector.xa import Place

log = structlog.get_logger()

_ANSWER_S: Final = 60.0


class Reading(Protocol):
    """A binlog read to its present end."""

    @property
    def is_at_end(self) -> bool:
        """Whether all has been given."""

    def read(self, timeout_s: float, /) -> list[Event]:
        """The next events."""

    def close(self) -> None:
        """Ends it."""


class BinlogLookBack:
    """Finds rows of XA transactions that were prepared before the place where reading began."""

    def __init__(
        self,
        source: str,
        open_at: Callable[[str, int], Reading],
        file_names: Callable[[], Sequence[str]],
    ) -> None:
        """`open_at` reads from an offset of a file, XA events as they are; `file_names` are the server's."""
        self._source = source
        self._open_at = open_at
        self._file_names = file_names

    def __call__(self, xid: str, place: Place | None, before: Place) -> Iterator[Event]:
        """The row events of the XA transaction, as gravity_collector.xa.LookBack.

        Raises:
            PositionLostError: the binlog that holds them is gone.
        """
        names = {file_index_of(name): name for name in self._file_names()}
        if place is None:
            log.info(
                "xa_looked_up", source=self._source, xid=xid, before=f"{before[0]}:{before[1]}"
            )
            place = self._find(xid, names, before)
        if place is None or place[0] not in names:
            raise PositionLostError(
                f"XA transaction {xid} is committed, and the binlog where it was prepared is gone",
                where=f"source {self._source}, position {before[0]}:{before[1]}",
                remedy="snapshot the source's tables again, and keep its binlogs longer than XA transactions stay"
                " prepared (binlog_expire_logs_seconds)",
            )
        yield from self._rows(names[place[0]], place[1], xid)

    def _find(self, xid: str, names: dict[int, str], before: Place) -> Place | None:
        """Where the last transaction before `before` starts that prepared `xid`: newest file first."""
        for index in sorted((index for index in names if index <= before[0]), reverse=True):
            found: Place | None = None
            at = Begin("", 0, 0, 0)
            for event in self._events(names[index], 4):
                if isinstance(event, Begin):
                    if (event.file_index, event.offset) >= before:
                        break
                    at = event
                elif isinstance(event, XaStart) and event.xid == xid:
                    found = at.file_index, at.offset
            if found is not None:
                return found
        return None

    def _rows(self, file_name: str, offset: int, xid: str) -> Iterator[Event]:
        is_there = False
        for event in self._events(file_name, offset):
            match event:
                case XaStart():
                    is_there = event.xid == xid
                case XaPrepare() | Commit() | Rollback():
                    break
                case Rows():
                    yield event
                case _:
                    pass
        if not is_there:
            raise FatalError(
                f"the binlog at {file_name}:{offset} does not hold XA transaction {xid}",
                where=f"source {self._source}",
                remedy="was the binlog rewritten? `gravity reset --source` reads the source again",
            )

    def _events(self, file_name: str, offset: int) -> Iterator[Event]:
        """Everything in one file from an offset on."""
        index = file_index_of(file_name)
        with closing(self._open_at(file_name, offset)) as reading:
            while not reading.is_at_end:
                for event in reading.read(_ANSWER_S):
                    if isinstance(event, Rotate) and event.file_index != index:
                        return
                    yield event
