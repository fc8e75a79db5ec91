"""From the commit at the source to the row being visible at a MySQL target, the pipeline warm.

    python -m tests.bench.latency [--seconds 15] [--rates 200 1000]

A writer commits one row a transaction at a steady rate and notes its clock just before each; a poller asks
the target for new rows, a millisecond apart. Both are processes of this machine and share its cores with the
pipeline and the servers. `ratio` is p50 to the target of 20 ms, `p99_ratio` p99 to 60 ms: above 1 misses.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql
from gravity_devstack import Stack

from gravity.testing.waiting import wait_until
from tests.bench.decode import order
from tests.bench.installation import (
    CATCH_UP_S,
    DATABASE,
    INSERT,
    Installation,
    make_source,
    write_orders,
)

P50_MS, P99_MS = 20.0, 60.0
WARM_ROWS = 2000


def _write(login: dict[str, Any], first: int, rows: int, rate: int, times: Any) -> None:
    """Commits one row each 1/rate s; a late one is followed by the next at once."""
    with pymysql.connect(**login, autocommit=True) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        for index in range(rows):
            wait_s = began + index / rate - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)  # Until the row is due: this is the rate.
            values = order(first + index)
            times[index] = time.monotonic()
            cursor.execute(INSERT, values)


def _poll(target: Any, first: int, rows: int) -> list[float]:
    """When each row was first seen."""
    seen = [0.0] * rows
    count, low = 0, first
    with target.connect() as connection, connection.cursor() as cursor:

        def are_there() -> bool:
            nonlocal count, low
            cursor.execute(f"SELECT id FROM {DATABASE}.orders WHERE id >= %s ORDER BY id", (low,))
            now = time.monotonic()
            for (number,) in cursor.fetchall():
                seen[number - first] = now
                count += 1
                low = number + 1
            return count >= rows

        wait_until(
            are_there,
            CATCH_UP_S,
            what=f"{rows} rows arrive",
            every_s=0.001,
            tell=lambda: f"{count} have",
        )
    return seen


def measure(at: Installation, first: int, rate: int, seconds: int) -> dict[str, Any]:
    """One rate for so many seconds."""
    rows = rate * seconds
    times = multiprocessing.Array("d", rows, lock=False)
    login = {
        "host": at.source.host, "port": at.source.port, "user": at.source.user,
        "password": at.source.password, "charset": "utf8mb4", "init_command": "SET time_zone = '+00:00'",
    }  # fmt: skip
    writer = multiprocessing.Process(
        target=_write, args=(login, first, rows, rate, times), daemon=True
    )
    before = at.cpu_s()
    writer.start()
    seen = _poll(at.target, first, rows)
    writer.join()
    spent = {name: seconds - before[name] for name, seconds in at.cpu_s().items()}
    stages = sum(s for name, s in spent.items() if name != "kafka" and "server" not in name)
    late = sorted((there - gone) * 1000 for there, gone in zip(seen, times, strict=True))
    p50, p99 = late[rows // 2], late[rows * 99 // 100]
    return {
        "bench": "latency", "case": f"{rate}/s", "rows_per_s": round(rows / (times[-1] - times[0])),
        "cpu_s_per_100k": round(stages * 100_000 / rows, 2),
        "ratio": round(p50 / P50_MS, 2), "ratio_to": f"p50 of {P50_MS:.0f} ms",
        "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(late[-1], 1),
        "p99_ratio": round(p99 / P99_MS, 2),
        "cpu": {name: round(s * 100_000 / rows, 2) for name, s in spent.items()},
    }  # fmt: skip


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="from the commit to the target")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 1000])
    arguments = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    with Stack() as stack, tempfile.TemporaryDirectory(prefix="gravity-bench-") as folder:
        source, target = stack.mariadb("source"), stack.mariadb("target")
        make_source(source)
        at = Installation.make(source, target, stack.kafka(), "mysql", Path(folder))
        write_orders(source, 1, WARM_ROWS, 10)
        with at.pipeline:
            at.wait_until_there(WARM_ROWS)
            first = WARM_ROWS + 1
            for rate in arguments.rates:
                measure(at, first, rate, 5)  # warms up
                first += rate * 5
                line = measure(at, first, rate, arguments.seconds)
                first += rate * arguments.seconds
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
