"""Forms in which configurations are written load as they stand, with and without their root key."""

import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from gravity.config import Config, ConfigError, LoadedConfig, parse_config
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget

FORMS = Path(__file__).parent / "written_forms"
ROOTS = pytest.mark.parametrize("rooted", [False, True], ids=["bare", "rooted"])


def load(name: str, *, rooted: bool) -> LoadedConfig:
    text = (FORMS / f"{name}.yaml").read_text()
    bare = text.partition("gravity:\n")
    if bare[1]:
        text = text if rooted else textwrap.dedent(bare[2])
    elif rooted:
        text = "gravity:\n" + textwrap.indent(text, "  ")
    return parse_config(text, f"{name}.yaml", env={})


def config(name: str, *, rooted: bool) -> Config:
    return load(name, rooted=rooted).config


def inactive(loaded: LoadedConfig) -> list[str]:
    return [
        notice.place.key.removeprefix("gravity.")
        for notice in loaded.notices
        if "not yet active" in notice.message
    ]


@ROOTS
def test_sources_have_priorities_and_workers(*, rooted: bool) -> None:
    sources = config("2_2_source_priorities", rooted=rooted).sources
    assert [(s.name, s.priority, s.max_workers) for s in sources] == [
        ("user-db", 1, 4),
        ("order-db", 2, 2),
        ("log-db", 3, 1),
    ]
    assert sources[0].tables == ("*",)
    with pytest.raises(ConfigError, match=r"source user-db: host: missing") as caught:
        sources[0].require_connection()
    assert len(caught.value.problems) == 2


@ROOTS
def test_targets_are_a_mapping_with_their_tables(*, rooted: bool) -> None:
    loaded = config("3_2_targets_by_table", rooted=rooted)
    mysql, kafka, clickhouse = loaded.targets
    assert [t.name for t in loaded.targets] == ["mysql-target", "kafka-target", "clickhouse-target"]
    assert mysql.tables == ("users", "orders")
    assert kafka.tables == ("logs", "events")
    assert (clickhouse.tables, clickhouse.exclude) == (("*",), ("temp_*",))
    assert clickhouse.selects("shop", "users")
    assert not clickhouse.selects("shop", "temp_users")
    assert not mysql.selects("shop", "logs")


@ROOTS
def test_distribution_rules_name_targets_nobody_declares(*, rooted: bool) -> None:
    loaded = config("3_2_distribution_rules", rooted=rooted)
    assert [(r.condition, r.targets) for r in loaded.distribution_rules] == [
        ("user_type = 'vip'", ("vip-analytics-db",)),
        ("amount > 10000", ("risk-control-db",)),
        ("region in ('US', 'EU')", ("overseas-db",)),
    ]
    assert [(t.name, t.type) for t in loaded.targets] == [
        ("vip-analytics-db", None),
        ("risk-control-db", None),
        ("overseas-db", None),
    ]
    with pytest.raises(ConfigError, match=r"vip-analytics-db: type: missing: say one of mysql"):
        loaded.targets[0].require_connection()
    with pytest.raises(ConfigError) as caught:
        loaded.require_runnable()
    assert len(caught.value.problems) == 4


@ROOTS
def test_routing_rules_shard_by_hash_and_range(*, rooted: bool) -> None:
    loaded = load("4_1_routing_rules", rooted=rooted)
    users, orders = loaded.config.routing_rules
    assert (users.name, users.strategy, users.key) == ("users-table", "hash", ("user_id",))
    assert users.table_patterns == ("users",)
    assert [t.target for t in users.targets] == [f"user-db-{n}" for n in (1, 2, 3, 4)]
    assert (orders.strategy, orders.key) == ("range", ("order_date",))
    assert [(r.range, r.target) for r in orders.ranges] == [
        ("2023-01-01 to 2023-12-31", "order-db-2023"),
        ("2024-01-01 to 2024-12-31", "order-db-2024"),
    ]
    assert len(loaded.config.targets) == 6
    assert inactive(loaded) == []


