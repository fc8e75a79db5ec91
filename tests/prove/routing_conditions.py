"""Random conditions on random rows, decided here and by real servers: the verdicts must be the same.

A verdict is true, false or NULL. A condition that the server can't evaluate (a number out of its range)
or that gravity refuses by name (an ENUM as a number) is no pair; both are counted and bounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pymysql
from gravity_devstack import DatabaseServer, Stack

from gravity.batch import Value
from gravity.condition import ConditionError, compile_condition
from tests.prove.condition_sql import FIELDS, Sentences
from tests.prove.report import Report

ROWS_PER_TABLE = 24
CONDITIONS_PER_TABLE = 250
NULL_SHARE = 0.1
DATABASE = "condition_proof"


@dataclass
class Agreement:
    """What a comparison with one server found."""

    pairs: int = 0
    refused: int = 0
    failed: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Conditions that were made."""
        return self.pairs // ROWS_PER_TABLE + self.refused + self.failed


def compare(server: DatabaseServer, flavor: str, seed: int, pairs: int) -> Agreement:
    """Puts random conditions to `server` until `pairs` verdicts are compared."""
    random = Random(seed)
    sentences = Sentences(random, is_mysql=flavor == "mysql")
    found = Agreement()
    with server.connect() as connection, connection.cursor() as cursor, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of texts that are cut to a number.
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        cursor.execute(f"USE {DATABASE}")
        cursor.execute("SET time_zone = '+00:00'")
        while found.pairs < pairs:
            rows = _new_table(cursor, random)
            for _ in range(CONDITIONS_PER_TABLE):
                _compare_one(cursor, sentences.condition(), rows, found)
                if found.pairs >= pairs:
                    break
        cursor.execute(f"DROP DATABASE {DATABASE}")
    return found


def _new_table(cursor: Any, random: Random) -> list[list[Value]]:
    columns = ", ".join(part.definition for part in FIELDS)
    cursor.execute("DROP TABLE IF EXISTS t")
    cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {columns})")
    rows: list[list[Value]] = [
        [None if random.random() < NULL_SHARE else random.choice(part.cells) for part in FIELDS]
        for _ in range(ROWS_PER_TABLE)
    ]
    places = ", ".join(["%s"] * (len(FIELDS) + 1))
    cursor.executemany(
        f"INSERT INTO t VALUES ({places})", [[number, *row] for number, row in enumerate(rows)]
    )
    return rows


def _compare_one(
    cursor: Any, condition: str, rows: Sequence[Sequence[Value]], found: Agreement
) -> None:
    schema = tuple(part.column for part in FIELDS)
    columns = {part.name: [row[i] for row in rows] for i, part in enumerate(FIELDS)}
    try:
        ours = compile_condition(condition).evaluate(columns, schema, len(rows))
    except ConditionError:
        found.refused += 1
        return
    try:
        cursor.execute(f"SELECT ({condition}) IS TRUE, ({condition}) IS NULL FROM t ORDER BY id")
    except pymysql.err.Error:
        found.failed += 1
        return
    theirs = [None if is_null else bool(is_true) for is_true, is_null in cursor.fetchall()]
    found.pairs += len(rows)
    for row, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine is not other:
            used = {name: columns[name][row] for name in compile_condition(condition).columns}
            found.different.append(f"{condition} on {used}: {mine} here, {other} there")


def servers(stack: Stack) -> Iterator[tuple[str, DatabaseServer]]:
    """The two servers that conditions are held to."""
    yield "mysql", stack.mysql("order-db")
    yield "mariadb", stack.mariadb("user-master")


def run(report: Report) -> None:
    """At least 20,000 pairs on each server, from `report.seed` on."""
    with Stack() as stack:
        for flavor, server in servers(stack):
            found = compare(server, flavor, report.seed, report.scaled(20_000))
            report.line(
                f"conditions on {flavor} {server.version}",
                pairs=found.pairs,
                differences=len(found.different),
                examples=found.different[:10],
                note=f"refused by name {found.refused}, out of the server's range {found.failed}",
            )
