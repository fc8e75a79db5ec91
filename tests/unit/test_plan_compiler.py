"""What a configuration can't mean for the tables that are there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gravity.batch import Column, TableSchema
from gravity.config import Config, parse_config
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.key import LANE_JOB
from gravity.merge_order import MergeOrder
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan


def config(targets: str) -> Config:
    return parse_config(f"sources: {{a: {{}}, b: {{}}}}\ntargets: {targets}", env={}).config


def table(source: str, database: str) -> SourceTable:
    column = Column("id", "int", nullable=False)
    return SourceTable(source, TableSchema(database, "users", (column,), (0,)))


def test_two_tables_of_one_source_do_not_become_one() -> None:
    one = config("[{name: t, type: mysql, database: all}]")
    with pytest.raises(FatalError, match=r"x\.users and y\.users of source a .* all\.users") as it:
        compile_plan(one, [table("a", "x"), table("b", "x"), table("a", "y")])
    assert it.value.where == "target t"
    apart = config("[{name: t, type: mysql}]")
    plan = compile_plan(apart, [table("a", "x"), table("b", "x"), table("a", "y")])
    assert plan.sources_of("t", "x.users") == ("a", "b")


def test_tables_of_two_sources_may_become_one() -> None:
    plan = compile_plan(
        config("[{name: t, type: mysql, database: all}]"), [table("a", "x"), table("b", "y")]
    )
    assert plan.sources_of("t", "all.users") == ("a", "b")


def scoped(scope: str, targets: str = "[{name: t, type: mysql}]", kafka: str = "") -> Config:
    return parse_config(
        f"sources: {{a: {{}}, b: {{}}}}\ntargets: {targets}\n{kafka}\nconflict-resolution: "
        f"{{rules: [{{tables: [x.users], strategy: error-stop, scope: {scope}}}]}}",
        env={},
    ).config


def named(source: str, name: str) -> SourceTable:
    column = Column("id", "int", nullable=False)
    return SourceTable(source, TableSchema("x", name, (column,), (0,)))


TABLES = [named("a", "users"), named("b", "users"), named("a", "logs")]


@pytest.mark.parametrize(
    ("scope", "users", "logs"),
    [("key", "key", "key"), ("table", "table", "key"), ("job", LANE_JOB, LANE_JOB)],
)
def test_what_stops_as_a_whole_lies_in_one_partition(scope: str, users: str, logs: str) -> None:
    plan = compile_plan(scoped(scope), TABLES)
    assert plan.lanes["t"] == {"x.users": users, "x.logs": logs}
    later = compile_plan(scoped(scope), [*TABLES, named("b", "new")], plan)
    assert later.lanes["t"]["x.new"] == (LANE_JOB if scope == "job" else "table")
    assert plan.lane("t", "x.unknown", "x", "unknown") == later.lanes["t"]["x.new"]


@pytest.mark.parametrize(
    ("scope", "order", "message"),
    [
        ("table", "key", "needs the table in one partition.*x.users: key"),
        ("job", "{users: 'group:g', '*': table}", "all tables of the target .*x.logs: table"),
        ("job", "table", "all tables of the target"),
    ],
)
def test_an_order_that_lets_part_of_it_go_on_is_refused(
    scope: str, order: str, message: str
) -> None:
    targets = f"[{{name: t, type: mysql, order-by: {order}}}]"
    with pytest.raises(FatalError, match=message) as it:
        compile_plan(scoped(scope, targets), TABLES)
    assert it.value.where == "target t, table x.users"
    assert BEGIN_ANEW in it.value.remedy
    compile_plan(scoped(scope, targets, "kafka: {partitions: 1}"), TABLES)
    compile_plan(scoped(scope, targets), [named("a", "users"), named("a", "logs")])


def test_an_order_that_rows_have_flowed_in_stays_and_a_wider_scope_is_refused() -> None:
    plan = compile_plan(scoped("key"), TABLES)
    with pytest.raises(FatalError, match="scope table needs the table in one partition"):
        compile_plan(scoped("table"), TABLES, plan)


def test_a_group_of_all_tables_is_one_order() -> None:
    targets = "[{name: t, type: mysql, order-by: 'group:g'}]"
    assert compile_plan(scoped("job", targets), TABLES).lanes["t"]["x.logs"] == "group:g"


def merged(merge: str, targets: str = "[{name: t, type: mysql}]", more: str = "") -> Config:
    return parse_config(
        f"sources: {{a: {{priority: 2}}, b: {{priority: 1}}}}\ntargets: {targets}\n{more}\nmerge: {merge}",
        env={},
    ).config


@pytest.mark.parametrize(
    ("strategy", "users", "logs"),
    [
        ("parallel", "key", "key"),
        ("by-table", "table", "table"),
        ("time-ordered", LANE_JOB, LANE_JOB),
    ],
)
def test_what_is_merged_lies_in_one_partition(strategy: str, users: str, logs: str) -> None:
    config = merged(f"{{strategy: {strategy}}}")
    plan = compile_plan(config, TABLES)
    assert plan.lanes["t"] == {"x.users": users, "x.logs": logs}
    later = compile_plan(config, [*TABLES, named("b", "new")], plan)
    assert later.lanes["t"]["x.new"] == (LANE_JOB if strategy == "time-ordered" else "table")
    again = RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan


def test_the_plan_says_how_sources_are_merged() -> None:
    config = merged(
        "{strategy: time-ordered, targets: t, max-wait: 7s, on-down: stall, max-ahead-rows: 5, max-ahead-bytes: 6}",
        "[{name: t, type: kafka}, {name: u, type: mysql}]",
        "conflict-resolution: {rules: [{tables: '*', strategy: source-priority, sources: [a]}]}",
    )
    plan = compile_plan(config, TABLES)
    assert plan.merge_at("t") == MergeOrder(
        "time-ordered", {"b": 1, "a": 2}, ("t",), 7000, "stall", 5, 6
    )
    assert plan.merge_at("u") is None
    assert plan.lanes["u"]["x.users"] == "key"
    assert plan.merged_sources("t", "") == plan.merged_sources("t", "x.users") == ("a", "b")
    assert plan.merged_sources("t", "x.logs") == ("a",)
    record = plan.to_json()
    del record["merge"]
    assert RoutingPlan.from_json(record).merge is None, "of an older plan"


@pytest.mark.parametrize(
    ("strategy", "order", "message"),
    [
        ("by-table", "key", "by-table needs each table in one order.*x.users: key "),
        ("time-ordered", "table", "needs all tables of the target in one order.*x.users: table"),
        ("time-ordered", "{users: 'group:g', '*': table}", "x.users: group:g, x.logs: table"),
    ],
)
def test_an_order_in_which_rows_do_not_meet_is_refused(
    strategy: str, order: str, message: str
) -> None:
    targets = f"[{{name: t, type: mysql, order-by: {order}}}]"
    config = merged(f"{{strategy: {strategy}}}", targets)
    with pytest.raises(FatalError, match=message) as it:
        compile_plan(config, TABLES)
    assert it.value.where == "target t"
    assert BEGIN_ANEW in it.value.remedy
    one = merged(f"{{strategy: {strategy}}}", targets, "kafka: {partitions: 1}")
    if strategy == "by-table":
        compile_plan(one, TABLES)
    else:
        # Tables without a common order have messages of their own in each span of the binlog.
        with pytest.raises(FatalError, match="needs all tables"):
            compile_plan(one, TABLES)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize(
    ("strategy", "order", "told"),
    [
        ("time-ordered", "key", "order-by \\*: key "),
        ("time-ordered", "table", "order-by \\*: table "),
        ("time-ordered", "{users: 'group:g'}", "users: group:g, every other table: group:"),
        ("time-ordered", "{users: 'group:g', '*': 'group:h'}", "users: group:g, \\*: group:h"),
        ("by-table", "key", "order-by \\*: key "),
        ("by-table", "{logs: table, 'tmp_*': key}", "order-by tmp_\\*: key "),
    ],
)
def test_an_order_in_which_rows_of_tables_to_come_do_not_meet_is_refused(
    strategy: str, order: str, told: str, partitions: int
) -> None:
    config = merged(
        f"{{strategy: {strategy}}}",
        f"[{{name: t, type: mysql, order-by: {order}}}]",
        f"kafka: {{partitions: {partitions}}}",
    )
    if strategy == "by-table" and partitions == 1:
        compile_plan(config, [])
        return
    with pytest.raises(FatalError, match=told) as it:
        compile_plan(config, [])
    assert it.value.where == "target t"
    # One source has tables today; another may have one tomorrow.
    with pytest.raises(FatalError, match="in one order"):
        compile_plan(config, [named("a", "users")])


@pytest.mark.parametrize(
    ("strategy", "target", "more"),
    [
        ("time-ordered", "order-by: 'group:g'", ""),
        ("time-ordered", "tables: x.users, order-by: table", ""),
        (
            "time-ordered",
            "tables: [users, logs], order-by: {users: 'group:g', logs: 'group:g'}",
            "",
        ),
        ("by-table", "order-by: table", ""),
        # What one source alone may send needs no order with others' rows.
        ("by-table", "order-by: key", "routing: [{source-tables: '*', sources: b, targets: u}]"),
        (
            "time-ordered",
            "order-by: key",
            "routing: [{source-tables: '*', sources: b, targets: u}]",
        ),
    ],
)
def test_an_order_in_which_rows_always_meet_is_taken(strategy: str, target: str, more: str) -> None:
    targets = f"[{{name: t, type: mysql, {target}}}, {{name: u, type: mysql}}]"
    config = merged(f"{{strategy: {strategy}, targets: t}}", targets, more)
    compile_plan(config, [])
    compile_plan(config, [named("a", "users")])


def test_a_key_order_of_a_table_that_only_one_source_reads_is_no_concern_of_by_table() -> None:
    def by_key(table: str) -> Config:
        return parse_config(
            "sources: {a: {}, b: {tables: [users]}}\nmerge: by-table\n"
            f"targets: [{{name: t, type: mysql, order-by: {{{table}: key}}}}]",
            env={},
        ).config

    compile_plan(by_key("logs"), [])
    with pytest.raises(FatalError, match="users: key"):
        compile_plan(by_key("users"), [])


def test_an_order_of_tables_to_come_that_is_in_force_already_is_warned_of() -> None:
    config = merged("{strategy: time-ordered}", "[{name: t, type: mysql, order-by: key}]")
    made = compile_plan(merged("{}"), [])
    target = replace(made.target("t"), order_by=(("*", "key"),))
    merge = MergeOrder("time-ordered", {"b": 1, "a": 2})
    old = replace(made, targets=(target,), merge=merge)
    with capture_logs() as logs:
        compile_plan(config, [], old)
    assert [line["event"] for line in logs] == ["merge_of_tables_to_come"]
    with pytest.raises(FatalError, match="in one order"):
        compile_plan(config, [], replace(old, merge=replace(merge, strategy="by-table")))


def test_a_declared_group_is_one_order() -> None:
    targets = "[{name: t, type: mysql, order-by: 'group:g'}]"
    plan = compile_plan(merged("{strategy: time-ordered}", targets), TABLES)
    assert plan.line("t", "x.users") == plan.line("t", "x.logs") == "group:g"
    assert plan.merged_sources("t", "group:g") == ("a", "b")


def test_a_merge_of_tables_that_have_flowed_in_another_order_is_refused() -> None:
    plan = compile_plan(merged("{}"), TABLES)
    with pytest.raises(FatalError, match="merge time-ordered needs all tables"):
        compile_plan(merged("{strategy: time-ordered}"), TABLES, plan)
