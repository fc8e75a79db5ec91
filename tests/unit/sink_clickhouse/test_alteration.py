"""A column at ClickHouse never becomes narrower, whatever the source makes of its own."""

from __future__ import annotations

import pytest
from gravity_sink_clickhouse.alteration import common, second_part

from gravity.batch import Column
from gravity.evolution import Alteration, Step
from gravity.schema_change import ColumnAction, TableAction
from gravity.schema_follower import RealColumn


@pytest.mark.parametrize(
    ("there", "here", "wide"),
    [
        ("Int64", "Int32", "Int64"),
        ("Int32", "UInt32", "Int64"),
        ("Int64", "UInt64", "Int128"),
        ("Decimal(14, 2)", "Decimal(13,4)", "Decimal(16, 4)"),
        ("String", "Int32", None),
    ],
)
def test_a_common_type_holds_what_both_have(there: str, here: str, wide: str | None) -> None:
    assert common(there, here) == wide


def test_a_column_made_nullable_stays_as_wide() -> None:
    real = RealColumn("c", "Int64", nullable=False, in_key=False)
    step = Step(ColumnAction.MODIFY, "c", column=Column("c", "int", nullable=True))
    change = Alteration("d.t", "1", "s", 1, 0, TableAction.ALTER, (step,), ("c",))
    assert second_part(change, [real])[0] == (
        "ALTER TABLE `d`.`t` MODIFY COLUMN `c` Nullable(Int64)"
    )
