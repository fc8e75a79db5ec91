"""What only ClickHouse targets can show: values, versions, the client's own retry, server errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gravity_devstack import Stack

from gravity.errors import FatalError, FencedError, TransientError
from gravity.schema_change import ColumnAction, ColumnChange, TableAction
from gravity.testing.target_log import TargetLog, change_of, table
from tests.evolving_table import text_column
from tests.sink_lane import Refused, cut, drain, offer, take_over
from tests.target_server import ClickhouseServer

pytestmark = pytest.mark.stack


@pytest.fixture
def server(stack: Stack) -> Iterator[ClickhouseServer]:
    made = ClickhouseServer(stack)
    yield made
    made.close()


VALUES: list[tuple[str, Any, str]] = [
    ("tinyint", -128, "-128"),
    ("bigint unsigned", 2**64 - 1, "18446744073709551615"),
    ("bit(64)", 2**64 - 1, "18446744073709551615"),
    ("year", 2155, "2155"),
    ("float", 0.10000000149011612, "0.1"),
    ("double", 5e-324, "5e-324"),
    ("double", 1.7976931348623157e308, "1.7976931348623157e308"),
    ("decimal(65,30)", "-" + "9" * 35 + "." + "1" * 30, "-" + "9" * 35 + "." + "1" * 30),
    ("date", "1900-01-01", "1900-01-01"),
    ("date", "0000-00-00", "\\N"),
    ("date", "9999-12-31", "2299-12-31"),
    ("datetime(6)", "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
    ("datetime(6)", "1000-01-01 00:00:00.000000", "1900-01-01 00:00:00.000000"),
    ("timestamp(3)", "2038-01-19 03:14:07.999", "2038-01-19 03:14:07.999"),
    ("time(3)", "-838:59:59.000", "-838:59:59.000"),
    ("varchar(99)", "t\tn\nb\\ r\rü\0😀\\N", "t\tn\nb\\ r\rü\0😀\\N"),
    ("varchar(99)", "", ""),
    ("enum('a','b')", "b", "b"),
    ("json", '{"a": "\\\\"}', '{"a": "\\\\"}'),
]


def test_every_value_reads_back_as_it_was_sent(server: ClickhouseServer) -> None:
    columns = [("id", "int"), *((f"c{n}", kind) for n, (kind, _, _) in enumerate(VALUES))]
    schema = table(f"{server.database}.t", [*columns, ("raw", "varbinary(9)")], ["id"])
    row = (1, *(value for _, value, _ in VALUES), b"\xff\x00\t\\")
    nulls = (2, *([None] * (len(VALUES) + 1)))
    drain(take_over(server), [TargetLog().rows(schema, [("I", row), ("I", nulls)])])
    names = ",".join(f"ifNull(toString(c{n}), '\\\\N')" for n in range(len(VALUES)))
    query = f"SELECT {names}, hex(raw) FROM {server.database}.t_current ORDER BY id"
    first, second = server.client.query(query).result_rows
    assert list(first) == [*(text for _, _, text in VALUES), "FF00095C"]
    assert set(second[:-1]) == {"\\N"}


def test_an_insert_that_the_client_repeats_by_itself_counts_once(server: ClickhouseServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    lane = drain(take_over(server), [log.rows(schema, [("I", (0, 0))])])
    server.client.command(f"SYSTEM STOP MERGES {server.database}.orders")
    server.server.fault(mode="drop_after", match="INSERT INTO `shop", n=1)
    lane.offer(*log.rows(schema, [("I", (n, n)) for n in range(1, 4)]), 1, 0.0)
    lane.done(lane.writer.write(cut(lane), Refused()), 0.0)
    stored = server.client.query(f"SELECT count() FROM {server.database}.orders").result_rows
    assert stored == [(4,)]


def test_a_server_error_is_retried_with_the_same_token(server: ClickhouseServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (0, 0))]), log.rows(schema, [("I", (1, 1))])]
    lane = drain(take_over(server), topic[:1])
    server.server.fault(mode="error", match="INSERT INTO `shop", n=2, code=252)
    drain(lane, topic)
    server.server.fault(mode="drop_before", match="_gravity_progress", n=2)
    topic.append(log.rows(schema, [("U", (1, 5))]))
    drain(lane, topic)
    assert server.rows("orders") == {"0": ("0",), "1": ("5",)}
    assert take_over(server).stored.progress.next_offset == 3


def test_the_greatest_version_wins_whatever_comes_last(server: ClickhouseServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 1)), ("I", (2, 1))])]
    zombie = take_over(server)
    offer(zombie, topic)
    late = cut(zombie)
    topic.append(log.rows(schema, [("U", (1, 2)), ("D", (2, 1))]))
    drain(take_over(server), topic)
    zombie.writer.write(late, Refused())
    assert server.rows("orders") == {"1": ("2",)}
    assert take_over(server).stored.progress.next_offset == 2


def test_who_was_overtaken_in_front_of_a_claim_of_its_own_lane_begins_anew_and_finishes_it(
    server: ClickhouseServer,
) -> None:
    name = f"{server.database}.orders"
    log = TargetLog()
    topic = [
        log.rows(table(name, [("id", "int"), ("n", "int")], ["id"]), [("I", (n, n))])
        for n in range(3)
    ]
    item = ColumnChange(ColumnAction.ADD, "m", column=text_column("m", "int"))
    change = change_of(name, TableAction.ALTER, item, number=9)
    first = drain(take_over(server), topic[:1])
    second = take_over(server)
    # The first, which the second has replaced, goes on, claims the change behind the rows, and dies.
    drain(first, topic)
    topic.append(log.schema_change(change))
    offer(first, topic)
    server.server.fault(mode="error", match="ALTER TABLE", n=1, code=252)
    with pytest.raises(TransientError):
        first.writer.write(cut(first), Refused())
    offer(second, topic[:3])
    with pytest.raises(FencedError, match="another process has moved this lane to offset 3"):
        second.writer.write(cut(second), Refused())
    drain(take_over(server), topic)
    assert server.rows("orders") == {str(n): (str(n), None) for n in range(3)}


def test_progress_that_was_stored_without_an_answer_is_not_taken_for_anothers(
    server: ClickhouseServer,
) -> None:
    name = f"{server.database}.orders"
    log, schema = TargetLog(), table(name, [("id", "int"), ("n", "int")], ["id"])
    topic = [log.rows(schema, [("I", (n, n))]) for n in range(2)]
    lane = drain(take_over(server), topic[:1])
    offer(lane, topic)
    rows = cut(lane)
    server.server.fault(mode="drop_after", match="_gravity_progress", n=2)
    with pytest.raises(TransientError):
        lane.writer.write(rows, Refused())
    assert take_over(server).stored.progress.next_offset == 2
    server.server.fault(
        mode="error", match=f"INSERT INTO `{server.database}`.`orders`", n=1, code=252
    )
    with pytest.raises(TransientError):
        lane.writer.write(rows, Refused())
    lane.writer.write(rows, Refused())
    assert server.rows("orders") == {"0": ("0",), "1": ("1",)}


def test_a_table_of_another_engine_is_refused_by_name(server: ClickhouseServer) -> None:
    server.client.command(f"CREATE DATABASE {server.database}")
    server.client.command(
        f"CREATE TABLE {server.database}.orders (id Int32) ENGINE = MergeTree ORDER BY id"
    )
    schema = table(f"{server.database}.orders", [("id", "int")], ["id"])
    with pytest.raises(FatalError, match="is a MergeTree, not a ReplacingMergeTree"):
        drain(take_over(server), [TargetLog().rows(schema, [("I", (1,))])])


def test_a_dropped_table_is_made_again(server: ClickhouseServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (0, 0))]), log.rows(schema, [("I", (1, 1))])]
    lane = drain(take_over(server), topic[:1])
    server.client.command(f"DROP TABLE {server.database}.orders")
    drain(lane, topic)
    assert server.rows("orders") == {"1": ("1",)}
