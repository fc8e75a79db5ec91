"""The type table: one text for one column, wherever it was read from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity import type_reference
from gravity.column import (
    TYPES,
    ColumnType,
    UnknownColumnTypeError,
    from_information_schema,
    is_wide_integer,
)

TEXTS = (
    "tinyint", "smallint unsigned", "mediumint", "int unsigned", "bigint unsigned", "decimal(65,30)",
    "decimal(12,2) unsigned", "float", "double unsigned", "bit(64)", "year", "date", "time", "time(3)", "datetime",
    "datetime(6)", "timestamp", "timestamp(1)", "char(8)", "varchar(32)", "binary(8)", "varbinary(300)", "tinytext",
    "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json", "geometry", "vector(3)",
    "enum('a','b')", "set('x')", "enum('it''s','a,b',')','')",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_parsing(text: str) -> None:
    assert ColumnType.parse(text).text == text
    assert ColumnType.parse(text).kind in ("long", "double", "string", "bytes")


def test_every_type_has_a_rule_and_every_rule_a_type() -> None:
    assert {ColumnType.parse(text).name for text in TEXTS} == set(TYPES)


def test_the_page_of_types_is_fresh() -> None:
    page = Path(__file__).parents[2] / type_reference.PAGE
    assert page.read_text(encoding="utf-8") == type_reference.render(), "run `make docs`"


@pytest.mark.parametrize("text", TEXTS)
def test_only_integers_of_sixty_four_bits_are_wide(text: str) -> None:
    assert is_wide_integer(ColumnType.parse(text)) == text.startswith(("bigint", "bit("))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5), st.sampled_from(("enum", "set")))
def test_any_labels_survive(labels: list[str], name: str) -> None:
    column_type = ColumnType(name, labels=tuple(labels))
    assert ColumnType.parse(column_type.text) == column_type


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int(11)",
        "varchar",
        "decimal(5)",
        "point",
        "enum('a'",
        "enum('a',)",
        "text unsigned",
        "INT",
        "char(x)",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UnknownColumnTypeError, match=r"docs/types\.md"):
        ColumnType.parse(text)


@pytest.mark.parametrize(
    ("data_type", "column_type", "text"),
    [
        ("int", "int(10) unsigned zerofill", "int unsigned"),
        ("tinyint", "tinyint(1)", "tinyint"),
        ("float", "float(7,3)", "float"),
        ("enum", r"enum('a\\b','it''s','unsigned')", r"enum('a\b','it''s','unsigned')"),
        ("point", "point", "geometry"),
        ("uuid", "uuid", "binary(16)"),
        ("inet4", "inet4", "binary(4)"),
        ("longtext", "longtext", "longtext"),
        ("vector", "vector(3)", "vector(3)"),
        ("year", "year(4)", "year"),
    ],
)
def test_information_schema_gives_the_canonical_text(
    data_type: str, column_type: str, text: str
) -> None:
    found = from_information_schema(
        data_type=data_type,
        column_type=column_type,
        character_maximum_length=None,
        numeric_precision=None,
        numeric_scale=None,
        datetime_precision=None,
    )
    assert found.text == text


@pytest.mark.parametrize(
    ("data_type", "column_type", "charset", "text"),
    [
        ("enum", "enum('?','ab?','?')", "utf8mb4", "varchar(3)"),
        ("set", "set('a','?','cd')", "utf16", "varchar(6)"),
        ("enum", "enum('?','a')", "latin1", "enum('?','a')"),
        ("enum", "enum('a')", "utf8mb4", "enum('a')"),
    ],
)
def test_labels_that_the_catalog_may_have_lost_become_text(
    data_type: str, column_type: str, charset: str, text: str
) -> None:
    found = from_information_schema(
        data_type=data_type,
        column_type=column_type,
        character_maximum_length=None,
        numeric_precision=None,
        numeric_scale=None,
        datetime_precision=None,
        character_set_name=charset,
    )
    assert found.text == text


def test_cells_are_selected_without_loss() -> None:
    assert ColumnType.parse("float").select_expression("`f`") == "`f` * 1e0"
    assert ColumnType.parse("vector(3)").select_expression("`v`") == "CAST(`v` AS BINARY)"
    assert ColumnType.parse("bit(8)").select_expression("`b`") == "`b` + 0"
    assert ColumnType.parse("varchar(8)").select_expression("`v`") == "`v`"
