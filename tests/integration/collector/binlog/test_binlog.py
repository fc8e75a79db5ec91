"""The binlog as typed events: transactions, positions, shapes of tables, and what halts by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from gravity_collector.binlog import StartAfterGtids, StartAtFile, open_stream, read_server_facts
from gravity_collector.decoder import ABSENT, PartialImageError
from gravity_collector.event import Begin, Commit, Event, Heartbeat, Query, Rollback, Rotate, Rows
from gravity_collector.event_parser import UnreadableEventError
from gravity_collector.server import assert_readable

from gravity.batch import DELETE, INSERT, UPDATE, Value
from gravity.errors import FatalError, PositionLostError, SourceSettingError, TransientError
from tests.integration.collector.binlog.source import (
    MARIADB,
    NEWER_MYSQL,
    Source,
    names,
    on,
    rows_of,
    run,
)

pytestmark = pytest.mark.stack


def test_a_transaction_is_begin_rows_commit(source: Source, database: str) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "BEGIN",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "SAVEPOINT s",
        "INSERT INTO t VALUES (3, 3)",
        "ROLLBACK TO s",
        "UPDATE t SET v = 10 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "COMMIT",
        "BEGIN",
        "INSERT INTO t VALUES (9, 9)",
        "ROLLBACK",
        "TRUNCATE t",
    )
    changes = [event for event in events if not isinstance(event, Rotate)]
    assert names(changes)[1:] == [
        "Begin",
        "Query",
        "Commit",
        "Begin",
        "Rows",
        "Rows",
        "Rows",
        "Commit",
        "Begin",
        "Query",
        "Commit",
    ]
    assert rows_of(events) == [
        (INSERT, (1, 1)),
        (INSERT, (2, 2)),
        (UPDATE, ((1, 1), (1, 10))),
        (DELETE, (2, 2)),
    ]


def test_positions_join_without_gaps_and_can_be_resumed_from(source: Source, database: str) -> None:
    facts = source.facts()
    run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        *(f"INSERT INTO t VALUES ({number})" for number in range(5)),
    )
    events = source.events_since(facts)
    begins = [event for event in events if isinstance(event, Begin)]
    commits = [event for event in events if isinstance(event, Commit)]
    assert begins[0].offset == facts.next_offset
    assert [event.offset for event in begins[1:]] == [event.next_offset for event in commits[:-1]]
    assert commits[-1].next_offset == source.facts().next_offset
    assert all(one.commit_us <= other.commit_us for one, other in itertools.pairwise(begins))
    for begin in begins[1:]:
        again = source.events_since(facts, StartAtFile(facts.file_name, begin.offset))
        assert [event for event in again if isinstance(event, Begin | Commit)] == [
            event for event in events[events.index(begin) :] if isinstance(event, Begin | Commit)
        ]


def test_a_gtid_set_starts_after_its_transactions(source: Source, database: str) -> None:
    run(source, database, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    facts = source.facts()
    run(
        source,
        database,
        "INSERT INTO t VALUES (2)",
        "FLUSH BINARY LOGS",
        "INSERT INTO t VALUES (3)",
    )
    events = source.events_since(facts, StartAfterGtids(facts.gtid_set))
    assert [row for _, row in rows_of(events)] == [(2,), (3,)]
    first = next(event for event in events if isinstance(event, Begin))
    assert (first.file_index, first.offset) == (facts.file_index, facts.next_offset)
    assert [
        event.file_index for event in events if isinstance(event, Rotate) and not event.artificial
    ] == [facts.file_index + 1]


def test_reading_ends_with_nothing_when_nothing_is_there(source: Source, database: str) -> None:
    facts = source.facts()
    stream = source.stream(facts, until_end=False, heartbeat_s=0.2)
    events: list[Event] = []
    while not any(isinstance(event, Heartbeat) for event in events):
        events += stream.read(1)
    while stream.read(0):
        pass
    assert stream.read(0) == []
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
    more: list[Event] = []
    while not any(isinstance(event, Commit) for event in more):
        more += stream.read(1)
    assert any(isinstance(event, Query) and "CREATE TABLE" in event.sql for event in more)
    stream.close()


def test_myisam_changes_are_transactions_ended_by_a_commit(source: Source, database: str) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE m (id int PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO m VALUES (1), (2)",
    )
    assert names(events)[-3:] == ["Begin", "Rows", "Commit"]
    assert [row for _, row in rows_of(events)] == [(1,), (2,)]


@on(*MARIADB, *NEWER_MYSQL)
def test_create_table_select_carries_its_rows(source: Source, database: str) -> None:
    """MySQL before 8.0.21 refuses it with GTIDs."""
    events = run(source, database, "CREATE TABLE a (id int PRIMARY KEY) AS SELECT 7 AS id")
    assert [row for _, row in rows_of(events)] == [(7,)]
    assert any(isinstance(event, Query) and "CREATE TABLE" in event.sql for event in events)
    assert not any(isinstance(event, Rollback) for event in events)


def test_wide_tables_with_many_patterns_of_nulls(source: Source, database: str) -> None:
    count = 180
    columns = ", ".join(
        f"c{number} {'varchar(9)' if number % 3 else 'int'} NULL" for number in range(count)
    )
    rows: list[tuple[Value, ...]] = []
    for row in range(40):
        cells: list[Value] = [row]
        cells += [
            None
            if (number * 7 + row) % (row % 5 + 2) == 0
            else (f"v{number}" if number % 3 else number)
            for number in range(count)
        ]
        rows.append(tuple(cells))
    facts = source.facts()
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE w (id int PRIMARY KEY, {columns})")
        cursor.executemany(f"INSERT INTO w VALUES ({', '.join(['%s'] * (count + 1))})", rows)
        cursor.execute("UPDATE w SET c1 = 'new', c2 = NULL WHERE id = 3")
    found = rows_of(source.events_since(facts))
    assert [row for op, row in found if op == INSERT] == rows
    (_, (before, after)) = found[-1]
    assert before == rows[3]
    assert after == (*rows[3][:2], "new", None, *rows[3][4:])


def test_mixed_columns_keep_their_signs_character_sets_and_labels(
    source: Source, database: str
) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE x (a int unsigned, y year, b int, d decimal(5,2) unsigned, f float, e1 enum('p','q') CHARACTER SET"
        " latin1, t1 text CHARACTER SET latin1, s1 set('k','l') CHARACTER SET utf8mb4, t2 varchar(5) CHARACTER SET gbk,"
        " bl blob, e2 enum('ü','ö') CHARACTER SET latin1, g geometry, t3 char(3) CHARACTER SET utf16, big bigint unsigned,"
        " small smallint, tiny tinyint unsigned, v varbinary(4), m mediumint unsigned,"
        " PRIMARY KEY (b, a))",
        "INSERT INTO x VALUES (4294967295, 2024, -5, 1.5, 2.5, 'q', 'ä', 'k,l', '中', 'raw', 'ö', ST_GeomFromText('POINT(1 2)'),"
        " '中', 18446744073709551615, -1, 255, x'00ff', 16777215)",
    )
    table = next(event for event in events if isinstance(event, Rows)).table
    assert [column.type for column in table.schema.columns] == [
        "int unsigned", "year", "int", "decimal(5,2) unsigned", "float", "enum('p','q')", "text", "set('k','l')",
        "varchar(5)", "blob", "enum('ü','ö')", "geometry", "char(3)", "bigint unsigned", "smallint", "tinyint unsigned",
        "varbinary(4)", "mediumint unsigned",
    ]  # fmt: skip
    assert [column.charset for column in table.schema.columns if column.charset] == [
        "latin1", "latin1", "utf8mb4", "gbk", "latin1", "utf16",
    ]  # fmt: skip
    assert table.schema.key == (2, 0)
    ((_, row),) = rows_of(events)
    assert row[:11] == (4294967295, 2024, -5, "1.50", 2.5, "q", "ä", "k,l", "中", b"raw", "ö")
    assert row[12:] == ("中", 18446744073709551615, -1, 255, b"\x00\xff", 16777215)


def test_keys_by_prefix_name_their_columns(source: Source, database: str) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE p (a int, t text NOT NULL, v varchar(99) NOT NULL, PRIMARY KEY (v(5), t(9), a))",
        "INSERT INTO p VALUES (1, 'text', 'v')",
        "CREATE TABLE n (a int)",
        "INSERT INTO n VALUES (1)",
    )
    assert [event.table.schema.key for event in events if isinstance(event, Rows)] == [
        (2, 1, 0),
        (),
    ]


def test_generated_columns_are_read_where_the_server_logs_them(
    source: Source, database: str
) -> None:
    stored = "STORED" if source.flavor == "mysql" else "PERSISTENT"
    events = run(
        source,
        database,
        f"CREATE TABLE g (id int PRIMARY KEY, a int, s int AS (a + 1) {stored}, v int AS (a + 2) VIRTUAL, z int)",
        "INSERT INTO g (id, a, z) VALUES (1, 10, 99)",
        "UPDATE g SET a = 20 WHERE id = 1",
    )
    assert rows_of(events) == [
        (INSERT, (1, 10, 11, 12, 99)),
        (UPDATE, ((1, 10, 11, 12, 99), (1, 20, 21, 22, 99))),
    ]


def test_rows_above_sixteen_megabytes(source: Source, database: str) -> None:
    with source.connect() as client, client.cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = 134217728")
    sizes = [(1 << 24) - 60 + step for step in range(0, 60, 6)] + [40_000_000]
    facts = source.facts()
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE big (id int PRIMARY KEY, b longblob)")
        for number, size in enumerate(sizes):
            cursor.execute(f"INSERT INTO big VALUES ({number}, REPEAT('x', {size}))")
        cursor.execute("INSERT INTO big VALUES (1000, 'after')")
    events = source.events_since(facts)
    lengths = [len(row[1]) for _, row in rows_of(events)]
    assert lengths == [*sizes, 5]


@pytest.mark.parametrize("algorithm", ["NONE", "CRC32"])
def test_files_with_and_without_checksums(source: Source, database: str, algorithm: str) -> None:
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        cursor.execute("SELECT @@global.binlog_checksum")
        before = cursor.fetchone()[0]
        try:
            cursor.execute(f"SET GLOBAL binlog_checksum = {algorithm}")
            facts = source.facts()
            cursor.execute("INSERT INTO t VALUES (1)")
            # The file before has the other kind; the server's present setting must not matter.
            cursor.execute(
                "SET GLOBAL binlog_checksum = " + ("CRC32" if algorithm == "NONE" else "NONE")
            )
            cursor.execute("INSERT INTO t VALUES (2)")
            assert [row for _, row in rows_of(source.events_since(facts))] == [(1,), (2,)]
        finally:
            cursor.execute(f"SET GLOBAL binlog_checksum = {before}")


def test_statement_format_halts(source: Source, database: str) -> None:
    facts = source.facts()
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute("INSERT INTO t VALUES (1)")
    stream = source.stream(facts)
    with pytest.raises(
        UnreadableEventError, match=r"logged as a statement.*INSERT INTO t.*binlog_format=ROW"
    ):
        while not stream.is_at_end:
            stream.read(10)
    stream.close()


def test_partial_images_halt_unless_asked_for(source: Source, database: str) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text)",
        "INSERT INTO t VALUES (1, 2, 'x')",
        "SET SESSION binlog_row_image = MINIMAL",
        "UPDATE t SET a = 3 WHERE id = 1",
    )
    update = [event for event in events if isinstance(event, Rows)][-1]
    with pytest.raises(PartialImageError, match="binlog_row_image=FULL"):
        update.table.updates(update.body, update.at)
    images: list[Any] = list(update.table.updates(update.body, update.at, partial=True))
    assert images == [((1, ABSENT, ABSENT), (ABSENT, 3, ABSENT))]


def test_metadata_that_is_not_full_halts(source: Source, database: str) -> None:
    facts = source.facts()
    value = "NO_LOG" if source.flavor == "mariadb" else "MINIMAL"
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        try:
            cursor.execute(f"SET GLOBAL binlog_row_metadata = {value}")
            with pytest.raises(SourceSettingError, match="binlog_row_metadata=FULL"):
                assert_readable(source.facts(), "s")
            cursor.execute("INSERT INTO t VALUES (1)")
        finally:
            cursor.execute("SET GLOBAL binlog_row_metadata = FULL")
    stream = source.stream(facts)
    with pytest.raises(SourceSettingError, match="binlog_row_metadata=FULL"):
        while not stream.is_at_end:
            stream.read(10)
    stream.close()


@on(*MARIADB)
def test_a_server_that_logs_alter_before_it_is_known_to_succeed_is_refused(source: Source) -> None:
    """MariaDB since 10.8 can be told to."""
    with source.connect() as client, client.cursor() as cursor:
        cursor.execute("SET GLOBAL binlog_alter_two_phase = ON")
        try:
            with pytest.raises(SourceSettingError, match="binlog_alter_two_phase=OFF"):
                assert_readable(source.facts(), "s")
        finally:
            cursor.execute("SET GLOBAL binlog_alter_two_phase = OFF")


def test_a_healthy_server_is_readable(source: Source) -> None:
    facts = source.facts()
    assert facts.flavor == source.flavor
    assert_readable(facts, "s")
    assert facts.binlog_file_name(facts.file_index) == facts.file_name


@pytest.mark.parametrize(
    ("change", "error", "remedy"),
    [
        ({"password": "wrong"}, SourceSettingError, "password"),
        ({"user": "nobody"}, SourceSettingError, "password"),
        ({"port": 1}, TransientError, "2003"),
    ],
)
def test_connections_that_fail_are_named(
    source: Source, change: dict[str, Any], error: type[FatalError], remedy: str
) -> None:
    with pytest.raises(error, match=remedy):
        read_server_facts({**source.connection, **change}, "s")
    with pytest.raises(error, match=remedy):
        open_stream(
            {**source.connection, **change},
            StartAtFile("binlog.000001"),
            source.facts(),
            source="s",
            server_id=4_100_005,
            heartbeat_s=5,
        )


@pytest.mark.parametrize("start", ["missing file", "past the end"])
def test_positions_that_are_not_there_are_lost(source: Source, start: str) -> None:
    facts = source.facts()
    at = (
        StartAtFile(facts.binlog_file_name(999_999))
        if start == "missing file"
        else StartAtFile(facts.file_name, 1 << 30)
    )
    stream = open_stream(
        source.connection, at, facts, source="s", server_id=4_100_006, heartbeat_s=5, until_end=True
    )
    with pytest.raises(PositionLostError, match=r"1236|snapshot"):
        while not stream.is_at_end:
            stream.read(10)
    stream.close()
