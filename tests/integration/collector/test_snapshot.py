"""Existing rows and changes meet: nothing lost, nothing going back in time, whatever dies in between."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from gravity_collector.chunk import Chunk, Coverage
from gravity_devstack.database import DatabaseServer

from gravity.batch import READ
from gravity.errors import EXIT_HALTED
from gravity.header import IngestKind
from gravity.kafka.admin import TopicAdmin
from gravity.placed_anew import settled_under
from gravity.testing.waiting import wait_until
from gravity.topic import TopicSpec, resnapshot_key
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation
from tests.integration.collector.test_stream import load
from tests.prove.source_snapshot import copy_under_fire


def _finished(made: Installation, *tables: str) -> None:
    def done() -> bool:
        coverage = Coverage(h.chunk for h, _ in made.valid() if h.kind is IngestKind.CHUNK_DONE)
        return all(coverage.is_complete((made.database, table)) for table in tables)

    wait_until(done, what="snapshot")


def _fill(made: Installation, table: str, rows: range) -> None:
    made.sql(
        f"INSERT INTO {table} (id, v) VALUES {','.join(f'({i}, {chr(39)}old{i}{chr(39)})' for i in rows)}"
    )


def test_rows_written_while_the_snapshot_runs_end_as_the_source_has_them(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source="max-workers: 3", chunk_rows="50")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(100_000, 104_000))
    made.sql("UPDATE t SET id = id - 100000 + 20000 WHERE id % 2")
    with load(made):
        made.start_and_wait()
        client = made.server.connect(made.database)
        with client.cursor() as cursor:
            for number in range(600):
                cursor.execute(f"UPDATE t SET v = 'new{number}' WHERE id = {20_001 + number * 6}")
                cursor.execute(f"DELETE FROM t WHERE id = {100_000 + number * 6}")
                cursor.execute(
                    f"UPDATE t SET id = {200_000 + number} WHERE id = {100_002 + number * 6}"
                )
        client.close()
        _finished(made, "t")
    made.wait_equal("t")
    made.assert_lawful()


def test_a_snapshot_killed_between_chunks_reads_no_finished_chunk_again(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, chunk_rows="100")
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE w (id INT PRIMARY KEY, v VARCHAR(20))",
    )
    _fill(made, "t", range(1000))
    _fill(made, "w", range(250))
    process = made.start("collector.chunk_not_done:5:kill")
    assert process.wait() == -signal.SIGKILL
    done = {h.chunk for h, _ in made.valid() if h.kind is IngestKind.CHUNK_DONE}
    assert len(done) == 4
    cut = {h.chunk for h, _ in made.valid() if h.kind is IngestKind.CHUNK} - done
    assert len(cut) == 1, "the fifth chunk's rows are there, its end is not"
    written = len(made.messages())
    made.start_and_wait()
    _finished(made, "t", "w")
    later = [h.chunk for _, h, _ in made.messages()[written:] if h.kind is IngestKind.CHUNK]
    assert not done & set(later)
    assert cut <= set(later), "a chunk that was cut off is read again whole"
    made.wait_equal("t")
    made.wait_equal("w")
    made.assert_lawful()


def test_a_finished_snapshot_is_not_repeated_and_a_new_table_is_added(install: Install) -> None:
    made = install(exclude="later")
    made.sql(
        *(f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20))" for table in ("t", "later"))
    )
    _fill(made, "t", range(10))
    _fill(made, "later", range(10))
    process = made.start_and_wait()
    _finished(made, "t")
    assert process.stop() == 0
    written = len(made.messages())
    made.configure()
    made.activate()
    made.start_and_wait()
    _finished(made, "later")
    tables = {h.table for _, h, _ in made.messages()[written:] if h.kind is IngestKind.CHUNK}
    assert tables == {f"{made.database}.later"}
    made.wait_equal("later")


def test_a_table_left_out_for_a_moment_is_copied_again_though_the_collector_was_killed_at_once(
    install: Install,
) -> None:
    made = install()
    made.sql(
        *(f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20))" for table in ("t", "other"))
    )
    _fill(made, "t", range(10))
    process = made.start_and_wait()
    _finished(made, "t", "other")
    assert process.stop() == 0
    made.configure(exclude=f"{made.database}.t")
    made.activate()
    # Dies at its first checkpoint, so that only the log can tell which tables it read.
    process = made.start_and_wait("collector.published_not_checkpointed:1:kill")
    made.sql("UPDATE t SET v = 'changed'", "DELETE FROM t WHERE id = 3")
    made.sql("INSERT INTO other VALUES (1, 'x')")
    made.wait_equal("other")
    assert process.wait() == -signal.SIGKILL
    written = len(made.messages())
    made.configure()
    made.activate()
    made.start_and_wait()

    def rows_read() -> int:
        messages = made.messages()[written:]
        return sum(h.rows for _, h, _ in messages if h.kind is IngestKind.CHUNK)

    wait_until(lambda: rows_read() >= 9, what="the second copy")
    assert rows_read() == 9, "the other table was never left out"
    # A row deleted meanwhile stays: of that a second copy says nothing.
    assert [row[:2] for row in made.replay("t") if row[0] != 3] == made.truth("t")
    made.assert_lawful()


def test_a_table_made_while_the_binlog_is_read_is_never_copied(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    _finished(made, "t")
    made.sql(
        "CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE again (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE IF NOT EXISTS maybe LIKE u",
    )
    for table in ("u", "again", "maybe"):
        _fill(made, table, range(10))
        made.wait_equal(table)
    made.sql("DROP TABLE again", "CREATE TABLE again (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "again", range(5))
    made.wait_equal("again")
    assert process.stop() == 0
    made.start_and_wait()
    # Whether it was there before its statement is not known, so this one is copied.
    _finished(made, "maybe")
    copied = {h.table for h, _ in made.valid() if h.kind is IngestKind.CHUNK}
    assert copied == {f"{made.database}.maybe"}
    for table in ("u", "again", "maybe"):
        made.wait_equal(table)
    made.assert_lawful()


def test_a_reset_copies_the_source_once_more_and_only_once(install: Install) -> None:
    made = install()
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(10))
    process = made.start_and_wait()
    _finished(made, "t")
    assert process.stop() == 0

    def copied_since(written: int) -> int:
        messages = made.messages()[written:]
        return sum(h.rows for _, h, _ in messages if h.kind is IngestKind.CHUNK)

    def run_once() -> int:
        written = len(made.messages())
        # A row through the stream shows that the collector is past its decision to copy.
        process = made.start_and_wait()
        made.sql(f"INSERT INTO t VALUES ({1000 + written}, 'x')")
        made.wait_equal("t")
        _finished(made, "t")
        assert process.stop() == 0
        return copied_since(written)

    assert run_once() == 0
    made.write_control(resnapshot_key(made.source), {"request": 1})
    written = len(made.messages())
    process = made.start_and_wait()
    wait_until(lambda: copied_since(written) >= 11, what="the second copy")
    assert process.stop() == 0
    made.wait_equal("t")
    assert run_once() == 0
    made.assert_lawful()


def test_a_source_that_is_only_copied_ends_in_order_and_again_at_once(install: Install) -> None:
    made = install(source="snapshot: only", chunk_rows="100")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(1000))
    assert made.start("collector.chunk_not_done:5:kill").wait() == -signal.SIGKILL
    assert made.start().wait() == 0
    assert made.replay("t") == made.truth("t")
    made.sql("UPDATE t SET v = 'later'")
    written = len(made.messages())
    again = made.start()
    assert again.wait() == 0
    assert again.text.count("source_taken_over") == 1
    kinds = {h.kind for _, h, _ in made.messages()[written:]}
    assert IngestKind.CHUNK not in kinds
    made.assert_lawful()


def test_a_source_that_was_only_copied_takes_a_newer_plan_while_its_collector_has_others(
    install: Install, mariadb: DatabaseServer
) -> None:
    other = f"""
  - {{name: other, type: mariadb, host: {mariadb.host}, port: {mariadb.port}, username: gravity,
     password: gravity-dev, databases: [nothing_of_it]}}"""
    made = install(source="snapshot: only", sources=other, target="tables: [u]")
    TopicAdmin(made.config.kafka).ensure([TopicSpec(made.topics.ingest("other"), 1)])
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(100))
    process = made.start()
    wait_until(lambda: "source_copied" in process.text, what="the copy")
    assert settled_under(made.control(), ["s"]) == 1

    def copies_of_t() -> int:
        return sum(h.kind is IngestKind.CHUNK and h.table.endswith(".t") for h, _ in made.valid())

    before = copies_of_t()
    made.configure(source="snapshot: only", sources=other, target='tables: ["*"]')
    made.activate()
    wait_until(lambda: settled_under(made.control(), ["s"]) == 2, what="the second copy")
    assert copies_of_t() > before, "the target takes it now"
    wait_until(lambda: process.text.count("source_copied") == 2, what="its end")
    assert process.exit_code is None
    assert process.stop() == 0
    made.assert_lawful()


def test_a_lost_position_is_begun_again_where_it_is_configured_so_or_after_a_reset(
    install: Install,
) -> None:
    made = install()
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(100))
    process = made.start_and_wait()
    _finished(made, "t")

    def lose(value: str) -> None:
        assert process.stop() == 0
        made.sql(f"UPDATE t SET v = '{value}'", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        newest = made.rows("SHOW BINARY LOGS")[-1][0]

        def is_purged() -> bool:
            made.sql(f"PURGE BINARY LOGS TO '{newest}'")
            return len(made.rows("SHOW BINARY LOGS")) == 1

        wait_until(is_purged, what="logs purged")

    lose("lost")
    halted = made.start()
    assert halted.wait() == EXIT_HALTED
    assert "gravity reset --source" in halted.text
    made.write_control(resnapshot_key(made.source), {"request": 1})
    process = made.start_and_wait()
    assert "source_begun_again" in process.text
    made.wait_equal("t")
    lose("lost again")
    made.configure(source="snapshot: when-needed")
    process = made.start_and_wait()
    made.sql("INSERT INTO t VALUES (500, 'flows')")
    made.wait_equal("t")
    made.assert_lawful()


def test_a_transaction_in_the_binlog_that_is_not_yet_visible_does_not_go_back_in_time(
    install: Install, stack: Any
) -> None:
    """Semi-synchronous waiting holds a commit between the binlog and its visibility for seconds.

    Whoever takes the binlog's end for what a SELECT sees publishes the old row behind the new one.
    """
    server = stack.mariadb("waiting")
    made = install(server)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(10))
    made.sql(
        "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
        "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON",
        "SET GLOBAL rpl_semi_sync_master_timeout = 12000",
        "SET GLOBAL rpl_semi_sync_master_enabled = ON",
    )
    writer = server.connect(made.database)
    end = made.rows("SHOW MASTER STATUS")[0][:2]

    def change() -> None:
        with writer.cursor() as cursor:
            cursor.execute("UPDATE t SET v = 'new' WHERE id = 5")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        wait_until(
            lambda: made.rows("SHOW MASTER STATUS")[0][:2] != end, what="the change in the binlog"
        )
        assert made.rows("SELECT v FROM t WHERE id = 5") == [("old5",)], (
            "it is visible already: nothing is tested"
        )
        made.start_and_wait()
        _finished(made, "t")
        assert thread.is_alive(), "the commit was over before the snapshot was: nothing is tested"
    finally:
        thread.join()
        made.sql("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
        writer.close()
    assert made.rows("SELECT v FROM t WHERE id = 5") == [("new",)]
    made.wait_equal("t")


KEYS = {
    "composite": (
        "a INT, b VARCHAR(10), v INT, PRIMARY KEY (b, a)",
        [(i % 7, f"k{i % 13}", i) for i in range(91)],
    ),
    "collated": (
        "a VARCHAR(10) PRIMARY KEY, v INT",
        [(f"{c}{i}", i) for i in range(20) for c in "aBzÖ_'\\"],
    ),
    "bytes": (
        "a VARBINARY(4) PRIMARY KEY, v INT",
        [(bytes([i, 255 - i, 0, 39]), i) for i in range(100)],
    ),
    "decimal": (
        "a DECIMAL(30,10) PRIMARY KEY, v INT",
        [(f"{i}234567890123456.{abs(i):010d}", i) for i in range(-40, 40)],
    ),
    "enum": (
        "a ENUM('z','m','a'), b INT, v INT, PRIMARY KEY (a, b)",
        [(c, i, i) for i in range(30) for c in "zma"],
    ),
    "moment": (
        "a DATETIME(3) PRIMARY KEY, v INT",
        [(f"2024-01-02 03:04:05.{i:03d}", i) for i in range(90)],
    ),
    "unsigned": ("a BIGINT UNSIGNED PRIMARY KEY, v INT", [(2**64 - 1 - i, i) for i in range(90)]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_can_be_walked(
    install: Install, server: DatabaseServer, kind: str
) -> None:
    columns, rows = KEYS[kind]
    made = install(server, chunk_rows="10", source="max-workers: 2")
    made.sql(f"CREATE TABLE t ({columns})")
    with made.client.cursor() as cursor:
        cursor.executemany(f"INSERT INTO t VALUES ({','.join(['%s'] * len(rows[0]))})", rows)
    made.start_and_wait()
    _finished(made, "t")
    read = [
        row[-1] for _, batch in made.batches() for row in batch.rows() if set(batch.ops) == {READ}
    ]
    assert sorted(read) == sorted(row[-1] for row in rows), "each row once"
    chunks = [Chunk.parse(h.chunk) for h, _ in made.valid() if h.kind is IngestKind.CHUNK_DONE]
    assert len(chunks) > 5


TYPES = """
    id INT PRIMARY KEY, t1 TINYINT, u1 TINYINT UNSIGNED, m MEDIUMINT, b BIGINT UNSIGNED, d DECIMAL(30,10), f FLOAT,
    db DOUBLE, bt BIT(40), c CHAR(5), v VARCHAR(50) CHARACTER SET latin1, tx TEXT, bi BINARY(4), vb VARBINARY(9),
    bl BLOB, e ENUM('a','b''c'), s SET('x','y','z'), dt DATE, tm TIME(3), d6 DATETIME(6), ts TIMESTAMP(2) NULL,
    y YEAR, j JSON, g GEOMETRY NULL
