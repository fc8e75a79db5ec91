"""Formats of Kafka targets and their events, as a file says them."""

from __future__ import annotations

import pytest

from gravity.config import parse_config
from gravity.config.event import EventTimestamp
from gravity.config.problem import ConfigError
from gravity.config.target import KafkaTarget

SEED = """
targets:
  - name: k
    type: kafka
    brokers: ["h:1"]
    format: {shop.audit_log: avro, "shop.*": debezium}
    events:
      - tables: users
        topic: user-events
        event-type: {insert: user_created, update: user_updated, delete: user_deleted}
        fields: {user_id: id, user_name: name}
        timestamp: {field: timestamp, from: created_at, as: epoch-seconds}
"""


def target(text: str) -> KafkaTarget:
    found = parse_config(text, env={}).config.targets[0]
    assert isinstance(found, KafkaTarget)
    return found


def test_the_event_of_the_seed_is_read_as_it_stands() -> None:
    event = target(SEED).event_of("shop", "users")
    assert event.topic == "user-events"
    assert (event.event_type.insert, event.event_type.truncate) == (
        "user_created",
        "{table}_truncated",
    )
    # The names of fields are the user's: no underscore becomes a hyphen.
    assert event.fields == {"user_id": "id", "user_name": "name"}
    assert event.timestamp == EventTimestamp(from_="created_at", as_="epoch-seconds")


def test_events_go_before_formats_and_formats_by_the_first_match() -> None:
    found = target(SEED)
    tables = [("shop", "users"), ("shop", "audit_log"), ("shop", "orders"), ("crm", "notes")]
    assert [found.format_of(*name) for name in tables] == ["event", "avro", "debezium", "json"]
    assert found.formats == (
        ("users", "event"), ("shop.audit_log", "avro"), ("shop.*", "debezium"),
    )  # fmt: skip


def test_a_target_of_flat_json_says_nothing_in_a_plan() -> None:
    assert target("targets: [{name: k, type: kafka}]").formats == ()
    assert target("targets: [{name: k, type: kafka, format: json}]").formats == ()


def test_a_list_of_fields_keeps_the_columns_names() -> None:
    events = "[{tables: t, fields: [a_b, c]}]"
    found = target(f"targets: [{{name: k, type: kafka, events: {events}}}]")
    assert found.event_of("d", "t").fields == {"a_b": "a_b", "c": "c"}


@pytest.mark.parametrize(
    ("wrong", "line", "message"),
    [
        (("as: epoch-seconds", "as: epoch-second"), 11, "did you mean epoch-seconds"),
        (("user_id: id", "event_type: id"), 10, "event_type is the field that says what happened"),
        (("user_name: name", "timestamp: name"), 11, "timestamp is the name of another field"),
        (("as: epoch-seconds", "time-zone: Mars"), 11, "no time zone is called 'Mars'"),
        (("insert: user_created", "insert: '{tabel}_made'"), 9, "{tabel} is not known here"),
        (("insert: user_created", "insret: made"), 9, "did you mean insert"),
        (("audit_log: avro", "audit_log: avor"), 5, "did you mean avro"),
        (("topic: user-events", "topic: 'user events'"), 8, "a topic name is made of"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_event_is_said_with_its_line(
    wrong: tuple[str, str], line: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        target(SEED.replace(*wrong).lstrip("\n"))
    assert f":{line}:" in str(caught.value)
    assert message in str(caught.value)
