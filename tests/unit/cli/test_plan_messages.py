"""What `gravity plan` says of a Kafka target's messages is what its sink will write."""

from __future__ import annotations

import json
from pathlib import Path

from gravity_sink_kafka.shape import Shapes
from typer.testing import CliRunner

from gravity.cli.main import app
from gravity.cli.plan_messages import Messages, messages_by_pattern, messages_by_table
from gravity.config import parse_config
from gravity.config.target import KafkaTarget

FILE = """
sources: [{name: shop, host: h, username: u}]
targets:
  - name: bus
    type: kafka
    brokers: "b:9"
    format: {orders: debezium, "l*": avro, "n_*": event}
    topic: "{source}.{table}"
    events:
      - tables: [users, admins]
        topic: user-events
        event-type: {insert: user_created, read: user_read}
        fields: {user_id: id, name: name}
        timestamp: {from: created_at, as: epoch-millis, time-zone: Asia/Shanghai}
  - {name: plain, type: kafka, brokers: "b:9"}
  - {name: warehouse, type: mysql, host: h, username: u}
"""
CONFIG = parse_config(FILE).config
USER_EVENT = (
    "insert: user_created, update: {table}_updated, delete: {table}_deleted, read: user_read",
    "fields: user_id = id, name",
    "timestamp = created_at as epoch-millis, Asia/Shanghai",
)
ANY_EVENT = (
    "insert: {table}_created, update: {table}_updated, delete: {table}_deleted",
    "fields: all columns",
)


def test_the_files_entries_are_shown_in_the_order_in_which_they_are_tried() -> None:
    own = "{source}.{table}"
    assert messages_by_pattern(CONFIG) == [
        Messages("bus", ("users", "admins"), "event", "user-events", USER_EVENT),
        Messages("bus", ("orders",), "debezium", own),
        Messages("bus", ("l*",), "avro", own),
        Messages("bus", ("n_*",), "event", own, ANY_EVENT),
        Messages("bus", ("*",), "json", own),
        Messages("plain", ("*",), "json", "{database}.{table}"),
    ]


def test_each_table_has_the_shape_that_the_sink_will_give_it() -> None:
    tables = ("users", "orders", "logs", "n_1", "other")
    ways = [(target, "db", t) for target in ("bus", "plain", "warehouse") for t in tables]
    found = messages_by_table(CONFIG, ways)
    assert [(m.target, *m.tables) for m in found] == [(t, f"{d}.{n}") for t, d, n in ways[:10]]
    assert [m.format for m in found] == [
        "event",
        "debezium",
        "avro",
        "event",
        "json",
        *["json"] * 5,
    ]
    assert (found[0].says, found[3].says) == (USER_EVENT, ANY_EVENT)
    shapes = {
        target.name: Shapes(target) for target in CONFIG.targets if isinstance(target, KafkaTarget)
    }
    kinds = {
        "event": "EventShape",
        "json": "FlatShape",
        "debezium": "DebeziumShape",
        "avro": "AvroShape",
    }
    for said, (target, database, table) in zip(found, ways, strict=False):
        assert type(shapes[target].of(database, table)).__name__ == kinds[said.format]


def test_the_command_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "gravity.yaml"
    path.write_text(FILE)
    done = CliRunner().invoke(app, ["plan", str(path), "--json"])
    assert [said["format"] for said in json.loads(done.stdout)["messages"]] == [
        "event", "debezium", "avro", "event", "json", "json",
    ]  # fmt: skip
    assert "user-events" in CliRunner().invoke(app, ["plan", str(path)]).stdout
