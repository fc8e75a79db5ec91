"""Every type, on real servers: stream = snapshot = stock reader, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from gravity_collector.event import Rows

from gravity.batch import TableSchema, Value
from gravity.column import ColumnType, from_information_schema
from tests.integration.collector.binlog import stock_rows
from tests.integration.collector.binlog.source import Source
from tests.type_case import CASES, Case

pytestmark = pytest.mark.stack

DATABASE = "types"
# information_schema prints characters beyond the basic plane as `?`.
MANGLED_LABELS = {
    f"t_enum_{charset}" for charset in ("utf8mb4", "utf16", "utf16le", "utf32", "gb18030")
} | {"t_enum_emoji", "t_set_emoji"}


@dataclass
class Written:
    """All cases written at a server, and what was read of them."""

    source: Source
    cases: list[Case]
    rows: dict[str, list[tuple[Value, ...]]]
    schemas: dict[str, TableSchema]
    stock: dict[str, list[Any]]


@pytest.fixture(scope="module")
def written(source: Source) -> Iterator[Written]:
    cases = [case for case in CASES if case.is_at(source.flavor, source.version)]
    facts = source.facts()
    with source.connect() as client, client.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        cursor.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {DATABASE}")
        for case in cases:
            for statement in case.statements:
                cursor.execute(statement)
        rows: dict[str, list[tuple[Value, ...]]] = {}
        schemas: dict[str, TableSchema] = {}
        for event in source.events_since(facts):
            if isinstance(event, Rows) and event.table.schema.database == DATABASE:
                schema = event.table.schema
                schemas[schema.table] = schema
                rows.setdefault(schema.table, []).extend(event.table.rows(event.body, event.at))
        stock = stock_rows.rows_since(
            source.connection, facts.file_name, facts.next_offset, DATABASE
        )
        yield Written(source, cases, rows, schemas, stock)
        cursor.execute(f"DROP DATABASE {DATABASE}")


def described(written: Written, table: str) -> tuple[ColumnType, str | None, str | None]:
    """Type, character set and collation of column `c` by information_schema."""
    with written.source.connect() as client, client.cursor() as cursor:
        cursor.execute(
            "SELECT data_type, column_type, character_maximum_length, numeric_precision, numeric_scale,"
            " datetime_precision, character_set_name, collation_name FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s AND column_name = 'c'",
            (DATABASE, table),
        )
        row = cursor.fetchone()
    assert row is not None
    column_type = from_information_schema(
        data_type=row[0],
        column_type=row[1],
        character_maximum_length=row[2],
        numeric_precision=row[3],
        numeric_scale=row[4],
        datetime_precision=row[5],
    )
    return column_type, row[6], row[7]


def test_table_map_and_information_schema_give_the_same_column(written: Written) -> None:
    differences: list[tuple[str | None, ...]] = []
    for case in written.cases:
        column = written.schemas[case.name].columns[1]
        column_type, charset, collation = described(written, case.name)
        if case.name not in MANGLED_LABELS and column.type != column_type.text:
            differences.append((case.name, column.type, column_type.text))
        if column_type.has_charset and (column.charset, column.collation) != (charset, collation):
            differences.append((case.name, column.charset, column.collation, charset, collation))
        assert column.nullable
        assert written.schemas[case.name].key == (0,)
    assert differences == []


def test_stream_and_snapshot_give_the_same_cells(written: Written) -> None:
    differences = []
    with written.source.connect(text=True, database=DATABASE) as client, client.cursor() as cursor:
        for case in written.cases:
            column_type, _, _ = described(written, case.name)
            read = column_type.cell_reader()
            cursor.execute(
                f"SELECT id, {column_type.select_expression('c')} FROM `{case.name}` ORDER BY id"
            )
            selected = [
                (int(row[0]), row[1] if row[1] is None or read is None else read(row[1]))
                for row in cursor.fetchall()
            ]
            assert len(selected) == len(case.values) + 1
            ours = written.rows[case.name]
            differences += [
                (case.name, one, other)
                for one, other in zip(ours, selected, strict=True)
                if repr(one) != repr(other)
            ]
    assert differences == []


def test_stock_reader_gives_the_same_cells(written: Written) -> None:
    differences, compared, excused = [], 0, 0
    assert written.stock.keys() | stock_rows.NO_TYPE == written.rows.keys() | stock_rows.NO_TYPE
    for case in written.cases:
        if case.name in stock_rows.NO_TYPE:
            continue
        column = written.schemas[case.name].columns[1]
        for ours, stock in zip(written.rows[case.name], written.stock[case.name], strict=True):
            one = stock_rows.comparable(ours[1], column.type)
            other = stock_rows.as_cell(stock["c"], column.type)
            if one == other:
                compared += 1
            elif case.name.startswith(stock_rows.NOT_READ) or stock_rows.loss(
                ours[1], column.type, column.charset
            ):
                excused += 1
            else:
                differences.append((case.name, one, other))
    assert differences == []
    assert compared > 4 * excused, (compared, excused)
