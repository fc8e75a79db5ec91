"""A source's server dies while its log is read, in a transaction, in a span, in a snapshot: another goes on, equal."""

from __future__ import annotations

import random
import signal
import tempfile
from pathlib import Path

from gravity_devstack import Stack

from gravity.testing.waiting import wait_until
from tests.integration.collector.installation import Installation, Process, installation
from tests.integration.collector.replica import ReplicaPair
from tests.prove.report import Report

ROUNDS = 6
_ROWS_BEFORE = 20_000
_PATIENCE_S = 300.0


def run(report: Report) -> None:
    """Every kind of death on MariaDB and on MySQL, each with a random load."""
    with Stack() as stack:
        for flavor in ("mariadb", "mysql"):
            servers = stack.start_all(["kafka", f"{flavor}:one", f"{flavor}:two"])
            wrong: list[str] = []
            rows = moves = 0
            for number in range(report.scaled(ROUNDS)):
                rng = random.Random(report.seed + number)
                pair = ReplicaPair(servers[f"{flavor}:one"], servers[f"{flavor}:two"])  # type: ignore[arg-type]
                try:
                    found = _round(stack, pair, rng, number)
                except (AssertionError, TimeoutError) as error:
                    wrong.append(f"{flavor} round {number}: {error}")
                    continue
                rows, moves = rows + found, moves + 1
            report.tally(f"failover on {flavor}", wrong=wrong, failovers=moves, rows=rows)


def _round(stack: Stack, pair: ReplicaPair, rng: random.Random, number: int) -> int:
    """One death of the primary; how many rows the tables hold in the end."""
    copies = "" if number % 3 == 0 else "snapshot: never"
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(
            stack,
            pair.primary,
            Path(folder),
            source=copies,
            hosts=pair.hosts,
            rows_max=str(rng.choice((20, 40))),
            chunk_rows="200",
        ) as made,
    ):
        for table in ("t", "u"):
            made.sql(f"CREATE TABLE {table} (id INT PRIMARY KEY, v LONGTEXT)")
        if not copies:
            for first in range(0, _ROWS_BEFORE, 1000):
                values = ",".join(f"({n}, 'old')" for n in range(first, first + 1000))
                made.sql(f"INSERT INTO t VALUES {values}")
        process = _die(made, pair, rng, kills=number % 2 == 1)
        made.server, made.client = pair.replica, pair.replica.connect(made.database)
        if process.exit_code is not None:
            made.start_and_wait()
        pair.promote()
        _write(made, rng, 2_000_000)
        for table in ("t", "u"):
            made.wait_equal(table, _PATIENCE_S)
        made.assert_lawful()
        epochs = {header.to.epoch for header, _ in made.valid()}
        assert epochs == {1, 2}, f"epochs {epochs}"
        return len(made.truth("t")) + len(made.truth("u"))


def _die(made: Installation, pair: ReplicaPair, rng: random.Random, *, kills: bool) -> Process:
    """A load, and in its middle the primary's end; with `kills` the collector dies within a span before."""
    # The smallest load has two spans of several messages.
    fault = f"collector.sent_part_of_span:{rng.randint(1, 2)}:kill" if kills else ""
    made.start_and_wait().stop()
    if kills:
        _write(made, rng, 1_000_000)
        process = made.start(fault)
        wait_until(lambda: process.exit_code is not None, _PATIENCE_S, what="the collector's death")
    else:
        process = made.start_and_wait()
        before = len(made.messages())
        _write(made, rng, 1_000_000)
        wait_until(lambda: len(made.messages()) > before, _PATIENCE_S, what="the first message")
        process.send(signal.SIGSTOP)
        _write(made, rng, 1_500_000)
    pair.wait_replicated()
    pair.primary.kill()
    if not kills:
        process.send(signal.SIGCONT)
    return process


def _write(made: Installation, rng: random.Random, first: int) -> None:
    """Small transactions, and big ones over both tables that do not fit the sockets' buffers."""
    for number in range(first, first + rng.randint(20, 80)):
        made.sql(f"INSERT INTO t VALUES ({number}, 'n')")
        if rng.random() < 0.3:
            made.sql(f"UPDATE t SET v = 'u{number}' WHERE id = {number}")
    fat = rng.choice((100, 60_000))
    statements = []
    for start in range(first + 1000, first + 1000 + rng.randint(60, 300), 5):
        for table in ("t", "u"):
            rows = ",".join(f"({n}, REPEAT({n % 10}, {fat}))" for n in range(start, start + 5))
            statements.append(f"INSERT INTO {table} VALUES {rows}")
    made.sql(
        "BEGIN", *statements, "COMMIT", f"DELETE FROM t WHERE id BETWEEN {first} AND {first + 10}"
    )
