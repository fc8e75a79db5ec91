"""What a changed file would change: each way of rows once, and nothing that stays."""

from __future__ import annotations

import json

from rich.console import Console

from gravity.batch import Column, TableSchema
from gravity.cli.plan import table_flows
from gravity.cli.plan_diff import FlowChange, chart, flow_changes
from gravity.config import parse_config
from gravity.plan_compiler import SourceTable, compile_plan

COLUMNS = (Column("id", "int", nullable=False), Column("level", "varchar(9)"))
TABLES = [
    SourceTable("s", TableSchema("app", name, COLUMNS, (0,))) for name in ("logs", "users", "old")
]
HEAD = "sources: [{name: s}]\n"
BEFORE = (
    HEAD
    + """
targets: [{name: a, type: mysql}, {name: b, type: mysql}]
routing:
  - {source-tables: [users], targets: [a], strategy: single}
  - {source-tables: [logs], targets: [a], strategy: conditional,
     conditions: [{if: "level = 'x'", targets: [a]}]}
  - {source-tables: [old], targets: [b], strategy: single}
"""
)
AFTER = (
    HEAD
    + """
targets: [{name: a, type: mysql}, {name: b, type: mysql}]
routing:
  - {source-tables: [users], targets: [a, b], strategy: broadcast}
  - {source-tables: [logs], targets: [a], strategy: conditional,
     conditions: [{if: "level = 'y'", targets: [a]}]}
  - {source-tables: [old], targets: [a], strategy: single}
"""
)


def changes(before: str, after: str) -> list[FlowChange]:
    old = compile_plan(parse_config(before, env={}).config, TABLES)
    new = compile_plan(parse_config(after, env={}).config, TABLES, old)
    return flow_changes(table_flows(old, TABLES), table_flows(new, TABLES))


def test_each_way_that_differs_is_told_once() -> None:
    found = {
        (change.kind, (change.after or change.before).tables[0], (change.after or change.before).target): change.moves_rows  # type: ignore[union-attr]
        for change in changes(BEFORE, AFTER)
    }  # fmt: skip
    assert found == {
        ("other", "app.logs", "a"): True,
        ("new", "app.users", "b"): False,
        ("new", "app.old", "a"): False,
        ("gone", "app.old", "b"): True,
    }


def test_a_file_that_means_the_same_changes_nothing() -> None:
    assert changes(BEFORE, BEFORE) == []
    assert changes(BEFORE, BEFORE.replace("[users]", "[app.users]")) == []


def test_both_sides_of_a_change_are_there_for_programs() -> None:
    [record] = [c.to_json() for c in changes(BEFORE, AFTER) if c.kind == "other"]
    assert json.loads(json.dumps(record))["before"]["conditions"] == ["level = 'x'"]
    assert record["after"]["conditions"] == ("level = 'y'",)


def test_another_order_of_sources_is_told() -> None:
    before = HEAD + "targets: [{name: a, type: kafka, order-by: 'group:g'}]"
    found = changes(before, before + "\nmerge: {strategy: time-ordered, max-wait: 9s}")
    assert {change.after.order for change in found if change.after} == {
        "group:g, sources time-ordered"
    }
    assert len(found) == len(TABLES)
    assert not any(change.moves_rows for change in found)


def test_what_a_transform_would_change_is_shown() -> None:
    after = BEFORE.replace(
        "{name: a, type: mysql}",
        "{name: a, type: mysql, transforms: [{tables: users, columns: {hash: level}}]}",
    )
    [change] = changes(BEFORE, after)
    assert change.kind == "other"
    assert change.before is not None
    assert change.after is not None
    assert (change.before.columns, change.after.columns) == ((), ("level: hashed",))
    assert change.to_json()["after"]["columns"] == ("level: hashed",)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(chart([change]))
    assert "as they are ⇒ level: hashed" in shown.get()
