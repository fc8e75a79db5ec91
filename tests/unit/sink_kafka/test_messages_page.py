"""The examples of docs/messages.md are what the sink writes, and its reader reads it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from gravity_sink_kafka.envelope import Envelope
from gravity_sink_kafka.shape import Shapes

from gravity.codec import decode_batch
from gravity.config import parse_config
from gravity.config.target import KafkaTarget
from gravity.header import TargetHeader
from gravity.testing.target_log import TargetLog, table

PAGE = Path(__file__).parents[3] / "docs/messages.md"
USERS = table(
    "shop.users", [("id", "int"), ("name", "varchar(20)"), ("created_at", "datetime")], ["id"]
)


def blocks(heading: str, language: str) -> list[str]:
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def target() -> KafkaTarget:
    """The target that the page begins with."""
    lines = PAGE.read_text().split("targets:\n")[1].split("\nPatterns mean")[0]
    found = parse_config("    targets:\n" + lines, env={}).config.targets[0]
    assert isinstance(found, KafkaTarget)
    return found


def message(made: KafkaTarget) -> Envelope:
    headers, value = TargetLog(source="shop", offset=990).rows(
        USERS, [("I", (1, "张三", "2023-01-01 10:00:00"))]
    )
    shape = Shapes(made).of("shop", "users")
    (envelope,) = shape.envelopes(decode_batch(value), TargetHeader.from_kafka(headers))
    return envelope


@pytest.mark.parametrize("form", ["json", "debezium"])
def test_each_example_is_what_is_written(form: Any) -> None:
    (example,) = blocks(f"`format: {form}`", "json")
    written = json.loads(message(KafkaTarget(name="k", format=form)).value)
    assert json.loads(example) == written
    assert list(json.loads(example)) == list(written)


def test_the_event_is_what_the_target_above_writes() -> None:
    (example,) = blocks("`events`", "json")
    assert json.dumps(json.loads(message(target()).value), ensure_ascii=False) == example.strip()


def test_the_formats_of_the_target_above_are_as_it_says() -> None:
    tables = [("shop", "users"), ("shop", "audit_log"), ("shop", "orders"), ("crm", "notes")]
    assert [target().format_of(*name) for name in tables] == ["event", "avro", "debezium", "json"]


def test_the_reader_reads_the_row_by_the_schema_that_is_shown() -> None:
    (reader,), (example,) = blocks("`format: avro`", "python"), blocks("`format: avro`", "json")
    made = KafkaTarget.model_validate({"name": "k", "format": "avro"})
    schema = Shapes(made).of("shop", "users").writer_schema(USERS)
    assert schema is not None
    assert json.loads(example) == json.loads(schema.text)
    names: dict[str, Any] = {}
    exec(reader, names)
    schemas: dict[str, Any] = {}
    names["learn"](schemas, schema.id.encode(), schema.text)
    row = names["read"](schemas, message(made).value)
    assert row == {
        "id": 1,
        "name": "张三",
        "created_at": datetime.fromisoformat("2023-01-01 10:00"),
    }
    assert f"gives `{row!r}`" in PAGE.read_text()
    assert names["read"](schemas, None) is None
