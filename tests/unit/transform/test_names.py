"""What tables are called at a target, and which of them may become one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError
from gravity.pattern import PatternError, parse_table_pattern
from gravity.plan_part import TargetPlan
from gravity.transform.naming import TemplateError, fill, may_become, parse_template
from gravity.transform.rule import TransformPlan
from gravity.transform.sharing import Shared, with_joins
from gravity.whole_row import ROW


@pytest.mark.parametrize(
    ("pattern", "name", "captured"),
    [
        ("orders_{part}", ("x", "orders_07"), {"part": "07"}),
        ("orders_{part:[0-9][0-9]}", ("x", "orders_07"), {"part": "07"}),
        ("orders_{part:[0-9][0-9]}", ("x", "orders_7"), None),
        ("{shop}_db.{kind}_{n}", ("eu_db", "a_b_c"), {"shop": "eu", "kind": "a_b", "n": "c"}),
        ("a.{x:b?c}", ("a", "bbc"), {"x": "bbc"}),
        ("a[{]b", ("x", "a{b"), {}),
    ],
)
def test_what_a_pattern_captures(
    pattern: str, name: tuple[str, str], captured: dict[str, str] | None
) -> None:
    parsed = parse_table_pattern(pattern, captures=True)
    assert parsed.matches(*name) == (captured is not None)
    if captured is not None:
        assert parsed.captured(*name) == captured


@pytest.mark.parametrize("pattern", ["a{", "a}", "{1}", "{a}{a}", "{a}.{a}", "{a:}", "{a b}"])
def test_a_capture_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        parse_table_pattern(pattern, captures=True)


def test_braces_elsewhere_are_only_braces() -> None:
    assert parse_table_pattern("a{b}").matches("x", "a{b}")


def test_a_template_is_filled_in() -> None:
    assert fill("{a}-{{{b}}}", {"a": "1", "b": "2"}) == "1-{2}"
    for text in ("{", "{a!r}", "{a:3}", "{}", "{0}", "{a.b}"):
        with pytest.raises(TemplateError):
            parse_template(text)


def test_what_a_template_may_become() -> None:
    assert may_become("o_{part}", "o_07", {})
    assert not may_become("o_{part}", "p_07", {})
    assert may_become("{source}.o", "a.o", {"source": "a"})
    assert not may_become("{source}.o", "a.o", {"source": "b"})
    assert not may_become("a.o", "axo", {})


def target(*rules: TransformPlan, database: str | None = None) -> TargetPlan:
    return TargetPlan("t", "mysql", database, ("*",), (), (), transforms=rules)


def test_the_first_transform_that_means_a_table_names_it() -> None:
    found = target(
        TransformPlan(("orders_old",)),
        TransformPlan(("orders_{n}",), ("orders_tmp",), ("a",), "{source}_{database}", "orders"),
        TransformPlan(("users", "people"), table="persons"),
        database="dw",
    )
    assert found.table("a", "x", "orders_1") == "a_x.orders"
    assert found.table("b", "x", "orders_1") == "dw.orders_1"
    assert found.table("a", "x", "orders_tmp") == "dw.orders_tmp"
    assert found.table("a", "x", "orders_old") == "dw.orders_old"
    assert found.table("a", "x", "people") == "dw.persons"
    assert found.may_rename_to("a", "a_y", "orders")
    assert not found.may_rename_to("b", "a_y", "orders")
    assert not found.may_rename_to("a", "dw", "orders")
    assert found.may_rename_to("b", "dw", "persons")


@pytest.mark.parametrize(
    ("rule", "joins"),
    [
        (TransformPlan(("orders_{n}",), table="orders"), True),
        (TransformPlan(("shop.orders_{n}",), table="o_{n}"), False),
        (TransformPlan(("shop.orders_{n}",), table="{table}_x"), False),
        (TransformPlan(("orders_{n}",), table="{table}_x"), False),
        (TransformPlan(("orders_{n}",), database="dw"), False),
        (TransformPlan(("*.orders",), database="dw"), True),
        (TransformPlan(("{tenant}.orders",), database="dw"), True),
        (TransformPlan(("{tenant}.orders",), database="dw_{tenant}"), False),
        (TransformPlan(("shop.orders_{n}",), database="dw"), False),
        (TransformPlan(("shop.orders_*_{n}",), table="o_{n}"), True),
        (TransformPlan(("shop.orders",), table="o"), False),
        (TransformPlan(("orders",), table="o"), False),
        (TransformPlan(("orders",), database="dw"), False),
        (TransformPlan(("shop.orders", "shop.sales"), table="o"), True),
        (TransformPlan(("orders_*",)), False),
        (TransformPlan(("{db}.orders",), database="dw", table="{db}_orders"), False),
    ],
)
def test_whether_several_tables_may_become_one(rule: TransformPlan, joins: bool) -> None:
    assert rule.joins_by_name is joins


def schema(table: str, *kinds: str, key: tuple[int, ...] = (0,)) -> TableSchema:
    return TableSchema("x", table, tuple(Column(f"c{n}", k) for n, k in enumerate(kinds)), key)


JOIN = TransformPlan(("o_*",), table="o", joins=True)


def test_tables_that_a_transform_joins_may_share_one() -> None:
    shared = Shared()
    for table, kind in (("o_1", "int"), ("o_2", "bigint"), ("o_1", "bigint")):
        shared.take_in("s", "t", "x.o", JOIN, schema(table, kind))
    shared.take_in("s", "other", "x.o", None, schema("o", "text"))
    shared.take_in("s2", "t", "x.o", None, schema("o", "text"))


@pytest.mark.parametrize(
    ("rule", "second", "said"),
    [
        (None, schema("o", "int"), "x.o_1 and x.o of source s would both become x.o"),
        (JOIN, schema("o_2", "varchar(5)"), "their keys differ: (c0 long) and (c0 string)"),
        (JOIN, schema("o_2", "int", "int", key=(0, 1)), "their keys differ"),
        (JOIN, schema("o_2", "int", key=()), "one of them has no key"),
        (JOIN, TableSchema("x", "o_2", (ROW,), (0,)), "one of them has no key"),
    ],
)
def test_tables_that_can_not_lie_in_one_are_refused(
    rule: TransformPlan | None, second: TableSchema, said: str
) -> None:
    shared = Shared()
    shared.take_in("s", "t", "x.o", JOIN, schema("o_1", "int"))
    with pytest.raises(FatalError) as caught:
        shared.take_in("s", "t", "x.o", rule, second)
    assert said in caught.value.what


def test_tables_of_which_the_plan_does_not_know_wait_for_one_that_does() -> None:
    shared, rule = Shared(), TransformPlan(("o",), database="dw")
    shared.take_in("s", "t", "dw.o", rule, schema("o", "int"))
    with pytest.raises(FatalError, match="of which the plan in force does not know") as caught:
        shared.take_in("s", "t", "dw.o", rule, replace(schema("o", "int"), database="y"))
    assert "gravity reload" in caught.value.remedy


def test_what_was_found_to_join_is_known_and_stays_known() -> None:
    rule, other = TransformPlan(("o",), database="dw"), TransformPlan(("p",), database="dw")
    rules = [("t", rule), ("u", rule), ("t", other)]
    ways = [("s", "t", "dw.o", rule, "x.o"), ("s", "t", "dw.o", rule, "y.o"), ("s2", "u", "dw.o", rule, "x.o"), ("s", "u", "dw.o", rule, "y.o")]  # fmt: skip
    made = with_joins(rules, ways, [])
    assert [made[way].joins for way in rules] == [True, False, False]
    later = with_joins(rules, ways[:1], [("t", made["t", rule])])
    assert [later[way].joins for way in rules] == [True, False, False]
    # Two entries that name one table each.
    eu, us = TransformPlan(("o_eu",), table="o"), TransformPlan(("o_us",), table="o")
    pair = with_joins(
        [("t", eu), ("t", us)],
        [("s", "t", "x.o", eu, "x.o_eu"), ("s", "t", "x.o", us, "x.o_us")],
        [],
    )
    assert all(made.joins for made in pair.values())
