"""What a configuration can't mean for the tables that are there."""

from __future__ import annotations

import pytest

from gravity.batch import Column, TableSchema
from gravity.config import Config, parse_config
from gravity.errors import FatalError
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
