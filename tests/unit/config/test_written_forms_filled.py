"""Each written form, with only what it leaves open filled in, is a pipeline that could run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gravity.batch import Column, TableSchema
from gravity.config import parse_config
from gravity.plan_compiler import SourceTable, compile_plan

FORMS = Path(__file__).parent / "written_forms"
LEFT_OPEN: dict[str, dict[str, list[str]]] = {
    "2_2_source_priorities": {"targets": ["copy"]},
    "3_2_distribution_rules": {
        "sources": ["only"],
        "targets": ["vip-analytics-db", "risk-control-db", "overseas-db"],
    },
    "3_2_targets_by_table": {"sources": ["only"]},
    "4_1_routing_rules": {
        "sources": ["only"],
        "targets": [
            *(f"user-db-{n}" for n in (1, 2, 3, 4)), "order-db-2023", "order-db-2024",
        ],
    },
    "4_3_failover": {"sources": ["only"], "targets": ["target-A", "target-B", "target-C"]},
    "5_2_conflict_resolution": {
        "sources": ["user-master-db", "user-slave-db"],
        "targets": ["copy"],
    },
    "6_1_complete": {},
    "6_3_monitoring": {"sources": ["only"], "targets": ["copy"]},
}  # fmt: skip
"""The sources and targets that a form speaks of, or needs, without declaring them."""
FLOWS: dict[str, dict[str, set[str]]] = {
    "2_2_source_priorities": {"users": {"copy"}},
    "3_2_distribution_rules": {
        "deals": {"vip-analytics-db", "risk-control-db", "overseas-db"},
    },
    "3_2_targets_by_table": {
        "users": {"mysql-target", "clickhouse-target"},
        "logs": {"kafka-target", "clickhouse-target"},
        "temp_1": set(),
    },
    "4_1_routing_rules": {
        "users": {f"user-db-{n}" for n in (1, 2, 3, 4)},
        "orders": {"order-db-2023", "order-db-2024"},
    },
    "4_3_failover": {"users": {"target-A", "target-B", "target-C"}},
    "5_2_conflict_resolution": {"financial_records": {"copy"}, "user_preferences": {"copy"}},
    "6_1_complete": {
        "users": {"data-warehouse", "analytics-kafka"},
        "order_items": {"data-warehouse"},
        "access_logs": {"real-time-analytics", "analytics-kafka"},
    },
    "6_3_monitoring": {"users": {"copy"}},
}
"""Where the rows of some tables may go by each form."""
COLUMNS = {
    "id": "int", "user_id": "int", "user_type": "varchar(9)", "amount": "decimal(12,2)",
    "region": "varchar(9)", "order_date": "date", "log_level": "varchar(9)",
}  # fmt: skip


def filled(name: str) -> str:
    """The form with its open ends closed, as JSON, which is YAML."""
    document = YAML(typ="safe", pure=True).load((FORMS / f"{name}.yaml").read_text())
    root = document.get("gravity", document)
    for part in ("sources", "targets"):
        declared = root.setdefault(part, [])
        for more in LEFT_OPEN[name].get(part, ()):
            if isinstance(declared, dict):
                declared.setdefault(more, {})
            else:
                declared.append({"name": more})
        named = (
            declared.items() if isinstance(declared, dict) else [(p["name"], p) for p in declared]
        )
        for key, server in named:
            if isinstance(server, dict):
                connect(server, key, is_target=part == "targets")
    return json.dumps(document, default=str)


def connect(server: dict[str, Any], name: str, *, is_target: bool) -> None:
    if is_target and "type" not in server:
        kinds = [kind for kind in ("kafka", "clickhouse") if kind in name]
        server["type"] = kinds[0] if kinds else "mysql"
    if server.get("type") == "kafka":
        server.setdefault("brokers", ["kafka1:9092"])
    else:
        server.setdefault("host", f"{name}.example.com")
        server.setdefault("username", "gravity")


@pytest.mark.parametrize("name", sorted(path.stem for path in FORMS.glob("*.yaml")))
def test_a_written_form_could_run(name: str) -> None:
    config = parse_config(filled(name), name, env={}).config
    config.require_runnable()
    columns = tuple(Column(column, kind) for column, kind in COLUMNS.items())
    tables = [
        SourceTable(each.name, TableSchema("shop", table, columns, (0,)))
        for each in config.sources
        for table in FLOWS[name]
        if each.selects("shop", table)
    ]
    plan = compile_plan(config, tables)
    found = {
        table.schema.table: {feed.target for feed in plan.feeds(table.source, table.schema)}
        for table in tables
    }
    assert found == FLOWS[name]
