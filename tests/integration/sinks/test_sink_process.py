"""Sinks as processes on real servers: killed, frozen, overtaken, misled. Targets must end equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from gravity_devstack import Stack

from gravity.batch import TableSchema
from gravity.codec import decode_record
from gravity.errors import EXIT_HALTED, EXIT_RESTART
from gravity.fault import FaultPoint
from gravity.kafka.reader import LogReader
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.sink_process import SinkInstallation
from gravity.testing.target_log import Message, TargetLog, change_of, table
from gravity.testing.waiting import wait_until
from tests.evolving_table import text_column
from tests.target_server import OF_TABLES, KafkaServer, MysqlServer, TargetServer

pytestmark = pytest.mark.stack
Install = Callable[..., SinkInstallation]


def orders(server: TargetServer) -> TableSchema:
    return table(f"{server.database}.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])


def batches(log: TargetLog, schema: TableSchema, first: int, count: int) -> list[Message]:
    """Messages of two rows each: an insert of a new key, and an update of key 0."""
    return [
        log.rows(schema, [("I", (n, f"n{n}")), ("U", (0, f"after {n}"))])
        for n in range(first, first + count)
    ]


def expected(last: int) -> dict[str, tuple[str | None, ...]]:
    return {"0": (f"after {last}",), **{str(n): (f"n{n}",) for n in range(1, last + 1)}}


def rows_now(server: TargetServer, name: str) -> Any:
    try:
        return server.rows(name)
    except Exception:  # noqa: BLE001 - the table may not be there yet
        return None


def named_now(server: TargetServer, name: str) -> Any:
    try:
        return server.named_rows(name, "id")
    except Exception:  # noqa: BLE001 - the table, or its view, may not be there yet
        return None


def wait_for(
    server: TargetServer, rows: dict[str, tuple[str | None, ...]], name: str = "orders"
) -> None:
    wait_until(lambda: rows_now(server, name) == rows, what=f"rows {sorted(rows, key=int)[-3:]}")


def assert_exactly_once(server: TargetServer, last: int) -> None:
    """Kafka shows each write ever made: one insert and one update of key 0 a message, in order."""
    assert server.rows("orders") == expected(last)
    if isinstance(server, KafkaServer):
        names = [record and record["name"] for _, record in server.messages("orders")]
        assert sorted(name for name in names if name and name.startswith("n")) == sorted(
            f"n{n}" for n in range(1, last + 1)
        )
        updates = [name for name in names if name and name.startswith("after")]
        assert updates == [f"after {n}" for n in range(1, last + 1)]


@pytest.mark.parametrize(
    "point", [FaultPoint.SINK_APPLIED_NOT_COMMITTED, FaultPoint.SINK_COMMITTED_NOT_REMEMBERED]
)
def test_killed_at_a_fault_point_and_started_again_it_applies_everything_once(
    server: TargetServer, install: Install, point: FaultPoint
) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    first = installation.start(fault=f"{point}:1:kill")
    installation.send(0, batches(log, schema, 1, 20))
    assert first.wait() == -9
    installation.send(0, batches(log, schema, 21, 20))
    second = installation.start()
    wait_for(server, expected(40))
    assert second.stop() == 0, second.output()
    assert_exactly_once(server, 40)


@OF_TABLES
@pytest.mark.parametrize(
    "point", [FaultPoint.SINK_CLAIMED_NOT_ALTERED, FaultPoint.SINK_ALTERED_NOT_RECORDED]
)
def test_killed_while_a_table_is_altered_its_successor_finishes_it(
    server: TargetServer, install: Install, point: FaultPoint
) -> None:
    installation, schema = install(), orders(server)
    name = f"{server.database}.orders"
    items = [
        ColumnChange(ColumnAction.RENAME, "name", "title"),
        ColumnChange(ColumnAction.ADD, "name", column=text_column("name", "int"), default="7"),
    ]
    change = change_of(name, TableAction.ALTER, *items, rows=RowsAfter.FILLED, number=9)
    wider = [("id", "int"), ("title", "varchar(20)"), ("name", "int")]
    for q in range(2):
        log = TargetLog(seq=1)
        before = log.rows(schema, [("I", (q, "old")), ("I", (q + 2, "old"))])
        log.seq = 2
        altered = log.schema_change(change)
        log.seq = 3
        after = log.rows(table(name, wider, ["id"]), [("U", (q, "new", q))])
        installation.send(q, [before, altered, after])
    first = installation.start(fault=f"{point}:1:kill")
    assert first.wait() == -9
    second = installation.start()
    expected = {
        "0": {"title": "new", "name": "0"},
        "1": {"title": "new", "name": "1"},
        "2": {"title": "old", "name": "7"},
        "3": {"title": "old", "name": "7"},
    }
    wait_until(lambda: named_now(server, "orders") == expected, what="the altered table")
    assert second.stop() == 0, second.output()


def test_a_frozen_sink_that_wakes_up_after_a_takeover_harms_nothing(
    server: TargetServer, install: Install
) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    zombie = installation.start(fault=f"{FaultPoint.SINK_APPLIED_NOT_COMMITTED}:2:freeze")
    installation.send(0, batches(log, schema, 1, 20))
    wait_for(server, expected(20))
    installation.send(0, batches(log, schema, 21, 20))
    wait_until(lambda: zombie.frozen, what="the fault point")
    heir = installation.start()
    installation.send(0, batches(log, schema, 41, 20))
    wait_for(server, expected(60))
    zombie.thaw()
    installation.send(0, batches(log, schema, 61, 20))
    wait_for(server, expected(80))
    code = None if zombie.alive else zombie.wait()
    assert code in (None, EXIT_RESTART), zombie.output()
    assert heir.alive, heir.output()
    zombie.kill()
    installation.send(0, batches(log, schema, 81, 5))
    wait_for(server, expected(85))
    assert heir.stop() == 0, heir.output()
    assert_exactly_once(server, 85)


def test_a_hole_in_the_topic_halts_it_by_name_behind_what_precedes_it(
    server: TargetServer, install: Install
) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    messages = batches(log, schema, 1, 5)
    installation.send(0, [*messages[:3], messages[4]])
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "a hole in the sequence: message 5 follows 3" in process.output()
    assert server.rows("orders") == expected(3)


def test_an_unreadable_message_halts_it_by_name(server: TargetServer, install: Install) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    good, (headers, _) = batches(log, schema, 1, 2)
    installation.send(0, [good, (headers, b"\x02garbage")])
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "a damaged change_batch message" in process.output()
    assert "FormatError" in process.output()


def test_a_message_of_a_newer_format_halts_it_by_name(
    server: TargetServer, install: Install
) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    good, (headers, value) = batches(log, schema, 1, 2)
    newer = [(name, b"99" if name == "gv" else text) for name, text in headers]
    installation.send(0, [good, (newer, value)])
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "message format 99 is newer than this reader" in process.output()
    assert server.rows("orders") == expected(1)


@OF_TABLES
def test_sources_whose_columns_have_no_common_type_halt_it_by_name_and_are_a_conflict(
    server: TargetServer, install: Install
) -> None:
    installation, log = install(), TargetLog()
    name = f"{server.database}.orders"
    rows = log.rows(table(name, [("id", "int"), ("due", "int")], ["id"]), [("I", (1, 7))])
    item = ColumnChange(ColumnAction.MODIFY, "due", column=text_column("due", "date"))
    joined = change_of(name, TableAction.ALTER, item, source="", number=9)
    installation.send(0, [rows, log.schema_change(joined)])
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "column due is date at one source" in process.output()
    (value,) = _all(installation, installation.topics.conflicts)
    record = decode_record("conflict", value)
    assert (record["kind"], record["table"], record["outcome"]) == ("schema", name, "hold")
    told = {one["source"]: json.loads(one["row"]) for one in record["opinions"]}
    assert told["s1"] == {"column": "due", "type": "date"}
    assert told["@target"]["column"] == "due"
    assert server.rows("orders") == {"1": ("7",)}


ONE_KIND = pytest.mark.parametrize("server", ["mariadb"], indirect=True)
"""For what is the loop's business, not the target's."""


@ONE_KIND
def test_an_offset_that_retention_took_away_halts_it_by_name(
    server: TargetServer, install: Install, stack: Stack
) -> None:
    installation, log, schema = install(), TargetLog(), orders(server)
    installation.send(0, batches(log, schema, 1, 3))
    process = installation.start()
    wait_for(server, expected(3))
    process.stop()
    installation.send(0, batches(log, schema, 4, 3))
    gone = TopicPartition(installation.topics.target(installation.target), 0, 5)
    kafka = stack.kafka()
    admin = AdminClient({"bootstrap.servers": f"{kafka.host}:{kafka.port}"})
    for future in admin.delete_records([gone]).values():
        future.result(30)
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "needs resync: it continues at offset 3, the topic begins at 5" in process.output()


# Kafka: a row of 20 MB does not fit into the target topic either.
@OF_TABLES
def test_a_refused_row_becomes_a_dead_letter_and_the_counts_add_up(
    server: TargetServer, install: Install
) -> None:
    schema, good, bad = server.refused()
    installation = install()
    installation.send(1, [TargetLog().rows(schema, [("I", tuple(good)), ("I", tuple(bad))])])
    process = installation.start()
    record = wait_until(
        lambda: _counted(installation, f"sink/{server.name}/1"), what="the counts in control"
    )
    assert (record["applied"], record["dead"], record["next_offset"]) == (1, 1, 1)
    letters = _all(installation, installation.topics.dead_letters)
    assert [decode_record("dead_letter", value)["row"] for value in letters] == [1]
    assert process.stop() == 0, process.output()


@ONE_KIND
def test_killed_while_parked_rows_are_let_go_it_lets_them_go_once(
    server: TargetServer, install: Install
) -> None:
    assert isinstance(server, MysqlServer)
    name = server.database
    server.query(f"CREATE DATABASE {name}")
    server.query(f"CREATE TABLE {name}.parent (id INT PRIMARY KEY)")
    server.query(
        f"CREATE TABLE {name}.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent(id))"
    )
    parent = table(f"{name}.parent", [("id", "int")], ["id"])
    child = table(f"{name}.child", [("id", "int"), ("p", "int")], ["id"])
    installation, children, parents = install(), TargetLog(), TargetLog()

    def told(**wanted: int) -> None:
        def is_so() -> bool:
            record = installation.progress().get(f"sink/{server.name}/0") or {}
            return all(record.get(key) == value for key, value in wanted.items())

        wait_until(is_so, what=f"{wanted}")

    first = installation.start(fault=f"{FaultPoint.SINK_APPLIED_NOT_COMMITTED}:3:kill")
    installation.send(0, [children.rows(child, [("I", (1, 9)), ("I", (2, 9)), ("I", (3, None))])])
    told(applied=1, parked=2)
    # The parent's own write is the second transaction; the third lets the children go.
    installation.send(1, [parents.rows(parent, [("I", (9,))])])
    assert first.wait() == -9
    assert set(server.rows("child")) == {"3"}
    second = installation.start()
    told(applied=3, parked=0, dead=0, superseded=0)
    assert server.rows("child") == {"1": ("9",), "2": ("9",), "3": (None,)}
    assert second.stop() == 0, second.output()
    assert "rows_no_longer_parked" in second.output()


def _counted(installation: SinkInstallation, key: str) -> dict[str, Any] | None:
    record: dict[str, Any] = installation.progress().get(key) or {}
    return record if record.get("next_offset") else None


def _all(installation: SinkInstallation, topic: str) -> Sequence[bytes]:
    reader = LogReader(installation.cluster, "test")
    try:
        return [m.value or b"" for m in reader.read(topic, 0, *reader.bounds(topic, 0))]
    finally:
        reader.close()


# Kafka: the broker of the stack asks for no password.
@OF_TABLES
def test_a_wrong_password_halts_it_by_name(server: TargetServer, install: Install) -> None:
    installation = install(server.yaml().replace("gravity-dev", "wrong"))
    process = installation.start()
    assert process.wait() == EXIT_HALTED
    assert "check username and password of the target" in process.output()


@ONE_KIND
def test_a_target_that_is_away_at_the_start_is_waited_for(
    server: TargetServer, install: Install, stack: Stack
) -> None:
    late = stack.mariadb("target")
    installation, schema = install(), orders(server)
    late.stop()
    installation.send(0, batches(TargetLog(), schema, 1, 3))
    process = installation.start()
    wait_until(lambda: "target_away" in process.output(), what="the target is told to be away")
    late.start()
    server.connection = late.connect()  # type: ignore[attr-defined]
    wait_for(server, expected(3))
    assert process.stop() == 0, process.output()


def test_two_processes_share_the_partitions_and_any_may_go(
    server: TargetServer, install: Install
) -> None:
    installation, schema = install(), orders(server)
    other = table(f"{server.database}.other", [("id", "int"), ("name", "varchar(20)")], ["id"])
    logs = (TargetLog(), TargetLog())
    first, second = installation.start(), installation.start()
    installation.send(0, batches(logs[0], schema, 1, 10))
    installation.send(1, batches(logs[1], other, 1, 10))
    wait_for(server, expected(10))
    wait_for(server, expected(10), "other")
    first.kill()
    installation.send(0, batches(logs[0], schema, 11, 10))
    installation.send(1, batches(logs[1], other, 11, 10))
    wait_for(server, expected(20))
    wait_for(server, expected(20), "other")
    assert second.stop() == 0, second.output()
    assert_exactly_once(server, 20)
