"""Transactions in every form that servers log them: compressed, tagged, long, in other domains."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from gravity_collector.binlog import StartAfterGtids, StartAtFile
from gravity_collector.event import Begin, Commit, Event, Query, Rows, Statement
from gravity_collector.event_parser import UnreadableEventError
from gravity_collector.server import ServerFacts, assert_readable

from gravity.batch import DELETE, INSERT, UPDATE
from gravity.gtid import parse_gtids
from gravity.testing.waiting import wait_until
from tests.integration.collector.binlog.source import (
    COMPRESSING,
    MARIADB,
    MYSQL,
    NEWER_MYSQL,
    Source,
    compressed,
    names,
    on,
    rows_of,
    run,
)
from tests.source_server import SERVERS

pytestmark = pytest.mark.stack


def kinds_since(source: Source, file_name: str, offset: int) -> set[str]:
    """The types of the events there, in the server's words."""
    with source.connect() as client, client.cursor() as cursor:
        cursor.execute(f"SHOW BINLOG EVENTS IN '{file_name}' FROM {offset}")
        return {str(row[2]) for row in cursor.fetchall()}


# A row whose text compresses, one that doesn't, NULLs, an update, a delete, a statement with a long text.
WRITES = (
    "INSERT INTO t VALUES (1, REPEAT('größer ', 300), NULL), (2, 'short', 2.5), (3, NULL, NULL)",
    "UPDATE t SET v = CONCAT(v, v) WHERE id < 3",
    "DELETE FROM t WHERE id = 3",
    "INSERT INTO t SELECT id + 10, v, d FROM t",
    f"ALTER TABLE t ADD COLUMN w int DEFAULT 7, COMMENT '{'long ' * 200}'",
    "INSERT INTO t VALUES (4, 'after', 0, 8)",
    "BEGIN",
    "INSERT INTO t VALUES (5, REPEAT('y', 5000), 1, 1)",
    "SAVEPOINT s",
    "INSERT INTO t VALUES (6, REPEAT('z', 5000), 1, 1)",
    "ROLLBACK TO s",
    "UPDATE t SET w = 9 WHERE id > 3",
    "COMMIT",
)
CREATE = "CREATE TABLE t (id int PRIMARY KEY, v text CHARACTER SET utf8mb4, d double)"


@on(*COMPRESSING)
def test_compressed_transactions_give_the_rows_of_their_plain_twins(
    source: Source, database: str
) -> None:
    plain = run(source, database, CREATE, *WRITES, "DROP TABLE t")
    facts = source.facts()
    with compressed(source):
        assert_readable(source.facts(), "s")
        packed = run(source, database, CREATE, *WRITES)
    assert len(rows_of(plain)) == 14
    assert rows_of(packed) == rows_of(plain)
    assert names(packed) == names(plain)[: len(names(packed))]
    queries = [event.sql for event in packed if isinstance(event, Query)]
    assert queries == [event.sql for event in plain if isinstance(event, Query)][:-1]
    kinds = kinds_since(source, facts.file_name, facts.next_offset)
    assert kinds & {"Transaction_payload", "Write_rows_compressed_v1"}
    if source.flavor == "mariadb":
        assert kinds > {"Update_rows_compressed_v1", "Query_compressed"}
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("SELECT * FROM t ORDER BY id")
        assert sorted(replayed(packed)) == sorted(cursor.fetchall())


def replayed(events: list[Event]) -> list[tuple[Any, ...]]:
    """The table's rows after all changes; rows from before a column was added get its default."""
    rows: dict[Any, tuple[Any, ...]] = {}
    for op, row in rows_of(events):
        if op == UPDATE:
            del rows[row[0][0]]
        if op == DELETE:
            del rows[row[0]]
        else:
            new = row[1] if op == UPDATE else row
            rows[new[0]] = new
    width = max(map(len, rows.values()))
    return [row if len(row) == width else (*row, 7) for row in rows.values()]


