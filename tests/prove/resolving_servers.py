"""Real servers: three sources write the same few rows at once, stages are killed, targets equal the oracle.

One table for every strategy, to MySQL (MariaDB) and ClickHouse. What the targets must hold is worked out by
tests/oracle/resolve.py from the sources' binlogs, read by the stock reader.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pymysql
from gravity_devstack import Stack
from gravity_devstack.server import Server
from typer.testing import CliRunner

from deploy.demo.__main__ import wait_until_passed
from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ENDS, ProgressReader
from deploy.demo.servers import Servers, start_servers
from gravity.cli.main import app
from gravity.config import Config, load_config
from gravity.disposition_reader import disposition
from gravity.recency import Transactions
from gravity.recency_reader import Question
from gravity.testing.waiting import wait_until
from tests.oracle import resolve as oracle
from tests.oracle.history import changes
from tests.oracle.server import Address, Table, describe, executed, select_rows
from tests.oracle.target import clickhouse_rows
from tests.prove.report import Report

SECONDS = 12.0
"""For which the sources are written at least; they are written until the last has been killed, too."""
KEYS = 12
BROKER = "broker"
VICTIMS = (
    "gravity_resolver",
    BROKER,
    "gravity_router",
    "gravity_resolver",
    "gravity_sink_mysql",
    BROKER,
)
"""One after the other; the broker comes back with what it had."""
STATEMENTS_BETWEEN = 150
"""Every source takes so many from one victim's return to the next one's end."""
SOURCES = ("user-master", "order-db", "log-db")
"""In rank order."""
RULES: dict[str, dict[str, Any]] = {
    "latest": {"strategy": "timestamp-latest"},
    "incarnation": {"strategy": "source-priority"},
    "absolute": {"strategy": "source-priority", "on_delete": "absolute"},
    "fallthrough": {"strategy": "source-priority", "on_delete": "fallthrough"},
    "merged": {
        "strategy": "merge",
        "columns": {"qty": "sum", "name": "owner:order-db"},
        "groups": [["price", "currency"]],
    },
    "stopped": {"strategy": "error-stop"},
}
COLUMNS = "id INT PRIMARY KEY, qty INT, name VARCHAR(20), price INT, currency VARCHAR(5)"
NUMBERS = ("id", "qty", "price")


def configuration(servers: Servers, folder: Path) -> Path:
    """Every source's tables, one rule each, to the warehouse and to ClickHouse."""

    def server(address: Address) -> dict[str, Any]:
        return {"host": address.host, "port": address.port, "username": address.user,
                "password": address.password}  # fmt: skip

    document = {
        "sources": [
            {"name": name, "type": "mysql", "databases": servers.database, "tables": list(RULES),
             **server(address)}
            for name, address in servers.sources.items()
        ],
        "targets": [
            {"name": f"warehouse{servers.suffix}", "type": "mysql", **server(servers.warehouse)},
            {"name": f"analytics{servers.suffix}", "type": "clickhouse", "database": servers.analytics,
             **server(servers.clickhouse)},
        ],
        "conflict-resolution": {
            "rules": [{"table": table, "sources": list(SOURCES), **rule} for table, rule in RULES.items()]
        },
        "kafka": {"brokers": [servers.brokers], "partitions": 2, "topic-prefix": f"prove{servers.suffix}."},
        "state": {"folder": str(folder / "state")},
    }  # fmt: skip
    path = folder / "gravity.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")  # YAML holds JSON.
    return path


