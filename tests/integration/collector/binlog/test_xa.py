"""XA transactions: prepared in one place of the binlog, committed in another."""

from __future__ import annotations

import pytest
from gravity_collector.event import Begin, Commit

from gravity.batch import INSERT, UPDATE
from gravity.errors import PositionLostError
from gravity.gtid import parse_gtids
from gravity.testing.waiting import wait_until
from tests.integration.collector.binlog.source import (
    COMPRESSING,
    Source,
    compressed,
    names,
    on,
    rows_of,
    run,
)

pytestmark = pytest.mark.stack

XA = ("XA START 'a','b',7", "INSERT INTO t VALUES (1, 'x')", "XA END 'a','b',7")


def test_an_xa_transaction_takes_effect_where_it_is_committed(
    source: Source, database: str
) -> None:
    facts = source.facts()
    create = "CREATE TABLE t (id int PRIMARY KEY, v varchar(9))"
    with source.connect(database=database) as one, source.connect(database=database) as other:
        with one.cursor() as first, other.cursor() as second:
            first.execute(create)
            for statement in (*XA, "XA PREPARE 'a','b',7"):
                first.execute(statement)
            for statement in (
                "INSERT INTO t VALUES (2, 'between')",
                "XA START 'gone'",
                "INSERT INTO t VALUES (3, 'gone')",
                "XA END 'gone'",
                "XA PREPARE 'gone'",
                "XA ROLLBACK 'gone'",
                "FLUSH BINARY LOGS",
            ):
                second.execute(statement)
            first.execute("XA COMMIT 'a','b',7")
            for statement in (
                "XA START 'once'",
                "INSERT INTO t VALUES (4, 'once')",
                "XA END 'once'",
                "XA COMMIT 'once' ONE PHASE",
                "XA START 'never'",
                "INSERT INTO t VALUES (5, 'never')",
                "XA END 'never'",
                "XA ROLLBACK 'never'",
                "XA START 'empty'",
                "SELECT * FROM t",
                "XA END 'empty'",
                "XA PREPARE 'empty'",
                "XA COMMIT 'empty'",
                "UPDATE t SET v = 'y' WHERE id = 1",
            ):
                first.execute(statement)
            first.execute("SELECT * FROM t ORDER BY id")
            truth = list(first.fetchall())
    events = source.events_since(facts)
    assert rows_of(events) == [
        (INSERT, (2, "between")),
        (INSERT, (1, "x")),
        (INSERT, (4, "once")),
        (UPDATE, ((1, "x"), (1, "y"))),
    ]
    assert truth == [(1, "y"), (2, "between"), (4, "once")]
    in_order = [event for event in events if isinstance(event, Begin | Commit)]
    assert all(isinstance(event, Begin) for event in in_order[::2])
    assert all(isinstance(event, Commit) for event in in_order[1::2])
    # Every transaction keeps its GTID, those without rows too: the set is what the server executed.
    gtids = parse_gtids(source.flavor, facts.gtid_set)
    for event in in_order[::2]:
        assert isinstance(event, Begin)
        gtids.add(event.gtid)
    assert str(gtids) == str(parse_gtids(source.flavor, source.facts().gtid_set))


def test_reading_that_begins_between_prepare_and_commit_finds_the_rows(
    source: Source, database: str
) -> None:
    """Wherever a collector stops, what an XA transaction changed is there when it is committed."""
    run(
        source,
        database,
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(9))",
        "XA START 'a'",  # The same name was used before: the last one counts.
        "INSERT INTO t VALUES (9, 'older')",
        "XA END 'a'",
        "XA PREPARE 'a'",
        "XA COMMIT 'a'",
    )
    with source.connect(database=database) as client, source.connect(database=database) as other:
        with client.cursor() as first, other.cursor() as second:
            for statement in (
                "XA START 'a'",
                "INSERT INTO t VALUES (1, 'x')",
                "INSERT INTO t VALUES (2, 'y')",
                "XA END 'a'",
                "XA PREPARE 'a'",
            ):
                first.execute(statement)
            second.execute("FLUSH BINARY LOGS")
            facts = source.facts()
            first.execute("XA COMMIT 'a'")
            second.execute("INSERT INTO t VALUES (3, 'z')")
    events = source.events_since(facts)
    assert names(events)[1:] == ["Begin", "Rows", "Rows", "Commit", "Begin", "Rows", "Commit"]
    assert [row for _, row in rows_of(events)] == [(1, "x"), (2, "y"), (3, "z")]
    with source.connect() as client, client.cursor() as cursor:
        if cursor.execute("SHOW VARIABLES LIKE 'slave_connections_needed_for_purge'"):
            cursor.execute("SET GLOBAL slave_connections_needed_for_purge = 0")

        def is_gone() -> bool:
            # A file that a reader has just left, or that InnoDB has not caught up with, stays a moment.
            cursor.execute(f"PURGE BINARY LOGS TO '{facts.file_name}'")
            cursor.execute("SHOW BINARY LOGS")
            return str(cursor.fetchall()[0][0]) == facts.file_name

        wait_until(is_gone, 30, what="older binlogs gone")
    stream = source.stream(facts)
    with pytest.raises(PositionLostError, match="binlog where it was prepared is gone"):
        while not stream.is_at_end:
            stream.read(10)
    stream.close()


@on(*COMPRESSING)
def test_compressed_xa_transactions_are_held_too(source: Source, database: str) -> None:
    with compressed(source):
        events = run(
            source,
            database,
            "CREATE TABLE t (id int PRIMARY KEY, v text)",
            "XA START 'a'",
            "INSERT INTO t VALUES (1, REPEAT('x', 3000))",
            "XA END 'a'",
            "XA PREPARE 'a'",
            "XA COMMIT 'a'",
        )
    assert names(events)[4:] == ["Begin", "Commit", "Begin", "Rows", "Commit"]
    assert rows_of(events) == [(INSERT, (1, "x" * 3000))]
