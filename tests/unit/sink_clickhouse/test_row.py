from __future__ import annotations

from typing import Any

import pytest
from gravity_sink_clickhouse.row import Field, Lines, encode_lines, escape
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import ChangeBatch, TableSchema
from gravity.codec import decode_batch
from gravity.column import ColumnType
from gravity.testing.target_log import Change, TargetLog, table

ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def unescape(text: str) -> str:
    """A field as ClickHouse reads it."""
    rest = iter(text)
    return "".join(ESCAPES[next(rest)] if c == "\\" else c for c in rest)


@given(st.text(st.sampled_from("\t\n\r\\N") | st.characters(exclude_categories=["Cs"])))
def test_escaped_text_is_one_field_and_reads_back(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("\t\n\r")
    assert unescape(escaped) == text


def encode(
    schema: TableSchema, changes: list[Change], nullable: bool = True
) -> tuple[ChangeBatch, Lines]:
    batch = decode_batch(TargetLog().rows(schema, changes)[1])
    fields = [
        Field(
            c.name,
            ColumnType.parse(c.type),
            nullable and index not in schema.key,
            index in schema.key,
        )
        for index, c in enumerate(schema.columns)
    ]
    return batch, encode_lines(batch, range(len(fields)), fields, first_version=100)


def one(kind: str, value: Any, *, nullable: bool = True) -> str:
    schema = table("d.t", [("id", "int"), ("c", kind)], ["id"])
    lines = encode(schema, [("I", (1, value))], nullable)[1]
    assert lines.refused == []
    return lines.lines[0].split("\t")[1]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("bigint unsigned", 2**64 - 1, "18446744073709551615"),
        ("double", 1e-7, "1e-07"),
        ("decimal(65,30)", "0.500000000000000000000000000000", "0.500000000000000000000000000000"),
        ("varchar(9)", None, "\\N"),
        ("varchar(9)", "\\N", "\\\\N"),
        ("varchar(9)", "", ""),
        ("varbinary(9)", b"\xff\t", "\udcff\\t"),
        ("time(3)", "-838:59:59.000", "-838:59:59.000"),
        ("bit(64)", 2**64 - 1, "18446744073709551615"),
    ],
)
def test_values_as_the_server_reads_them(kind: str, value: Any, text: str) -> None:
    assert one(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "value", "nullable", "text"),
    [
        ("date", "2024-02-29", True, "2024-02-29"),
        ("date", "0000-00-00", True, "\\N"),
        ("date", "0000-00-00", False, "1900-01-01"),
        ("date", "2024-02-31", True, "\\N"),
        ("date", "2024-00-10", False, "1900-01-01"),
        ("date", "1899-12-31", True, "1900-01-01"),
        ("date", "9999-12-31", True, "2299-12-31"),
        ("datetime(3)", "9999-12-31 23:59:59.999", True, "2299-12-31 23:59:59"),
        ("datetime(3)", "1000-01-01 00:00:00.000", True, "1900-01-01 00:00:00"),
        ("timestamp", "0000-00-00 00:00:00", False, "1900-01-01 00:00:00"),
        ("datetime", "1900-01-01 00:00:00", True, "1900-01-01 00:00:00"),
        ("datetime(6)", "2299-12-31 23:59:59.999999", True, "2299-12-31 23:59:59.999999"),
    ],
)
def test_dates_beyond_the_type_follow_the_rule_and_never_wrap(
    kind: str, value: str, nullable: bool, text: str
) -> None:
    assert one(kind, value, nullable=nullable) == text


def test_a_date_beyond_the_type_in_a_key_is_refused_and_its_neighbours_go_on() -> None:
    schema = table("d.t", [("day", "date"), ("n", "int")], ["day"])
    changes: list[Change] = [
        ("I", ("2024-01-01", 1)),
        ("I", ("0001-01-01", 2)),
        ("I", ("2024-01-02", 3)),
    ]
    _, lines = encode(schema, changes)
    assert lines.rows == [0, 2]
    assert [line.split("\t")[1] for line in lines.lines] == ["1", "3"]
    assert lines.refused == [(1, "key column day: 0001-01-01 is outside the type's range")]


def test_versions_follow_the_rows_also_behind_a_refused_one() -> None:
    schema = table("d.t", [("day", "date"), ("n", "int")], ["day"])
    _, lines = encode(schema, [("I", ("0001-01-01", 2)), ("D", ("2024-01-02", 3))])
    assert lines.lines == ["2024-01-02\t3\t101\t1"]


def test_null_where_the_target_takes_none_is_refused_unless_the_row_is_gone() -> None:
    schema = table("d.t", [("id", "int"), ("a", "int"), ("b", "date")], ["id"])
    _, lines = encode(
        schema, [("I", (1, None, "2024-01-01")), ("M", (2, None, None))], nullable=False
    )
    assert lines.refused == [(0, "column a can't be NULL here")]
    assert lines.lines == ["2\t0\t1900-01-01\t101\t1"]
