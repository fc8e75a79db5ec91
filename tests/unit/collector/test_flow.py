"""How a table's rows travel: by its key, by a key that stands in, by all their values, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gravity_collector.flow import Flows

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError
from gravity.plan import RoutingPlan
from tests.unit.collector.world import plan

COLUMNS = (Column("a", "int", nullable=False), Column("b", "varchar(9)"))
KEYLESS = TableSchema("shop", "log", COLUMNS, ())


def flows(made: RoutingPlan, key: tuple[str, ...] = ()) -> Flows:
    return Flows(made, "s", lambda *_: key)


def whole_row_plan() -> RoutingPlan:
    made = plan()
    return replace(
        made, sources=tuple(replace(source, whole_row=("shop.log",)) for source in made.sources)
    )


def test_a_unique_key_stands_in_for_a_primary_key_whatever_the_plan_says() -> None:
    for made in (plan(), whole_row_plan()):
        flow = flows(made, ("a",)).of_schema(KEYLESS)
        assert flow.schema.key_names == ("a",)
        assert not flow.is_whole_row


def test_a_table_without_a_key_is_refused_unless_it_is_named() -> None:
    with pytest.raises(FatalError, match="neither a primary key") as refused:
        flows(plan()).of_schema(KEYLESS)
    assert "whole-row: [shop.log]" in refused.value.remedy
    flow = flows(whole_row_plan()).of_schema(KEYLESS)
    assert flow.schema.key_names == ("_gravity_row",)
    assert flow.wanted == range(2), "every column of every image must be there"
    with pytest.raises(FatalError, match="neither a primary key"):
        flows(whole_row_plan()).of_schema(replace(KEYLESS, table="other"))


def test_a_column_with_the_name_of_an_added_one_is_refused() -> None:
    taken = replace(KEYLESS, columns=(*COLUMNS, Column("_Gravity_Copy", "int")))
    with pytest.raises(FatalError, match="_gravity_copy"):
        flows(whole_row_plan()).of_schema(taken)


def test_equal_rows_need_one_order_and_one_source() -> None:
    made = whole_row_plan()
    name = made.feeds("s", KEYLESS)[0]
    by_key = replace(made, lanes={name.target: {name.table: "key"}})
    with pytest.raises(FatalError, match="counted in one order"):
        flows(by_key).of_schema(KEYLESS)
    two = replace(made, feeding={name.target: {name.table: ("s", "other")}})
    with pytest.raises(FatalError, match="several sources"):
        flows(two).of_schema(KEYLESS)


def test_rows_of_before_the_key_that_the_table_has_now_halt_by_name() -> None:
    with pytest.raises(FatalError, match="before the table had its key"):
        flows(plan(), ("id",)).of_schema(KEYLESS)


def test_a_table_that_appears_later_does_not_become_another_one_of_the_source() -> None:
    made = plan()
    made = replace(made, targets=(replace(made.targets[0], database="all"),))
    keyed = replace(KEYLESS, key=(0,))
    seen = flows(made)
    seen.of_schema(keyed)
    seen.of_schema(replace(keyed, columns=COLUMNS[:1]))  # The same one, after an ALTER.
    with pytest.raises(FatalError, match=r"shop\.log and other\.log of source s .* all\.log"):
        seen.of_schema(replace(keyed, database="other"))
