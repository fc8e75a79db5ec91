"""What a configuration can't mean for the tables that are there."""

from __future__ import annotations

import pytest

from gravity.batch import Column, TableSchema
from gravity.config import Config, parse_config
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.key import LANE_JOB
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
