"""What only MySQL and MariaDB targets can show: values, unique keys, limits, locks, lost answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gravity_devstack import Stack
from gravity_sink_mysql import connection as connection_module
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.column import ColumnType
from gravity.errors import FatalError, FencedError, TransientError
from gravity.testing.target_log import TargetLog, table
from tests.sink_lane import Refused, cut, drain, insist, offer, take_over
from tests.target_server import MysqlServer, target_server

pytestmark = pytest.mark.stack


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[MysqlServer]:
    made = target_server(request.param, stack)
    assert isinstance(made, MysqlServer)
    yield made
    made.close()


COLUMNS = [
    ("id", "bigint unsigned"), ("small", "smallint"), ("price", "decimal(65,30)"), ("f", "float"),
    ("g", "double"), ("day", "date"), ("at", "datetime(6)"), ("ts", "timestamp(3)"),
    ("span", "time(3)"), ("y", "year"), ("short", "char(8)"), ("text", "longtext"),
    ("kind", "enum('a','it''s','ü')"), ("tags", "set('x','y','z')"), ("bits", "bit(64)"),
    ("fixed", "binary(4)"), ("blob", "longblob"), ("doc", "json"),
]  # fmt: skip
text = st.text(
    st.sampled_from("'\"\\%\0\n\x1a") | st.characters(exclude_categories=["Cs"]), max_size=20
)
float32 = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(
    lambda x: x == 0 or abs(x) > 2e-38
)
double = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: x == 0 or abs(x) > 3e-308
)
year = st.sampled_from(["1000", "1969", "1970", "2024", "2038", "9999"])
day = year.map(lambda y: f"{y}-02-28") | st.sampled_from(["0000-00-00", "2024-00-10", "2024-02-31"])
cells = st.tuples(
    st.integers(-(2**15), 2**15 - 1),
    st.integers(-(10**64), 10**64).map(lambda n: f"{n // 10**30}.{abs(n) % 10**30:030d}")
    .filter(lambda t: len(t.lstrip("-").partition(".")[0]) <= 35),
    float32,
    double,
    day,
    day.map(lambda d: f"{d} 23:59:59.000001"),
    st.sampled_from(["1970-01-01 00:00:01.000", "2038-01-19 03:14:07.999", "0000-00-00 00:00:00.000"]),
    st.sampled_from(["-838:59:59.000", "00:00:00.001", "838:59:58.999"]),
    st.sampled_from([0, 1901, 2155]),
    text.map(lambda t: t[:8].rstrip(" ")),
    text,
    st.sampled_from(["a", "it's", "ü"]),
    st.sampled_from(["", "x", "x,z"]),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=40),
    st.sampled_from(['{"a": 1}', '["it\'s", "\\\\"]', "null", '"ü"']),
)  # fmt: skip


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(cells, min_size=1, max_size=8))
def test_every_value_reads_back_as_it_was_sent(
    server: MysqlServer, rows: list[tuple[Any, ...]]
) -> None:
    server.query(f"DROP DATABASE IF EXISTS {server.database}")
    server.query("CREATE DATABASE IF NOT EXISTS _gravity")
    server.query("DROP DATABASE _gravity")
    schema = table(f"{server.database}.t", COLUMNS, ["id"])
    sent = [(number, *row) for number, row in enumerate(rows)]
    nulls = (len(sent), *([None] * len(rows[0])))
    refused = Refused()
    changes = [("I", row) for row in [*sent, nulls]]
    drain(take_over(server), [TargetLog().rows(schema, changes)], refused)
    assert [r.reason for r in refused.letters] == []
    session = connection_module.Session(server.writer()._target)  # type: ignore[attr-defined]
    kinds = [ColumnType.parse(kind) for _, kind in COLUMNS]
    names = ",".join(
        kind.select_expression(f"`{name}`") for (name, _), kind in zip(COLUMNS, kinds, strict=True)
    )
    found = session.rows(f"SELECT {names} FROM {server.database}.t ORDER BY id")
    session.close()
    readers = [kind.cell_reader() for kind in kinds]
    back = [
        tuple(
            cell if cell is None or reader is None else reader(cell)
            for cell, reader in zip(row, readers, strict=True)
        )
        for row in found
    ]
    assert back == [*sent, nulls]


def unique_table(server: MysqlServer) -> TableSchema:
    server.query(f"CREATE DATABASE {server.database}")
    server.query(
        f"CREATE TABLE {server.database}.u (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE, n INT)"
    )
    return table(
        f"{server.database}.u", [("id", "int"), ("code", "varchar(9)"), ("n", "int")], ["id"]
    )


def test_an_upsert_never_touches_the_row_that_owns_a_unique_value(server: MysqlServer) -> None:
    log, schema, refused = TargetLog(), unique_table(server), Refused()
    topic = [
        log.rows(schema, [("I", (1, "a", 1)), ("I", (2, "b", 2))]),
        log.rows(schema, [("I", (3, "a", 3)), ("U", (2, "b", 9))]),
    ]
    lane = take_over(server)
    drain(lane, topic[:1])
    drain(lane, topic, refused)
    assert server.rows("u") == {"1": ("a", "1"), "2": ("b", "9")}
    assert [(r.row, r.code) for r in refused.letters] == [(0, "1062")]


def test_unique_values_can_be_swapped(server: MysqlServer) -> None:
    log, schema, refused = TargetLog(), unique_table(server), Refused()
    topic = [
        log.rows(schema, [("I", (1, "a", 1)), ("I", (2, "b", 2))]),
        log.rows(schema, [("U", (1, "tmp", 1)), ("U", (2, "a", 2)), ("U", (1, "b", 1))]),
        log.rows(schema, [("D", (1, "b", 1)), ("I", (4, "b", 4)), ("U", (2, "a", 5))]),
    ]
    lane = take_over(server)
    for upto in (1, 2, 3):
        drain(lane, topic[:upto], refused)
    assert refused.letters == []
    assert server.rows("u") == {"2": ("a", "5"), "4": ("b", "4")}


def test_children_may_come_with_their_parents(server: MysqlServer) -> None:
    server.query(f"CREATE DATABASE {server.database}")
    name = server.database
    server.query(f"CREATE TABLE {name}.parent (id INT PRIMARY KEY)")
    server.query(
        f"CREATE TABLE {name}.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent(id))"
    )
    parent = table(f"{name}.parent", [("id", "int")], ["id"])
    child = table(f"{name}.child", [("id", "int"), ("p", "int")], ["id"])
    log, refused = TargetLog(), Refused()
    topic = [
        log.rows(parent, [("I", (1,))]),
        log.rows(child, [("I", (1, 1))]),
        log.rows(child, [("D", (1, 1))]),
        log.rows(parent, [("D", (1,)), ("I", (2,))]),
        log.rows(child, [("I", (2, 2)), ("I", (3, 99))]),
    ]
    lane = drain(take_over(server), topic, refused)
    assert server.rows("child") == {"2": ("2",)}
    assert server.rows("parent") == {"2": ()}
    assert refused.letters == []
    assert lane.stored.counts.parked == 1, "the child of parent 99 waits"


def test_one_row_among_many_that_does_not_fit_is_found(server: MysqlServer) -> None:
    schema, _, _ = server.refused()
    rows = [("I", (n, "long" if n in (3, 777) else "ok")) for n in range(1500)]
    refused = Refused()
    lane = drain(take_over(server), [TargetLog().rows(schema, rows)], refused)
    assert sorted(r.row for r in refused.letters) == [3, 777]
    assert len(server.rows("narrow")) == 1498
    assert lane.stored.counts.dead == 2


def test_an_earlier_change_of_a_refused_row_is_kept(server: MysqlServer) -> None:
    schema, _, _ = server.refused()
    changes = [("I", (1, "one")), ("U", (1, "much too long")), ("I", (2, "two"))]
    refused = Refused()
    drain(take_over(server), [TargetLog().rows(schema, changes)], refused)
    assert server.rows("narrow") == {"1": ("one",), "2": ("two",)}
    assert [r.row for r in refused.letters] == [1]


def test_large_rows_keep_within_the_servers_packet(server: MysqlServer) -> None:
    limit = int(server.query("SELECT @@max_allowed_packet")[0][0])
    schema = table(f"{server.database}.big", [("id", "int"), ("b", "longblob")], ["id"])
    size = limit // 5
    rows = [("I", (n, bytes([n]) * size)) for n in range(6)]
    drain(take_over(server), [TargetLog().rows(schema, rows)])
    sizes = server.query(f"SELECT id, LENGTH(b) FROM {server.database}.big")
    assert {row[1] for row in sizes} == {size}
    assert len(sizes) == 6


def test_generated_columns_of_the_target_are_left_to_it(server: MysqlServer) -> None:
    server.query(f"CREATE DATABASE {server.database}")
    server.query(
        f"CREATE TABLE {server.database}.g (id INT PRIMARY KEY, a INT, twice INT AS (a * 2) STORED)"
    )
    schema = table(f"{server.database}.g", [("id", "int"), ("a", "int"), ("twice", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 2, 4))]), log.rows(schema, [("U", (1, 3, 6))])]
    drain(take_over(server), topic)
    assert server.rows("g") == {"1": ("3", "6")}


def test_a_key_whose_spelling_changes_stays_one_row(server: MysqlServer) -> None:
    column = Column("name", "varchar(9)", False, "utf8mb4", "utf8mb4_general_ci")
    schema = TableSchema(server.database, "k", (column, Column("n", "int")), (0,))
    log = TargetLog()
    topic = [
        log.rows(schema, [("I", ("a", 1)), ("I", ("b", 1))]),
        log.rows(schema, [("M", ("a", 1)), ("U", ("A", 2)), ("U", ("B", 3))]),
    ]
    lane = take_over(server)
    drain(lane, topic[:1])
    drain(lane, topic)
    assert server.rows("k") == {"A": ("2",), "B": ("3",)}


def test_a_row_locked_by_an_application_is_waited_for(server: MysqlServer) -> None:
    log = TargetLog()
    schema = table(f"{server.database}.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])
    topic = [log.rows(schema, [("I", (1, "a"))]), log.rows(schema, [("U", (1, "b"))])]
    lane = drain(take_over(server), topic[:1])
    other = server.server.connect(autocommit=False)
    other.cursor().execute(f"SELECT * FROM {server.database}.orders WHERE id=1 FOR UPDATE")
    threading.Timer(1.0, other.rollback).start()
    drain(lane, topic)
    assert server.rows("orders") == {"1": ("b",)}
    other.close()


def test_a_commit_whose_answer_was_lost_is_decided_by_the_progress_row(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 1))]), log.rows(schema, [("I", (2, 2))])]
    lane = take_over(server)
    offer(lane, topic[:1])
    real = connection_module.Session.execute

    def lose_the_answer(self: connection_module.Session, sql: str) -> int:
        matched = real(self, sql)
        if sql == "COMMIT":
            raise TransientError("the connection is gone")
        return matched

    monkeypatch.setattr(connection_module.Session, "execute", lose_the_answer)
    with pytest.raises(TransientError):
        lane.writer.write(cut(lane), Refused())
    monkeypatch.undo()
    offer_more = topic[1:]
    lane.offer(*offer_more[0], 1, 0.0)
    first = lane.writer.write(cut(lane), Refused())
    assert first.progress.next_offset == 1
    lane.done(first, 0.0)
    lane.done(lane.writer.write(cut(lane), Refused()), 0.0)
    assert server.rows("orders") == {"1": ("1",), "2": ("2",)}
    assert take_over(server).stored.counts.applied == 2


def test_progress_moved_by_hand_stops_the_writer(server: MysqlServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (n, n))]) for n in range(2)]
    lane = drain(take_over(server), topic[:1])
    server.query(
        f"UPDATE _gravity._gravity_progress SET next_offset=7 WHERE target='{server.name}'"
    )
    offer(lane, topic)
    with pytest.raises(FencedError, match="no longer at offset 1"):
        lane.writer.write(cut(lane), Refused())
    assert server.rows("orders") == {"0": ("0",)}


def test_a_table_without_transactions_is_refused_by_name(server: MysqlServer) -> None:
    server.query(f"CREATE DATABASE {server.database}")
    server.query(f"CREATE TABLE {server.database}.m (id INT PRIMARY KEY) ENGINE=MyISAM")
    schema = table(f"{server.database}.m", [("id", "int")], ["id"])
    with pytest.raises(FatalError, match="engine MyISAM has no transactions"):
        drain(take_over(server), [TargetLog().rows(schema, [("I", (1,))])])


def test_a_dropped_column_is_noticed_and_made_again(server: MysqlServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 1))]), log.rows(schema, [("I", (2, 2))])]
    lane = drain(take_over(server), topic[:1])
    server.query(f"ALTER TABLE {server.database}.orders DROP COLUMN n")
    drain(lane, topic)
    assert server.rows("orders") == {"1": (None,), "2": ("2",)}


def test_an_idle_lane_is_closed_by_the_server_and_goes_on(server: MysqlServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 1))]), log.rows(schema, [("I", (2, 2))])]
    lane = drain(take_over(server), topic[:1])
    owner = server.query(
        f"SELECT connection_id FROM _gravity._gravity_progress WHERE target='{server.name}'"
    )[0][0]
    server.query(f"KILL {owner}")
    drain(lane, topic)
    assert set(server.rows("orders")) == {"1", "2"}
    assert insist(lambda: take_over(server)).stored.progress.next_offset == 2
