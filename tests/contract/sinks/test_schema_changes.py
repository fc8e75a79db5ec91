"""Two partitions meet the same schema changes in any interleaving: the target ends as the source is."""

from __future__ import annotations

import random

import pytest
from gravity_sink_clickhouse.catalog import Catalog as ClickhouseCatalog
from gravity_sink_mysql.catalog import Catalog as MysqlCatalog

from gravity.batch import Value
from gravity.key import key_partitions
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.target_log import Change, Message, TargetLog, change_of
from gravity.testing.target_log import table as table_of
from tests.evolving_table import PARTITIONS, EvolvingTable, text_column
from tests.lane_walk import one_source
from tests.sink_lane import drain, take_over
from tests.target_server import OF_TABLES, ClickhouseServer, KafkaServer, TargetServer

pytestmark = pytest.mark.stack
STEPS = 20


@OF_TABLES
@pytest.mark.parametrize("seed", range(2))
def test_any_interleaving_of_lanes_ends_as_the_source_is(server: TargetServer, seed: int) -> None:
    assert one_source(server, seed, STEPS) == []


def test_a_truncate_deletes_the_rows_of_its_partition_and_is_counted_apart(
    server: TargetServer,
) -> None:
    table = EvolvingTable(f"{server.database}.orders", random.Random(1))
    for _ in range(6):
        table.change_rows()
    before = [len(topic) for topic in table.topics]
    alive = len(table.rows)
    table.truncate()
    table.change_rows()
    after = table.rows
    lanes = [take_over(server, partition=q) for q in range(PARTITIONS)]
    for lane, topic, there in zip(lanes, table.topics, before, strict=True):
        drain(lane, topic[:there])
    drain(lanes[0], table.topics[0])  # It may be far ahead: rows of the other are still there.
    drain(lanes[1], table.topics[1])
    if isinstance(server, KafkaServer):
        said = [record for key, record in server.messages("orders") if "_gravity" in key]
        assert len(said) == 2 * PARTITIONS  # One from each lane in each of the topic's partitions.
        assert {record["_gravity"]["op"] for record in said if record} == {"truncate"}
        return
    assert set(server.named_rows("orders", "id")) == {str(key) for key in after}
    counts = [take_over(server, partition=q).stored.counts for q in range(PARTITIONS)]
    truncated = sum(count.truncated for count in counts)
    assert truncated >= alive if "Clickhouse" in type(server).__name__ else truncated == alive
    applied = sum(int(dict(h)["rows"]) for topic in table.topics for h, _ in topic)
    assert sum(count.applied for count in counts) == applied


@OF_TABLES
def test_a_whole_table_lane_truncates_all_its_rows(server: TargetServer) -> None:
    log, name = TargetLog(), f"{server.database}.orders"
    schema = table_of(name, [("id", "varchar(20)"), ("n", "int")], ["id"])
    rows: list[Change] = [("I", (f"k{n}", n)) for n in range(9)]
    change = change_of(name, TableAction.TRUNCATE)
    topic = [
        log.rows(schema, rows[:5]),
        log.schema_change(change, partitions=(1, 1)),
        log.rows(schema, rows[5:]),
    ]
    drain(take_over(server, partition=1), topic)
    assert set(server.named_rows("orders", "id")) == {"k5", "k6", "k7", "k8"}


@pytest.mark.parametrize(
    ("type_", "keys"),
    [
        ("bigint unsigned", [0, 7, 2**64 - 1]),
        ("varchar(20)", ["a", "it's", "ü\\", ""]),
        ("varbinary(20)", [b"a", b"\x00\xff", b""]),
        ("decimal(10,2)", ["1.50", "-7.00", "0.01"]),
        ("datetime(3)", ["2024-01-02 03:04:05.600", "1999-12-31 23:59:59.000"]),
        ("date", ["2024-01-02", "2031-05-05"]),
    ],
)
@OF_TABLES
def test_a_truncate_finds_the_rows_of_its_partition_by_any_type_of_key(
    server: TargetServer, type_: str, keys: list[Value]
) -> None:
    """The target must divide keys as the router has divided them."""
    name = f"{server.database}.keyed"
    schema = table_of(name, [("id", type_), ("k2", "int"), ("n", "int")], ["id", "k2"])
    rows: list[tuple[Value, ...]] = [(key, n, n) for n in range(4) for key in keys]
    homes = key_partitions(name, [[row[0] for row in rows], [row[1] for row in rows]], PARTITIONS)
    change = change_of(name, TableAction.TRUNCATE, number=99)
    for q in range(PARTITIONS):
        log = TargetLog()
        ours: list[Change] = [
            ("I", row) for row, home in zip(rows, homes, strict=True) if home == q
        ]
        topic = [log.rows(schema, ours), log.schema_change(change, partitions=(0, PARTITIONS - 1))]
        drain(take_over(server, partition=q), topic)
    assert server.named_rows("keyed", "n") == {}


@OF_TABLES
def test_an_added_column_has_its_default_in_rows_that_are_there(server: TargetServer) -> None:
    log, name = TargetLog(), f"{server.database}.orders"
    schema = table_of(name, [("id", "int")], ["id"])
    added = [
        ("i", "int unsigned", "7"), ("s", "varchar(9)", "it's"), ("t", "text", "long"),
        ("d", "decimal(5,2)", "1.50"), ("m", "datetime", "2024-01-02 03:04:05"), ("n", "int", None),
        ("e", "enum('a','b')", "b"), ("f", "double", "0.5"),
    ]  # fmt: skip
    items = [
        ColumnChange(ColumnAction.ADD, column, column=text_column(column, kind), default=default)
        for column, kind, default in added
    ]
    change = change_of(name, TableAction.ALTER, *items, rows=RowsAfter.FILLED)
    drain(take_over(server), [log.rows(schema, [("I", (1,))]), log.schema_change(change)])
    row = server.named_rows("orders", "id")["1"]
    assert row == {column: default for column, _, default in added}


