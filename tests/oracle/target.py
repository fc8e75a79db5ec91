"""What targets hold, by their ordinary clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import clickhouse_connect
from confluent_kafka import Consumer, TopicPartition

from tests.oracle.cell import Row
from tests.oracle.server import Address, Table, row_of


def clickhouse_rows(address: Address, database: str, table: str, shape: Table) -> dict[Row, Row]:
    """Current rows of a ClickHouse table by key, as ClickHouse prints them."""
    client = clickhouse_connect.get_client(
        host=address.host, port=address.port, username=address.user, password=address.password
    )
    names = ", ".join(
        f"hex(`{name}`)" if "blob" in kind or "binary" in kind else f"toString(`{name}`)"
        for name, kind in zip(shape.columns, shape.types, strict=True)
    )
    found = client.query(
        f"SELECT {names} FROM `{database}`.`{table}` FINAL WHERE _deleted = 0"
    ).result_rows
    client.close()
    rows = [row_of(dict(zip(shape.columns, row, strict=True)), shape) for row in found]
    return {shape.key_of(row): row for row in rows}


Message = tuple[bytes, bytes | None]
"""Key and value."""


def kafka_messages(brokers: str, topic: str) -> list[Message]:
    """Every committed message of a topic, in order per partition."""
    return kafka_topics(brokers, [topic])[topic]


def kafka_topics(brokers: str, topics: Sequence[str]) -> dict[str, list[Message]]:
    """Every committed message of each topic, in order per partition; none where there is no such topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    found: dict[str, list[Message]] = {topic: [] for topic in topics}
    known = consumer.list_topics(timeout=20).topics
    places = [
        TopicPartition(topic, number, 0)
        for topic in topics
        if topic in known
        for number in known[topic].partitions
    ]
    if places:
        consumer.assign(places)
    left = len(places)
    while left:
        for message in consumer.consume(1000, 0.1):
            if message.error() is not None:
                left -= 1  # The only error that is asked for is the end of a partition.
            else:
                found[message.topic()].append((message.key(), message.value()))
    consumer.close()
    return found


def fold_messages(messages: Sequence[tuple[bytes, bytes | None]], shape: Table) -> dict[Row, Row]:
    """The table that a reader of a Kafka target's topic ends up with."""
    rows: dict[bytes, Row] = {}
    for key, value in messages:
        record: dict[str, Any] | None = None if value is None else json.loads(value)
        if record is None or record.get("_gravity", {}).get("op") == "delete":
            rows.pop(key, None)
        else:
            rows[key] = row_of(_decoded(record, shape), shape)
    return {shape.key_of(row): row for row in rows.values()}


def _decoded(record: Mapping[str, Any], shape: Table) -> dict[str, Any]:
    """The record with its base64 columns as bytes."""
    decoded = dict(record)
    for name, kind in zip(shape.columns, shape.types, strict=True):
        if ("blob" in kind or "binary" in kind) and decoded.get(name) is not None:
            decoded[name] = base64.b64decode(decoded[name])
    return decoded
