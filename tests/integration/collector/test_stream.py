"""The collector on real servers: rows arrive once and in order, whatever dies, and trouble has a name."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

from gravity.errors import EXIT_HALTED, EXIT_RESTART
from gravity.header import IngestKind
from gravity.testing.waiting import wait_until
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation
from tests.source_server import started

NEVER = "snapshot: never"


@contextmanager
def load(made: Installation, table: str = "t") -> Iterator[threading.Event]:
    """Small transactions against `table` (id, v) until the block ends."""
    ended = threading.Event()
    client = made.server.connect(made.database, autocommit=False)

    def write() -> None:
        number = 0
        with client.cursor() as cursor:
            while not ended.wait(0.002):
                number += 1
                cursor.execute(f"INSERT INTO {table} (id, v) VALUES ({number}, 'n{number}')")
                if number % 3 == 0:
                    cursor.execute(f"UPDATE {table} SET v = 'u{number}' WHERE id = {number // 2}")
                if number % 5 == 0:
                    cursor.execute(f"DELETE FROM {table} WHERE id = {number // 3}")
                if number % 7 == 0:
                    cursor.execute(f"UPDATE {table} SET id = -id WHERE id = {number // 4}")
                client.commit()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield ended
    finally:
        ended.set()
        thread.join()
        client.close()


def test_every_change_arrives_with_what_was_before(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    made.sql(
        "INSERT INTO t VALUES (1, 'a'), (2, 'ü')",
        "UPDATE t SET id = 3 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
    )
    made.wait_equal("t")
    changes = [
        (chr(op), row, old)
        for _, batch in made.batches()
        for op, row, old in zip(batch.ops, batch.rows(), batch.before[0], strict=True)
    ]
    assert changes == [
        ("I", (1, "a"), None), ("I", (2, "ü"), None), ("U", (3, "a"), 1), ("D", (2, "ü"), 2),
    ]  # fmt: skip
    assert process.stop() == 0
    point = made.control()["point/s/1"]
    assert point["offset"] == made.messages()[-1][0] + 1, "a clean end leaves nothing to read again"
    made.assert_lawful()


def test_rows_before_a_change_come_whole_where_a_target_shows_them(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER, target="format: debezium")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n BIGINT UNSIGNED)")
    process = made.start_and_wait()
    made.sql(
        "INSERT INTO t VALUES (1, 'a', NULL), (2, 'ü', 18446744073709551615)",
        "UPDATE t SET v = 'b' WHERE id = 1",
        "UPDATE t SET id = 3 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
    )
    made.wait_equal("t")
    changes = [
        (chr(op), old, row)
        for _, batch in made.batches()
        for op, old, row in zip(
            batch.ops, zip(*batch.before, strict=True), batch.rows(), strict=True
        )
    ]
    first, second, third = (1, "a", None), (2, "ü", 2**64 - 1), (3, "ü", 2**64 - 1)
    nothing = (None, None, None)
    assert changes == [
        ("I", nothing, first), ("I", nothing, second), ("U", first, (1, "b", None)),
        ("U", second, third), ("D", third, third),
    ]  # fmt: skip
    assert process.stop() == 0


def test_excluded_tables_do_not_travel_and_our_own_never_do(install: Install) -> None:
    made = install(source=NEVER, exclude="secret_*")
    made.sql(
        *(
            f"CREATE TABLE {name} (id INT PRIMARY KEY)"
            for name in ("t", "secret_t", "_gravity_signal")
        )
    )
    made.start_and_wait()
    made.sql(
        "INSERT INTO secret_t VALUES (1)",
        "INSERT INTO _gravity_signal VALUES (1)",
        "INSERT INTO t VALUES (1)",
    )
    made.wait_equal("t")
    assert {header.table for header, _ in made.batches()} == {f"{made.database}.t"}


def test_a_collector_killed_under_load_loses_and_repeats_nothing(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER, rows_max="40")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    with load(made):
        for _ in range(3):
            before = len(made.messages())
            wait_until(lambda before=before: len(made.messages()) > before + 20, what="messages")
            process.kill()
            process = made.start_and_wait()
    made.wait_equal("t")
    made.assert_lawful()


@pytest.mark.parametrize(
    "fault",
    [
        "collector.fenced_not_recorded:1:kill",
        "collector.sent_part_of_span:2:kill",
        "collector.published_not_checkpointed:1:kill",
    ],
)
def test_a_collector_that_dies_at_a_named_point_is_followed_by_one_that_goes_on(
    install: Install, fault: str
) -> None:
    made = install(source=NEVER)
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE other (id INT PRIMARY KEY)",
    )
    made.start_and_wait().stop()
    process = made.start(fault)
    with load(made):
        client = made.server.connect(made.database, autocommit=False)
        number = 0
        while process.exit_code is None:
            number += 1
            with client.cursor() as cursor:
                cursor.execute(f"INSERT INTO other VALUES ({number})")
                cursor.execute(f"INSERT INTO t VALUES ({10_000_000 + number}, 'x')")
            client.commit()
        client.close()
        assert process.wait() == -signal.SIGKILL
        made.start_and_wait()
    for table in ("t", "other"):
        made.wait_equal(table)
    made.assert_lawful()


def test_a_huge_transaction_is_cut_and_goes_on_after_a_kill_in_the_middle(install: Install) -> None:
    made = install(source=NEVER, rows_max="100")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)")
    made.start_and_wait().stop()
    statements = []
    for start in range(0, 5000, 20):
        statements += [
            f"INSERT INTO {table} VALUES {','.join(f'({i})' for i in range(start, start + 20))}"
            for table in ("t", "u")
        ]
    made.sql("BEGIN", *statements, "DELETE FROM t WHERE id % 2", "COMMIT")
    process = made.start("collector.sent_part_of_span:5:kill")
    assert process.wait() == -signal.SIGKILL
    made.start_and_wait()
    for table in ("t", "u"):
        made.wait_equal(table)
    made.assert_lawful()
    assert max(header.rows for header, _ in made.batches()) <= 100


def test_a_collector_frozen_past_a_takeover_ends_when_it_wakes_and_harms_nobody(
    install: Install,
) -> None:
    made = install(source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    frozen = made.start_and_wait()
    with load(made):
        wait_until(lambda: len(made.messages()) > 20, what="messages")
        frozen.send(signal.SIGSTOP)
        made.start_and_wait()
        before = len(made.messages())
        wait_until(lambda: len(made.messages()) > before + 20, what="messages of the new owner")
        frozen.send(signal.SIGCONT)
        assert frozen.wait(30) == EXIT_RESTART
    assert "another collector has taken this source over" in frozen.text
    made.wait_equal("t")
    made.assert_lawful()
    void = len([m for m in made.messages() if m[1].kind is not IngestKind.FENCE]) - len(
        made.valid()
    )
    assert void > 0, "the frozen collector wrote nothing after it woke: the test proves nothing"


def test_a_schema_change_stands_between_the_rows_before_and_after_it(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    made.sql(
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t ADD COLUMN w INT",
        "INSERT INTO t VALUES (2, 'b', 7)",
    )
    wait_until(lambda: (2, "b", 7) in made.replay("t"), what="the row in its new shape")
    kinds = [h.kind for h, _ in made.valid() if h.kind in (IngestKind.ROWS, IngestKind.SCHEMA)]
    assert kinds == [IngestKind.ROWS, IngestKind.SCHEMA, IngestKind.ROWS]
    assert process.stop() == 0
    made.start_and_wait()
    made.sql("INSERT INTO t VALUES (3, 'c', 8)")
    wait_until(lambda: (3, "c", 8) in made.replay("t"), what="a row after the restart")
    made.assert_lawful()


def test_a_table_without_a_key_is_refused_by_name_and_a_unique_key_stands_in(
    install: Install,
) -> None:
    made = install(source=NEVER)
    made.sql(
        "CREATE TABLE t (a INT NOT NULL, v VARCHAR(9), UNIQUE KEY (a))",
        "CREATE TABLE keyless (v INT)",
    )
    process = made.start()
    assert process.wait() == EXIT_HALTED
    assert f"table {made.database}.keyless" in process.text
    assert f"exclude: [{made.database}.keyless]" in process.text
    assert f"whole-row: [{made.database}.keyless]" in process.text
    made.sql("DROP TABLE keyless")
    made.start_and_wait()
    made.sql("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = 'b'")
    made.wait_equal("t")


def test_a_wrong_password_halts_by_name_and_other_sources_go_on(
    install: Install, mariadb: DatabaseServer
) -> None:
    made = install(source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    made.configure(
        source=NEVER,
        sources=f"""
  - name: locked
    type: mariadb
    host: {mariadb.host}
    port: {mariadb.port}
    username: gravity
    password: wrong
