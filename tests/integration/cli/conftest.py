"""`gravity` as its user types it: a command line, one YAML file, real servers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

GRAVITY = Path(sys.executable).with_name("gravity")
_numbers = itertools.count(1)


def stage_pids(config: Path) -> list[int]:
    """Processes, of any parent, whose command line names this configuration."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if str(config).encode() in words and b"run" not in words and not is_zombie:
                found.append(int(entry.name))
    return found


class Running:
    """A `gravity run` that is under way."""

    def __init__(self, config: Path, log: Path, *options: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [GRAVITY, "run", str(config), *options], stdout=output, stderr=output
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait(self, timeout_s: float = 60.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.text[-4000:]}") from None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.wait()


class Installation:
    """A database of its own at the source, another at the target, and a configuration between them."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.number = next(_numbers)
        self.folder = folder
        self.server: DatabaseServer = stack.mariadb("cli")
        kafka = stack.kafka()
        self.brokers = f"{kafka.host}:{kafka.port}"
        self.database = f"cli{os.getpid()}_{self.number}"
        self.copy = f"{self.database}_copy"
        self.target = f"copy{os.getpid()}-{self.number}"
        self.prefix = f"{self.database}."
        self.path = folder / "gravity.yaml"
        self.configure()
        self._runs: list[Running] = []
        self.sql(f"CREATE DATABASE {self.database}")

    def configure(self, **changes: str) -> None:
        values = {
            "password": "gravity-dev",
            "port": str(self.server.port),
            "brokers": self.brokers,
            "tables": '["*"]',
            "target": "",
            "more": "",
            **changes,
        }
        self.path.write_text(
            """
sources:
  - {{name: shop, type: mariadb, host: 127.0.0.1, port: {port}, username: gravity, password: "{password}",
      databases: [{database}], tables: {tables}}}
targets:
  - {{name: {name}, type: mysql, host: 127.0.0.1, port: {own_port}, username: gravity,
      password: gravity-dev, database: {copy}{target}}}
kafka: {{brokers: "{brokers}", topic-prefix: "{prefix}", partitions: 2}}
state: {{folder: {state}}}
{more}
""".format(
                database=self.database,
                name=self.target,
                copy=self.copy,
                own_port=self.server.port,
                prefix=self.prefix,
                state=self.folder / "state",
                **values,
            )
        )

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.server.connect() as client, client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def rows(self, database: str, table: str) -> list[tuple[Any, ...]]:
        there = self.sql(
            "SELECT 1 FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = '{table}'"
        )
        return self.sql(f"SELECT * FROM {database}.{table} ORDER BY 1") if there else []

    def gravity(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One command to its end; `CONFIG` stands for the configuration file."""
        line = [str(self.path) if word == "CONFIG" else word for word in words]
        return subprocess.run(
            [GRAVITY, *line], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def json(self, *words: str) -> Any:
        answer = self.gravity(*words)
        assert answer.returncode in (0, 1), answer.stderr
        return json.loads(answer.stdout)

    def run(self, *options: str) -> Running:
        started = Running(self.path, self.folder / f"run{len(self._runs)}.log", *options)
        self._runs.append(started)
        return started

    def close(self) -> None:
        for run in self._runs:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
        for database in (self.copy, self.database):  # The copy may refer to the original.
            self.sql(f"DROP DATABASE IF EXISTS {database}")


@pytest.fixture
def made(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, tmp_path)
    yield installation
    installation.close()
