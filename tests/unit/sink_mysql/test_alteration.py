"""A column at the target never becomes narrower, whatever the source makes of its own."""

from __future__ import annotations

import pytest
from gravity_sink_mysql.alteration import common, judge, second_part
from gravity_sink_mysql.definition import Dialect

from gravity.batch import Column
from gravity.column import ColumnType
from gravity.evolution import Alteration, Step
from gravity.schema_change import ColumnAction, TableAction
from gravity.schema_follower import RealColumn

DIALECT = Dialect(
    {"latin1_bin": "latin1", "utf8mb4_bin": "utf8mb4"}, frozenset(("latin1", "utf8mb4"))
)


@pytest.mark.parametrize(
    ("there", "here", "wide"),
    [
        ("bigint", "int", "bigint"),
        ("int", "bigint", "bigint"),
        ("int", "int unsigned", "bigint"),
        ("bigint", "bigint unsigned", "decimal(20,0)"),
        ("varchar(60)", "varchar(20)", "varchar(60)"),
        ("decimal(14,2)", "decimal(13,4)", "decimal(16,4)"),
        ("decimal(5,2) unsigned", "decimal(5,2)", "decimal(5,2)"),
        ("decimal(65,0)", "decimal(30,30)", None),
        ("enum('a','b','c')", "enum('a','d')", "enum('a','b','c','d')"),
        ("double unsigned", "double", "double"),
        ("varchar(20)", "int", None),
        ("date", "datetime", None),
    ],
)
def test_a_common_type_holds_what_both_have(there: str, here: str, wide: str | None) -> None:
    found = common(ColumnType.parse(there), ColumnType.parse(here))
    assert (found.text if found is not None else None) == wide


@pytest.mark.parametrize(
    ("there", "here", "altered"),
    [
        (
            Column("c", "bigint", nullable=False),
            Column("c", "int", nullable=True),
            "`c` bigint NULL",
        ),
        (
            Column("c", "varchar(60)", nullable=True, charset="latin1"),
            Column("c", "varchar(20)", nullable=True, charset="utf8mb4", collation="utf8mb4_bin"),
            "`c` varchar(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
        ),
        (
            Column("c", "varchar(60)", nullable=False, charset="utf8mb4"),
            Column("c", "varchar(20)", nullable=True, charset="latin1"),
            "`c` varchar(60) CHARACTER SET utf8mb4 NULL",
        ),
        (
            Column("c", "varchar(60)", nullable=True, charset="latin2"),
            Column("c", "varchar(20)", nullable=True, charset="latin1"),
            "`c` varchar(60) CHARACTER SET utf8mb4 NULL",
        ),
    ],
)
def test_a_column_made_nullable_or_given_other_characters_stays_as_wide(
    there: Column, here: Column, altered: str
) -> None:
    real = RealColumn(
        "c",
        there.type,
        there.nullable,
        in_key=False,
        charset=there.charset,
        collation=there.collation,
    )
    assert judge(real, here) == "widen"
    step = Step(ColumnAction.MODIFY, "c", column=here)
    change = Alteration("d.t", "1", "s", 1, 0, TableAction.ALTER, (step,), ("c",))
    assert second_part("`d`.`t`", change, [real], DIALECT) == [
        f"ALTER TABLE `d`.`t` MODIFY COLUMN {altered} DEFAULT NULL"
    ]
