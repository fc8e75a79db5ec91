"""Transforms end to end: after a load with key moves, ALTERs and deaths each target holds what SQL makes of the rows.

Two sources (MySQL, MariaDB), a MariaDB and a ClickHouse as targets. What a target must hold is selected from
the sources' final tables by SQL that says the transform once more, in the servers' own functions.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import clickhouse_connect
from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from gravity.clock import now_us
from gravity.config import load_config
from tests.oracle.cell import Row, canonical
from tests.oracle.server import Address, executed
from tests.prove.report import Report, Verdict
from tests.prove.routing_strategies import kill

WAIT_S = 240.0
TARGETS = ("rows", "columns")
_numbers = count(1)

Shape = Mapping[str, str]
"""Column at the target → its type."""


@dataclass(frozen=True)
class Expected:
    """A table of the targets, and the SQL that says what it holds."""

    table: str
    key: tuple[str, ...]
    shape: Shape
    selects: tuple[tuple[str, str], ...]
    """(source, SELECT of the shape's columns; `DB` is its database)."""


_PEOPLE = (
    "id INT PRIMARY KEY, cust_no INT NULL, qty SMALLINT NULL, price DECIMAL(8,2) NULL, phone VARCHAR(20) NULL,"
    " email VARCHAR(60) NULL, note VARCHAR(20) NULL, nick VARCHAR(20) NULL, old_stuff INT NULL,"
    " born DATETIME(3) NULL, code VARCHAR(12) NULL, label VARCHAR(10) NULL"
)
TABLES = {
    "people": (
        "s",
        _PEOPLE,
    ),
    "orders_00": ("s", "id BIGINT PRIMARY KEY, amount DECIMAL(10,2) NOT NULL, w INT NULL, memo VARCHAR(20) NULL"),
    "orders_01": ("s", "id BIGINT PRIMARY KEY, amount DECIMAL(10,2) NOT NULL, w INT NULL, memo VARCHAR(20) NULL"),
    "logs_a": ("s", "id BIGINT PRIMARY KEY, line VARCHAR(20) NULL"),
    "logs_b": ("s", "id BIGINT PRIMARY KEY, line VARCHAR(20) NULL"),
    "stock_00": ("s", "id INT PRIMARY KEY, n INT NULL"),
    "stock_01": ("s", "id INT PRIMARY KEY, n INT NULL"),
    "stock_02": ("s2", "id INT PRIMARY KEY, n INT NULL"),
    "untouched": ("s", "id INT PRIMARY KEY, v VARCHAR(20) NULL"),
}  # fmt: skip
"""Table → (source, its columns)."""

_TRANSFORMS = """
      - tables: people
        rename: {database: HOME, table: persons}
        columns:
          rename: {id: number, cust_no: customer_id, nick: nickname}
          add:
            origin: "{source}"
            loaded_by: {value: gravity, type: varchar(20)}
            total: {expression: "price * qty", type: "decimal(14,2)"}
            band: {expression: "IF(qty > 10, 'many', 'few')", type: varchar(4)}
          drop: note
          cast: {id: bigint, qty: bigint, born: date, code: {type: int, or-null: true}}
          mask: {phone: MASK}
          hash: email
      - tables: "orders_{part:[0-9]*}"
        rename: {database: HOME, table: orders}
        columns:
          add: {part: {value: "{part}", type: varchar(4), key: true}, comes_from: "{source}: {table}"}
      - tables: "logs_*"
        rename: {database: HOME, table: logs}
      - tables: "stock_{part}"
        rename: {database: HOME, table: stock}
        columns: {add: {part: {value: "{part}", type: varchar(4), key: true}}}
"""

_MASKED = {
    "last 4": "IF(CHAR_LENGTH(phone) <= 4, REPEAT('*', CHAR_LENGTH(phone)),"
    " CONCAT(REPEAT('*', CHAR_LENGTH(phone) - 4), RIGHT(phone, 4)))",
    "all": "REPEAT('*', CHAR_LENGTH(phone))",
}


def expectations(mask: str, *, altered: bool) -> Iterator[Expected]:
    """What the targets hold; `altered`: once the sources' tables have other columns."""
    people = {
        "number": ("id", "bigint"),
        "customer_id": ("cust_no", "bigint"),
        "qty": ("qty", "bigint"),
        "price": ("price", "decimal"),
        "phone": (_MASKED[mask], "varchar"),
        "email": ("SHA2(email, 256)", "varchar"),
        "nickname": ("nick", "varchar"),
        "born": ("DATE(born)", "date"),
        "code": (
            "IF(code REGEXP '^[0-9]+([.][0-9]+)?$', ROUND(CAST(code AS DECIMAL(20,5))), NULL)",
            "int",
        ),
        "origin": ("'s'", "varchar"),
        "loaded_by": ("'gravity'", "varchar"),
        "total": ("CAST(price * qty AS DECIMAL(14,2))", "decimal"),
        "band": ("IF(qty > 10, 'many', 'few')", "varchar"),
    }
    people |= (
        {"tag": ("tag", "varchar"), "extra": ("extra", "int"), "z": ("z", "int")}
        if altered
        else {"label": ("label", "varchar"), "old_stuff": ("old_stuff", "int")}
    )
    columns = ", ".join(sql for sql, _ in people.values())
    where = "note IS NULL OR note <> 'secret'"
    yield Expected(
        "persons",
        ("number",),
        {name: kind for name, (_, kind) in people.items()},
        (("s", f"SELECT {columns} FROM DB.people WHERE {where}"),),
    )
    orders = {"id": "bigint", "part": "varchar", "amount": "decimal", "memo": "varchar", "comes_from": "varchar"}  # fmt: skip
    orders |= {"gift": "varchar"} if altered else {"w": "int"}
    yield Expected(
        "orders",
        ("id", "part"),
        orders,
        tuple(
            (
                "s",
                f"SELECT id, '{part}', amount, memo, 's: orders_{part}', {'gift' if altered else 'w'} FROM DB.orders_{part}",
            )
            for part in ("00", "01")
        ),
    )
    logs = tuple(("s", f"SELECT id, line FROM DB.logs_{part}") for part in "ab")
    yield Expected("logs", ("id",), {"id": "bigint", "line": "varchar"}, logs)
    stock = tuple(
        (source, f"SELECT id, '{part}', n FROM DB.stock_{part}")
        for source, part in (("s", "00"), ("s", "01"), ("s2", "02"))
    )
    yield Expected("stock", ("id", "part"), {"id": "int", "part": "varchar", "n": "int"}, stock)
    yield Expected(
        "untouched", ("id",), {"id": "int", "v": "varchar"}, (("s", "SELECT id, v FROM DB.untouched"),)
    )  # fmt: skip


_PHONES = ("", "1", "1234", "0171-2345", "ÄÖÜ€-9876", None)
_CODES = ("7", "0012", "x9", "", "12.5", None)
_BORN = ("1970-01-01 23:59:59.999", "2024-02-29 00:00:00.000", "2024-12-31 12:00:00.5", None)
_NOTES = ("secret", "open", None)


class World:
    """The servers, the sources' tables, a configuration with transforms, and the load."""

    def __init__(self, stack: Stack, folder: Path, seed: int) -> None:
        stack.start_all(
            ["kafka", "mysql:order-db", "mariadb:user-master", "mariadb:log-db", "clickhouse"]
        )

        def address(server: Any) -> Address:
            return Address(server.host, server.port, server.user, server.password)

        self.sources = {"s": address(stack.mysql("order-db")), "s2": address(stack.mariadb("log-db"))}  # fmt: skip
        self._rows_at = address(stack.mariadb("user-master"))
        self._columns_at = address(stack.clickhouse())
        self._suffix = f"{os.getpid()}_{next(_numbers)}"
        self.database, self.home = f"tf_{self._suffix}", f"tf_{self._suffix}_dw"
        self.random = Random(seed)
        self.mask = "last 4"
        self.altered = False
        self._next_id = 1
        self._ids: dict[str, list[int]] = {table: [] for table in TABLES}
        writing = {"s": stack.mysql("order-db"), "s2": stack.mariadb("log-db")}
        self._connections = {name: server.connect() for name, server in writing.items()}
        for name in self.sources:
            self._execute(name, f"CREATE DATABASE {self.database}")
            self._execute(name, f"USE {self.database}")
        for table, (source, columns) in TABLES.items():
            self._execute(source, f"CREATE TABLE {table} ({columns})")
        self._brokers, self._folder = stack.kafka().brokers, folder
        self.path = folder / "gravity.yaml"
        self._write_configuration()
        self.reader = ProgressReader(load_config(self.path).config)

    def _execute(self, source: str, statement: str, arguments: Sequence[Any] = ()) -> None:
        with self._connections[source].cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def _write_configuration(self) -> None:
        login = "host: {0.host}, port: {0.port}, username: {0.user}, password: {0.password}"
        transforms = _TRANSFORMS.replace("HOME", self.home).replace("MASK", self.mask)
        lines = ["sources:"]
        lines += [
            f"  - {{name: {name}, databases: {self.database}, {login.format(at)}}}"
            for name, at in self.sources.items()
        ]
        lines += ["targets:"]
        for name, kind, at in (
            ("rows", "mysql", self._rows_at),
            ("columns", "clickhouse", self._columns_at),
        ):
            keys = {"host": at.host, "port": at.port, "username": at.user, "password": at.password}
            lines += [f"  - name: {name}", f"    type: {kind}", f"    database: {self.home}"]
            lines += [f"    {key}: {value!r}" for key, value in keys.items()]
            lines += [f"    transforms:{transforms.rstrip()}"]
        lines += [
            "routing:",
            "  - source-tables: people",
            "    strategy: conditional",
            "    conditions: [{if: \"note IS NULL OR note <> 'secret'\", targets: [rows, columns]}]",
            f'kafka: {{brokers: ["{self._brokers}"], partitions: 2, topic-prefix: "t{self._suffix}."}}',
            f'state: {{folder: "{self._folder}/state"}}',
        ]
        self.path.write_text("\n".join(lines) + "\n", "utf-8")

    def reload(self) -> None:
        """Masks more, by a new plan, while everything runs."""
        self.mask = "all"
        self._write_configuration()
        program = [str(Path(sys.executable).with_name("gravity")), "reload", str(self.path)]
        subprocess.run(program, check=True, timeout=180, stdout=subprocess.DEVNULL)

    # The load.

    def _row(self, table: str) -> dict[str, Any]:
        dice, choose = self.random, self.random.choice

        def maybe(value: Any) -> Any:
            return None if dice.random() < 0.2 else value

        if table == "people":
            row = {
                "cust_no": maybe(dice.randint(-9, 9)),
                "qty": maybe(dice.randint(-20, 20)),
                "price": maybe(f"{dice.randint(-99_999, 99_999) / 100:.2f}"),
                "phone": choose(_PHONES),
                "email": maybe(f"ü{dice.randint(0, 9)}@x.y"),
                "note": choose(_NOTES),
                "nick": maybe("n"),
                "born": choose(_BORN),
                "code": choose(_CODES),
                "tag" if self.altered else "label": maybe("t"),
            }
            return row | ({"extra": dice.randint(0, 9)} if self.altered else {"old_stuff": 1})
        if table.startswith("orders"):
            row = {"amount": f"{dice.randint(0, 9999) / 100:.2f}", "memo": maybe("m")}
            return row | ({"gift": choose(("yes", "no"))} if self.altered else {"w": maybe(5)})
        name = {"logs": "line", "stoc": "n", "unto": "v"}[table[:4]]
        return {name: maybe(dice.randint(0, 99))}

    def change(self, table: str) -> None:
        """One random change: an insert, an update, one of the key, or a delete."""
        source = TABLES[table][0]
        ids, dice = self._ids[table], self.random.random()
        row = self._row(table)
        if dice < 0.45 or not ids:
            row = {"id": self._next_id, **row}
            marks = ", ".join(["%s"] * len(row))
            self._execute(
                source, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", [*row.values()]
            )
            ids.append(self._next_id)
        elif dice < 0.75:
            self._update(source, table, self.random.choice(ids), row)
        elif dice < 0.87:
            place = self.random.randrange(len(ids))
            self._update(source, table, ids[place], {"id": self._next_id, **row})
            ids[place] = self._next_id
        else:
            self._execute(source, f"DELETE FROM {table} WHERE id = {ids.pop()}")
        # Keys of tables with an added key column meet; those of the logs, which have none, may not.
        self._next_id += self.random.random() < 0.7 or table.startswith("logs")

    def _update(self, source: str, table: str, key: int, row: Mapping[str, Any]) -> None:
        if row.get("id") in self._ids[table]:
            return
        sets = ", ".join(f"{name} = %s" for name in row)
        self._execute(source, f"UPDATE {table} SET {sets} WHERE id = {key}", [*row.values()])

    def changes(self, number: int) -> None:
        """`number` changes to each table, in transactions of a few."""
        for _ in range(number):
            for connection in self._connections.values():
                connection.begin()
            for table in TABLES:
                if self._next_id in self._ids[table]:
                    self._next_id = max(max(ids, default=0) for ids in self._ids.values()) + 1
                self.change(table)
            for connection in self._connections.values():
                connection.commit()

    def alter(self, number: int) -> None:
        """Other columns at the source, one statement after the other, with changes in between."""
        for statement in (
            "ALTER TABLE people ADD COLUMN extra INT NOT NULL DEFAULT 7 AFTER note",
            "ALTER TABLE people CHANGE COLUMN label tag VARCHAR(10) NULL",
            "ALTER TABLE people MODIFY COLUMN phone VARCHAR(40) NULL, MODIFY COLUMN cust_no BIGINT NULL",
            "ALTER TABLE people DROP COLUMN old_stuff, ADD COLUMN z INT NULL FIRST",
            "ALTER TABLE orders_00 ADD COLUMN gift VARCHAR(10) NOT NULL DEFAULT 'no'",
            "ALTER TABLE orders_00 DROP COLUMN w",
        ):
            self._execute("s", statement)
            for _ in range(number):
                for table in ("logs_a", "stock_00", "untouched"):
                    self.change(table)
        self._execute(
            "s", "ALTER TABLE orders_01 ADD COLUMN gift VARCHAR(10) NOT NULL DEFAULT 'no'"
        )
        self._execute("s", "ALTER TABLE orders_01 DROP COLUMN w")
        self.altered = True

    # The verdict.

    def until_passed(self, pipeline: Pipeline) -> None:
        """Returns once every target has passed every source's last change."""
        for name in self.sources:
            wait_for(
                lambda name=name: self.reader.refresh().is_copied(name),  # type: ignore[misc]
                pipeline,
                timeout_s=WAIT_S,
                what=f"{name} copied",
            )
        finals = {}
        for name, at in self.sources.items():
            file_name, offset = executed(at)
            finals[name] = int(file_name.rpartition(".")[2]), offset
        since = now_us()
        wait_for(
            lambda: not self.reader.refresh().behind(finals, since),
            pipeline,
            timeout_s=WAIT_S,
            what="every target passes the last change",
        )

    def verdicts(self, what: str) -> Iterator[Verdict]:
        """One for each table of each target."""
        for expected in expectations(self.mask, altered=self.altered):
            rows = self._expected(expected)
            for target, held in (("rows", self._in_rows), ("columns", self._in_columns)):
                yield Verdict(
                    f"{what}: {expected.table} at {target}", len(rows), _wrong(rows, held(expected))
                )

    def _expected(self, expected: Expected) -> dict[Row, Row]:
        rows: list[Sequence[object]] = []
        for source, select in expected.selects:
            connection = self.sources[source].connect()
            try:
                with connection.cursor() as cursor:
                    cursor.execute(select.replace("DB", self.database))
                    rows += cursor.fetchall()
            finally:
                connection.close()
        return _keyed(expected, rows)

    def _in_rows(self, expected: Expected) -> dict[Row, Row]:
        connection = self._rows_at.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {', '.join(expected.shape)} FROM {self.home}.{expected.table}")  # fmt: skip
                return _keyed(expected, cursor.fetchall())
        finally:
            connection.close()

    def _in_columns(self, expected: Expected) -> dict[Row, Row]:
        at = self._columns_at
        client = clickhouse_connect.get_client(
            host=at.host, port=at.port, username=at.user, password=at.password
        )
        try:
            names = ", ".join(f"toString(`{name}`)" for name in expected.shape)
            found = client.query(
                f"SELECT {names} FROM `{self.home}`.`{expected.table}` FINAL WHERE _deleted = 0"
            )
            return _keyed(expected, found.result_rows)
        finally:
            client.close()

    def columns_of(self, table: str) -> list[str]:
        """What the row target's table has for columns, in order."""
        connection = self._rows_at.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s"
                    " AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
                    [self.home, table],
                )
                return [str(name) for (name,) in cursor.fetchall()]
        finally:
            connection.close()

    def close(self) -> None:
        """Drops what was made."""
        for name, connection in self._connections.items():
            with contextlib.suppress(Exception):
                self._execute(name, f"DROP DATABASE {self.database}")
            connection.close()


