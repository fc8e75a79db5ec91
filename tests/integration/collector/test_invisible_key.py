"""Primary keys that nobody sees: MySQL's generated ones, and invisible columns that an operator has added."""

from __future__ import annotations

import pytest
from gravity_devstack import Stack

from gravity.errors import EXIT_HALTED
from gravity.testing.waiting import wait_until
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation
from tests.source_server import started


def _wait_equal(made: Installation, columns: str) -> None:
    """Returns when the log has the rows of `t`, the key that nobody sees included."""
    wait_until(
        lambda: made.replay("t") == sorted(made.rows(f"SELECT {columns} FROM t")), what="t equal"
    )


def _copy_stream_and_alter(made: Installation, columns: str) -> None:
    made.sql("INSERT INTO t (v) VALUES ('one'), ('two'), ('two')")
    made.start_and_wait()
    _wait_equal(made, columns)
    made.sql(
        "INSERT INTO t (v) VALUES ('two'), ('three')",
        "DELETE FROM t WHERE v = 'two' LIMIT 1",
        "UPDATE t SET v = 'four' WHERE v = 'three'",
    )
    _wait_equal(made, columns)
    made.sql(
        "ALTER TABLE t ADD COLUMN n INT", "INSERT INTO t (v, n) VALUES ('five', 5), ('five', 5)"
    )
    made.sql("UPDATE t SET n = 1")
    _wait_equal(made, f"{columns}, n")
    made.assert_lawful()


@pytest.mark.parametrize("shown", ["ON", "OFF"])
def test_a_generated_primary_key_is_used_whether_or_not_the_server_shows_it(
    stack: Stack, install: Install, shown: str
) -> None:
    made = install(started(stack, "mysql-9.7"))
    setting = "GLOBAL show_gipk_in_create_table_and_information_schema"
    made.sql(f"SET {setting} = {shown}")
    try:
        made.sql("SET SESSION sql_generate_invisible_primary_key = ON")
        made.sql("CREATE TABLE t (v VARCHAR(20))")
        _copy_stream_and_alter(made, "my_row_id, v")
        # One that is made while the binlog is read is known from its statement and its rows.
        made.sql("CREATE TABLE later (v VARCHAR(20))", "INSERT INTO later VALUES ('x'), ('x')")
        wait_until(lambda: made.replay("later") == [(1, "x"), (2, "x")], what="the later table")
        keys = {name for _, batch in made.batches() for name in batch.schema.key_names}
        assert keys == {"my_row_id"}
    finally:
        made.sql(f"SET {setting} = ON")


@pytest.mark.parametrize("name", ["mariadb", "mysql-9.7"])
def test_an_invisible_key_that_was_added_by_hand_is_used(
    stack: Stack, install: Install, name: str
) -> None:
    made = install(started(stack, name))
    made.sql(
        "CREATE TABLE t (v VARCHAR(20))",
        "ALTER TABLE t ADD COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY",
    )
    _copy_stream_and_alter(made, "v, id")


def test_a_table_without_a_key_that_is_too_large_for_one_piece_halts_by_name(
    install: Install,
) -> None:
    made = install(source="whole-row: [t]")
    made.sql("CREATE TABLE t (v INT)", "INSERT INTO t SELECT seq FROM seq_1_to_500001")
    process = made.start()
    assert process.wait() == EXIT_HALTED
    assert f"table {made.database}.t" in process.text
    assert "more than 500000 rows" in process.text
