"""Where a source's binlog is begun that was never read before: the place that `start` means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gravity.clock import now_us
from gravity.config.start import AfterGtids, AtFile, AtTime, Earliest, Latest, StartPoint
from gravity.errors import FatalError, PositionLostError
from gravity.gtid import parse_gtids
from gravity.position import Position
from gravity_collector.binlog import BinlogStream, StartAfterGtids, StartAtFile
from gravity_collector.event import (
    Begin,
    Commit,
    Event,
    Rollback,
    XaCommit,
    XaPrepare,
    XaRollback,
)
from gravity_collector.file_name import file_index_of
from gravity_collector.host import assert_stands_in
from gravity_collector.owner import Resume
from gravity_collector.place import FIRST_EPOCH, Open, first_place, mariadb_gtids, open_latest
from gravity_collector.server import ServerFacts, identity
from gravity_collector.snapshot import SourceConnection

OpenToEnd = Callable[[StartAtFile], BinlogStream]
"""Opens the binlog at a place; the server ends it where its binlog ends now."""
Opened = tuple[BinlogStream, Resume, Sequence[Event]]

_FILE_HEAD: Final = 4
_WAIT_S: Final = 60.0
_PREVIOUS_GTIDS: Final = "Previous_gtids"
_ENDS: Final = (Commit, Rollback, XaPrepare, XaCommit, XaRollback)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction as it stands in the binlog."""

    gtid: str
    file_index: int
    offset: int
    next_offset: int
    commit_us: int
    """0 for one that was rolled back."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """One server's binlog, and how it is opened."""

    source: str
    connection: SourceConnection
    facts: ServerFacts
    open_at: Open
    open_to_end: OpenToEnd

    def open(self, start: StartPoint) -> Opened:
        """The binlog from `start` on.

        Raises:
            PositionLostError: the server does not have that place (any more).
            FatalError: it is no place where reading can begin.
        """
        match start:
            case Latest():
                return open_latest(self.connection, self.facts, self.source, self.open_at)
            case Earliest():
                return self._earliest()
            case AfterGtids():
                return self._after(start.gtids)
            case AtFile():
                return self._at_file(start)
            case AtTime():
                return self._at_time(start.time_us)

    def _where(self, start: str) -> str:
        return f"source {self.source}, start {start}"

    def _files(self) -> dict[str, int]:
        """The server's binlog files in order, with their sizes."""
        rows = self.connection.query("SHOW BINARY LOGS")
        found = {str(row[0]): int(row[1]) for row in rows}
        return dict(sorted(found.items(), key=lambda item: file_index_of(item[0])))

    def _earliest(self) -> Opened:
        if self.facts.flavor == "mysql":
            return self._after(self.facts.gtid_purged)
        first = next(iter(self._files()))
        return self._opened(first, _FILE_HEAD, mariadb_gtids(self.connection, first, _FILE_HEAD))

    def _after(self, gtids: str) -> Opened:
        assert_stands_in(
            self.facts, gtids, (), is_replicating=lambda: False, where=self._where(f"gtid:{gtids}")
        )
        binlog = self.open_at(StartAfterGtids(gtids))
        place, events = first_place(binlog, self.source)
        return binlog, Resume(place, gtids, 0, identity(self.facts), 0), events

    def _opened(self, file_name: str, offset: int, gtids: str) -> Opened:
        place = Position(FIRST_EPOCH, file_index_of(file_name), offset)
        binlog = self.open_at(StartAtFile(file_name, offset))
        return binlog, Resume(place, gtids, 0, identity(self.facts), 0), ()

    def _at_file(self, start: AtFile) -> Opened:
        where, files = self._where(f"file:{start.file_name}:{start.offset}"), self._files()
        if files.get(start.file_name, -1) < start.offset:
            size = files.get(start.file_name)
            what = "has no such file" if size is None else f"ends at {size}"
            raise PositionLostError(
                f"the server's binlog {what}: it has {', '.join(files)}",
                where=where,
                remedy="give a place that it has, or start: earliest",
            )
        before: list[Transaction] = []
        for transaction in self._transactions(start.file_name):
            if (transaction.file_index, transaction.offset) >= (
                file_index_of(start.file_name),
                start.offset,
            ):
                break
            if transaction.next_offset > start.offset:
                raise FatalError(
                    f"that is inside transaction {transaction.gtid}",
                    where=where,
                    remedy=f"give {transaction.offset} to read it, or {transaction.next_offset} to leave it out",
                )
            before.append(transaction)
        gtids = self._gtids(start.file_name, start.offset, before)
        return self._opened(start.file_name, start.offset, gtids)

    def _gtids(self, file_name: str, offset: int, before: Sequence[Transaction]) -> str:
        """All transactions executed before a place; `before` are those of its file, or from `file_name` on."""
        if self.facts.flavor == "mariadb":
            return mariadb_gtids(self.connection, file_name, offset)
        gtids = parse_gtids("mysql", self._previous_gtids(file_name))
        for transaction in before:
            gtids.add(transaction.gtid)
        return str(gtids)

    def _previous_gtids(self, file_name: str) -> str:
        """MySQL: all transactions before a binlog file, as its own head says."""
        named = self.connection.literal(file_name)
        rows = self.connection.query(f"SHOW BINLOG EVENTS IN {named} LIMIT 3")
        found = [str(row[5]) for row in rows if str(row[2]) == _PREVIOUS_GTIDS]
        return found[0].replace("\n", "") if found else ""

    def _at_time(self, time_us: int) -> Opened:
        where, files = self._where(f"timestamp:{_iso(time_us)}"), list(self._files())
        if time_us > now_us():
            raise FatalError(
                "that lies in the future",
                where=where,
                remedy="say start: latest, or an earlier time",
            )
        index = last_before(
            len(files), lambda number: self._first_commit_us(files[number]), time_us
        )
        begun_late = index is None and self._is_purged(files[0])
        before: list[Transaction] = []
        for transaction in self._transactions(files[index or 0]):
            if transaction.commit_us >= time_us:
                if begun_late:
                    break
                name = self.facts.binlog_file_name(transaction.file_index)
                in_file = [t for t in before if t.file_index == transaction.file_index]
                gtids = self._gtids(name, transaction.offset, in_file)
                return self._opened(name, transaction.offset, gtids)
            before.append(transaction)
        if begun_late:
            raise PositionLostError(
                "the server's binlog begins later: what was committed in between has been purged",
                where=where,
                remedy="say start: earliest to begin with what there is",
            )
        # Nothing has been committed since.
        return open_latest(self.connection, self.facts, self.source, self.open_at)

    def _is_purged(self, first_file: str) -> bool:
        if self.facts.flavor == "mysql":
            return bool(self.facts.gtid_purged)
        return bool(mariadb_gtids(self.connection, first_file, _FILE_HEAD))

    def _first_commit_us(self, file_name: str) -> int | None:
        """When the first transaction of a file, or of those behind it, was committed; None: there is none."""
        times = (t.commit_us for t in self._transactions(file_name) if t.commit_us)
        return next(times, None)

    def _transactions(self, file_name: str) -> Iterator[Transaction]:
        """The transactions from the beginning of a file to the binlog's present end."""
        with closing(self.open_to_end(StartAtFile(file_name, _FILE_HEAD))) as binlog:
            begin: Begin | None = None
            while not binlog.is_at_end:
                for event in binlog.read(_WAIT_S):
                    if isinstance(event, Begin):
                        begin = event
                    elif isinstance(event, _ENDS) and begin is not None:
                        time_us = 0 if isinstance(event, Rollback) else begin.commit_us
                        yield Transaction(
                            begin.gtid, begin.file_index, begin.offset, event.next_offset, time_us
                        )
                        begin = None


def last_before(count: int, first_us: Callable[[int], int | None], time_us: int) -> int | None:
    """The last of `count` files whose first commit is earlier than `time_us`; None when none is.

    The files' first commits are taken to be in order; few of them are asked for.
    """
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        first = first_us(middle)
        if first is not None and first < time_us:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low else None


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()