def prepare(servers: Servers) -> None:
    """Empty tables at every source."""
    for address in servers.sources.values():
        with address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{servers.database}`")
            for table in RULES:
                cursor.execute(
                    f"CREATE TABLE `{servers.database}`.`{table}` ({COLUMNS}) "
                    "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                )


class Writer(threading.Thread):
    """An application at one source: inserts, updates of some columns, deletes, moves of keys."""

    def __init__(
        self, name: str, address: Address, database: str, *, seed: int, seconds: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._address, self._database = address, database
        self._rng = random.Random(f"{name} {seed}")
        self.done = 0
        self.may_end = threading.Event()

    def run(self) -> None:
        deadline = time.monotonic() + self._seconds
        with self._address.connect() as connection, connection.cursor() as cursor:
            while time.monotonic() < deadline or not self.may_end.is_set():
                try:
                    cursor.execute(self._statement())
                    self.done += 1
                except pymysql.err.IntegrityError:
                    pass  # The key is there already.
                time.sleep(0.01)  # The pace of the load: an application thinks.

    def _statement(self) -> str:
        rng, table = self._rng, f"`{self._database}`.`{self._rng.choice(list(RULES))}`"
        key, act = rng.randrange(KEYS), rng.random()
        qty, price = rng.choice(("NULL", "1", "2", "3")), rng.choice(("NULL", "10", "20"))
        if act < 0.35:
            values = f"{key}, {qty}, '{self.name[:4]}{rng.randrange(3)}', {price}, 'EUR'"
            return f"INSERT INTO {table} VALUES ({values})"
        if act < 0.75:
            change = rng.choice((f"qty = {qty}", f"price = {price}, currency = 'USD'",
                                 f"name = 'n{rng.randrange(3)}'", "name = NULL"))  # fmt: skip
            return f"UPDATE {table} SET {change} WHERE id = {key}"
        if act < 0.9:
            return f"DELETE FROM {table} WHERE id = {key}"
        return f"UPDATE {table} SET id = {rng.randrange(KEYS)} WHERE id = {key}"


def await_written(pipeline: Pipeline, writers: Sequence[Writer]) -> None:
    """Returns once every writer has done `STATEMENTS_BETWEEN` more."""
    ends = [writer.done + STATEMENTS_BETWEEN for writer in writers]
    wait_for(lambda: all(w.done >= end for w, end in zip(writers, ends, strict=True)), pipeline,
             timeout_s=120, what=f"{STATEMENTS_BETWEEN} more statements at every source")  # fmt: skip


def kill(
    pipeline: Pipeline, broker: Server, victims: Sequence[str], writers: Sequence[Writer]
) -> None:
    """Kills stages and the broker one after the other, each once the one before is back, and more is written."""
    for victim in victims:
        await_written(pipeline, writers)
        if victim == BROKER:
            broker.kill()
            broker.start()
            continue
        wait_for(lambda v=victim: pipeline.pid(v), pipeline,
                 timeout_s=60, what=f"{victim} is there")  # type: ignore[misc]  # fmt: skip
        pid = pipeline.pid(victim)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda v=victim, old=pid: pipeline.pid(v) not in (None, old), pipeline,
                 timeout_s=60, what=f"{victim} is back")  # type: ignore[misc]  # fmt: skip


def plain(row: tuple[Any, ...], shape: Table) -> dict[str, Any]:
    """A row's cells as the oracle compares and adds them."""
    return {
        name: int(cell) if name in NUMBERS and cell is not None else cell
        for name, cell in zip(shape.columns, row, strict=True)
    }


def events_of(
    servers: Servers, table: str, shape: Table, start: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What every source's binlog says of a table."""
    for source, address in servers.sources.items():
        pos = 0
        for change in changes(address, servers.database, table, shape, start[source]):
            before = None if change.before is None else plain(change.before, shape)
            after = None if change.after is None else plain(change.after, shape)
            steps = [(after or before, after)]
            if before and after and before["id"] != after["id"]:
                steps.insert(0, (before, None))
            for named, row in steps:
                pos += 1
                assert named is not None
                yield {"key": named["id"], "source": source, "op": "D" if row is None else "U", "pos": pos,
                       "ets": change.commit_us, "row": row, "columns": shape.columns}  # fmt: skip


def judged(servers: Servers, start: dict[str, Any]) -> tuple[int, int, list[str]]:
    """Rows compared, rows on hold by the oracle, and what was wrong."""
    compared = holds = 0
    wrong: list[str] = []
    for table, rule in RULES.items():
        shape = describe(servers.user_master, servers.database, table)
        told = list(events_of(servers, table, shape, start))
        found = {
            "warehouse": select_rows(servers.warehouse, servers.database, table, shape),
            "analytics": clickhouse_rows(servers.clickhouse, servers.analytics, table, shape),
        }
        rows = {
            target: {(have := plain(row, shape))["id"]: have for row in by_key.values()}
            for target, by_key in found.items()
        }
        for key in range(KEYS):
            events = [event for event in told if event["key"] == key]
            kind, want = oracle.outcome({**rule, "sources": list(SOURCES)}, events)
            compared += 1
            if kind == "hold":
                holds += 1
                continue
            for target, by_key in rows.items():
                if by_key.get(key) != want:
                    wrong.append(
                        f"{target} {table} {key}: {by_key.get(key)} instead of {want}: {events}"
                    )
    return compared, holds, wrong


def last_gtid(address: Address) -> str:
    """The last transaction's GTID. One server alone writes GTIDs here, without gaps."""
    with address.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT @@GLOBAL.gtid_executed"
            if is_mysql(cursor)
            else "SELECT @@GLOBAL.gtid_binlog_pos"
        )
        (told,) = cursor.fetchone()
    return str(told)


def is_mysql(cursor: Any) -> bool:
    """Whether the server is MySQL."""
    cursor.execute("SELECT VERSION()")
    return "MariaDB" not in str(cursor.fetchone()[0])


def between(first: str, last: str) -> str:
    """The GTIDs of the transactions after `first` up to `last`."""
    if ":" not in last:
        maker, number = last.rsplit("-", 1)
        return ",".join(
            f"{maker}-{n}" for n in range(int(first.rsplit("-", 1)[1]) + 1, int(number) + 1)
        )
    maker, numbers = last.split(":")
    return f"{maker}:{int(re.split('[:-]', first)[-1]) + 1}-{numbers.split('-')[-1]}"


def counted(reader: ProgressReader, source: str, target: str) -> tuple[int, int]:
    """The source's rows on their way to the target, and those of them that no rule sends there."""
    ended = reader.ended(source, target, (*ENDS, "held"))
    return sum(ended.values()), ended["filtered"]


def told(config: Config, reader: ProgressReader, gtids: dict[str, str]) -> list[str]:
    """Where what is told of all transactions' rows is not as many rows as the stages have counted.

    By the resolver's counts, which outlive it; a collector that began again counts anew.
    """
    wrong: list[str] = []
    for (source, wanted), target in product(gtids.items(), config.targets):
        question = Question(source, target.name, Transactions.parse(wanted), disposition=True)
        found = disposition(config, question, 60, parked=False).to_json()
        rows = found["rows"], found["filtered"]
        try:
            wait_until(
                lambda: counted(reader.refresh(), source, target.name) == rows,  # noqa: B023 - called at once
                timeout_s=20,
                what=f"{source} at {target.name}: told {found}",
                tell=lambda: f"counted {counted(reader, source, target.name)}",  # noqa: B023 - called at once
            )
        except TimeoutError as error:
            wrong.append(str(error))
        if not found["applied"] or not found["superseded"]:
            wrong.append(f"{source} at {target.name}: nothing was in conflict: {found}")
    return wrong


@dataclass(frozen=True)
class Outcome:
    """What one run wrote, killed and compared."""

    written: int
    killed: int
    compared: int
    holds: int
    wrong: list[str]


def contend(
    stack: Stack, folder: Path, *, seed: int, suffix: str, victims: Sequence[str], seconds: float
) -> Outcome:
    """Writers, kills, catching up, judging; `suffix` keeps several on the same servers apart."""
    servers = start_servers(stack, suffix)
    prepare(servers)
    start = {name: executed(address) for name, address in servers.sources.items()}
    path = configuration(servers, folder)
    config = load_config(path).config
    reader = ProgressReader(config)
    first = {name: last_gtid(address) for name, address in servers.sources.items()}
    with Pipeline(path) as pipeline:
        # Rows that are copied are counted too, and are of no transaction.
        wait_for(lambda: all(reader.refresh().is_copied(name) for name in SOURCES), pipeline,
                 timeout_s=240, what="every source is read")  # fmt: skip
        writers = [Writer(name, address, servers.database, seed=seed, seconds=seconds)
                   for name, address in servers.sources.items()]  # fmt: skip
        for writer in writers:
            writer.start()
        kill(pipeline, stack.kafka(), victims, writers)
        for writer in writers:
            writer.may_end.set()
        for writer in writers:
            writer.join()
        wait_until_passed(reader, pipeline, servers, timeout_s=300)
        compared, holds, wrong = judged(servers, start)
        last = {name: last_gtid(address) for name, address in servers.sources.items()}
        wrong += told(
            config, reader.refresh(), {name: between(first[name], last[name]) for name in last}
        )
        listed = CliRunner().invoke(app, ["conflicts", "list", str(path), "--json"])
    shown = [json.loads(line)["target"] for line in listed.stdout.splitlines()]
    by_target = {
        name: shown.count(f"{name}{servers.suffix}") for name in ("warehouse", "analytics")
    }
    if set(by_target.values()) != {holds}:
        wrong.append(f"{holds} rows on hold, listed {by_target}")
    written = sum(writer.done for writer in writers)
    return Outcome(written, len(victims), compared, holds, wrong)


def run(report: Report) -> None:
    """One run on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="gravity-prove-") as folder, Stack() as stack:
        found = contend(
            stack, Path(folder), seed=report.seed, suffix="_prove", victims=VICTIMS, seconds=SECONDS
        )
    report.tally(
        "resolving_servers", wrong=found.wrong, written=found.written, killed=found.killed,
        compared=found.compared, on_hold=found.holds,
    )  # fmt: skip
