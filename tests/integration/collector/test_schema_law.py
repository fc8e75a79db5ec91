"""The law of schema changes, on real servers: if existing rows are said to be kept or filled, they are.

A table goes through random statements. Before and after each, its columns and rows are read from the
server; what the statement is said to have done, done to the old rows, must give the new ones.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from gravity_collector.chunk import Chunk
from gravity_collector.ddl.column_definition import Dialect
from gravity_collector.ddl.effect import Effect, effects_of
from gravity_collector.ddl.sql_token import SqlMode
from gravity_collector.ddl.statement import parse_ddl
from gravity_collector.snapshot import SourceConnection
from gravity_collector.table_reader import TableReader
from gravity_devstack.database import DatabaseServer

from gravity.batch import TableSchema, Value
from gravity.catalog import read_catalog
from gravity.column import ColumnType
from gravity.schema_change import ColumnAction, RowsAfter, TableAction

DATABASE = "schema_law"
STATEMENTS = int(os.environ.get("GRAVITY_SCHEMA_LAW", "40"))
MODES = {
    "": 0,
    "STRICT_TRANS_TABLES": 1 << 21,
    "STRICT_ALL_TABLES,ANSI_QUOTES": 1 << 22 | 1 << 2,
    "NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES": 1 << 20 | 1 << 21,
}
TYPES = (
    "TINYINT", "TINYINT UNSIGNED", "SMALLINT", "INT", "INT(11) UNSIGNED", "INTEGER", "BIGINT", "BIGINT UNSIGNED ZEROFILL",
    "BOOL", "DECIMAL(5,2)", "DECIMAL(10,2)", "NUMERIC(10,4) UNSIGNED", "DEC", "FLOAT", "DOUBLE", "DOUBLE PRECISION",
    "FLOAT(7,2)", "FLOAT(30)", "REAL", "BIT(3)", "BIT(9)", "CHAR(5)", "CHAR(9)", "CHAR", "VARCHAR(5)", "VARCHAR(40)",
    "CHARACTER VARYING(20)", "VARCHAR(40) CHARACTER SET latin1", "VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "VARCHAR(9) COLLATE latin1_swedish_ci", "TINYTEXT", "TEXT", "TEXT CHARACTER SET latin1", "MEDIUMTEXT", "LONGTEXT",
    "BINARY(4)", "BINARY(6)", "VARBINARY(5)", "VARBINARY(50)", "TINYBLOB", "BLOB", "BLOB(70000)", "LONGBLOB",
    "CHAR(5) CHARACTER SET binary", "VARCHAR(5) BYTE",
    "ENUM('a','b')", "ENUM('a','b','c')", "ENUM('b','a')", "SET('x','y')", "SET('x','y','z')", "DATE", "DATETIME", "DATETIME(3)",
    "TIMESTAMP", "TIMESTAMP(6)", "TIME", "TIME(2)", "YEAR", "JSON", "POINT", "LONG VARCHAR", "LONG VARBINARY", "INT4", "MIDDLEINT",
)  # fmt: skip
DEFAULTS = (
    "0", "5", "-1", "'7'", "1.5", "'1.50'", "'x'", "'it''s'", "''", "'a'", "'b'", "'x,y'", "'2020-01-31'",
    "'2020-01-31 10:20:30'", "'2020-01-31 10:20:30.5'", "'10:20:30'", "2021", "b'101'", "TRUE", "NULL", "1e2", "'a\\\\n'",
    "CURRENT_TIMESTAMP", "(1+1)", "(UUID())", "'  y  '", "X'41'", "+3", "'A'", "128", "0.1", "'0000-00-00'", '"q"',
)  # fmt: skip
TEXTS = (
    "",
    "a",
    "b",
    "x,y",
    "0",
    "1",
    "12",
    "-3",
    "1.5",
    "abc  ",
    "ü",
    "€",
    "日本",
    "2020-02-03",
    "10:11:12",
    "x" * 30,
)


class Table:
    """A table on a real server that statements are run on."""

    def __init__(self, server: DatabaseServer, rng: random.Random) -> None:
        self._rng = rng
        self.is_mariadb = server.flavor == "mariadb"
        self._client = server.connect()
        self._run(f"DROP DATABASE IF EXISTS {DATABASE}")
        self._run(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        self._client.select_db(DATABASE)
        arguments = {
            "host": server.host, "port": server.port, "user": server.user, "password": server.password,
        }  # fmt: skip
        self._reader = SourceConnection(arguments, "s")
        self._names = 0

    def close(self) -> None:
        self._run(f"DROP DATABASE IF EXISTS {DATABASE}")
        self._client.close()
        self._reader.close()

    def _run(self, sql: str) -> None:
        with self._client.cursor() as cursor:
            cursor.execute(sql)

    def run(self, sql: str, mode: str) -> bool:
        """Whether the server took the statement."""
        self._run(f"SET SESSION sql_mode = '{mode}'")
        try:
            self._run(sql)
        except pymysql.err.MySQLError:
            return False
        return True

    def fill(self) -> None:
        """A few rows with what fits, NULLs and odd values."""
        self._run("SET SESSION sql_mode = ''")
        schema = self.shape()
        assert schema is not None
        for _ in range(4):
            cells = [
                "NULL" if self._rng.random() < 0.2 else repr(self._rng.choice(TEXTS)) for _ in schema.columns
            ]  # fmt: skip
            names = ",".join(f"`{column.name}`" for column in schema.columns)
            with suppress(pymysql.err.MySQLError):
                self._run(f"INSERT IGNORE INTO t ({names}) VALUES ({','.join(cells)})")

    def shape(self, table: str = "t") -> TableSchema | None:
        name = DATABASE, table
        found = read_catalog(self._reader.query, lambda *_: True, self._reader.literal, only=name)
        return found[name].schema if name in found else None

    def rows(self, schema: TableSchema) -> list[tuple[Value, ...]]:
        reader = TableReader(schema, self._reader.literal)
        found = self._reader.columns(reader.rows(Chunk((DATABASE, "t"), None, None)))
        return list(zip(*reader.columns(found.columns), strict=True))

    def new_name(self) -> str:
        self._names += 1
        return f"c{self._names}"

    def definition(self) -> str:
        rng = self._rng
        parts = [rng.choice(TYPES)]
        if rng.random() < 0.4:
            parts.append(rng.choice(("NULL", "NOT NULL")))
        if rng.random() < 0.4:
            parts.append(f"DEFAULT {rng.choice(DEFAULTS)}")
        if rng.random() < 0.1:
            parts.append(
                rng.choice(("COMMENT 'NOT NULL'", "/*! COMMENT 'x' */", "UNIQUE", "CHECK (1 = 1)"))
            )
        return " ".join(parts)

    def clause(self, names: Sequence[str]) -> str:
        rng = self._rng
        name = rng.choice(names)
        place = rng.choice(("", "", "", " FIRST", f" AFTER `{rng.choice(names)}`"))
        quoted = rng.choice((f"`{name}`", name, f"`{name.upper()}`"))
        # Few columns: more are added than dropped, but not without end.
        grows = 6 if len(names) < 9 else 1
        kind = rng.choices(
            ("add", "group", "drop", "rename", "change", "modify", "default", "convert", "other", "instant"),
            (grows, 1, 2, 1, 2, 5, 1, 0.4, 1, 0.5),
        )[0]  # fmt: skip
        exists, not_exists = (
            rng.choice((("", ""), ("IF EXISTS ", "IF NOT EXISTS ")))
            if self.is_mariadb
            else ("", "")
        )
        match kind:
            case "add":
                new = rng.choice((self.new_name(), self.new_name(), name if not_exists else "n"))
                return (
                    f"ADD {rng.choice(('', 'COLUMN '))}{not_exists}{new} {self.definition()}{place}"
                )
            case "group":
                return f"ADD ({self.new_name()} {self.definition()}, {self.new_name()} INT)"
            case "drop":
                return f"DROP {rng.choice(('', 'COLUMN '))}{exists}{quoted}"
            case "rename":
                return (
                    f"RENAME COLUMN {quoted} TO {rng.choice((self.new_name(), rng.choice(names)))}"
                )
            case "change":
                return f"CHANGE {exists}{quoted} {rng.choice((name, self.new_name()))} {self.definition()}{place}"
            case "modify":
                return f"MODIFY {rng.choice(('', 'COLUMN '))}{exists}{quoted} {self.definition()}{place}"
            case "default":
                return f"ALTER {quoted} SET DEFAULT {rng.choice(DEFAULTS)}"
            case "convert":
                return f"CONVERT TO CHARACTER SET {rng.choice(('utf8mb4', 'latin1', 'utf8mb4 COLLATE utf8mb4_bin'))}"
            case "instant":
                return f"ADD {self.new_name()} INT, ALGORITHM=INSTANT"
        return rng.choice(
            ("COMMENT 'ADD x INT'", "ENGINE=InnoDB", "ROW_FORMAT=DYNAMIC", f"ADD INDEX ({quoted})", "FORCE",
             "AUTO_INCREMENT=7, LOCK=SHARED")
        )  # fmt: skip

    def statement(self) -> str:
        schema = self.shape()
        assert schema is not None
        names = [column.name for column in schema.columns if column.name != "id"]
        clauses = [self.clause(names or ["id"]) for _ in range(self._rng.choice((1, 1, 1, 2, 3)))]
        table = self._rng.choice(("t", "`t`", f"{DATABASE}.t", f"`{DATABASE}` . `t`"))
        ignore = "IGNORE " if self.is_mariadb and self._rng.random() < 0.1 else ""
        return f"ALTER {ignore}TABLE {table} {', '.join(clauses)}"


def _cell(text: str | None, type_text: str) -> Value:
    kind = ColumnType.parse(type_text).kind
    if text is None:
        return None
    return {"long": int, "double": float, "string": str, "bytes": str.encode}[kind](text)  # type: ignore[operator, no-any-return]


def _said(
    effect: Effect, old: TableSchema, rows: Sequence[Sequence[Value]]
) -> list[dict[str, Value]]:
    """The old rows as the effect says they are now."""
    now = [
        dict(zip((column.name.lower() for column in old.columns), row, strict=True)) for row in rows
    ]
    for change in effect.columns:
        name = change.name.lower()
        for row in now:
            match change.action:
                case ColumnAction.ADD:
                    assert change.column is not None
                    text = change.default if effect.rows is RowsAfter.FILLED else None
                    row[name] = _cell(text, change.column.type)
                case ColumnAction.DROP:
                    del row[name]
                case ColumnAction.RENAME | ColumnAction.MODIFY:
                    row[(change.new_name or name).lower()] = row.pop(name)
    return now


def _effects(sql: str, shape: TableSchema | None, dialect: Dialect) -> list[Effect]:
    ddl = parse_ddl(sql, DATABASE, dialect)
    assert ddl is not None, sql
    return effects_of(ddl, lambda _: shape, dialect, lambda _: ())


def _assert_told(effect: Effect, new: TableSchema, what: str) -> None:
    """The shape that we said the table has is the one it has, as far as it was said."""
    if effect.shape is None:
        return
    said = effect.shape
    assert [c.name for c in said.columns] == [c.name for c in new.columns], what
    assert said.key_names == new.key_names, what
    for ours, real in zip(said.columns, new.columns, strict=True):
        assert ours.type == real.type, (what, ours, real)
        if ColumnType.parse(ours.type).name != "timestamp":
            assert ours.nullable == real.nullable, (what, ours, real)
        assert ours.charset in (None, real.charset), (what, ours, real)
        assert ours.collation in (None, real.collation), (what, ours, real)


@pytest.fixture
def counts() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    yield found
    print(dict(found))


@pytest.mark.parametrize("seed", [int(os.environ.get("GRAVITY_SEED", "1"))])
def test_rows_said_to_be_kept_or_filled_are_as_the_server_has_them(
    server: DatabaseServer, seed: int, counts: Counter[str]
) -> None:
    rng = random.Random(f"{server.flavor}{seed}")
    table = Table(server, rng)
    try:
        _walk(table, rng, counts)
    finally:
        table.close()
    assert counts["kept"] + counts["filled"] > counts["taken"] / 4, counts


def _walk(table: Table, rng: random.Random, counts: Counter[str]) -> None:
    table.run(
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20), b INT, d DATETIME)", ""
    )
    for _ in range(STATEMENTS):
        table.fill()
        old = table.shape()
        assert old is not None
        rows = table.rows(old)
        name = rng.choice(list(MODES))
        dialect = Dialect(table.is_mariadb, SqlMode(MODES[name]))
        sql = table.statement()
        if not table.run(sql, name):
            counts["refused"] += 1
            continue
        counts["taken"] += 1
        new = table.shape()
        assert new is not None
        real: list[Mapping[str, Any]] = [
            dict(zip((column.name.lower() for column in new.columns), row, strict=True))
            for row in table.rows(new)
        ]
        for shape in (old, None):
            (*emptied, effect) = _effects(sql, shape, dialect)
            what = f"{sql!r} under {name!r}, {'known' if shape else 'unknown'} {old} said {effect}"
            assert all(one.action is TableAction.TRUNCATE for one in emptied), what
            _assert_told(effect, new, what)
            if shape is not None:
                counts[effect.rows] += 1
                counts["told"] += effect.shape is not None
            if effect.rows is not RowsAfter.REREAD:
                assert _said(effect, old, rows) == real, what