def _keyed(expected: Expected, rows: Sequence[Sequence[object]]) -> dict[Row, Row]:
    names = list(expected.shape)
    kinds = list(expected.shape.values())
    found: dict[Row, Row] = {}
    for row in rows:
        cells = tuple(canonical(cell, kind) for cell, kind in zip(row, kinds, strict=True))
        key = tuple(cells[names.index(name)] for name in expected.key)
        assert key not in found, f"two rows of {expected.table} under {key}"
        found[key] = cells
    return found


def _wrong(expected: Mapping[Row, Row], found: Mapping[Row, Row]) -> list[str]:
    return [
        f"{key}: {expected.get(key)} expected, {found.get(key)} found"
        for key in expected.keys() | found.keys()
        if expected.get(key) != found.get(key)
    ]


def run_load(
    world: World, number: int, *, restarts: bool, look: Callable[[], None] = lambda: None
) -> Iterator[Verdict]:
    """Existing rows, changes while stages die, ALTERs at the source, then another mask by a new plan.

    `look` is called once the first verdicts are out.
    """
    world.changes(number)
    pipeline = Pipeline(world.path)
    pipeline.start()
    try:
        for name in world.sources:
            wait_for(
                lambda name=name: world.reader.refresh().is_copied(name),  # type: ignore[misc]
                pipeline,
                timeout_s=WAIT_S,
                what="copied",
            )
        world.changes(number)
        kill(pipeline, "gravity_router")
        world.changes(number)
        world.until_passed(pipeline)
        yield from world.verdicts("transformed")
        look()
        world.alter(max(1, number // 10))
        if restarts:
            kill(pipeline, "gravity_sink_mysql")
            kill(pipeline, "gravity_sink_clickhouse")
        world.changes(number)
        if restarts:
            kill(pipeline, "gravity_resolver")
            kill(pipeline, "gravity_collector")
            world.changes(number)
        world.until_passed(pipeline)
        yield from world.verdicts("altered at the source")
        world.reload()
        world.changes(number)
        world.until_passed(pipeline)
        yield from world.verdicts("by another plan")
    finally:
        pipeline.stop()


def run(report: Report) -> None:
    """Rounds of changes to every table, with ALTERs, and deaths of every stage."""
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        world = World(stack, Path(folder), report.seed)
        try:
            for found in run_load(world, report.scaled(300), restarts=True):
                report.verdict(found)
        finally:
            world.close()
