"""Sinks beside their floors: the same rows written raw by the same client library, in turn.

    python -m tests.bench.sink [--rows 40000] [--runs 3] [--only mysql|clickhouse]

One JSON line per case. `rows_per_s` is the median over the runs, by wall clock and single lane;
`cpu_s_per_100k` is this process's own. The sink's time holds decoding the messages, admission, SQL or
lines, the write and its progress; the floor's holds only the library's call on ready rows. The cases `write` leave
decoding out: the sink's rows are ready then, as the floor's are.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import clickhouse_connect
from gravity_devstack import Stack
from gravity_sink_clickhouse.writer import ClickhouseWriter
from gravity_sink_mysql.writer import MysqlWriter

from gravity.config.target import ClickhouseTarget, MysqlTarget
from gravity.sink import Lane, Pace, SinkWriter
from gravity.sink_stage import Surroundings
from gravity.testing.target_log import Change, Message, TargetLog, table

COLUMNS = [
    ("id", "bigint"), ("customer_id", "int"), ("status", "enum('new','paid','sent')"),
    ("amount", "decimal(12,2)"), ("tax", "decimal(12,4)"), ("note", "varchar(120)"),
    ("email", "varchar(60)"), ("created_at", "datetime(6)"), ("updated_at", "timestamp(6)"),
    ("day", "date"), ("weight", "double"), ("flags", "int unsigned"),
]  # fmt: skip
MESSAGE_ROWS = 500
BATCH_ROWS = 1000
Row = tuple[Any, ...]


def make_rows(count: int) -> list[Row]:
    """Rows as they travel: the cells of a change batch."""
    draw = random.Random(7)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(count):
        at = begin + timedelta(microseconds=draw.randrange(10**13))
        rows.append((
            number, draw.randrange(10**6), draw.choice(("new", "paid", "sent")),
            f"{draw.randrange(10**8) / 100:.2f}", f"{draw.randrange(10**8) / 10**4:.4f}",
            f"note {draw.randrange(10**9)} it's" if number % 7 == 0 else f"note {number}",
            None if number % 5 == 0 else f"user{number}@example.com",
            at.strftime("%Y-%m-%d %H:%M:%S.%f"), at.strftime("%Y-%m-%d %H:%M:%S.%f"),
            at.strftime("%Y-%m-%d"), draw.random() * 1000, draw.randrange(2**32),
        ))  # fmt: skip
    return rows


def make_messages(database: str, rows: Sequence[Row], op: str) -> list[Message]:
    schema = table(f"{database}.orders", COLUMNS, ["id"])
    log = TargetLog()
    made = []
    for start in range(0, len(rows), MESSAGE_ROWS):
        changes: list[Change] = [(op, row) for row in rows[start : start + MESSAGE_ROWS]]
        made.append(log.rows(schema, changes))
    return made


def measure(work: Callable[[], None], rows: int) -> tuple[float, float]:
    """(rows a second, CPU seconds for 100,000 rows)."""
    cpu, began = time.process_time(), time.perf_counter()
    work()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return rows / took, cpu * 100_000 / rows


def sink(writer: SinkWriter, messages: Sequence[Message]) -> None:
    lane_writer, stored = writer.take_over(0)
    lane = Lane("bench", 0, lane_writer, stored, writer.pace)
    for offset, (headers, value) in enumerate(messages):
        lane.offer(headers, value, offset, 0.0)
        while lane.due(0.0, caught_up=False):
            write(lane)
    while lane.has_messages:
        write(lane)
    lane_writer.close()


def write(lane: Lane) -> None:
    cut = lane.cut(float("-inf"))
    assert cut is not None
    lane.done(lane.writer.write(cut, lambda _: None), 0.0)


def lane_writes(writer: SinkWriter, messages: Sequence[Message]) -> Callable[[], None]:
    """The same without decoding: what is left when the columns are ready, as the floor's are."""
    lane_writer, stored = writer.take_over(0)
    lane = Lane("bench", 0, lane_writer, stored, writer.pace)
    for offset, (headers, value) in enumerate(messages):
        lane.offer(headers, value, offset, 0.0)
    writes = []
    while (cut := lane.cut(0.0)) is not None:
        writes.append(cut)
        lane.done(cut.after, 0.0)

    def work() -> None:
        for cut in writes:
            lane_writer.write(cut, lambda _: None)
        lane_writer.close()

    return work


def report(
    case: str, sink_runs: list[tuple[float, float]], floor_runs: list[tuple[float, float]], to: str
) -> None:
    rates = [statistics.median(rate for rate, _ in runs) for runs in (sink_runs, floor_runs)]
    costs = [statistics.median(cost for _, cost in runs) for runs in (sink_runs, floor_runs)]
    for name, rate, cost, ratio, ratio_to in (
        (case, rates[0], costs[0], rates[0] / rates[1], to),
        (to, rates[1], costs[1], 1.0, to),
    ):
        line = {
            "bench": "sink", "case": name, "rows_per_s": round(rate), "cpu_s_per_100k": round(cost, 3),
            "ratio": round(ratio, 2), "ratio_to": ratio_to,
        }  # fmt: skip
        print(json.dumps(line), flush=True)


