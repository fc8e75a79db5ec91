"""The table of verdicts, put to real servers: the conditions of gravity mean what MySQL means."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import pytest
from gravity_devstack import DatabaseServer, Stack

from tests.unit.condition.case import CASES, GENERAL, JSON, Case

COLUMNS_MAX = 40
"""In one table, so that a row stays below the servers' limits."""
DIFFERS_ON_MARIADB = frozenset(
    {
        # A quotient is rounded to four more digits before it is compared.
        "int 1: c / 3 = 0.3333",
        "int 2: c / 3 * 3 = 2",
        # A text and a whole number compare exactly.
        f"varchar(40) {GENERAL} '9007199254740993': c = 9007199254740992",
    }
)
"""Cases in which MariaDB decides otherwise than MySQL; gravity follows MySQL."""
pytestmark = pytest.mark.stack


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[DatabaseServer]:
    server: DatabaseServer = (
        stack.mysql("order-db") if request.param == "mysql" else stack.mariadb("user-master")
    )
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE condition_case")
    yield server
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE condition_case")


def column(case: Case, number: int) -> str:
    collate = f" CHARACTER SET utf8mb4 COLLATE {case.collation}" if case.collation else ""
    return f"c{number} {case.type}{collate}"


def verdicts_of(server: DatabaseServer, all_cases: Sequence[Case]) -> list[bool | None]:
    """What the server decides about each case: one column each, in tables of one row."""
    verdicts: list[bool | None] = []
    with server.connect("condition_case") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES'")  # Dates of zeros are let in.
        for first in range(0, len(all_cases), COLUMNS_MAX):
            cases = all_cases[first : first + COLUMNS_MAX]
            columns = ", ".join(column(case, number) for number, case in enumerate(cases))
            cells = ["CAST(%s AS UNSIGNED)" if c.type.startswith("bit") else "%s" for c in cases]
            cursor.execute(f"CREATE TABLE t{first} ({columns})")
            cursor.execute(
                f"INSERT INTO t{first} VALUES ({', '.join(cells)})", [c.cell for c in cases]
            )
            for number, case in enumerate(cases):
                text = case.condition
                cell = f"(SELECT c{number} AS c FROM t{first}) AS cell"
                cursor.execute(f"SELECT ({text}) IS TRUE, ({text}) IS NULL FROM {cell}")
                row = cursor.fetchone()
                assert row is not None
                verdicts.append(None if row[1] else bool(row[0]))
    return verdicts


def test_the_server_decides_as_the_table_says(server: DatabaseServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of texts that are cut to a number.
        cases = (*CASES, *(JSON if server.flavor == "mysql" else ()))
        verdicts = verdicts_of(server, cases)
    different = {
        str(case): (verdict, case.verdict)
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict is not case.verdict
    }
    assert set(different) == (DIFFERS_ON_MARIADB if server.flavor == "mariadb" else set()), (
        different
    )
