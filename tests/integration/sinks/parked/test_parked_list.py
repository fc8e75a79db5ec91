"""`gravity parked` shows what a sink has really parked: each row, why, since when, and what becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack.port import free_port

from gravity.config.conflict import Park
from gravity.sink import Lane
from gravity.testing.target_log import TargetLog, table
from tests.integration.sinks.parked.family import Family, constraint
from tests.sink_lane import drain, retry_until, take_over
from tests.target_server import MysqlServer

pytestmark = pytest.mark.stack
GRAVITY = Path(sys.executable).with_name("gravity")
MINUTE_US = 60_000_000
RULES = """
conflict-resolution:
  rules:
    - {tables: SHOP.child, strategy: source-priority, constraint: {fk-parent-missing: hold}}
    - {tables: "*", strategy: source-priority, constraint: {unique-secondary: {park: 30m}}}
"""


def gravity(folder: Path, server: MysqlServer, *words: str, more: str = "") -> Any:
    path = folder / "gravity.yaml"
    path.write_text(
        f"targets: [{server.yaml()}{more}]\n"
        "kafka: {brokers: 'nowhere:9092', topic-prefix: p., partitions: 2}\n"
        + RULES.replace("SHOP", server.database)
    )
    line = [str(path) if word == "CONFIG" else word for word in words]
    return subprocess.run(
        [GRAVITY, *line], capture_output=True, text=True, timeout=60, check=False,
        env={"COLUMNS": "300", "PATH": "/usr/bin"},
    )  # fmt: skip


def listed(folder: Path, server: MysqlServer, *words: str) -> list[dict[str, Any]]:
    done = gravity(folder, server, "parked", "list", "CONFIG", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def three_that_wait(server: MysqlServer) -> tuple[Lane, TargetLog, Family]:
    """A child without its parent, a parent with a child in the other partition, a value that is taken."""
    server.conflicts = constraint(unique_secondary=Park())
    family, log, other = Family(server), TargetLog(), TargetLog()
    server.query(
        f"CREATE TABLE {server.database}.login (id INT PRIMARY KEY, mail VARCHAR(9) UNIQUE)"
    )
    login = table(f"{server.database}.login", [("id", "int"), ("mail", "varchar(9)")], ["id"])
    drain(
        take_over(server, partition=1),
        [
            other.rows(family.parent, [("I", (8, 0))]),
            other.rows(family.child, [("I", (2, 8, 0))]),
            other.marker(),
        ],
    )
    topic = [
        log.rows(family.child, [("I", (3, None, 0)), ("I", (1, 7, 5))]),
        log.rows(family.parent, [("D", (8, 0))]),
        log.rows(login, [("I", (1, "a")), ("I", (2, "a"))]),
        log.marker(),
    ]
    return drain(take_over(server), topic), log, family


def test_each_row_is_listed_with_what_it_waits_for_and_what_becomes_of_it(
    server: MysqlServer, tmp_path: Path
) -> None:
    lane, _, _ = three_that_wait(server)
    child, parent, login = listed(tmp_path, server)
    place = f"p.target.{server.name}/0"
    assert [row["name"] for row in (child, parent, login)] == [
        f"{place}/0/1", f"{place}/1/0", f"{place}/2/1",
    ]  # fmt: skip
    assert [(row["table"], row["key"]) for row in (child, parent, login)] == [
        (f"{server.database}.child", ["1"]),
        (f"{server.database}.parent", ["8"]),
        (f"{server.database}.login", ["2"]),
    ]
    assert [row["operation"] for row in (child, parent, login)] == ["insert", "delete", "insert"]
    assert child["why"] == f"its parent in {server.database}.parent is missing (child_ibfk_1)"
    assert parent["why"] == f"rows in {server.database}.child still refer to it (child_ibfk_1)"
    assert login["why"] == "another row has its value of mail"
    assert {row["source"] for row in (child, parent, login)} == {"s1"}
    assert child["origin"] == f"{server.database}.child"
    assert (child["then"], child["park_us"], child["left_us"]) == ("hold", None, None)
    assert (parent["then"], parent["park_us"]) == ("dlq", 10 * MINUTE_US)
    assert (login["then"], login["park_us"]) == ("dlq", 30 * MINUTE_US)
    for row in (parent, login):
        assert row["since_us"] > 0
        assert row["left_us"] == row["since_us"] + row["park_us"] - row["passed_us"]
    assert lane.stored.counts.parked == 3


def test_only_the_rows_that_were_asked_for_are_listed(server: MysqlServer, tmp_path: Path) -> None:
    three_that_wait(server)
    wanted = f"{server.database}.login"
    assert [r["table"] for r in listed(tmp_path, server, "--table", wanted)] == [wanted]
    assert len(listed(tmp_path, server, "--target", server.name)) == 3
    done = gravity(tmp_path, server, "parked", "list", "CONFIG")
    assert "3 rows parked" in done.stderr
    assert "waits until it is taken" in done.stdout
    assert "dead letter in 10 min of its source's commits" in done.stdout


def test_the_time_that_is_left_is_that_of_the_slowest_partition(
    server: MysqlServer, tmp_path: Path
) -> None:
    family, log, other = Family(server), TargetLog(), TargetLog()
    topic = [log.rows(family.parent, [("I", (8, 0))]), log.rows(family.child, [("I", (1, 7, 0))])]
    lane = drain(take_over(server), topic)
    wanted = ("--table", f"{server.database}.child")
    (row,) = listed(tmp_path, server, *wanted)
    assert row["passed_us"] is None, "the other partition has never been seen"
    log.offset += 9 * MINUTE_US
    drain(lane, [*topic, log.marker()])
    other.offset += 5 * MINUTE_US
    drain(take_over(server, partition=1), [other.marker()])
    (row,) = listed(tmp_path, server, *wanted)
    assert row["passed_us"] == other.offset


def test_show_has_the_row_itself_until_it_is_taken(server: MysqlServer, tmp_path: Path) -> None:
    lane, log, family = three_that_wait(server)
    name = f"p.target.{server.name}/0/0/1"
    shown = gravity(tmp_path, server, "parked", "show", "CONFIG", name)
    row = json.loads(shown.stdout)
    assert row["change"]["row"] == {"id": 1, "p": 7, "n": 5}
    assert row["change"]["op"] == "insert"
    assert "CONSTRAINT" in row["reason"]
    seen = lane.stored.progress.next_offset
    drain(lane, [*([([], b"")] * seen), log.rows(family.parent, [("I", (7, 0))])])
    retry_until(lane, lambda: lane.stored.counts.parked == 2)
    gone = gravity(tmp_path, server, "parked", "show", "CONFIG", name)
    assert gone.returncode == 78
    assert "parked list" in gone.stderr
    assert name not in [row["name"] for row in listed(tmp_path, server)]


def test_a_target_that_is_away_is_named_and_the_others_are_listed(
    server: MysqlServer, tmp_path: Path
) -> None:
    three_that_wait(server)
    away = f", {{name: far, type: mysql, host: 127.0.0.1, port: {free_port()}, username: u}}"
    done = gravity(tmp_path, server, "parked", "list", "CONFIG", "--json", more=away)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert "not asked" in done.stderr
    assert "target far" in done.stderr


def test_a_target_that_was_never_written_has_no_rows(server: MysqlServer, tmp_path: Path) -> None:
    server.name = f"{server.name}-unused"
    assert listed(tmp_path, server) == []
