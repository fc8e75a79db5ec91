"""Tables of a MySQL or MariaDB server, by plain SELECT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pymysql

from tests.oracle.cell import Row, canonical


@dataclass(frozen=True)
class Address:
    """Where a database server is and how to log in."""

    host: str
    port: int
    user: str
    password: str

    def connect(self) -> Any:
        """A connection whose values come as the server prints them."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            autocommit=True,
            charset="utf8mb4",
            conv={},
            init_command="SET time_zone = '+00:00'",
        )


@dataclass(frozen=True)
class Table:
    """The columns of a table and which of them are its primary key."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[int, ...]

    def key_of(self, row: Row) -> Row:
        """The key's cells."""
        return tuple(row[index] for index in self.key)


def describe(address: Address, database: str, table: str) -> Table:
    """The shape of a table."""
    connection = address.connect()
    cursor = connection.cursor()
    cursor.execute(
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_KEY FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
        (database, table),
    )
    rows = [tuple(map(_text, row)) for row in cursor.fetchall()]
    connection.close()
    return Table(
        tuple(row[0] for row in rows),
        tuple(row[1].lower() for row in rows),
        tuple(index for index, row in enumerate(rows) if row[2] == "PRI"),
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def select_rows(address: Address, database: str, table: str, shape: Table) -> dict[Row, Row]:
    """Every row by its key, in one spelling."""
    names = ", ".join(f"`{name}`" for name in shape.columns)
    connection = address.connect()
    cursor = connection.cursor()
    cursor.execute(f"SELECT {names} FROM `{database}`.`{table}`")
    found = [_row(row, shape) for row in cursor.fetchall()]
    connection.close()
    return {shape.key_of(row): row for row in found}


def _row(values: Sequence[object], shape: Table) -> Row:
    return tuple(canonical(value, kind) for value, kind in zip(values, shape.types, strict=True))


def row_of(values: Mapping[str, object], shape: Table) -> Row:
    """A row given by column names."""
    return tuple(
        canonical(values.get(name), kind)
        for name, kind in zip(shape.columns, shape.types, strict=True)
    )


def executed(address: Address) -> tuple[str, int]:
    """(binlog file, offset) of everything committed so far."""
    connection = address.connect()
    cursor = connection.cursor()
    cursor.execute("SHOW MASTER STATUS")
    file_name, offset = cursor.fetchone()[:2]
    connection.close()
    return _text(file_name), int(offset)