@on(*COMPRESSING)
def test_compressed_transactions_join_without_gaps_and_can_be_resumed_from(
    source: Source, database: str
) -> None:
    facts = source.facts()
    with compressed(source):
        run(
            source,
            database,
            CREATE,
            *(f"INSERT INTO t VALUES ({number}, REPEAT('x', 999), 0)" for number in range(5)),
        )
    events = source.events_since(facts)
    begins = [event for event in events if isinstance(event, Begin)]
    commits = [event for event in events if isinstance(event, Commit)]
    assert len(begins) == len(commits) == 6
    assert [event.offset for event in begins[1:]] == [event.next_offset for event in commits[:-1]]
    assert commits[-1].next_offset == source.facts().next_offset
    for begin in begins[1:]:
        again = source.events_since(facts, StartAtFile(facts.file_name, begin.offset))
        assert names(again)[-3:] == names(events)[-3:]


@on(*COMPRESSING)
def test_a_large_compressed_transaction_comes_in_pieces(source: Source, database: str) -> None:
    facts = source.facts()
    with compressed(source), source.connect(database=database) as client:
        with client.cursor() as cursor:
            cursor.execute("CREATE TABLE t (id int PRIMARY KEY, v longtext)")
            cursor.execute("BEGIN")
            for number in range(8):
                cursor.execute(f"INSERT INTO t VALUES ({number}, REPEAT('x', 3000000))")
            cursor.execute("COMMIT")
    stream = source.stream(facts)
    pieces: list[list[Event]] = []
    while not stream.is_at_end:
        pieces.append(stream.read(10))
    stream.close()
    sizes = [sum(len(event.body) for event in piece if isinstance(event, Rows)) for piece in pieces]
    assert sum(sizes) > 24_000_000
    assert source.flavor == "mariadb" or max(sizes) < 8_000_000
    events = list(itertools.chain(*pieces))
    assert [(row[0], len(row[1])) for _, row in rows_of(events)] == [
        (number, 3_000_000) for number in range(8)
    ]


