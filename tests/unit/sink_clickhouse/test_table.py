from __future__ import annotations

import pytest
from gravity_sink_clickhouse import error_code
from gravity_sink_clickhouse.table import column_type, create_table, create_view, quote_name

from gravity.batch import Column
from gravity.testing.target_log import table


@pytest.mark.parametrize(
    ("kind", "nullable", "in_key", "expected"),
    [
        ("tinyint unsigned", False, False, "UInt8"),
        ("mediumint", True, False, "Nullable(Int32)"),
        ("bigint unsigned", True, True, "UInt64"),
        ("decimal(65,30)", False, False, "Decimal(65,30)"),
        ("date", True, False, "Nullable(Date32)"),
        ("datetime(6)", False, False, "DateTime64(6,'UTC')"),
        ("timestamp", True, False, "Nullable(DateTime64(0,'UTC'))"),
        ("time(2)", True, False, "Nullable(String)"),
        ("enum('a','b')", True, False, "LowCardinality(Nullable(String))"),
        ("enum('a','b')", False, True, "LowCardinality(String)"),
        ("bit(1)", False, False, "UInt64"),
        ("year", False, False, "UInt16"),
        ("json", True, False, "Nullable(String)"),
        ("longblob", False, False, "String"),
    ],
)
def test_types(kind: str, nullable: bool, in_key: bool, expected: str) -> None:
    assert column_type(Column("c", kind, nullable), in_key=in_key) == expected


def test_added_columns_take_null_for_the_rows_that_are_there() -> None:
    assert (
        column_type(Column("c", "int", nullable=False), in_key=False, added=True)
        == "Nullable(Int32)"
    )


def test_statements() -> None:
    schema = table("shop.or`ders", [("id", "int"), ("n", "int")], ["id"])
    assert create_table("shop", "or`ders", schema) == (
        "CREATE TABLE IF NOT EXISTS `shop`.`or\\`ders` (\n"
        "  `id` Int32,\n  `n` Nullable(Int32),\n  _version UInt64,\n  _deleted UInt8\n"
        ") ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY (`id`)\n"
        "SETTINGS non_replicated_deduplication_window = 1000"
    )
    assert create_view("shop", "t").endswith("FROM `shop`.`t` FINAL")
    assert quote_name("a\\`") == "`a\\\\\\``"


def test_each_code_has_one_meaning() -> None:
    groups = [set(error_code._TRANSIENT), set(error_code._POISON), set(error_code._FATAL)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(error_code.ERROR_BY_CODE)
