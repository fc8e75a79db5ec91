"""Cells whose bare text the server would take for something else."""

from __future__ import annotations

import json

import pytest
from gravity_sink_mysql.alteration import holds
from gravity_sink_mysql.definition import Dialect
from gravity_sink_mysql.spelling import json_literal, special_of
from gravity_sink_mysql.statement import Layout

from gravity.column import ColumnType


def layout(*types: str, is_mariadb: bool = False) -> Layout:
    kinds = [ColumnType.parse(text) for text in types]
    names = tuple(f"c{index}" for index in range(len(kinds)))
    return Layout(
        "`d`.`t`",
        names,
        ("c0",),
        (0,),
        tuple(special_of(kind, is_mariadb=is_mariadb) for kind in kinds),
        tuple(i for i, kind in enumerate(kinds) if kind.name == "enum" and "" not in kind.labels),
    )


def test_a_negative_zero_keeps_its_sign() -> None:
    rows = [(1, -0.0), (2, 0.0), (3, None), (4, 1.5)]
    assert layout("int", "double").texts(rows) == ["(1,-0e0)", "(2,0.0)", "(3,NULL)", "(4,1.5)"]
    assert (
        layout("int", "float").update((1, -0.0)).startswith("UPDATE `d`.`t` SET `c0`=1,`c1`=-0e0 ")
    )


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("12.50", "JSON_REPLACE('12.50','$',12.50)"),
        ("12.5", "'12.5'"),
        ("2.0", "'2.0'"),
        ("-0.0", "'-0.0'"),
        ("2.00", "JSON_REPLACE('2.00','$',2.00)"),
        ("18446744073709551615", "'18446744073709551615'"),
        ("18446744073709551616", "JSON_REPLACE('18446744073709551616','$',18446744073709551616)"),
        ("0.30000000000000004", "JSON_REPLACE('0.30000000000000004','$',0.30000000000000004e0)"),
        ("1e100", "JSON_REPLACE('1e100','$',1e100)"),
        ("1e16", "'1e16'"),
        ("0." + "0" * 19 + "1", f"JSON_REPLACE('0.{'0' * 19}1','$',0.{'0' * 19}1)"),
        ('"12.50"', "'\"12.50\"'"),
        ('{"a": "it\'s 1.10"}', "'{\"a\": \"it''s 1.10\"}'"),
    ],
)
def test_numbers_that_a_json_reader_would_change_are_put_in_as_sql(text: str, sql: str) -> None:
    assert json_literal(text) == sql


def test_each_number_of_a_document_is_found_by_its_path() -> None:
    document = {"a": [1, {"x.y": "M"}], 'q"\\': "N", "": ["O"], "ü'": 1.5}
    text = json.dumps(document, ensure_ascii=False)
    text = text.replace('"M"', "1.10").replace('"N"', "2.20").replace('"O"', "3.30")
    quoted = text.replace("'", "''")
    assert json_literal(text) == (
        f"JSON_REPLACE('{quoted}','$.\"a\"[1].\"x.y\"',1.10,"
        """'$."q\\"\\\\"',2.20,'$.""[0]',3.30)"""
    )


def test_mariadb_keeps_the_text_of_a_document() -> None:
    assert layout("int", "json", is_mariadb=True).texts([(1, "12.50")]) == ["(1,'12.50')"]
    assert layout("int", "json").texts([(1, "12.50"), (2, None)]) == [
        "(1,JSON_REPLACE('12.50','$',12.50))",
        "(2,NULL)",
    ]


def test_none_of_the_labels_is_written_behind_the_row_and_to_that_column_alone() -> None:
    rows = [(1, "b"), (2, ""), (3, None), (4, "")]
    made = layout("int", "enum('it''s','b')")
    assert made.texts(rows) == ["(1,'b')", "(2,'it''s')", "(3,NULL)", "(4,'it''s')"]
    assert made.repairs(rows) == ["UPDATE IGNORE `d`.`t` SET `c1`='' WHERE `c0` IN (2,4)"]
    assert made.repairs(rows[:1]) == []
    empty_label = layout("int", "enum('','b')")
    assert empty_label.texts(rows[1:2]) == ["(2,'')"]
    assert empty_label.repairs(rows) == []


def test_vectors_are_bytes_where_the_server_has_none() -> None:
    kind = ColumnType.parse("vector(3)")
    old = Dialect({}, frozenset({"utf8mb4"}), has_vectors=False)
    assert old.type_text(kind) == "varbinary(12)"
    assert Dialect({}, frozenset({"utf8mb4"})).type_text(kind) == "vector(3)"


def test_documents_are_text_where_the_server_would_refuse_deep_ones() -> None:
    kind = ColumnType.parse("json")
    mariadb = Dialect({}, frozenset({"utf8mb4"}), has_documents=False)
    assert mariadb.type_text(kind) == "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    assert Dialect({}, frozenset({"utf8mb4"})).type_text(kind) == "json"


def test_what_stands_in_for_a_type_holds_it() -> None:
    longtext, shorter = ColumnType.parse("longtext"), ColumnType.parse("varbinary(11)")
    assert holds(longtext, ColumnType.parse("json"))
    assert holds(ColumnType.parse("varbinary(12)"), ColumnType.parse("vector(3)"))
    assert not holds(shorter, ColumnType.parse("vector(3)"))
