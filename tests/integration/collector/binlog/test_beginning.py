"""Where a source is begun that was never read: each way to say it, on real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pymysql
import pytest
from gravity_collector.beginning import Beginning
from gravity_collector.binlog import BinlogStream, Start, open_stream, read_server_facts
from gravity_collector.event import Rows
from gravity_collector.owner import Resume
from gravity_collector.snapshot import SourceConnection

from gravity.config.start import parse_start
from gravity.errors import FatalError, PositionLostError
from gravity.testing.waiting import wait_until
from tests.integration.collector.binlog.source import Source

FIRST_LAST = 100
"""From here on: keys of rows that end a reading."""


@dataclass
class Place:
    """The binlog's end at some moment."""

    file: str
    offset: int
    gtids: str
    time: datetime


@dataclass
class History:
    """Rows 1 to 4, one a transaction; a new file after each; `places[n]` is behind row n."""

    source: Source
    database: str
    places: list[Place]


@contextmanager
def connected(source: Source) -> Iterator[SourceConnection]:
    connection = SourceConnection(source.connection, "s")
    with closing(connection):
        yield connection


def purge(source: Source, up_to: str) -> None:
    """Takes all binlog files before `up_to` away, and whoever may still be reading them.

    MariaDB keeps a file until its storage engine's checkpoint has passed it, too.
    """
    with source.connect() as client, client.cursor() as cursor:

        def is_gone() -> bool:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
            )
            for reader in cursor.fetchall():
                with suppress(pymysql.err.OperationalError):  # It has ended by itself.
                    cursor.execute(f"KILL {reader[0]}")
            cursor.execute(f"PURGE BINARY LOGS TO '{up_to}'")
            cursor.execute("SHOW BINARY LOGS")
            return bool(cursor.fetchall()[0][0] == up_to)

        wait_until(is_gone, 60, what=f"the files before {up_to} are gone")


def _place(source: Source, time: datetime) -> Place:
    facts = source.facts()
    return Place(facts.file_name, facts.next_offset, facts.gtid_set, time)


@pytest.fixture
def history(source: Source, database: str) -> History:
    started = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=100)
    with connected(source) as connection:
        query = connection.query
        query(f"CREATE TABLE `{database}`.t (id INT PRIMARY KEY)")
        query("FLUSH BINARY LOGS")
        # Other tests' history on the same server is no part of this one, and its clock runs on.
        purge(source, source.facts().file_name)
        places = []
        for row in range(5):
            if row:
                if source.flavor == "mariadb":
                    # Its binlog knows whole seconds of the session's own time.
                    query(f"SET TIMESTAMP = {int(started.timestamp()) + row}")
                query(f"INSERT INTO `{database}`.t VALUES ({row})")
            now = (
                started + timedelta(seconds=row + 1)
                if source.flavor == "mariadb"
                else datetime.fromisoformat(str(query("SELECT NOW(6)")[0][0])).replace(tzinfo=UTC)
            )
            places.append(_place(source, now))
            if row == 2:
                query("FLUSH BINARY LOGS")
        return History(source, database, places)


def begin(history: History, start: str) -> tuple[Resume, list[int]]:
    """Where it is begun, and which of the rows come."""
    source = history.source
    facts = read_server_facts(source.connection, "s")

    def opener(*, to_end: bool) -> Callable[[Start], BinlogStream]:
        return lambda at: open_stream(
            source.connection, at, facts, source="s", server_id=4242, heartbeat_s=0.5,
            until_end=to_end, settled=not to_end,
        )  # fmt: skip

    with connected(source) as connection:
        beginning = Beginning("s", connection, facts, opener(to_end=False), opener(to_end=True))
        binlog, resume, events = beginning.open(parse_start(start))
        with closing(binlog):
            found: list[int] = []
            last = FIRST_LAST + int(
                connection.query(f"SELECT COUNT(*) FROM `{history.database}`.t")[0][0]
            )
            connection.query(f"INSERT INTO `{history.database}`.t VALUES ({last})")
            while last not in found:
                for event in (*events, *binlog.read(1.0)):
                    if isinstance(event, Rows) and event.table.schema.database == history.database:
                        found += [int(row[0]) for row in event.table.rows(event.body, event.at)]
                events = ()
    return resume, [row for row in found if row < FIRST_LAST]


def test_latest_brings_what_comes_and_earliest_everything_there_is(history: History) -> None:
    assert begin(history, "latest")[1] == []
    assert begin(history, "earliest")[1] == [1, 2, 3, 4]


def test_a_place_by_gtid_file_or_time_brings_what_stands_behind_it(history: History) -> None:
    # A new file begins behind row 2.
    for behind, kind in [(1, "file"), (1, "timestamp"), (2, "timestamp"), (2, "gtid"), (2, "file")]:
        place = history.places[behind]
        place_of = {
            "gtid": place.gtids,
            "file": f"{place.file}:{place.offset}",
            "timestamp": place.time.isoformat(),
        }
        start = f"{kind}:{place_of[kind]}"
        resume, found = begin(history, start)
        assert found == [*range(behind + 1, 5)], start
        assert sorted(resume.gtids.split(",")) == sorted(place.gtids.split(",")), start


def test_a_place_that_does_not_exist_or_cuts_a_transaction_is_refused_by_name(
    history: History,
) -> None:
    place = history.places[1]
    with pytest.raises(FatalError, match="inside transaction"):
        begin(history, f"file:{place.file}:{place.offset - 40}")
    with pytest.raises(PositionLostError, match="ends at"):
        begin(history, f"file:{place.file}:{10**9}")
    with pytest.raises(PositionLostError, match="no such file"):
        begin(history, "file:other.999999:4")
    with pytest.raises(FatalError, match="future"):
        begin(history, "timestamp:2999-01-01T00:00:00Z")
    lacking = (
        "0-77-1" if history.source.flavor == "mariadb" else "77777777-1111-1111-1111-111111111111:1"
    )
    with pytest.raises(PositionLostError, match="it lacks"):
        begin(history, f"gtid:{lacking}")
    purge(history.source, history.places[4].file)
    with pytest.raises(PositionLostError, match="begins later"):
        begin(history, "timestamp:1999-01-01T00:00:00Z")
    with pytest.raises(PositionLostError):
        begin(history, f"gtid:{history.places[0].gtids}")
    assert begin(history, "earliest")[1] == [3, 4]
