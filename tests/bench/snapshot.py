"""Existing rows into Kafka, beside a plain streaming SELECT of the same table by PyMySQL.

    python -m tests.bench.snapshot [--rows 60000] [--rounds 5] [--workers 1] [--server mariadb|mysql]

Both run by turns, `rounds` times. The SELECT fetches every row through an SSCursor and drops it; the
collector is a process of its own, timed from the moment it owns the source until the last chunk is sent.
`ratio` is the SELECT's wall time over the collector's, median of the rounds; `cpu_ratio` is the same by
CPU seconds of either process, the servers' left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from gravity_devstack import Stack
from pymysql.cursors import SSCursor

from gravity.testing.waiting import wait_until
from gravity.topic import resnapshot_key
from tests.bench.decode import CREATE, order
from tests.integration.collector.installation import Installation, installation

_HOLDER = ", ".join(["%s"] * 12)
_FILL = 2000
_PATIENCE_S = 300.0


def _fill(made: Installation, rows: int) -> None:
    made.sql("SET time_zone = '+00:00'", CREATE)
    with made.client.cursor() as cursor:
        for start in range(0, rows, _FILL):
            numbers = range(start, min(start + _FILL, rows))
            cursor.executemany(f"INSERT INTO orders VALUES ({_HOLDER})", list(map(order, numbers)))


def _select(made: Installation, rows: int) -> tuple[float, float]:
    """(wall, CPU) seconds of the plain SELECT."""
    began, cpu = time.perf_counter(), time.thread_time()
    with made.server.connect(made.database) as connection, connection.cursor(SSCursor) as cursor:
        cursor.execute("SELECT * FROM orders")
        found = sum(1 for _ in cursor)
    assert found == rows, (found, rows)
    return time.perf_counter() - began, time.thread_time() - cpu


def _seen(process: Any, word: str) -> tuple[float, float]:
    """(wall clock, CPU seconds of the process) when its log first says `word`."""
    wait_until(
        lambda: word in process.text or process.exit_code is not None,
        _PATIENCE_S,
        what=word,
        every_s=0.01,
        tell=lambda: process.text[-2000:],
    )
    assert word in process.text, f"ended without {word}: {process.text[-2000:]}"
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return time.perf_counter(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _copy(made: Installation, number: int) -> tuple[float, float]:
    """(wall, CPU) seconds of the collector's snapshot."""
    made.write_control(resnapshot_key(made.source), {"request": number})
    process = made.start()
    began, cpu = _seen(process, "source_taken_over")
    ended, cpu_ended = _seen(process, "snapshot_finished")
    assert process.stop() == 0
    return ended - began, cpu_ended - cpu


def measure(rows: int, rounds: int, workers: int, server: str) -> dict[str, Any]:
    """One line of figures."""
    select, copy = [], []
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.start_all(["kafka", f"{server}:collected"])
        chosen = stack.mysql("collected") if server == "mysql" else stack.mariadb("collected")
        settings = {"source": f"max-workers: {workers}"}
        with installation(stack, chosen, Path(folder), **settings) as made:
            _fill(made, rows)
            for number in range(1, rounds + 1):
                select.append(_select(made, rows))
                copy.append(_copy(made, number))
    ratio, cpu_ratio = (
        statistics.median(a[at] / b[at] for a, b in zip(select, copy, strict=True)) for at in (0, 1)
    )
    wall, cpu = (statistics.median(pair[at] for pair in copy) for at in (0, 1))
    floor = statistics.median(pair[0] for pair in select)
    return {
        "bench": "snapshot", "case": f"{server}/workers{workers}", "rows_per_s": round(rows / wall),
        "cpu_s_per_100k": round(cpu * 100_000 / rows, 2), "ratio": round(ratio, 3),
        "cpu_ratio": round(cpu_ratio, 3), "ratio_to": "PyMySQL SSCursor",
        "ratio_to_rows_per_s": round(rows / floor),
    }  # fmt: skip


def main() -> None:
    """Prints JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.snapshot", description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    options = parser.parse_args()
    print(
        json.dumps(measure(options.rows, options.rounds, options.workers, options.server)),
        flush=True,
    )


if __name__ == "__main__":
    main()
