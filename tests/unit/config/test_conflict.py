"""Which conflict rule a table has, and how its sources rank."""

import json

import pytest

from gravity.config import Config, ConfigError, parse_config
from gravity.plan import RoutingPlan
from gravity.plan_compiler import compile_plan
from gravity.plan_part import Resolution


def conflicts(
    text: str, sources: str = "{a: {priority: 2}, b: {priority: 1}, c: {priority: 2}}"
) -> Config:
    return parse_config(f"sources: {sources}\nconflict-resolution: {text}", env={}).config


def test_the_first_rule_that_names_a_table_comes_before_wildcards() -> None:
    resolution = conflicts(
        """{strategy: timestamp-latest, rules: [
        {table: 'shop.*', strategy: merge},
        {table: 'shop.users', strategy: error-stop, target: lake},
        {table: users, strategy: source-priority}]}""",
    ).conflict_resolution
    assert resolution.rule_for("lake", "shop", "users").strategy == "error-stop"
    assert resolution.rule_for("dw", "shop", "users").strategy == "source-priority"
    assert resolution.rule_for("dw", "shop", "orders").strategy == "merge"
    assert resolution.rule_for("dw", "other", "orders").strategy == "timestamp-latest"


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("{}", {"b": 1, "a": 2, "c": 3}),
        ("{source-priorities: {c: 1, a: 2}}", {"c": 1, "a": 2, "b": 3}),
        ("{source-priorities: {c: 5}}", {"c": 1, "b": 2, "a": 3}),
        (
            "{source-priorities: {a: 1}, rules: [{strategy: merge, sources: [c, b]}]}",
            {"c": 1, "b": 2},
        ),
    ],
)
def test_sources_rank_by_rule_then_priorities_then_priority_then_place(
    text: str, ranks: dict[str, int]
) -> None:
    config = conflicts(text)
    rule = config.conflict_resolution.rule_for("t", "d", "x")
    assert config.source_ranks(rule) == ranks


def rule_problem(text: str) -> str:
    with pytest.raises(ConfigError) as found:
        conflicts(f"{{rules: [{{table: a, {text}}}]}}")
    (problem,) = found.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategy: merge, groups: [[price]]", "two columns or more"),
        ("strategy: merge, groups: [[x, y], [y, z]]", "column y is given twice"),
        ("strategy: merge, groups: [[x, y]], columns: {x: sum}", "can't be sum"),
        ("strategy: merge, groups: [[x, y]], columns: {x: latest, y: priority}", "different rules"),
        ("strategy: merge, sources: [a, b], columns: {x: 'owner:c'}", "owner c is not among"),
        ("strategy: merge, conflict-window: 5s", "only used by strategy error-stop"),
        ("strategy: merge, scope: table", "only used by strategy error-stop"),
        ("strategy: merge, columns: {x: newest}", "must be latest"),
    ],
)
def test_parts_of_a_rule_that_make_no_sense_are_refused(text: str, message: str) -> None:
    assert message in rule_problem(text)


@pytest.mark.parametrize(
    ("special", "rules"), [("strategy", "special-rules"), ("default-strategy", "custom-rules")]
)
def test_both_spellings_reach_the_plan(special: str, rules: str) -> None:
    text = f"""{{{special}: timestamp-latest, {rules}: [
        {{match: {{target: t1, table: "shop.*"}}, strategy: merge, sources: [c, a],
          columns: {{qty: sum, email: "owner:a"}}, groups: [[price, currency]], null-is-unset: false}},
        {{table: bank, strategy: error-stop, conflict-window: 5s, auto-clear: false}}]}}"""
    plan = compile_plan(conflicts(text), [])
    merge, stop = (rule.resolution for rule in plan.rules)
    assert merge == Resolution(
        "merge",
        {"c": 1, "a": 2},
        columns={"qty": "sum", "email": "owner:a"},
        groups=(("price", "currency"),),
        null_is_unset=False,
    )
    assert (stop.conflict_window_us, stop.auto_clear) == (5_000_000, False)
    assert plan.default_resolution.strategy == "timestamp-latest"
    assert RoutingPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_of_the_first_format_is_read() -> None:
    plan = compile_plan(conflicts("{rules: [{table: a, strategy: timestamp-latest}]}"), [])
    record = {**json.loads(json.dumps(plan.to_json())), "format": 1}
    for part in (record["default_resolution"], record["rules"][0]["resolution"]):
        for name in list(part):
            if name not in ("strategy", "ranks", "on_delete", "timestamp_column"):
                del part[name]
    assert RoutingPlan.from_json(record) == plan


MINUTE_US = 60_000_000


@pytest.mark.parametrize(
    ("text", "fk", "unique", "data"),
    [
        ("{}", 10 * MINUTE_US, 0, 0),
        ("{fk-parent-missing: dlq, unique-secondary: hold, data: hold}", 0, None, None),
        (
            "{fk-parent-missing: {park: 1m}, unique-secondary: {park: 2m}}",
            MINUTE_US,
            2 * MINUTE_US,
            0,
        ),
        ("{fk-parent-missing: {park: 1m, then: hold}}", None, 0, 0),
    ],
)
def test_how_long_a_refused_row_waits(
    text: str, fk: int | None, unique: int | None, data: int | None
) -> None:
    rule = f"{{table: 'shop.*', strategy: merge, constraint: {text}}}"
    loaded = parse_config(
        f"sources: [{{name: a}}]\nconflict-resolution: {{rules: [{rule}]}}", env={}
    )
    assert not [notice for notice in loaded.notices if "constraint" in notice.message]
    resolution = loaded.config.conflict_resolution
    constraint = resolution.rule_for("t", "shop", "orders").constraint
    assert constraint.park_for("fk_parent_missing").waits_us == fk
    assert constraint.park_for("fk_child_exists").waits_us == fk
    assert constraint.park_for("unique_secondary").waits_us == unique
    assert constraint.park_for("data").waits_us == data
    other = resolution.rule_for("t", "other", "orders").constraint
    assert other.park_for("fk_parent_missing").waits_us == 10 * MINUTE_US, "without any rule"


def test_every_key_of_a_rule() -> None:
    rule = conflicts("""{custom-rules: [{match: {target: t1, table: "shop.*"}, strategy: merge,
        sources: [a, b, c], timestamp-source: commit, on-delete: incarnation,
        columns: {qty: sum, email: "owner:b"}, groups: [[price, currency]],
        constraint: {fk-parent-missing: {park: 10m, then: hold}, unique-secondary: hold, data: dlq},
        tombstone-retention: 7d}]}""").conflict_resolution.rules[0]
    assert (rule.target, rule.tables, rule.sources) == ("t1", ("shop.*",), ("a", "b", "c"))
    assert (rule.columns, rule.groups) == (
        {"qty": "sum", "email": "owner:b"},
        (("price", "currency"),),
    )
    assert rule.constraint.fk_parent_missing.park.total_seconds() == 600
    assert rule.tombstone_retention.days == 7
