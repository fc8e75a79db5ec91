"""The several ways to write one thing mean the same."""

import pytest

from gravity.config import ConfigError, parse_config
from gravity.config.kafka import KafkaCluster
from gravity.config.source import Source


def same(left: str, right: str) -> None:
    assert parse_config(left, env={}).config == parse_config(right, env={}).config


def test_underscores_are_hyphens_but_in_the_names_a_user_gives() -> None:
    same("batch: {rows_max: 5}", "batch: {rows-max: 5}")
    same(
        "routing: [{source_tables: a, targets: t}]", "routing: [{source-tables: [a], targets: [t]}]"
    )
    config = parse_config(
        "conflict_resolution: {source_priorities: {my_db: 1}, rules: "
        "[{strategy: merge, columns: {a_b: sum}}]}",
        env={},
    ).config
    assert config.conflict_resolution.source_priorities == {"my_db": 1}
    assert config.conflict_resolution.rules[0].columns == {"a_b": "sum"}
    same(
        "monitoring: {metrics: [{name: error_rate, alert-threshold: 1}]}",
        "monitoring: {metrics: [{name: error_rate, alert_threshold: 1}]}",
    )


def test_sources_and_targets_are_lists_or_mappings() -> None:
    same(
        "sources: {a_b: {host: h}, c: }\ntargets: {d: {type: kafka}}",
        "sources: [{name: a_b, host: h}, {name: c}]\ntargets: [{name: d, type: kafka}]",
    )
    with pytest.raises(ConfigError, match=r"sources\.a\.name: differs from the key above it"):
        parse_config("sources: {a: {name: b}}", env={})


def test_every_spelling_of_conflict_rules() -> None:
    for rules in ("rules", "custom-rules", "special-rules"):
        for match in ("table: a.b", "tables: [a.b]", "match: {table: a.b}", "match: {tables: a.b}"):
            same(
                f"conflict-resolution: {{strategy: merge, {rules}: [{{{match}, strategy: merge}}]}}",
                "conflict-resolution: {default-strategy: merge, rules: "
                "[{tables: [a.b], strategy: merge}]}",
            )


def test_alerts_stand_at_the_top_or_under_monitoring() -> None:
    alert = "[{condition: error_rate > 5%}]"
    same(f"monitoring: {{alerts: {alert}}}", f"alerts: {alert}")
    with pytest.raises(ConfigError, match=r"monitoring\.alerts: given twice"):
        parse_config(f"monitoring: {{alerts: {alert}}}\nalerts: {alert}", env={})


def test_roles_stand_beside_targets_or_under_failover() -> None:
    same(
        "targets: {primary: [a], backup: [b], a: {type: mysql}, b: {type: mysql}}",
        "targets: [{name: a, type: mysql}, {name: b, type: mariadb}]\n"
        "failover: {primary: a, backup: b}",
    )
    with pytest.raises(ConfigError, match=r"targets\.backup: given twice, first under failover"):
        parse_config("targets: {primary: [a], backup: [b]}\nfailover: {backup: [c]}", env={})
    with pytest.raises(ConfigError, match=r"backup\[0\]: a is a primary as well"):
        parse_config("targets: {primary: [a], backup: [a]}", env={})


def test_a_target_may_be_called_primary() -> None:
    config = parse_config("targets: {primary: {type: mysql}}", env={}).config
    assert [t.name for t in config.targets] == ["primary"]


@pytest.mark.parametrize(("written", "used"), [(9000, 8123), (9440, 8443), ("'9000'", 8123)])
def test_a_native_clickhouse_port_is_answered_with_the_http_port(
    written: object, used: int
) -> None:
    loaded = parse_config(f"targets:\n  c:\n    type: clickhouse\n    port: {written}", env={})
    target = loaded.config.targets[0]
    assert getattr(target, "port", None) == used
    assert [(n.place.line, n.place.key) for n in loaded.notices] == [(4, "targets.c.port")]
    assert f"port: {used}" in loaded.notices[0].message


def test_other_ports_are_left_alone() -> None:
    loaded = parse_config(
        "targets: {c: {type: clickhouse, port: 8124}, m: {type: mysql, port: 9000}}", env={}
    )
    assert [getattr(t, "port", None) for t in loaded.config.targets] == [8124, 9000]
    assert not loaded.notices


def test_anchors_may_stand_under_keys_of_their_own() -> None:
    same(
        "x-base: &base {type: mysql, host: h}\ngravity: {targets: {a: {<<: *base, host: i}}}",
        "targets: {a: {type: mysql, host: i}}",
    )


def test_what_is_not_active_yet_is_named_with_its_line() -> None:
    loaded = parse_config(
        "monitoring:\n  metrics: [{name: sync_latency, alert_threshold: 1}]\nfailover:\n  max-retries: 3\n",
        env={},
    )
    assert [(n.place.line, n.place.key) for n in loaded.notices] == [
        (2, "monitoring.metrics"),
        (3, "failover"),
    ]
    assert all(str(n).startswith("configuration:") for n in loaded.notices)
    assert all("accepted, not yet active: for now " in n.message for n in loaded.notices)


def test_parts_can_be_built_in_python_by_their_field_names() -> None:
    assert Source(name="a", max_workers=3).max_workers == 3
    assert KafkaCluster(topic_prefix="x.").topic_prefix == "x."