@OF_TABLES
def test_rows_from_before_a_drop_do_not_bring_the_table_back(server: TargetServer) -> None:
    """A lane that read what is recorded just before the drop makes its rows no table of their own."""
    name, other = f"{server.database}.orders", f"{server.database}.others"
    old = table_of(name, [("id", "int"), ("gone", "int")], ["id"])
    new = table_of(name, [("id", "int"), ("fresh", "varchar(20)")], ["id"])
    elsewhere = table_of(other, [("id", "int")], ["id"])
    ahead, behind = TargetLog(seq=0), TargetLog(seq=0)
    drop = change_of(name, TableAction.DROP)
    ahead.seq = 5
    first = [ahead.schema_change(drop, partitions=(0, 1))]
    ahead.seq = 7
    first += [ahead.rows(new, [("I", (1, "new"))])]
    second = [behind.rows(elsewhere, [("I", (1,))])]
    behind.seq = 3
    second += [behind.rows(old, [("I", (2, 2))])]
    behind.seq = 5
    second += [behind.schema_change(drop, partitions=(0, 1))]
    behind.seq = 8
    second += [behind.rows(new, [("I", (4, "newer"))])]
    lanes = [take_over(server, partition=q) for q in range(PARTITIONS)]
    drain(lanes[1], second[:1])
    drain(lanes[0], first[:1])
    drain(lanes[1], second[:2])
    drain(lanes[0], first)
    drain(lanes[1], second)
    assert server.named_rows("orders", "id") == {"1": {"fresh": "new"}, "4": {"fresh": "newer"}}


def _made_anew(name: str) -> tuple[list[Message], list[Message]]:
    """Messages of two partitions: a table is dropped and comes back with a longer key.

    Of the first, the second message lies before the drop, and the third is the drop.
    """
    old = table_of(name, [("id", "int")], ["id"])
    new = table_of(name, [("id", "int"), ("line", "int")], ["id", "line"])
    behind, ahead = TargetLog(seq=2), TargetLog(seq=5)
    drop = change_of(name, TableAction.DROP)
    first = [behind.rows(old, [("I", (1,))])]
    behind.seq = 3
    first.append(behind.rows(old, [("I", (2,))]))
    behind.seq = 5
    first.append(behind.schema_change(drop))
    second = [ahead.schema_change(drop)]
    ahead.seq = 7
    second.append(ahead.rows(new, [("I", (3, 1))]))
    return first, second


@OF_TABLES
def test_rows_from_before_a_drop_do_not_get_into_the_table_that_has_its_name_now(
    server: TargetServer,
) -> None:
    """MySQL refuses them (1364) and must not halt the sink; ClickHouse would take them."""
    topic, others = _made_anew(f"{server.database}.orders")
    lane = drain(take_over(server, partition=0), topic[:1])
    drain(take_over(server, partition=1), others)
    drain(lane, topic)
    assert server.named_rows("orders", "id") == {"3": {"line": "1"}}


@OF_TABLES
def test_a_table_that_changes_while_rows_are_fitted_to_it_does_not_halt_the_sink(
    server: TargetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane has looked at what is recorded, and its table comes back with another key after that."""
    topic, others = _made_anew(f"{server.database}.orders")
    lane = drain(take_over(server, partition=0), topic[:1])
    cls = ClickhouseCatalog if isinstance(server, ClickhouseServer) else MysqlCatalog
    fit = cls.fit
    waiting = [others]

    def fit_late(self: object, *arguments: object) -> object:
        if waiting:
            messages = waiting.pop()
            drain(take_over(server, partition=1), messages)
            self.forget()  # type: ignore[attr-defined] # as a lane that had not seen the table yet
        return fit(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cls, "fit", fit_late)
    drain(lane, topic)
    assert server.named_rows("orders", "id") == {"3": {"line": "1"}}


@OF_TABLES
def test_a_lane_that_is_behind_does_not_write_into_a_column_that_took_anothers_name(
    server: TargetServer,
) -> None:
    """Its statement would succeed; what it knew when it was made is looked at again before it counts."""
    name = f"{server.database}.orders"
    schema = table_of(name, [("id", "int"), ("a", "int")], ["id"])
    items = [
        ColumnChange(ColumnAction.DROP, "a"),
        ColumnChange(ColumnAction.ADD, "a", column=text_column("a", "int")),
    ]
    changes = [
        change_of(name, TableAction.ALTER, item, number=3 + at) for at, item in enumerate(items)
    ]
    behind, ahead = TargetLog(seq=1), TargetLog(seq=1)
    topic = [behind.rows(schema, [("I", (1, 11))])]
    behind.seq = 2
    topic.append(behind.rows(schema, [("I", (2, 22))]))
    others = []
    for number, change in enumerate(changes):
        behind.seq = ahead.seq = 3 + number
        topic.append(behind.schema_change(change))
        others.append(ahead.schema_change(change))
    lane = drain(take_over(server, partition=0), topic[:1])
    drain(take_over(server, partition=1), others)
    drain(lane, topic[:2])
    drain(lane, topic)
    rows = server.named_rows("orders", "id")
    assert {key: row.get("a") for key, row in rows.items()} == {"1": None, "2": None}
