"""A backlog through all stages, beside its floor: the same rows written raw by the target's own library.

    python -m tests.bench.drain [--rows 20000] [--rounds 2] [--only mysql|clickhouse]

The stages run and are warm; the collector is held by SIGSTOP while the backlog is written, and time runs
from the moment it goes on until the target shows the last row. `cpu_s_per_100k` is the sum over
the stages, `cpu` holds it for each process, database servers and Kafka apart. The case `collector` is how
fast the same backlog got into Kafka, from the times of its messages; it shares the cores with the other stages.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
from gravity_devstack import Stack

from gravity.header import IngestHeader, IngestKind
from gravity.kafka.reader import LogReader
from gravity.topic import Topics
from tests.bench.decode import CREATE, order
from tests.bench.installation import DATABASE, Installation, cpu_s, make_source, write_orders

FLOOR_ROWS = 1000
WARM_ROWS = 2000
"""Rows that pass before anything is measured."""
SIZES = (1, 10)
FLOOR = {"mysql": "PyMySQL multi-row upsert", "clickhouse": "clickhouse-connect column insert"}
_UPSERT = (
    f"INSERT INTO raw.orders VALUES ({', '.join(['%s'] * 12)}) ON DUPLICATE KEY UPDATE "
    + ", ".join(
        f"{name}=VALUES({name})"
        for name in (
            "user_id", "status", "amount", "weight", "sku", "note", "flag", "due", "created", "updated", "doc",
        )
    )
)  # fmt: skip


def _mysql_floor(target: Any, numbers: range) -> float:
    """Wall seconds for the rows by the library alone; they are ready before the clock runs."""
    rows = [order(n) for n in numbers]
    with target.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS raw")
        cursor.execute("DROP TABLE IF EXISTS raw.orders")
        cursor.execute(CREATE.replace("TABLE orders", "TABLE raw.orders"))
        began = time.perf_counter()
        for start in range(0, len(rows), FLOOR_ROWS):
            cursor.executemany(_UPSERT, rows[start : start + FLOOR_ROWS])
            connection.commit()
        return time.perf_counter() - began


def _clickhouse_floor(target: Any, numbers: range) -> float:
    columns: list[list[Any]] = [list(values) for values in zip(*map(order, numbers), strict=True)]
    columns[3] = [Decimal(value) for value in columns[3]]
    columns[8] = [value and date.fromisoformat(value) for value in columns[8]]
    for index in (9, 10):
        columns[index] = [datetime.fromisoformat(v).replace(tzinfo=UTC) for v in columns[index]]
    columns += [list(numbers), [0] * len(numbers)]
    with clickhouse_connect.get_client(
        host=target.host, port=target.port, username=target.user, password=target.password
    ) as client:
        client.command("CREATE DATABASE IF NOT EXISTS raw")
        client.command("DROP TABLE IF EXISTS raw.orders")
        client.command(f"CREATE TABLE raw.orders AS {DATABASE}.orders")
        began = time.perf_counter()
        client.insert("raw.orders", columns, column_names="*", column_oriented=True)
        return time.perf_counter() - began


def _into_kafka_s(at: Installation, first_offset: int) -> float:
    """Seconds between the first and the last row message since that offset, by their own times."""
    cluster = at.config.kafka
    topic = Topics(cluster.topic_prefix).ingest("source")
    reader = LogReader(cluster, "bench")
    times = [
        message.timestamp_ms
        for message in reader.read(topic, 0, first_offset, reader.bounds(topic, 0)[1])
        if IngestHeader.from_kafka(message.headers).kind is IngestKind.ROWS
    ]
    reader.close()
    return (times[-1] - times[0]) / 1000


def _ingest_end(at: Installation) -> int:
    reader = LogReader(at.config.kafka, "bench")
    end = reader.bounds(Topics(at.config.kafka.topic_prefix).ingest("source"), 0)[1]
    reader.close()
    return end


def _line(
    case: str, rows: int, wall: float, cpu: float, floor: tuple[str, float]
) -> dict[str, Any]:
    return {
        "bench": "drain", "case": case, "rows_per_s": round(rows / wall),
        "cpu_s_per_100k": round(cpu * 100_000 / rows, 2),
        "ratio": round(floor[1] / wall, 3), "ratio_to": floor[0],
    }  # fmt: skip


def _drain(at: Installation, numbers: range, size: int) -> Iterator[dict[str, Any]]:
    collector = at.pids()["collector"]
    begin = _ingest_end(at)
    os.kill(collector, signal.SIGSTOP)
    try:
        write_orders(at.source, numbers[0], len(numbers), size)
        before = at.cpu_s()
    finally:
        os.kill(collector, signal.SIGCONT)
    began = time.monotonic()
    at.wait_until_shown(numbers[-1])
    wall = time.monotonic() - began
    spent = {name: seconds - before[name] for name, seconds in at.cpu_s().items()}
    final = "" if at.kind == "mysql" else " FINAL"
    found = at.ask(f"SELECT count(*) FROM {DATABASE}.orders{final} WHERE id >= {numbers[0]}")
    if found != len(numbers):
        message = f"{found} rows at the target, {len(numbers)} written"
        raise RuntimeError(message)
    mine, server = time.process_time(), cpu_s(at.target.pid)
    floor_s = (_mysql_floor if at.kind == "mysql" else _clickhouse_floor)(at.target, numbers)
    mine, server = time.process_time() - mine, cpu_s(at.target.pid) - server
    rows, floor = len(numbers), (FLOOR[at.kind], floor_s)
    stages = sum(s for name, s in spent.items() if name != "kafka" and "server" not in name)
    case = f"mysql-{at.kind}/tx{size}"
    by_process = {name: round(s * 100_000 / rows, 2) for name, s in spent.items()}
    yield _line(case, rows, wall, stages, floor) | {"cpu": by_process}
    yield _line(f"{case}/floor", rows, floor_s, mine, floor) | {
        "cpu": {"target server": round(server * 100_000 / rows, 2)}
    }
    kafka_s = _into_kafka_s(at, begin)
    yield _line(f"{case}/collector", rows, max(kafka_s, 0.001), spent["collector"], floor)


def run(stack: Stack, kind: str, rows: int, rounds: int) -> Iterator[dict[str, Any]]:
    """The drains into one kind of target."""
    source = stack.mariadb(f"source-{kind}")
    target = stack.mariadb("target") if kind == "mysql" else stack.clickhouse()
    make_source(source)
    with tempfile.TemporaryDirectory(prefix="gravity-bench-") as folder:
        at = Installation.make(source, target, stack.kafka(), kind, Path(folder))
        write_orders(source, 1, WARM_ROWS, 10)
        first = WARM_ROWS + 1
        with at.pipeline:
            at.wait_until_there(WARM_ROWS)
            for _ in range(rounds):
                for size in SIZES:
                    yield from _drain(at, range(first, first + rows), size)
                    first += rows


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="a backlog through all stages beside its floor")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("mysql", "clickhouse"))
    arguments = parser.parse_args()
    with Stack() as stack:
        for kind in (arguments.only,) if arguments.only else ("mysql", "clickhouse"):
            for line in run(stack, kind, arguments.rows, arguments.rounds):
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