@ROOTS
def test_failover_names_primaries_and_backups(*, rooted: bool) -> None:
    loaded = load("4_3_failover", rooted=rooted)
    failover = loaded.config.failover
    assert failover is not None
    assert failover.primary == ("target-A", "target-B")
    assert failover.backup == ("target-C",)
    assert failover.detection_timeout == timedelta(seconds=30)
    assert failover.retry_interval == timedelta(seconds=60)
    assert failover.max_retries == 3
    assert [t.name for t in loaded.config.targets] == ["target-A", "target-B", "target-C"]
    assert inactive(loaded) == ["failover"]


@ROOTS
def test_conflict_resolution_has_priorities_and_special_rules(*, rooted: bool) -> None:
    loaded = load("5_2_conflict_resolution", rooted=rooted)
    conflicts = loaded.config.conflict_resolution
    assert conflicts.default_strategy == "source-priority"
    assert conflicts.source_priorities == {"user-master-db": 1, "user-slave-db": 2}
    assert [(r.tables, r.strategy) for r in conflicts.rules] == [
        (("financial_records",), "error-stop"),
        (("user_preferences",), "merge"),
    ]
    assert inactive(loaded) == []


@ROOTS
def test_the_complete_configuration(*, rooted: bool) -> None:
    loaded = load("6_1_complete", rooted=rooted)
    config = loaded.config
    config.require_runnable()
    source = config.source("user-master")
    assert (source.type, source.address, source.port) == ("mysql", "user-db-master.com", 3306)
    assert source.username == "gravity_user"
    assert source.password is not None
    assert source.password.get_secret_value() == "password"
    assert source.tables == ("users", "user_profiles")
    warehouse, kafka, clickhouse = config.targets
    assert isinstance(warehouse, MysqlTarget)
    assert (warehouse.host, warehouse.username, warehouse.database) == ("dw.com", "dw_user", None)
    assert isinstance(kafka, KafkaTarget)
    assert (kafka.brokers, kafka.topic) == (("kafka1:9092", "kafka2:9092"), "{database}.{table}")
    assert isinstance(clickhouse, ClickhouseTarget)
    assert (clickhouse.host, clickhouse.port, clickhouse.database) == ("ch.com", 8123, "analytics")
    broadcast, single, conditional = config.routing
    assert (broadcast.source_tables, broadcast.strategy) == (
        ("users", "user_profiles"),
        "broadcast",
    )
    assert (single.targets, single.strategy) == (("data-warehouse",), "single")
    assert [(c.condition, c.targets) for c in conditional.conditions] == [
        ("log_level = 'ERROR'", ("real-time-analytics",)),
        ("log_level = 'INFO'", ("analytics-kafka",)),
    ]
    rules = config.conflict_resolution.rules
    assert [(r.tables, r.strategy) for r in rules] == [
        (("users",), "timestamp-latest"),
        (("orders",), "error-stop"),
    ]
    ports = [n for n in loaded.notices if n.place.key.endswith("targets[2].port")]
    assert [(n.place.line, "8123 is used" in n.message) for n in ports] == [
        (51 if rooted else 49, True)
    ]
    assert inactive(loaded) == []


@ROOTS
def test_monitoring_holds_metrics_and_alerts(*, rooted: bool) -> None:
    loaded = load("6_3_monitoring", rooted=rooted)
    metrics = loaded.config.monitoring.metrics
    assert [(m.name, m.unit, m.alert_threshold) for m in metrics] == [
        ("sync_throughput", "records/second", 1000),
        ("sync_latency", "milliseconds", 5000),
        ("conflict_rate", "percentage", 1),
        ("error_rate", "percentage", 0.1),
        ("memory_usage", "percentage", 80),
        ("connection_pool_usage", "percentage", 90),
    ]
    mail, short_message = loaded.config.alerts
    assert (mail.condition, mail.action) == ("sync_latency > 10s", "send_email")
    assert mail.recipients == ("admin@company.com",)
    assert (short_message.action, short_message.recipients) == ("send_sms", ())
    assert inactive(loaded) == ["monitoring.metrics", "monitoring.alerts"]
