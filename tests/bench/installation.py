"""A pipeline of one source and one target on real servers, and what its processes cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect

from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from gravity.config import Config, load_config
from tests.bench.decode import CREATE, order
from tests.oracle.server import Address

CATCH_UP_S = 240.0
DATABASE = "gravity_bench"
_HOLDER = ", ".join(["%s"] * 12)
INSERT = f"INSERT INTO {DATABASE}.orders VALUES ({_HOLDER})"

_CONFIGURATION = """\
sources:
  - name: source
    type: mysql
    host: "{source.host}"
    port: {source.port}
    username: "{source.user}"
    password: "{source.password}"
    databases: "{database}"
    tables: ["orders"]
targets:
  - name: target
    type: {kind}
    host: "{target.host}"
    port: {target.port}
    username: "{target.user}"
    password: "{target.password}"
{more}routing:
  - source-tables: ["orders"]
    targets: ["target"]
    strategy: broadcast
kafka:
  brokers: ["{brokers}"]
  partitions: 1
  topic-prefix: "{prefix}"
state:
  folder: "{folder}/state"
"""


def address(server: Any) -> Address:
    """Where a server of the stack is."""
    return Address(server.host, server.port, server.user, server.password)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_source(source: Any) -> None:
    """Makes the empty table at the source."""
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        cursor.execute(f"DROP TABLE IF EXISTS {DATABASE}.orders")
        cursor.execute(f"USE {DATABASE}")
        cursor.execute(CREATE)


def write_orders(source: Any, first: int, rows: int, size: int) -> None:
    """Inserts so many rows, in transactions of `size` rows, a statement each."""
    with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        for start in range(first, first + rows, size):
            for number in range(start, min(start + size, first + rows)):
                cursor.execute(INSERT, order(number))
            connection.commit()


@dataclass
class Installation:
    """A running pipeline; its stages' processes are found by name."""

    source: Any
    target: Any
    broker: Any
    kind: str
    config: Config
    pipeline: Pipeline

    @classmethod
    def make(cls, source: Any, target: Any, broker: Any, kind: str, folder: Path) -> Installation:
        """Writes the configuration; starts nothing."""
        path = folder / f"{kind}.yaml"
        text = _CONFIGURATION.format(
            source=address(source), target=address(target), kind=kind, brokers=broker.brokers,
            prefix=f"{kind}-{os.getpid()}.", folder=folder / kind, database=DATABASE,
            more=f"    database: {DATABASE}\n" if kind == "clickhouse" else "",
        )  # fmt: skip
        path.write_text(text, encoding="utf-8")
        config = load_config(path).config
        return cls(source, target, broker, kind, config, Pipeline(path))

    def pids(self) -> dict[str, int]:
        """The processes that share the work."""
        stages = ("collector", "router", "resolver", f"sink_{self.kind}")
        found = {stage: self.pipeline.pid(f"gravity_{stage}") for stage in stages}
        servers = {
            "source server": self.source.pid, "target server": self.target.pid,
            "kafka": self.broker.pid,
        }  # fmt: skip
        return {stage: pid for stage, pid in found.items() if pid is not None} | servers

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of each of them."""
        return {name: cpu_s(pid) for name, pid in self.pids().items()}

    def ask(self, statement: str) -> int:
        """The one number that a query at the target gives."""
        if self.kind == "mysql":
            with self.target.connect() as connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return int(cursor.fetchone()[0])
        at = address(self.target)
        client = clickhouse_connect.get_client(
            host=at.host, port=at.port, username=at.user, password=at.password
        )
        with client:
            return int(client.query(statement).result_rows[0][0])

    def wait_until_shown(self, number: int) -> None:
        """Returns once the target shows the row of that number; with one partition, it shows all before it."""
        statement = f"SELECT count(*) FROM {DATABASE}.orders WHERE id = {number}"
        self._until(lambda: self.ask(statement), f"row {number} is there", every_s=0.02)

    def wait_until_there(self, number: int) -> None:
        """As `wait_until_shown`, from before the target has the table."""
        statement = (
            "SELECT count(*) FROM information_schema.tables"
            f" WHERE table_schema = '{DATABASE}' AND table_name = 'orders'"
        )
        self._until(lambda: self.ask(statement), "the table is there")
        self.wait_until_shown(number)
        # Only when the snapshot has ended does the stream alone bring what comes next.
        reader = ProgressReader(self.config)
        self._until(
            lambda: all(reader.refresh().is_copied(source.name) for source in self.config.sources),
            "the snapshot has ended",
        )

    def _until(self, condition: Callable[[], object], what: str, *, every_s: float = 0.1) -> None:
        wait_for(condition, self.pipeline, timeout_s=CATCH_UP_S, what=what, every_s=every_s)