""",
    )
    made.activate()
    process = made.start_and_wait()
    wait_until(lambda: "halted" in process.text, what="the locked source's halt")
    assert "source locked" in process.text
    assert "check user and password" in process.text
    made.sql("INSERT INTO t VALUES (1, 'a')")
    made.wait_equal("t")
    assert process.exit_code is None
    alone = made.start("", "--source", "locked")
    assert alone.wait() == EXIT_HALTED


def test_a_purged_position_halts_by_name(install: Install, server: DatabaseServer) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    made.start_and_wait().stop()
    made.sql("FLUSH BINARY LOGS", "INSERT INTO t VALUES (1, 'lost')", "FLUSH BINARY LOGS")
    status = "SHOW MASTER STATUS"
    made.sql(f"PURGE BINARY LOGS TO '{made.rows(status)[0][0]}'")
    process = made.start()
    assert process.wait() == EXIT_HALTED
    assert "PositionLostError" in process.text
    assert "gravity reset --source" in process.text


def test_settings_that_hide_rows_halt_by_name(install: Install, mariadb: DatabaseServer) -> None:
    made = install(source=NEVER)
    made.sql("SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        process = made.start()
        assert process.wait() == EXIT_HALTED
    finally:
        made.sql("SET GLOBAL binlog_row_metadata = FULL")
    assert "SET GLOBAL binlog_row_metadata=FULL" in process.text


def test_a_row_without_all_its_columns_halts_by_its_tables_name(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE b (id INT PRIMARY KEY, v INT, note TEXT)",
        "SET binlog_row_image = NOBLOB",
    )
    process = made.start_and_wait()
    made.sql(
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "UPDATE t SET v = 'c' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO b VALUES (1, 1, 'whole')",
        # The image before lacks the note, which nobody asked for; the one after has it.
        "UPDATE b SET note = 'all of it' WHERE id = 1",
    )
    made.wait_equal("t")
    made.wait_equal("b")
    made.sql("UPDATE b SET v = 2 WHERE id = 1")
    assert process.wait() == EXIT_HALTED
    assert "leaves out the columns note" in process.text
    assert f"table {made.database}.b" in process.text
    assert "SET GLOBAL binlog_row_image=FULL" in process.text


@pytest.mark.parametrize("name", ["mysql-9.7", "mariadb-10.11"])
def test_a_compressed_binlog_is_read_on_after_a_kill(
    install: Install, stack: Stack, name: str
) -> None:
    server = started(stack, name)
    setting = "binlog_transaction_compression" if server.flavor == "mysql" else "log_bin_compress"
    made = install(server, source=NEVER)
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))",
        f"SET {'SESSION' if server.flavor == 'mysql' else 'GLOBAL'} {setting} = ON",
    )
    try:
        process = made.start_and_wait()
        rows = ",".join(f"({number}, REPEAT('x', 99))" for number in range(5000))
        made.sql(f"INSERT INTO t VALUES {rows}", "UPDATE t SET v = REPEAT('y', 50)")
        wait_until(lambda: len(made.valid()) > 3, what="a part of the rows")
        process.kill()
        made.sql("DELETE FROM t WHERE id % 2 = 1")
        made.start_and_wait()
        made.wait_equal("t")
    finally:
        if server.flavor == "mariadb":
            made.sql(f"SET GLOBAL {setting} = OFF")
    made.assert_lawful()


def test_a_row_too_large_for_kafka_halts_by_its_key_and_place_with_the_way_out(
    install: Install, mariadb: DatabaseServer
) -> None:
    made = install(source=NEVER)
    made.sql(
        "SET GLOBAL max_allowed_packet = 134217728",
        "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)",
    )
    made.client = mariadb.connect(made.database)
    process = made.start_and_wait()
    made.sql("INSERT INTO t VALUES (1, REPEAT('x', 18000000))")
    made.wait_equal("t")
    made.sql("INSERT INTO t VALUES (2, REPEAT('x', 30000000))")
    assert process.wait() == EXIT_HALTED
    halted = next(line for line in process.text.splitlines() if '"event": "halted"' in line)
    reason = json.loads(halted)["reason"]
    file_name, offset = made.rows("SHOW MASTER STATUS")[0][:2]
    place = re.search(r"position 1:(\d+):(\d+):0", reason)
    assert place is not None
    assert int(place[1]) == int(file_name.rpartition(".")[2])
    # Its transaction begins before the binlog's end by about as much as the row takes.
    assert 30_000_000 < offset - int(place[2]) < 30_010_000
    assert "key [2] takes 300" in reason
    assert f"table {made.database}.t" in reason
    # The way out that it names: past the row without its table, then with it again.
    made.configure(source="", exclude=f"{made.database}.t")
    made.activate()
    made.sql("CREATE TABLE other (id INT PRIMARY KEY, v VARCHAR(9))", "UPDATE t SET v = 'short'")
    process = made.start_and_wait()
    made.sql("INSERT INTO other VALUES (1, 'x')")
    made.wait_equal("other")
    assert process.stop() == 0
    made.configure(source="")
    made.activate()
    made.start_and_wait()
    made.wait_equal("t")


def test_xa_transactions_arrive_at_their_commit_whatever_dies_in_between(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    xa = server.connect(made.database)
    with xa.cursor() as cursor:
        for statement in (
            f"XA START '{made.database}'",
            "INSERT INTO t VALUES (1, 'prepared'), (2, 'prepared')",
            f"XA END '{made.database}'",
            f"XA PREPARE '{made.database}'",
        ):
            cursor.execute(statement)
    made.sql("INSERT INTO t VALUES (3, 'between')")
    made.wait_equal("t")
    assert made.replay("t") == [(3, "between")], "what is only prepared does not travel"
    # The preparation is behind the place to go on from: the next process must look it up.
    assert process.stop() == 0
    process = made.start_and_wait()
    with xa.cursor() as cursor:
        cursor.execute(f"XA COMMIT '{made.database}'")
    xa.close()
    made.sql("UPDATE t SET v = 'after' WHERE id = 2")
    made.wait_equal("t")
    assert made.replay("t") == [(1, "prepared"), (2, "after"), (3, "between")]
    assert "xa_looked_up" in process.text
    process.kill()
    made.start_and_wait()
    made.sql("DELETE FROM t WHERE id = 1")
    made.wait_equal("t")
    made.assert_lawful()


def test_a_source_that_goes_away_and_comes_back_is_read_on(install: Install, stack: object) -> None:
    server = stack.mariadb("restarted")  # type: ignore[attr-defined]
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    made.sql("INSERT INTO t VALUES (1, 'a')")
    made.wait_equal("t")
    server.kill()
    wait_until(lambda: "source_interrupted" in process.text, what="the interruption's notice")
    server.start()
    made.client = server.connect(made.database)
    made.sql("INSERT INTO t VALUES (2, 'b')")
    made.wait_equal("t")
    assert process.exit_code is None
    made.assert_lawful()


def test_rotated_binlogs_are_followed(install: Install, server: DatabaseServer) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    process = made.start_and_wait()
    for number in range(3):
        made.sql("FLUSH BINARY LOGS", f"INSERT INTO t VALUES ({number}, 'a')")
    made.wait_equal("t")
    process.kill()
    made.sql("FLUSH BINARY LOGS", "INSERT INTO t VALUES (9, 'z')", "FLUSH BINARY LOGS")
    made.start_and_wait()
    made.wait_equal("t")
    made.assert_lawful()
