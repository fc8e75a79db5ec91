"""`consistency: strong` is refused wherever it would promise what is not kept, by name and with what to write."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.config import Config, ConfigError, parse_config
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.key import LANE_JOB
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.plan_part import STRONG
from gravity.strong import may_feed

STRONG_LAKE = "[{name: lake, type: mysql, consistency: strong}, {name: bus, type: mysql}]"


def config(
    a: str = "{semi-sync: {targets: lake}}",
    b: str = "{semi-sync: {targets: lake}}",
    targets: str = STRONG_LAKE,
    more: str = "",
) -> Config:
    return parse_config(
        f"sources: {{a: {a}, b: {b}}}\ntargets: {targets}\nkafka: {{partitions: 3}}\n{more}", env={}
    ).config


def table(source: str, name: str) -> SourceTable:
    column = Column("id", "int", nullable=False)
    return SourceTable(source, TableSchema("shop", name, (column,), (0,)))


TABLES = [table("a", "users"), table("b", "users"), table("a", "logs")]


def test_all_tables_of_a_strong_target_have_one_order_and_new_ones_too() -> None:
    plan = compile_plan(config(), TABLES)
    assert set(plan.lanes["lake"].values()) == {LANE_JOB}
    assert LANE_JOB not in plan.lanes["bus"].values()
    assert plan.lane("lake", "shop.new", "shop", "new") == LANE_JOB
    later = compile_plan(config(), [*TABLES, table("b", "new")], plan)
    assert later.lanes["lake"]["shop.new"] == LANE_JOB
    alone = parse_config(
        "sources: {a: {semi-sync: {targets: lake}}}\ntargets: " + STRONG_LAKE, env={}
    ).config
    assert set(compile_plan(alone, [table("a", "users")]).lanes["lake"].values()) == {LANE_JOB}


@pytest.mark.parametrize(
    ("b", "written"),
    [("{}", "targets: [lake]"), ("{semi-sync: {targets: bus}}", "targets: [bus, lake]")],
)
def test_a_source_whose_commits_do_not_wait_is_refused_with_what_to_write(
    b: str, written: str
) -> None:
    with pytest.raises(FatalError, match="COMMITs at source b do not wait for it") as caught:
        compile_plan(config(b=b), TABLES)
    assert caught.value.where == "target lake"
    assert written in str(caught.value.remedy)
    # A source that has no table yet, or none that is meant today, may have one tomorrow.
    with pytest.raises(FatalError, match="source b"):
        compile_plan(config(b=b), [table("a", "users")])


ELSEWHERE = "routing: [{sources: [b], source-tables: ['*'], targets: [bus]}]"


@pytest.mark.parametrize(
    ("routing", "feeds"),
    [
        (ELSEWHERE, False),
        ("routing: [{sources: [b], source-tables: [users], targets: [bus]}]", True),
        ("routing: [{sources: [a], source-tables: ['*'], targets: [bus]}]", True),
        ("routing: [{source-tables: ['*'], targets: [lake]}]", True),
        ("routing: [{sources: [b], source-tables: ['*'], exclude: [x], targets: [bus]}]", True),
        ("distribution-rules: [{condition: id > 1, targets: [bus]}]", True),
    ],
)
def test_a_source_that_is_routed_elsewhere_need_not_wait(routing: str, feeds: bool) -> None:
    def make() -> RoutingPlan:
        return compile_plan(config(b="{}", more=routing), TABLES)

    if feeds:
        with pytest.raises(FatalError, match="source b"):
            make()
    else:
        assert "b" not in {s for names in make().feeding["lake"].values() for s in names}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["'*'", "users", "'l*'"]),
            st.sampled_from(["lake", "bus"]),
        ),
        max_size=4,
    )
)
def test_whatever_feeds_a_target_may_feed_it(rules: list[tuple[str, str, str]]) -> None:
    routing = ", ".join(
        f"{{source-tables: [{tables}], targets: [{target}]"
        + (f", sources: [{source}]}}" if source else "}")
        for source, tables, target in rules
    )
    loaded = config(targets="[{name: lake, type: mysql}, {name: bus, type: mysql}]",
                    more=f"routing: [{routing}]")  # fmt: skip
    plan = compile_plan(loaded, [*TABLES, table("b", "other")])
    for target, tables in plan.feeding.items():
        for source in {name for names in tables.values() for name in names}:
            assert may_feed(plan, source, target)


@pytest.mark.parametrize(
    "order",
    [
        "key",
        "table",
        "{users: 'group:g', '*': 'group:h'}",
        # Of tables that are made tomorrow, too.
        "{shop.audit: key}",
        "{users: 'group:g', logs: 'group:g'}",
        "{audit: 'group:h', '*': 'group:g'}",
    ],
)
def test_an_order_of_its_own_is_refused_beside_strong(order: str) -> None:
    targets = f"[{{name: lake, type: mysql, consistency: strong, order-by: {order}}}]"
    with pytest.raises(FatalError, match="needs all its tables in one order") as caught:
        compile_plan(config(targets=targets), TABLES)
    assert "leave order-by out" in str(caught.value.remedy)
    one = "[{name: lake, type: mysql, consistency: strong, order-by: 'group:all'}]"
    assert set(compile_plan(config(targets=one), TABLES).lanes["lake"].values()) == {"group:all"}


def test_rows_that_flow_in_another_order_already_are_not_made_strong() -> None:
    eventual = config(targets=STRONG_LAKE.replace(", consistency: strong", ""))
    first = compile_plan(eventual, TABLES)
    with pytest.raises(FatalError, match="flow under order-by") as caught:
        compile_plan(config(), TABLES, first)
    assert BEGIN_ANEW in str(caught.value.remedy)


@pytest.mark.parametrize("other", ["kafka, brokers: ['k:9092']", "clickhouse"])
def test_strong_is_for_targets_with_transactions(other: str) -> None:
    targets = f"[{{name: lake, type: {other}, consistency: strong}}]"
    with pytest.raises(ConfigError) as caught:
        config(targets=targets)
    assert "strong is for type mysql" in str(caught.value)


def test_a_plan_of_before_is_eventual() -> None:
    plan = compile_plan(config(), TABLES)
    record = json.loads(json.dumps(plan.to_json()))
    assert RoutingPlan.from_json(record) == plan
    for target in record["targets"]:
        del target["consistency"]
    old = RoutingPlan.from_json(record)
    assert old == replace(
        plan, targets=tuple(replace(target, consistency="eventual") for target in plan.targets)
    )
    assert plan.target("lake").consistency == STRONG