@pytest.mark.parametrize(
    "statements",
    [
        ("BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"),
        (
            "XA START 'x'",
            "INSERT INTO t VALUES (1)",
            "XA END 'x'",
            "XA PREPARE 'x'",
            "XA COMMIT 'x'",
        ),
        ("ALTER TABLE t ADD v INT",),
    ],
    ids=lambda statements: statements[-1],
)
def test_when_a_transaction_committed_is_known_when_it_begins(
    source: Source, database: str, statements: tuple[str, ...]
) -> None:
    with source.connect(database=database) as client, client.cursor() as cursor:

        def now_us() -> int:
            cursor.execute("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])

        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        facts = source.facts()
        for statement in statements[:-1]:
            cursor.execute(statement)
        # MariaDB tells seconds, and statements have times of their own.
        second = now_us() // 1_000_000
        wait_until(lambda: now_us() // 1_000_000 > second, what="the next second")
        before_us = now_us() if source.flavor == "mysql" else (second + 1) * 1_000_000
        cursor.execute(statements[-1])
        after_us = now_us()
    begin = [event for event in source.events_since(facts) if isinstance(event, Begin)][-1]
    assert before_us <= begin.commit_us <= after_us


@on(*NEWER_MYSQL)
def test_tags_of_gtids_are_read_and_started_after(source: Source, database: str) -> None:
    """There are tags since MySQL 8.3."""
    facts = source.facts()
    events = run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SET gtid_next = 'AUTOMATIC:first'",
        "INSERT INTO t VALUES (1)",
        "SET gtid_next = '11111111-2222-3333-4444-5555555555ff:se_cond:70000000000'",
        "INSERT INTO t VALUES (2)",
        "SET gtid_next = 'AUTOMATIC'",
        "INSERT INTO t VALUES (3)",
    )
    found = [event.gtid for event in events if isinstance(event, Begin)]
    assert found[1] == f"{facts.server_uuid}:first:1"
    assert found[2] == "11111111-2222-3333-4444-5555555555ff:se_cond:70000000000"
    assert all(event.commit_us % 1_000_000 for event in events if isinstance(event, Begin))
    after = source.facts()
    assert str(parse_gtids("mysql", after.gtid_set)) == after.gtid_set
    run(source, database, "SET gtid_next = 'AUTOMATIC:first'", "INSERT INTO t VALUES (4)")
    for gtid_set, rows in ((after.gtid_set, [4]), (facts.gtid_set, [1, 2, 3, 4])):
        again = source.events_since(after, StartAfterGtids(gtid_set))
        assert [row[0] for _, row in rows_of(again)] == rows


def test_empty_transactions_that_fill_gaps_move_the_set(source: Source, database: str) -> None:
    if source.flavor == "mariadb":
        events = run(
            source,
            database,
            "CREATE TABLE t (id int PRIMARY KEY)",
            "SET gtid_domain_id = 5",
            "INSERT INTO t VALUES (1)",
            "SET gtid_domain_id = 0",
            "SET gtid_seq_no = 5000000",
            "INSERT INTO t VALUES (2)",
        )
        made = [event.gtid for event in events if isinstance(event, Begin)][1:]
        assert [gtid.split("-")[0] for gtid in made] == ["5", "0"]
        assert made[1].endswith("-5000000")
        assert [row for _, row in rows_of(events)] == [(1,), (2,)]
        return
    facts = source.facts()
    events = run(
        source,
        database,
        "SET gtid_next = '11111111-1111-1111-1111-111111111111:5'",
        "COMMIT",
        "SET gtid_next = 'AUTOMATIC'",
    )
    assert names(events)[1:] == ["Begin", "Commit"]
    gtids = parse_gtids("mysql", facts.gtid_set)
    gtids.add("11111111-1111-1111-1111-111111111111:5")
    assert str(gtids) == source.facts().gtid_set


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_transaction_of_any_size_is_one_transaction(
    source: Source, database: str, count: int
) -> None:
    facts = source.facts()
    with source.connect(database=database, autocommit=False) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        for first in range(0, count, 10_000):
            rows = ",".join(f"({n}, {n * 7})" for n in range(first, min(count, first + 10_000)))
            cursor.execute(f"INSERT INTO t VALUES {rows}")
        client.commit()
        cursor.execute("UPDATE t SET v = v + 1")
        client.commit()
    events = source.events_since(facts)
    assert names([e for e in events if not isinstance(e, Rows)])[1:] == [
        "Begin", "Query", "Commit", "Begin", "Commit", "Begin", "Commit",
    ]  # fmt: skip
    found = rows_of(events)
    assert [row for op, row in found if op == INSERT] == [(n, n * 7) for n in range(count)]
    assert [row for op, row in found if op == UPDATE] == [
        ((n, n * 7), (n, n * 7 + 1)) for n in range(count)
    ]


def test_a_file_may_end_while_a_transaction_is_open(source: Source, database: str) -> None:
    facts = source.facts()
    with source.connect(database=database, autocommit=False) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        cursor.execute("INSERT INTO t VALUES (1)")
        with source.connect() as other, other.cursor() as second:
            second.execute("FLUSH BINARY LOGS")
        cursor.execute("INSERT INTO t VALUES (2)")
        client.commit()
    events = source.events_since(facts)
    assert [row for _, row in rows_of(events)] == [(1,), (2,)]
    last = [event for event in events if isinstance(event, Begin)][-1]
    assert last.file_index == facts.file_index + 1


def test_checksums_may_be_switched_while_reading(source: Source, database: str) -> None:
    stream = source.stream(source.facts(), until_end=False, heartbeat_s=0.5)
    found: list[Event] = []
    with source.connect(database=database) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        cursor.execute("SELECT @@global.binlog_checksum")
        before = cursor.fetchone()[0]
        try:
            for number, algorithm in enumerate(("NONE", "CRC32", "NONE", "CRC32")):
                cursor.execute(f"INSERT INTO t VALUES ({number})")
                while len(rows_of(found)) <= number:
                    found += stream.read(10)
                cursor.execute(f"SET GLOBAL binlog_checksum = {algorithm}")
        finally:
            cursor.execute(f"SET GLOBAL binlog_checksum = {before}")
    stream.close()
    assert [row for _, row in rows_of(found)] == [(0,), (1,), (2,), (3,)]


def test_statements_beside_their_rows_are_told_and_change_nothing(
    source: Source, database: str
) -> None:
    events = run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SET SESSION "
        + (
            "binlog_rows_query_log_events"
            if source.flavor == "mysql"
            else "binlog_annotate_row_events"
        )
        + " = ON",
        "INSERT INTO t VALUES (1)",
    )
    assert rows_of(events) == [(INSERT, (1,))]
    if source.flavor == "mysql":  # MariaDB sends them on demand only.
        assert [event.sql for event in events if isinstance(event, Statement)] == [
            "INSERT INTO t VALUES (1)"
        ]


