"""Statements that change tables, on real servers: told once, at their place, with what became of the rows."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
from gravity_devstack.database import DatabaseServer

from gravity.header import IngestHeader, IngestKind
from gravity.schema_change import RowsAfter, SchemaChange, TableAction
from gravity.testing.waiting import wait_until
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation

NEVER = "snapshot: never"
CREATE, ALTER, DROP, TRUNCATE = (
    TableAction.CREATE,
    TableAction.ALTER,
    TableAction.DROP,
    TableAction.TRUNCATE,
)
KEPT, FILLED, REREAD = RowsAfter.KEPT, RowsAfter.FILLED, RowsAfter.REREAD
Said = tuple[str, TableAction, RowsAfter]


def changes(made: Installation) -> list[tuple[IngestHeader, SchemaChange]]:
    """The schema changes in the log, repeats left out."""
    found: dict[str, tuple[IngestHeader, SchemaChange]] = {}
    for header, value in made.valid():
        if header.kind is IngestKind.SCHEMA:
            change = SchemaChange.decode(value)
            found.setdefault(change.change_id, (header, change))
    return list(found.values())


def said(made: Installation) -> list[Said]:
    return [(change.table, change.action, change.rows) for _, change in changes(made)]


def wait_for(made: Installation, wanted: Sequence[Said]) -> None:
    wait_until(lambda: len(said(made)) >= len(wanted), what=f"{len(wanted)} schema changes")
    assert said(made) == list(wanted)


def test_each_statement_is_told_with_what_became_of_the_rows(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER, exclude="hidden")
    made.start_and_wait()
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) NOT NULL)",
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t ADD w INT",
        "ALTER TABLE t ADD x DECIMAL(10,2) NOT NULL DEFAULT 1.5 FIRST, DROP w",
        "ALTER TABLE t MODIFY v VARCHAR(30) NOT NULL",
        "ALTER TABLE t MODIFY v CHAR(30) NOT NULL",
        "CREATE TABLE hidden (id INT PRIMARY KEY)",
        "ALTER TABLE hidden ADD w INT",
        "CREATE INDEX i ON t (v)",
        "TRUNCATE t",
        "RENAME TABLE t TO u, hidden TO t",
        "DROP TABLE u, t",
    )
    wanted = [
        ("t", CREATE, KEPT), ("t", ALTER, KEPT), ("t", ALTER, FILLED), ("t", ALTER, KEPT), ("t", ALTER, REREAD), ("t", ALTER, KEPT),
        ("t", TRUNCATE, KEPT), ("u", CREATE, REREAD), ("t", TRUNCATE, KEPT), ("t", ALTER, REREAD), ("u", DROP, KEPT), ("t", DROP, KEPT),
    ]  # fmt: skip
    if server.flavor == "mysql":
        # The parts of DROP TABLE u, t are logged in an order of the server's own choice.
        wait_until(lambda: len(said(made)) >= len(wanted), what="schema changes")
        assert said(made)[:-2] == wanted[:-2]
    else:
        wait_for(made, wanted)
    headers, told = zip(*changes(made), strict=True)
    assert [change.default for change in told[2].columns] == [None, "1.50"]
    assert [header.chunk for header in headers] == [
        "reread" if change.rows is REREAD else "" for change in told
    ]
    created = [(change.name, change.column.type) for change in told[0].columns if change.column]
    assert created == [("id", "int"), ("v", "varchar(20)")]
    assert told[0].key == ("id",)
    made.assert_lawful()


def test_a_swap_is_told_whole_though_the_collector_dies_within_it(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql(
        "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE b (id INT PRIMARY KEY, w TEXT)",
        "INSERT INTO b VALUES (1, 'b'), (3, 'b')",
    )
    made.start_and_wait().stop()
    process = made.start("collector.sent_part_of_statement:2:kill")
    made.sql(
        "INSERT INTO a VALUES (1, 1)",
        "RENAME TABLE a TO x, b TO a",
        "INSERT INTO a VALUES (2, 'n')",
    )
    assert process.wait() == -signal.SIGKILL
    wanted = [
        ("b", DROP, KEPT), ("x", CREATE, REREAD), ("a", TRUNCATE, KEPT), ("a", DROP, KEPT), ("a", CREATE, REREAD),
    ]  # fmt: skip
    assert said(made) == wanted[:2]
    made.start_and_wait()
    wait_for(made, wanted)
    made.wait_equal("a")
    made.wait_equal("x")
    # What `a` was is not known any more, for the catalog is ahead: so it is made anew.
    assert changes(made)[-1][1].columns == ()
    made.assert_lawful()


@pytest.mark.parametrize(
    ("ghost", "old"), [("_t_gho", "_t_del"), ("_t_new", "_t_old")], ids=["gh-ost", "pt-osc"]
)
def test_a_tool_that_swaps_in_its_copy_empties_nothing(
    install: Install, server: DatabaseServer, ghost: str, old: str
) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    made.start_and_wait()
    made.sql(
        f"CREATE TABLE {ghost} LIKE t",
        f"ALTER TABLE {ghost} ADD w VARCHAR(9) NOT NULL DEFAULT 'x', MODIFY v BIGINT",
        f"INSERT INTO {ghost} (id, v) SELECT id, v FROM t",
        f"RENAME TABLE t TO {old}, {ghost} TO t",
        f"DROP TABLE {old}",
        "INSERT INTO t VALUES (2, 2, 'y')",
    )
    made.wait_equal("t")
    assert len(made.replay("t")) == 2
    assert said(made) == [("t", ALTER, REREAD)]
    columns = [(change.action, change.name) for change in changes(made)[0][1].columns]
    assert columns == [("modify", "v"), ("add", "w")]
    assert {header.table for header, _ in made.batches()} <= {f"{made.database}.t"}


def test_rows_behind_a_statement_are_read_with_the_shape_of_then(
    install: Install, server: DatabaseServer
) -> None:
    """The collector sleeps while the table goes through five shapes."""
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    made.start_and_wait().stop()
    made.sql(
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t ADD n TINYINT UNSIGNED FIRST",
        "INSERT INTO t VALUES (200, 2, 'b')",
        "ALTER TABLE t CHANGE v w VARBINARY(9), MODIFY n BIGINT UNSIGNED AFTER w",
        "INSERT INTO t VALUES (3, 'c', 18446744073709551615)",
        "ALTER TABLE t DROP n, ADD PRIMARY KEY (id, w), DROP PRIMARY KEY",
        "INSERT INTO t VALUES (4, 'd')",
    )
    made.start_and_wait()

    def streamed() -> list[tuple[tuple[str, ...], list[tuple[object, ...]]]]:
        return [
            (batch.schema.key_names, batch.rows())
            for header, batch in made.batches()
            if header.kind is IngestKind.ROWS
        ]

    wait_until(lambda: len(streamed()) >= 4, what="four shapes")
    assert streamed() == [
        (("id",), [(1, "a")]), (("id",), [(200, 2, "b")]), (("id",), [(3, b"c", 18446744073709551615)]), (("id", "w"), [(4, b"d")]),
    ]  # fmt: skip
    assert [change.rows for _, change in changes(made)] == [KEPT, REREAD, REREAD]
    assert changes(made)[-1][1].key == ("id", "w")


def test_a_dropped_database_takes_its_tables_along(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER)
    made.sql("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)")
    made.start_and_wait()
    made.sql("CREATE TABLE w (id INT PRIMARY KEY)", f"DROP DATABASE {made.database}")
    wait_until(lambda: len(said(made)) >= 4, what="three tables gone")
    assert said(made)[0] == ("w", CREATE, KEPT)
    assert set(said(made)[1:]) == {(name, DROP, KEPT) for name in ("t", "u", "w")}
