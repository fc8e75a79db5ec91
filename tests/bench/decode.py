"""Decode speed: gravity's binlog reader beside the stock mysql-replication reader, on the same binlog bytes.

Both read the same files from a real server, one after the other, several rounds. Prints one JSON line per
case and reader. `ratio` is to the stock reader, by wall clock, median of the rounds; `cpu_ratio` the same by CPU time. The stock reader
does not verify checksums; `gravity` does not either, `gravity-verified` does, as the collector.

    python -m tests.bench.decode [--rows 20000] [--rounds 3] [--host 127.0.0.1 --port 3306 --user root]

Without `--port` it starts a server of its own by gravity_devstack.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pymysql
from gravity_collector.binlog import StartAtFile, open_stream, read_server_facts
from gravity_collector.event import Rows
from gravity_collector.server import ServerFacts
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from gravity.batch import UPDATE

CREATE = """CREATE TABLE orders (
 id bigint unsigned NOT NULL PRIMARY KEY, user_id int unsigned NOT NULL,
 status enum('new','paid','sent','done','void') NOT NULL, amount decimal(12,2) NOT NULL, weight double NULL,
 sku varchar(32) NOT NULL, note varchar(64) CHARACTER SET utf8mb4 NULL, flag tinyint(1) NOT NULL, due date NULL,
 created datetime(6) NOT NULL, updated timestamp NOT NULL DEFAULT '2024-01-01 00:00:00', doc json NULL)"""
STATUSES = ("new", "paid", "sent", "done", "void")

# A case writes `rows` changes in transactions of so many rows; `kind` is what each change is.
CASES = tuple(
    (f"orders_{kind}_tx{size}", kind, size) for kind in ("insert", "update") for size in (1, 10)
)

Connection = Mapping[str, Any]
Reading = Callable[[], int]
"""Reads a file to its end; gives its number of rows."""
Reader = Callable[[Connection, str, ServerFacts], Reading]


def order(number: int) -> tuple[object, ...]:
    """The row with that number: every tenth has NULLs where it may."""
    is_sparse = number % 10 == 0
    return (
        number,
        number * 7919 % 100_000,
        STATUSES[number % 5],
        f"{number % 90_000 - 5_000}.{number % 100:02d}",
        None if is_sparse else number / 7,
        f"SKU-{number % 5000:06d}",
        None if is_sparse else f"note {number} äöü €",
        number % 2,
        None if is_sparse else f"20{number % 30:02d}-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
        f"2024-{number % 12 + 1:02d}-{number % 28 + 1:02d} {number % 24:02d}:{number % 60:02d}:17.{number % 1_000_000:06d}",
        f"2024-{number % 12 + 1:02d}-{number % 28 + 1:02d} {number % 24:02d}:{number % 60:02d}:18",
        None if is_sparse else json.dumps({"id": number, "tags": ["a", "b"], "price": number / 4}),
    )


def write_case(connection: Connection, kind: str, size: int, rows: int) -> tuple[str, int]:
    """Writes the case's binlog into a file of its own; gives that file's name and its end."""
    client = pymysql.connect(**connection, autocommit=False)
    with client, client.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS gravity_bench")
        cursor.execute("USE gravity_bench")
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute("DROP TABLE IF EXISTS orders")
        cursor.execute(CREATE)
        holder = ", ".join(["%s"] * 12)
        if kind == "update":
            cursor.executemany(
                f"INSERT INTO orders VALUES ({holder})", [order(n) for n in range(1, rows + 1)]
            )
            client.commit()
        cursor.execute("FLUSH BINARY LOGS")
        for first in range(1, rows + 1, size):
            for number in range(first, first + size):
                if kind == "insert":
                    cursor.execute(f"INSERT INTO orders VALUES ({holder})", order(number))
                else:
                    cursor.execute(
                        "UPDATE orders SET status = 'done', amount = amount + 1.25, updated = '2024-07-01 10:00:00'"
                        " WHERE id = %s",
                        (number,),
                    )
            client.commit()
        file_name = read_server_facts(connection, "bench").file_name
        cursor.execute("FLUSH BINARY LOGS")
        return file_name, 4


def open_ours(
    connection: Connection, file_name: str, facts: ServerFacts, *, verify_checksums: bool
) -> Reading:
    """A reading of the file by gravity that is connected already."""
    stream = open_stream(
        connection,
        StartAtFile(file_name),
        facts,
        source="bench",
        server_id=4_000_001,
        heartbeat_s=30,
        verify_checksums=verify_checksums,
        until_end=True,
    )

    def read() -> int:
        count = 0
        while not stream.is_at_end and stream.file_name in ("", file_name):
            for event in stream.read(10):
                if isinstance(event, Rows):
                    decode = event.table.updates if event.op == UPDATE else event.table.rows
                    count += len(decode(event.body, event.at))
        stream.close()
        return count

    return read


def open_stock(connection: Connection, file_name: str, _: ServerFacts) -> Reading:
    """A reading of the file by the library that is connected already."""
    stream = BinLogStreamReader(
        connection_settings=dict(connection),
        server_id=4_000_002,
        log_file=file_name,
        log_pos=4,
        resume_stream=True,
        blocking=False,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )
    stream._BinLogStreamReader__connect_to_ctl()
    stream._BinLogStreamReader__connect_to_stream()

    def read() -> int:
        count = sum(len(event.rows) for event in stream)
        stream.close()
        return count

    return read


def measure(read: Reading, rows: int) -> tuple[float, float]:
    """Wall and CPU seconds of one reading."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = read()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if found != rows:
        message = f"{found} rows read, {rows} written"
        raise RuntimeError(message)
    return wall, cpu