@pytest.mark.parametrize(
    ("source", "engine"),
    [*((name, "MyISAM") for name in SERVERS), *((name, "Aria") for name in MARIADB)],
    indirect=["source"],
)
def test_tables_without_transactions_are_read(source: Source, database: str, engine: str) -> None:
    events = run(
        source,
        database,
        f"CREATE TABLE m (id int PRIMARY KEY, v int) ENGINE={engine}",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO m VALUES (1, 1), (2, 2)",
        "UPDATE m SET v = 9 WHERE id = 2",
        "DELETE FROM m WHERE id = 1",
        *(
            ("BEGIN", "INSERT INTO t VALUES (5)", "INSERT INTO m VALUES (3, 3)", "ROLLBACK")
            if source.flavor == "mariadb"  # MySQL refuses the mixture with GTIDs.
            else ("INSERT INTO m VALUES (3, 3)",)
        ),
    )
    assert rows_of(events) == [
        (INSERT, (1, 1)),
        (INSERT, (2, 2)),
        (UPDATE, ((2, 2), (2, 9))),
        (DELETE, (1, 1)),
        (INSERT, (3, 3)),
    ]


@pytest.mark.parametrize(
    ("source", "packed"),
    [*((name, False) for name in MYSQL), *((name, True) for name in NEWER_MYSQL)],
    indirect=["source"],
)
def test_partial_updates_of_documents_halt_with_the_setting(
    source: Source, database: str, packed: bool
) -> None:
    """MariaDB logs whole documents only."""
    facts = source.facts()
    with source.connect(database=database) as client, client.cursor() as cursor:
        if packed:
            cursor.execute("SET binlog_transaction_compression = ON")
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY, j json)")
        cursor.execute("INSERT INTO t VALUES (1, JSON_OBJECT('a', REPEAT('x', 500), 'b', 1))")
        cursor.execute("SET binlog_row_value_options = PARTIAL_JSON")
        cursor.execute("UPDATE t SET j = JSON_SET(j, '$.b', 2)")
    assert_halts(source, facts, "updated in part.*binlog_row_value_options=''")


@on(*MARIADB)
def test_a_logged_rollback_to_a_savepoint_halts(source: Source, database: str) -> None:
    """Which of the rows before it hold can't be told when engines are mixed; MySQL refuses that with GTIDs."""
    facts = source.facts()
    with source.connect(database=database) as client, client.cursor() as cursor:
        for statement in (
            "CREATE TABLE t (id int PRIMARY KEY)",
            "CREATE TABLE m (id int PRIMARY KEY) ENGINE=MyISAM",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT s",
            "INSERT INTO m VALUES (2)",
            "INSERT INTO t VALUES (2)",
            "ROLLBACK TO s",
            "COMMIT",
        ):
            cursor.execute(statement)
    assert_halts(source, facts, "rollback to a savepoint was logged.*do not mix engines")


def assert_halts(source: Source, facts: ServerFacts, reason: str) -> None:
    stream = source.stream(facts)
    with pytest.raises(UnreadableEventError, match=reason):
        while not stream.is_at_end:
            stream.read(10)
    stream.close()
