from __future__ import annotations

import pytest
from gravity_sink_mysql.definition import Dialect, column_definition, create_table

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError

MYSQL8 = Dialect(
    {
        "utf8mb4_0900_ai_ci": "utf8mb4",
        "utf8mb4_0900_bin": "utf8mb4",
        "utf8mb4_bin": "utf8mb4",
        "utf8_general_ci": "utf8",
        "utf8_bin": "utf8",
        "latin1_swedish_ci": "latin1",
        "latin1_bin": "latin1",
    },
    frozenset({"utf8mb4", "utf8", "latin1"}),
)
MARIADB = Dialect(
    {
        "utf8mb4_uca1400_ai_ci": "utf8mb4",
        "utf8mb4_bin": "utf8mb4",
        "utf8mb4_nopad_bin": "utf8mb4",
        "utf8mb3_general_ci": "utf8mb3",
    },
    frozenset({"utf8mb4", "utf8mb3"}),
)


def text(collation: str, charset: str = "utf8mb4") -> Column:
    return Column("c", "varchar(5)", True, charset, collation)


def test_a_known_collation_is_kept() -> None:
    assert MYSQL8.spell(text("utf8mb4_0900_ai_ci"), in_key=True) == (
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"
    )


def test_an_unknown_collation_becomes_the_servers_default_of_the_charset() -> None:
    assert MARIADB.spell(text("utf8mb4_0900_ai_ci"), in_key=False) == " CHARACTER SET utf8mb4"


def test_an_unknown_collation_in_a_key_becomes_binary_so_that_no_two_rows_become_one() -> None:
    assert MARIADB.spell(text("utf8mb4_0900_ai_ci"), in_key=True) == (
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    )
    assert MYSQL8.spell(text("utf8mb4_uca1400_ai_ci"), in_key=True) == (
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin"
    )


def test_an_unknown_case_sensitive_collation_becomes_binary() -> None:
    assert MARIADB.spell(text("utf8mb4_0900_as_cs"), in_key=False) == (
        " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    )


def test_three_byte_utf8_is_known_by_either_name() -> None:
    assert MYSQL8.spell(text("utf8mb3_general_ci", "utf8mb3"), in_key=False) == (
        " CHARACTER SET utf8 COLLATE utf8_general_ci"
    )
    assert MARIADB.spell(text("utf8_general_ci", "utf8"), in_key=False) == (
        " CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci"
    )


def test_an_unknown_charset_becomes_utf8mb4() -> None:
    assert MARIADB.spell(text("gb18030_bin", "gb18030"), in_key=False).startswith(
        " CHARACTER SET utf8mb4"
    )


def test_nullability_and_timestamps() -> None:
    assert column_definition(Column("a", "timestamp", False), MYSQL8).endswith(
        "NOT NULL DEFAULT '0000-00-00 00:00:00'"
    )
    assert (
        column_definition(Column("a", "int", False), MYSQL8, added=True)
        == "`a` int NULL DEFAULT NULL"
    )


def test_a_key_that_cant_be_indexed_whole_is_refused() -> None:
    schema = TableSchema("d", "t", (Column("a", "text", False, "utf8mb4", "utf8mb4_bin"),), (0,))
    with pytest.raises(FatalError, match="can't be indexed whole"):
        create_table("`d`.`t`", schema, MYSQL8)
