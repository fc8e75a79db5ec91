"""Where in a source's binlog reading begins or goes on, and whether the server still has that place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from gravity.clock import monotonic_s
from gravity.errors import PositionLostError, TransientError
from gravity.gtid import parse_gtids
from gravity.position import Position
from gravity_collector.binlog import BinlogStream, Start, StartAfterGtids, StartAtFile
from gravity_collector.chunk import PositionView
from gravity_collector.event import Begin, Event, Heartbeat, Rotate
from gravity_collector.owner import Ownership, Resume, assert_same_server
from gravity_collector.server import ServerFacts, identity
from gravity_collector.snapshot import SourceConnection, open_view

FIRST_EPOCH: Final = 1
_FIRST_EVENT_S: Final = 30.0
"""Longest wait for the first transaction or heartbeat."""

Open = Callable[[Start], BinlogStream]


class Events(Protocol):
    """A binlog as events."""

    def read(self, timeout_s: float, /) -> list[Event]:
        """The next events; empty when nothing came in time."""


def open_binlog(
    connection: SourceConnection,
    facts: ServerFacts,
    owned: Ownership,
    open_at: Open,
    begin: Callable[[], tuple[BinlogStream, Resume, Sequence[Event]]],
    *,
    open_to_end: Open,
) -> tuple[BinlogStream, Resume, Sequence[Event]]:
    """The binlog from where reading goes on, that place, and events that were read to learn it.

    `begin` opens the binlog of a source that has never been read, `open_to_end` one that ends where the server's
    binlog ends now.

    Raises:
        PositionLostError: the server does not have that place any more.
        FatalError: it is another server.
    """
    source = owned.source
    if owned.resume is not None:
        assert_same_server(owned.resume, identity(facts), source)
        _assert_has(connection, facts, owned.resume, source, open_to_end)
        place = owned.resume.next_position
        return open_at(_at(facts, place)), owned.resume, ()
    return begin()


def open_latest(
    connection: SourceConnection,
    facts: ServerFacts,
    source: str,
    open_at: Open,
    epoch: int = FIRST_EPOCH,
) -> tuple[BinlogStream, Resume, Sequence[Event]]:
    """The binlog from now on: every transaction that is not visible yet comes."""
    if facts.flavor == "mariadb":
        view = open_view(connection, facts.flavor)
        connection.query("COMMIT")
        assert isinstance(view, PositionView)
        place = Position(epoch, view.file_index, view.offset)
        gtids = mariadb_gtids(connection, facts.binlog_file_name(view.file_index), view.offset)
        return open_at(_at(facts, place)), Resume(place, gtids, 0, identity(facts), 0), ()
    # The executed set, not the binlog's end: transactions between the two are not visible yet,
    # so neither a snapshot nor a stream from that end would bring them.
    gtids = str(connection.query("SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")
    binlog = open_at(StartAfterGtids(gtids))
    place, events = first_place(binlog, source, epoch)
    return binlog, Resume(place, gtids, 0, identity(facts), 0), events


def _at(facts: ServerFacts, place: Position) -> StartAtFile:
    return StartAtFile(facts.binlog_file_name(place.file_index), place.offset)


def first_place(
    binlog: Events, source: str, epoch: int = FIRST_EPOCH
) -> tuple[Position, Sequence[Event]]:
    """Where a binlog that was opened by GTIDs goes on, and all events read to learn it.

    It is known with the first transaction, heartbeat or change of file: the made-up rotation before
    them names the beginning of a file of which a part is left out.
    """
    seen: list[Event] = []
    deadline = monotonic_s() + _FIRST_EVENT_S
    while monotonic_s() < deadline:
        events = binlog.read(1.0)
        seen += events
        for event in events:
            match event:
                case Begin():
                    return Position(epoch, event.file_index, event.offset), seen
                case Heartbeat() | Rotate(artificial=False):
                    return Position(epoch, event.file_index, event.next_offset), seen
                case _:
                    pass
    raise TransientError(
        "the server sends neither transactions nor heartbeats", where=f"source {source}"
    )


def mariadb_gtids(connection: SourceConnection, file_name: str, offset: int) -> str:
    """MariaDB: the last transaction of each domain before a place."""
    position = f"BINLOG_GTID_POS({connection.literal(file_name)}, {offset})"
    found = connection.query(f"SELECT {position}")[0][0]
    return "" if found is None else str(found)


def _logged_after(binlog: BinlogStream) -> Iterator[str]:
    """The GTIDs of a binlog that was opened to its end, as far as they come soon enough."""
    deadline = monotonic_s() + _FIRST_EVENT_S
    try:
        while not binlog.is_at_end and monotonic_s() < deadline:
            for event in binlog.read(1.0):
                if isinstance(event, Begin):
                    yield event.gtid
    finally:
        binlog.close()


def _assert_has(
    connection: SourceConnection,
    facts: ServerFacts,
    resume: Resume,
    source: str,
    open_to_end: Open,
) -> None:
    """Refuses a position that this server's binlog does not have, or has with another history."""
    place = resume.next_position
    remedy = (
        "`gravity reset --source` reads the source again from the beginning; keep binlogs longer "
        "(binlog_expire_logs_seconds) than the collector may be down"
    )
    where = f"source {source}, position {place}"
    file_name = facts.binlog_file_name(place.file_index)
    sizes = {str(row[0]): int(row[1]) for row in connection.query("SHOW BINARY LOGS")}
    size = sizes.get(file_name)
    if size is None:
        kept = f"it has {min(sizes)} to {max(sizes)}" if sizes else "it has no binlog"
        raise PositionLostError(
            f"the server no longer has {file_name}: {kept}", where=where, remedy=remedy
        )
    if size < place.offset:
        raise PositionLostError(
            f"the server's {file_name} ends at {size}, before where we have read, {place.offset}",
            where=where,
            remedy="was the server reset or restored from a backup, or did it lose its last transactions "
            f"in a crash (sync_binlog=1 prevents that)? {remedy}",
        )
    ours = parse_gtids(facts.flavor, resume.gtids)
    if facts.flavor == "mysql":
        theirs = parse_gtids(facts.flavor, facts.gtid_set)
        if not theirs.contains_all(ours):
            # A COMMIT that waits for an answer is in the binlog, and in the executed set only afterwards.
            for gtid in _logged_after(open_to_end(StartAfterGtids(facts.gtid_set))):
                theirs.add(gtid)
        is_same = theirs.contains_all(ours)
    else:
        theirs = parse_gtids(facts.flavor, mariadb_gtids(connection, file_name, place.offset))
        is_same = theirs.contains_all(ours) and ours.contains_all(theirs)
    if not is_same:
        raise PositionLostError(
            f"the server's history is another one: it has {theirs} where we have read {ours}",
            where=where,
            remedy=f"was the server reset or restored from a backup? {remedy}",
        )