"""
VALUES = (
    (
        "1, -128, 255, -8388608, 18446744073709551615, -12345678901234567890.0123456789, 0.1, 1e300, b'1010', 'ab', 'é ü',"
        " 'long ☃', x'0100', x'00ff', x'deadbeef00', 'b''c', 'x,z', '2024-02-29', '-838:59:58.123',"
        " '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.25', 2155, '{\"a\": [1, 2.5, \"x\"]}',"
        " ST_GeomFromText('POINT(1 2)')"
    ),
    "2" + ", NULL" * 23,
    (
        "3, 0, 0, 0, 0, 0, -1.5, 0, b'0', '', '', '', x'', x'', x'', 'a', '', '1000-01-01', '00:00:00.5',"
        " '1970-01-01 00:00:00', '1970-01-01 00:00:01', 1901, '[]', NULL"
    ),
)


def test_a_value_is_the_same_from_the_snapshot_and_from_the_stream(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server)
    made.sql(f"CREATE TABLE t ({TYPES})", *(f"INSERT INTO t VALUES ({row})" for row in VALUES))
    made.start_and_wait()
    _finished(made, "t")
    made.sql("DELETE FROM t", *(f"INSERT INTO t VALUES ({row})" for row in VALUES))

    def images(op: str) -> list[Any]:
        return [
            row
            for _, batch in made.batches()
            for o, row in zip(batch.ops, batch.rows(), strict=True)
            if chr(o) == op
        ]

    wait_until(lambda: len(images("I")) == len(VALUES), what="the stream's rows")
    assert list(map(repr, images("R"))) == list(map(repr, images("I")))
    schemas = {batch.schema for _, batch in made.batches()}
    assert len(schemas) == 1, [column for schema in schemas for column in schema.columns]


def test_a_table_altered_or_truncated_while_it_is_read_ends_right(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, chunk_rows="20", source="max-workers: 2")
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE x (id INT PRIMARY KEY, v VARCHAR(20))",
    )
    _fill(made, "t", range(3000))
    _fill(made, "x", range(3000))
    made.start_and_wait()
    made.sql(
        "ALTER TABLE t ADD COLUMN w INT NOT NULL DEFAULT 7",
        "UPDATE t SET w = id WHERE id % 100 = 0",
    )
    made.sql("DROP TABLE x")
    _finished(made, "t")
    wait_until(
        lambda: (
            {row[0]: row[2:] for row in made.replay("t") if len(row) == 3 and row[0] % 100 == 0}
            == {row[0]: row[2:] for row in made.truth("t") if row[0] % 100 == 0}
        ),
        what="rows in the new shape",
    )
    made.assert_lawful()


def test_a_table_made_while_its_source_is_begun_is_there_with_all_its_rows(
    install: Install, server: DatabaseServer
) -> None:
    """Behind the look at the catalog, before the place where the binlog is begun."""
    made = install(server)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(3))
    process = made.start("collector.fenced_not_recorded:1:freeze")
    wait_until(lambda: process.is_frozen, what="frozen")
    made.sql(
        "CREATE TABLE late (id INT PRIMARY KEY, v VARCHAR(20))",
        "ALTER TABLE t ADD COLUMN w INT NOT NULL DEFAULT 7",
    )
    _fill(made, "late", range(5))
    process.send(signal.SIGCONT)
    wait_until(lambda: "source_taken_over" in process.text, what="takeover")
    made.sql(
        "UPDATE late SET v = 'new' WHERE id = 3",
        "ALTER TABLE t ADD COLUMN x INT NOT NULL DEFAULT 8",
        "UPDATE t SET v = 'new' WHERE id = 1",
    )
    _finished(made, "t", "late")
    made.wait_equal("late")
    wait_until(lambda: (1, "new", 7, 8) in made.replay("t"), what="the shape of now")
    made.assert_lawful()


def test_a_key_whose_text_would_not_tell_it_from_another_halts_by_name(install: Install) -> None:
    made = install()
    made.sql(
        "CREATE TABLE t (k varchar(9) CHARACTER SET gbk PRIMARY KEY)",
        "INSERT INTO t VALUES ('a'), (CONVERT(x'a140' USING gbk)), (CONVERT(x'a141' USING gbk))",
    )
    process = made.start()
    wait_until(lambda: "has a character without Unicode of its own" in process.text, what="halted")
    assert made.replay("t") == []


def test_a_table_copied_under_writes_by_a_collector_that_is_killed_twice_is_equal_and_hardly_read_twice(
    install: Install,
) -> None:
    """The short form of `make prove WHAT=source` on the snapshot."""
    # Slow enough that it is killed in the middle, not behind the end.
    made = install(source="rate-limit: {rows-per-s-max: 4000}", chunk_rows="500")
    found = copy_under_fire(made, rows=20_000, per_s=200, kills=2)
    assert not found.wrong