def bench_mysql(stack: Stack, rows: list[Row], runs: int) -> None:
    server = stack.mariadb("bench", innodb_buffer_pool_size="256M")
    connection = server.connect(autocommit=False)
    cursor = connection.cursor()
    names = ",".join(name for name, _ in COLUMNS)
    updates = ",".join(f"{name}=VALUES({name})" for name, _ in COLUMNS)
    statement = (
        f"INSERT INTO raw.orders ({names}) VALUES ({','.join(['%s'] * len(COLUMNS))}) "
        f"ON DUPLICATE KEY UPDATE {updates}"
    )
    target = MysqlTarget(
        name="bench",
        host=server.host,
        port=server.port,
        username=server.user,
        password=server.password,
    )
    pace = Pace(BATCH_ROWS, 100, 100)

    def floor() -> None:
        cursor.execute("SET time_zone='+00:00'")
        for start in range(0, len(rows), BATCH_ROWS):
            cursor.executemany(statement, rows[start : start + BATCH_ROWS])
            connection.commit()

    update_floor: list[Any] = []
    found: dict[str, tuple[list[Any], list[Any]]] = {
        "insert": ([], []),
        "update": ([], update_floor),
        "write": ([], update_floor),
    }
    for _ in range(runs):
        for name in ("raw", "_gravity", "shop"):
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        writer = MysqlWriter(target, Surroundings(1, "bench", adopt=True, pace=pace))
        writer.open()
        cursor.execute("CREATE DATABASE raw")
        # An empty lane creates the table, so that both measure rows alone.
        first = make_messages("shop", rows[:1], "I")
        sink(writer, first)
        cursor.execute("DELETE FROM shop.orders")
        cursor.execute("CREATE TABLE raw.orders LIKE shop.orders")
        for case, op in (("insert", "I"), ("update", "U")):
            cursor.execute("DELETE FROM _gravity._gravity_progress")
            connection.commit()
            messages = make_messages("shop", rows, op)
            ours = partial(sink, writer, messages)
            found[case][0].append(measure(ours, len(rows)))
            found[case][1].append(measure(floor, len(rows)))
            if op == "U":
                cursor.execute("DELETE FROM _gravity._gravity_progress")
                connection.commit()
                found["write"][0].append(measure(lane_writes(writer, messages), len(rows)))
        cursor.execute(
            "SELECT COUNT(*) FROM shop.orders s JOIN raw.orders r USING ("
            + names.replace(",email", "")
            + ") WHERE s.email <=> r.email"
        )
        equal = cursor.fetchone()
        assert equal is not None
        assert equal[0] == len(rows), "the sink's table and the floor's differ"
        connection.commit()
    for case, (ours_runs, floor_runs) in found.items():
        report(f"sink-mysql {case}", ours_runs, floor_runs, f"PyMySQL executemany {case}")


def typed_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """The rows as the column insert of clickhouse-connect wants them; made outside the clock."""
    columns: list[list[Any]] = [list(values) for values in zip(*rows, strict=True)]
    for index, (_, kind) in enumerate(COLUMNS):
        if kind.startswith("decimal"):
            columns[index] = [Decimal(value) for value in columns[index]]
        elif kind == "date":
            columns[index] = [date.fromisoformat(value) for value in columns[index]]
        elif kind.startswith(("datetime", "timestamp")):
            columns[index] = [
                datetime.fromisoformat(value).replace(tzinfo=UTC) for value in columns[index]
            ]
    return columns


def bench_clickhouse(stack: Stack, rows: list[Row], runs: int) -> None:
    server = stack.clickhouse()
    client = clickhouse_connect.get_client(
        host=server.host, port=server.port, username=server.user, password=server.password,
        autogenerate_session_id=False, compress=False,
    )  # fmt: skip
    target = ClickhouseTarget(
        name="bench",
        host=server.host,
        port=server.port,
        username=server.user,
        password=server.password,
    )
    batch = 20_000
    pace = Pace(batch // 4, 100, 100)
    names = [*(name for name, _ in COLUMNS), "_version", "_deleted"]
    ready = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ready.append([*typed_columns(part), list(range(start, start + len(part))), [0] * len(part)])

    def floor() -> None:
        for columns in ready:
            client.insert("raw.orders", columns, column_names=names, column_oriented=True)

    found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for _ in range(runs):
        for name in ("raw", "_gravity", "shop"):
            client.command(f"DROP DATABASE IF EXISTS {name}")
        writer = ClickhouseWriter(target, Surroundings(1, "bench", adopt=True, pace=pace))
        writer.open()
        client.command("CREATE DATABASE raw")
        sink(writer, make_messages("shop", rows[:1], "I"))
        client.command("TRUNCATE TABLE shop.orders")
        client.command("TRUNCATE TABLE _gravity._gravity_progress")
        client.command("CREATE TABLE raw.orders AS shop.orders")
        messages = make_messages("shop", rows, "I")
        found[0].append(measure(partial(sink, writer, messages), len(rows)))
        found[1].append(measure(floor, len(rows)))
        for again in ("shop.orders", "_gravity._gravity_progress"):
            client.command(f"TRUNCATE TABLE {again}")
        found[2].append(measure(lane_writes(writer, messages), len(rows)))
        columns = ",".join(name for name, _ in COLUMNS)
        both = f"SELECT count() FROM (SELECT {columns} FROM shop.orders FINAL INTERSECT SELECT {columns} FROM raw.orders FINAL)"
        assert client.query(both).result_rows[0][0] == len(rows), (
            "the sink's table and the floor's differ"
        )
    report("sink-clickhouse insert", found[0], found[1], "clickhouse-connect column insert")
    report("sink-clickhouse write", found[2], found[1], "clickhouse-connect column insert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("mysql", "clickhouse"))
    arguments = parser.parse_args()
    rows = make_rows(arguments.rows)
    with Stack() as stack:
        if arguments.only in (None, "mysql"):
            bench_mysql(stack, rows, arguments.runs)
        if arguments.only in (None, "clickhouse"):
            bench_clickhouse(stack, rows, arguments.runs)


if __name__ == "__main__":
    main()
