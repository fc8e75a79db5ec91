"""A collector as its user runs it: a process of its own between a real server and a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gravity_devstack.database import DatabaseServer
from gravity_devstack.stack import Stack

from gravity.config import load_config
from gravity.errors import TransientError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.reader import LogReader
from gravity.plan_compiler import compile_plan
from gravity.testing.waiting import wait_until
from gravity.topic import Topics, plan_key
from tests.integration.collector.ingest import IngestLog

_LOG_SHOWN = 20_000
"""Bytes of the end of each process's log."""


class Process:
    """One collector process."""

    def __init__(self, config: Path, log: Path, fault: str, *options: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gravity_collector", str(config), *options],
                stdout=output,
                stderr=output,
                env={**os.environ, "GRAVITY_FAULT": fault},
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def is_frozen(self) -> bool:
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def wait(self, timeout_s: float = 60.0) -> int:
        return self._process.wait(timeout_s)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        if self.exit_code is None:
            self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.wait()


class Installation(IngestLog):
    """A database of its own on a server, topics of its own, and the processes that collect it."""

    source = "s"

    def __init__(
        self, stack: Stack, server: DatabaseServer, folder: Path, settings: dict[str, str]
    ) -> None:
        self.server = server
        self.database = f"c_{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._processes: list[Process] = []
        with server.connect() as client, client.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.database}")
        self.client = server.connect(self.database)
        kafka = stack.kafka()
        self._brokers = f"{kafka.host}:{kafka.port}"
        self.path = folder / "gravity.yaml"
        self.configure(**settings)
        self.topics = Topics(self.config.kafka.topic_prefix)
        TopicAdmin(self.config.kafka).ensure(self.topics.all_specs([self.source], ["t"], 4))
        self._control = ControlTopic(self.config.kafka, self.topics.control, "test")
        wait_until(self._topics_have_leaders, what="topics just made")
        self.activate()
        super().__init__(LogReader(self.config.kafka, "test"), self.topics.ingest(self.source))
        self._plans = 0

    def _topics_have_leaders(self) -> bool:
        try:
            self._control.refresh()
        except TransientError:
            return False
        return True

    def configure(
        self,
        *,
        source: str = "",
        exclude: str = "",
        password: str = "gravity-dev",
        rows_max: str = "1000",
        chunk_rows: str = "2000",
        sources: str = "",
        hosts: str = "",
        target: str = "",
        merge: str = "{}",
    ) -> None:
        """Writes the configuration; the next process reads it."""
        address = (
            f"hosts: [{hosts}]"
            if hosts
            else f"host: {self.server.host}\n    port: {self.server.port}"
        )
        self.path.write_text(
            f"""
sources:
  - name: {self.source}
    type: {self.server.flavor}
    {address}
    username: gravity
    password: {password}
    databases: [{self.database}]
    exclude: [{exclude}]
    {source}
{sources}
merge: {merge}
targets:
  - name: t
    type: kafka
    brokers: {self._brokers}
    {target}
kafka:
  brokers: {self._brokers}
  topic-prefix: {self.database}.
batch:
  rows-max: {rows_max}
snapshot:
  chunk-rows: {chunk_rows}
"""
        )
        self.config = load_config(self.path).config

    def activate(self) -> None:
        """Puts a plan of the present configuration in force."""
        known = [key for key in self._control.refresh() if key.startswith("plan/")]
        self._plans = len(known) + 1
        plan = compile_plan(self.config, []).to_json() | {"version": self._plans}
        self._control.write(plan_key(self._plans), plan)

    def sql(self, *statements: str) -> None:
        with self.client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.client.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def start(self, fault: str = "", *options: str) -> Process:
        """A process that collects all sources by name, unless `options` say otherwise."""
        named = [f"--source={source.name}" for source in self.config.sources]
        log = self._folder / f"{len(self._processes)}.log"
        process = Process(self.path, log, fault, *(options or named))
        self._processes.append(process)
        return process

    def start_and_wait(self, fault: str = "") -> Process:
        """A process that owns the source."""
        process = self.start(fault)
        wait_until(lambda: "source_taken_over" in process.text, what="takeover")
        return process

    def control(self) -> dict[str, Any]:
        return dict(self._control.refresh())

    def write_control(self, key: str, value: Any) -> None:
        self._control.write(key, value)

    def truth(self, table: str) -> list[tuple[Any, ...]]:
        return sorted(self.rows(f"SELECT * FROM {table}"))

    def wait_equal(self, table: str, timeout_s: float = 60.0) -> None:
        """Returns when the log says what the source holds."""
        wait_until(
            lambda: self.replay(table) == self.truth(table), timeout_s, what=f"{table} equal"
        )

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            # Shown where a test fails.
            print(process.log, process.exit_code, process.text[-_LOG_SHOWN:], sep="\n")
        self.client.close()
        with self.server.connect() as client, client.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {self.database}")
        self._control.close()
        self._reader.close()


@contextmanager
def installation(
    stack: Stack, server: DatabaseServer, folder: Path, **settings: str
) -> Iterator[Installation]:
    """An installation that is gone afterwards."""
    made = Installation(stack, server, folder, settings)
    try:
        yield made
    finally:
        made.close()
