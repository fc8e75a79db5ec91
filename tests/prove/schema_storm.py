"""Five tables that go through random schema changes while applications write to them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from gravity_devstack.database import DatabaseServer

from tests.oracle.type_text import Shape

TABLES = ("t0", "t1", "t2", "t3", "t4")
SPARE = "spare"
"""A table that tables are exchanged with."""
TYPES = (
    "INT", "BIGINT", "SMALLINT UNSIGNED", "VARCHAR(20)", "VARCHAR(60)", "CHAR(12)", "TEXT", "DECIMAL(12,2)", "DECIMAL(14,4)",
    "DATE", "DATETIME", "DATETIME(3)", "ENUM('a','b')", "ENUM('a','b','c')", "VARCHAR(30) CHARACTER SET latin1",
)  # fmt: skip
DEFAULTS = {"INT": "7", "BIGINT": "-9", "VARCHAR(20)": "'x'", "DECIMAL(12,2)": "1.5", "DATE": "'2020-01-31'", "DATETIME": "CURRENT_TIMESTAMP"}  # fmt: skip
VALUES = ("1", "'2'", "-3", "'abc'", "'ü'", "'2021-02-03'", "'2021-02-03 04:05:06.789'", "1.25", "'a'", "'b'", "NULL", "''", "77777")  # fmt: skip
MODES = ("", "STRICT_TRANS_TABLES")
COLUMNS_MAX = 8

Row = dict[str, str | None]


class Storm:
    """Runs one random change after the other. Which, is a function of the seed and of what the server took."""

    def __init__(self, server: DatabaseServer, database: str, seed: int) -> None:
        self._rng = random.Random(seed)
        self._server = server
        self._database = database
        # Cells as the server prints them: nothing is converted on the way.
        self._client = server.connect(database or None, conv={}, charset="utf8mb4")
        self._names = 0
        self.counts: Counter[str] = Counter()
        """Changes by kind, those refused by the server apart."""
        self._written = threading.Event()
        self.quiet = threading.Lock()
        """Held by whoever needs the applications to wait."""

    def make_tables(self) -> None:
        """The tables, each with a few rows."""
        for table in TABLES:
            self._create(table)
            for number in range(20):
                self._run(f"INSERT INTO {table} VALUES ({number}, {number}, 'old{number}')")

    def close(self) -> None:
        """Ends the session."""
        self._client.close()

    def _create(self, table: str) -> None:
        self._run(f"CREATE TABLE {table} (id INT PRIMARY KEY, n INT, v VARCHAR(20))")

    def _run(self, sql: str) -> None:
        with self._client.cursor() as cursor:
            cursor.execute(sql)

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._client.cursor() as cursor:
            cursor.execute(sql)
            return [
                tuple(cell.decode() if isinstance(cell, bytes) else cell for cell in row)
                for row in cursor.fetchall()
            ]

    def columns(self, table: str) -> list[str]:
        """The names of the table's columns now."""
        return [shape.name for shape in self.shapes(table)]

    def shapes(self, table: str, database: str = "") -> list[Shape]:
        """The table's columns now."""
        found = self._query(
            "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, COLUMN_KEY FROM information_schema.COLUMNS"
            f" WHERE TABLE_SCHEMA = '{database or self._database}' AND TABLE_NAME = '{table}'"
            " ORDER BY ORDINAL_POSITION"
        )
        return [
            Shape(name, kind.lower(), nullable == "YES", in_key=key == "PRI")
            for name, kind, nullable, key in found
        ]

    def tables(self) -> list[str]:
        """All tables of the database."""
        return sorted(
            str(name)
            for (name,) in self._query(
                f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{self._database}'"
            )
        )

    def rows(self, table: str, database: str = "") -> dict[str, Row]:
        """Key to row, cells as the server prints them; none where there is no such table."""
        names = [shape.name for shape in self.shapes(table, database)]
        if not names:
            return {}
        listed = ", ".join(f"`{name}`" for name in names)
        place = f"`{database or self._database}`.`{table}`"
        found = [
            dict(zip(names, row, strict=True))
            for row in self._query(f"SELECT {listed} FROM {place}")
        ]
        return {str(row["id"]): row for row in found}

    def change(self) -> str:
        """Makes one change that the server takes; says what it was."""
        while True:
            kind = self._rng.choices(
                ("alter", "truncate", "swap", "rename", "create", "ghost", "convert", "index"),
                (20, 1, 1, 1, 1, 1, 1, 2),
            )[0]  # fmt: skip
            self._run(f"SET SESSION sql_mode = '{self._rng.choice(MODES)}'")
            table = self._rng.choice(TABLES)
            try:
                self._change(kind, table)
            except pymysql.err.MySQLError:
                self.counts["refused"] += 1
                continue
            self.counts[kind] += 1
            return f"{kind} {table}"

    def until_written(self, rows: int) -> None:
        """Returns once the applications have written so many rows more, or find no table to write to."""
        enough = self.counts["written"] + rows
        deadline = time.monotonic() + 2.0
        while self.counts["written"] < enough and time.monotonic() < deadline:
            self._written.wait(0.1)
            self._written.clear()

    def _change(self, kind: str, table: str) -> None:
        match kind:
            case "alter":
                clauses = [self._clause(table) for _ in range(self._rng.choice((1, 1, 2)))]
                self._run(f"ALTER TABLE {table} {', '.join(clauses)}")
            case "truncate":
                self._run(f"TRUNCATE TABLE {table}")
            case "swap":
                other = self._rng.choice([name for name in TABLES if name != table])
                self._run(
                    f"RENAME TABLE {table} TO {SPARE}, {other} TO {table}, {SPARE} TO {other}"
                )
            case "rename":
                self._run(f"ALTER TABLE {table} RENAME {SPARE}")
                self._run(f"RENAME TABLE {SPARE} TO {table}")
            case "create":
                self._run(f"DROP TABLE {table}")
                self._create(table)
            case "ghost":
                self._ghost(table)
            case "convert":
                charset = self._rng.choice(("utf8mb4", "utf8mb4 COLLATE utf8mb4_bin"))
                self._run(f"ALTER TABLE {table} CONVERT TO CHARACTER SET {charset}")
            case _:
                self._names += 1
                column = self._rng.choice(self.columns(table))
                self._run(f"CREATE INDEX i{self._names} ON {table} ({column})")

    def _ghost(self, table: str) -> None:
        """What gh-ost does, without its copying while rows flow: the applications wait."""
        ghost, old = f"_{table}_gho", f"_{table}_del"
        with self.quiet:
            self._run(f"CREATE TABLE {ghost} LIKE {table}")
            try:
                self._run(f"ALTER TABLE {ghost} {self._addition()}")
                shared = ", ".join(self.columns(table))
                self._run(f"INSERT INTO {ghost} ({shared}) SELECT {shared} FROM {table}")
                self._run(f"RENAME TABLE {table} TO {old}, {ghost} TO {table}")
                self._run(f"DROP TABLE {old}")
            except pymysql.err.MySQLError:
                self._run(f"DROP TABLE IF EXISTS {ghost}")
                raise

    def _addition(self) -> str:
        rng = self._rng
        self._names += 1
        kind = rng.choice(TYPES)
        null = rng.choice((" NULL", " NOT NULL", ""))
        default = f" DEFAULT {DEFAULTS[kind]}" if kind in DEFAULTS and rng.random() < 0.6 else ""
        if kind.startswith("DATE") and not default:
            # A zero date is not every target's.
            null = " NULL"
        return f"ADD c{self._names} {kind}{null}{default}"

    def _clause(self, table: str) -> str:
        rng = self._rng
        names = [name for name in self.columns(table) if name != "id"]
        name = rng.choice(names or ["id"])
        place = rng.choice(("", "", " FIRST", f" AFTER {name}"))
        if len(names) < 2 or (len(names) < COLUMNS_MAX and rng.random() < 0.4):
            return self._addition() + place
        kind = rng.choice(("drop", "rename", "modify", "change", "default"))
        if kind == "drop":
            return f"DROP COLUMN {name}"
        if kind == "default":
            return f"ALTER {name} SET DEFAULT 1"
        definition = f"{rng.choice(TYPES)}{rng.choice((' NULL', ''))}"
        if kind == "modify":
            return f"MODIFY {name} {definition}"
        self._names += 1
        if kind == "rename":
            return f"RENAME COLUMN {name} TO c{self._names}"
        return f"CHANGE {name} c{self._names} {definition}"

    @contextmanager
    def applications(self, pause_s: float = 0.005) -> Iterator[None]:
        """Writes to all tables until the block ends, whatever they look like."""
        ended = threading.Event()
        rng = random.Random(self._rng.random())
        client = self._server.connect(self._database)

        def write() -> None:
            with client.cursor() as cursor:
                cursor.execute("SET SESSION sql_mode = '', SESSION lock_wait_timeout = 50")
                while not ended.wait(pause_s):
                    with self.quiet:
                        self._write(cursor, rng)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            client.close()

    def _write(self, cursor: Any, rng: random.Random) -> None:
        table, number = rng.choice(TABLES), rng.randrange(120)
        try:
            cursor.execute(f"SELECT * FROM {table} LIMIT 0")
            names = [column[0] for column in cursor.description if column[0] != "id"]
            name = rng.choice(names or ["id"])
            statements: Sequence[str] = (
                f"INSERT INTO {table} (id, {name}) VALUES ({number}, {rng.choice(VALUES)})",
                f"UPDATE {table} SET {name} = {rng.choice(VALUES)} WHERE id BETWEEN {number} AND {number + 3}",
                f"UPDATE {table} SET id = id + 1000 WHERE id = {number}",
                f"DELETE FROM {table} WHERE id IN ({number}, {number + 1000})",
            )
            cursor.execute(rng.choices(statements, (5, 4, 1, 2))[0])
            self.counts["written"] += cursor.rowcount
            self._written.set()
        except pymysql.err.MySQLError:
            # The table has just become another.
            self.counts["failed"] += 1
