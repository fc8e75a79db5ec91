"""Tables without a key, from the source into real targets: as many equal rows arrive as there are."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

from gravity.testing.waiting import wait_until
from tests.integration.cli.conftest import Installation, stage_pids

COLUMNS = "a INT, b VARCHAR(20), c DECIMAL(9,2)"
VALUES = ("NULL", "1", "2")
TEXTS = ("NULL", "''", "'x'", "'ü'")


class Pipes:
    """A source of either flavour, and a MySQL and a ClickHouse target of its own."""

    def __init__(self, made: Installation, source: DatabaseServer, stack: Stack) -> None:
        self.made = made
        self.client = source.connect()
        self.database = made.database
        self._random = random.Random(source.flavor)
        if source is not made.server:
            self.sql(f"CREATE DATABASE {self.database}")
        clickhouse = stack.clickhouse()
        self._clickhouse = clickhouse_connect.get_client(
            host=clickhouse.host, port=clickhouse.port, username=clickhouse.user,
            password=clickhouse.password,
        )  # fmt: skip
        made.configure(port=str(source.port), tables='["*"], whole-row: ["t*"]')
        text = made.path.read_text().replace("type: mariadb, host", f"type: {source.flavor}, host")
        columnar = (
            f"targets:\n  - {{name: {made.target}-columnar, type: clickhouse, host: {clickhouse.host}, port: {clickhouse.port},"
            f" username: {clickhouse.user}, password: '{clickhouse.password}', database: {made.copy}}}\n"
        )
        made.path.write_text(text.replace("targets:\n", columnar))

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def change(self, table: str) -> None:
        """One statement that makes, changes or deletes one or a few of the equal rows."""
        draw = self._random
        row = f"{draw.choice(VALUES)}, {draw.choice(TEXTS)}, {draw.choice(('1.50', '2'))}"
        chosen = f"WHERE a <=> {draw.choice(VALUES)} AND b <=> {draw.choice(TEXTS)}"
        self.sql(
            draw.choice(
                (
                    f"INSERT INTO {table} (a, b, c) VALUES ({row}), ({row})",
                    f"INSERT INTO {table} (a, b, c) VALUES ({row})",
                    f"DELETE FROM {table} {chosen} LIMIT 1",
                    f"DELETE FROM {table} {chosen} LIMIT 3",
                    f"UPDATE {table} SET a = {draw.choice(VALUES)} {chosen} LIMIT 2",
                    f"UPDATE {table} SET b = {draw.choice(TEXTS)}, c = c + 1 {chosen} LIMIT 1",
                )
            )
        )

    def source(self, table: str, columns: str) -> Counter[tuple[str, ...]]:
        return _texts(self.sql(f"SELECT {columns} FROM {self.database}.{table}"))

    def copies(self, table: str, columns: str) -> list[Counter[tuple[str, ...]]]:
        """What the two targets hold; nothing while there is no table."""
        found = []
        there = self.made.sql(
            f"SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{self.made.copy}'"
            f" AND TABLE_NAME = '{table}'"
        )
        if there:
            found.append(_texts(self.made.sql(f"SELECT {columns} FROM {self.made.copy}.{table}")))
        if self._clickhouse.query(f"EXISTS {self.made.copy}.{table}").result_rows[0][0]:
            found.append(
                _texts(
                    self._clickhouse.query(
                        f"SELECT {columns} FROM {self.made.copy}.{table} FINAL WHERE _deleted = 0"
                    ).result_rows
                )
            )
        return found

    def arrived(self, table: str, columns: str = "a, b, c") -> None:
        def equal() -> bool:
            try:
                found = self.copies(table, columns)
            except Exception:  # noqa: BLE001 - a column that is on its way
                return False
            return found == [self.source(table, columns)] * 2

        try:
            wait_until(equal, 90.0, what=f"both targets hold {table}")
        except TimeoutError:
            truth = self.source(table, columns)
            for found in self.copies(table, columns):
                assert found == truth
            raise


def _texts(rows: Any) -> Counter[tuple[str, ...]]:
    return Counter(tuple(str(cell) for cell in row) for row in rows)


@pytest.fixture(params=["mariadb", "mysql"])
def pipes(request: pytest.FixtureRequest, stack: Stack, made: Installation) -> Iterator[Pipes]:
    server = made.server if request.param == "mariadb" else stack.mysql("cli")
    opened = Pipes(made, server, stack)
    yield opened
    opened.client.close()
    if server is not made.server:
        with server.connect() as client, client.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {opened.database}")


def _collector(path: Path) -> int:
    """The process that collects."""
    pids = [
        pid
        for pid in stage_pids(path)
        if b"gravity_collector" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pids[0]


def test_equal_rows_are_counted_through_copy_load_kills_and_changes_of_shape(pipes: Pipes) -> None:
    made, table = pipes.made, f"{pipes.database}.t"
    pipes.sql(
        f"CREATE TABLE {table} ({COLUMNS})",
        f"CREATE TABLE {pipes.database}.too (a INT NOT NULL UNIQUE, b VARCHAR(20))",
        f"INSERT INTO {pipes.database}.too VALUES (1, 'one')",
    )
    for _ in range(300):
        pipes.change(table)
    run = made.run()
    # Rows come and go while they are copied for the first time.
    for _ in range(600):
        pipes.change(table)
    pipes.arrived("t")
    pipes.sql(f"INSERT INTO {pipes.database}.too VALUES (2, 'two')")
    pipes.arrived("too", "a, b")
    os.kill(_collector(made.path), signal.SIGKILL)
    for _ in range(50):
        pipes.change(table)
    pipes.arrived("t")
    # Every row is another one now; they are copied anew, among changes, and that is cut off.
    pipes.sql(f"ALTER TABLE {table} ADD COLUMN d INT DEFAULT 7")
    for _ in range(100):
        pipes.change(table)
    pipes.arrived("t", "a, b, c, d")
    assert made.gravity("snapshot", "CONFIG", "shop", table).returncode == 0
    for _ in range(100):
        pipes.change(table)
    pipes.arrived("t", "a, b, c, d")
    pipes.sql(f"TRUNCATE {table}")
    for _ in range(50):
        pipes.change(table)
    pipes.arrived("t", "a, b, c, d")
    pipes.sql(f"CREATE TABLE {pipes.database}.t_later ({COLUMNS})")
    for _ in range(50):
        pipes.change(f"{pipes.database}.t_later")
    pipes.arrived("t_later")
    keyed = [name for name, *_ in made.sql(f"SHOW COLUMNS FROM {made.copy}.too")]
    assert keyed == ["a", "b"], "a table that has a key is read by it"
    assert run.stop() == 0