def run(connection: Connection, rows: int, rounds: int) -> list[dict[str, object]]:
    """All cases; one result a case and reader."""
    results: list[dict[str, object]] = []
    facts = read_server_facts(connection, "bench")
    for case, kind, size in CASES:
        file_name, _ = write_case(connection, kind, size, rows)
        readers: dict[str, Reader] = {
            "gravity": functools.partial(open_ours, verify_checksums=False),
            "mysql-replication": open_stock,
            "gravity-verified": functools.partial(open_ours, verify_checksums=True),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, open_reading in readers.items():
                times[name].append(measure(open_reading(connection, file_name, facts), rows))
        wall = {name: statistics.median(wall for wall, _ in found) for name, found in times.items()}
        cpu = {name: statistics.median(cpu for _, cpu in found) for name, found in times.items()}
        results += [
            {
                "bench": "decode",
                "case": f"{case}/{name}",
                "rows_per_s": round(rows / wall[name]),
                "cpu_s_per_100k": round(cpu[name] * 100_000 / rows, 3),
                "ratio": round(wall["mysql-replication"] / wall[name], 1),
                "ratio_to": "mysql-replication",
                "cpu_ratio": round(cpu["mysql-replication"] / cpu[name], 1),
            }
            for name in readers
        ]
    return results


@contextlib.contextmanager
def server(arguments: argparse.Namespace) -> Iterator[Connection]:
    """PyMySQL's arguments of the server to measure with."""
    if arguments.port:
        yield {
            "host": arguments.host,
            "port": arguments.port,
            "user": arguments.user,
            "password": arguments.password,
            "charset": "utf8mb4",
        }
        return
    from gravity_devstack import Stack

    with Stack() as stack:
        database = stack.mariadb("decode-bench")
        yield {
            "host": "127.0.0.1",
            "port": database.port,
            "user": database.user,
            "password": database.password,
            "charset": "utf8mb4",
        }


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="decode speed beside the stock reader")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="root")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    with server(arguments) as connection:
        for result in run(connection, arguments.rows, arguments.rounds):
            sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
