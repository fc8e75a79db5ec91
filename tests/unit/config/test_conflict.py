"""Which conflict rule a table has, and how its sources rank."""

import pytest

from gravity.config import Config, parse_config


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


@pytest.mark.parametrize(
    ("strategy", "in_force"),
    [
        ("source-priority", "source-priority"),
        ("timestamp-latest", "timestamp-latest"),
        ("merge", "source-priority"),
        ("error-stop", "source-priority"),
    ],
)
def test_the_strategy_in_force_is_one_that_is_active(strategy: str, in_force: str) -> None:
    rule = conflicts(f"{{rules: [{{table: a, strategy: {strategy}}}]}}").conflict_resolution.rules[
        0
    ]
    assert rule.strategy_in_force == in_force


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
