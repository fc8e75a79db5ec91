"""Events in the user's own words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import TableSchema
from gravity.config import parse_config
from gravity.config.event import Event
from gravity.errors import FatalError
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.schema_change import TableAction
from gravity.testing.target_log import Change, table
from tests.unit.sink_kafka.every_type import COLUMNS, ROWS, exists
from tests.unit.sink_kafka.made import emptied, messages, shape_of

USERS = table(
    "shop.users",
    [("id", "int"), ("name", "varchar(20)"), ("created_at", "datetime"), ("at", "timestamp(6)")],
    ["id"],
)
SEED = {
    "tables": "users",
    "topic": "user-events",
    "event-type": {
        "insert": "user_created", "update": "user_updated", "delete": "user_deleted"
    },
    "fields": {"user_id": "id", "user_name": "name"},
    "timestamp": {"field": "timestamp", "from": "created_at", "as": "epoch-seconds"},
}  # fmt: skip
ROW = (1, "张三", "2023-01-01 10:00:00", "2023-01-01 10:00:00.000001")
UNITS = {"epoch-seconds": 10**6, "epoch-millis": 10**3, "epoch-micros": 1}


def events(changes: list[Change], *, schema: TableSchema = USERS, **more: Any) -> list[Any]:
    return [
        json.loads(envelope.value)
        for envelope in messages(schema, changes, events=[{**SEED, **more}])
    ]


def test_the_example_of_the_seed_is_written_to_the_byte() -> None:
    (envelope,) = messages(USERS, [("I", ROW)], events=[SEED])
    expected = '{"event_type":"user_created","user_id":1,"user_name":"张三","timestamp":1672567200}'
    assert envelope.value == expected.encode()
    assert envelope.key == b'{"id":1}'
    assert shape_of(USERS, events=[SEED]).topic == "user-events"


def test_each_operation_has_its_type_and_headers_say_the_rest() -> None:
    changes: list[Change] = [(op, ROW) for op in "IRUDML"]
    found = messages(USERS, changes, events=[SEED])
    assert [(json.loads(e.value)["event_type"], e.removes) for e in found] == [
        ("user_created", False),
        ("user_created", False),
        ("user_updated", False),
        ("user_deleted", True),
        ("user_deleted", True),
        ("user_deleted", True),
    ]
    versions = [int(dict(e.headers)["gravity.version"]) for e in found]
    assert versions == list(range(versions[0], versions[0] + 6))
    assert [dict(e.headers)["gravity.op"] for e in found] == [
        b"insert", b"read", b"update", b"delete", b"delete", b"delete",
    ]  # fmt: skip


def test_types_that_are_not_named_are_called_after_the_table() -> None:
    found = events(
        [(op, ROW) for op in "IUDR"],
        **{"event-type": {"read": "{database}.{table} of {source}"}},
    )
    assert [event["event_type"] for event in found] == [
        "users_created", "users_updated", "users_deleted", "shop.users of s1",
    ]  # fmt: skip


@given(ROWS)
def test_without_fields_an_event_holds_the_row_as_flat_json_does(row: tuple[Any, ...]) -> None:
    schema = table("shop.every", COLUMNS, ["id"])
    (envelope,) = messages(schema, [("I", row)], format="event")
    (flat,) = messages(schema, [("I", row)])
    expected = json.loads(flat.value)
    del expected["_gravity"]
    assert json.loads(envelope.value) == {"event_type": "every_created", **expected}
    assert envelope.key == flat.key


ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns")


@given(
    st.datetimes(datetime(1902, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - a clock on a wall
    st.sampled_from(ZONES),
    st.sampled_from(list(UNITS)),
)
def test_a_datetime_is_read_from_a_clock_in_the_zone_that_was_said(
    at: datetime, zone: str, unit: str
) -> None:
    schema = table("shop.users", [("id", "int"), ("created_at", "datetime(6)")], ["id"])
    text = at.isoformat(" ", "microseconds")
    when = {"from": "created_at", "as": unit, "time-zone": zone}
    (event,) = events([("I", (1, text))], schema=schema, fields={}, timestamp=when)
    instant = at.replace(tzinfo=ZoneInfo(zone)) - datetime(1970, 1, 1, tzinfo=UTC)
    assert event["timestamp"] == instant // timedelta(microseconds=1) // UNITS[unit]


def test_a_timestamp_needs_no_zone_and_the_commit_no_column() -> None:
    when = {"from": "at", "as": "epoch-micros", "time-zone": "Asia/Shanghai"}
    (event,) = events([("I", ROW)], timestamp=when)
    assert event["timestamp"] == 1_672_567_200_000_001
    (event,) = events([("I", ROW)], timestamp={"as": "epoch-millis", "field": "at_ms"})
    assert event["at_ms"] == 1_700_000_000_001


@pytest.mark.parametrize("cell", [None, "0000-00-00 00:00:00", "2024-02-31 10:00:00"])
def test_no_time_is_null(cell: str | None) -> None:
    assert cell is None or not exists(cell[:10])
    (event,) = events([("I", (1, "a", cell, None))])
    assert event["timestamp"] is None


def test_a_table_that_was_emptied_or_dropped_is_an_event() -> None:
    truncated, dropped = (
        emptied(USERS, action, events=[SEED]) for action in (TableAction.TRUNCATE, TableAction.DROP)
    )
    assert json.loads(truncated.value) == {"event_type": "users_truncated", "timestamp": 0}
    assert json.loads(dropped.value)["event_type"] == "users_dropped"


MISFITS = [
    ({"fields": {"n": "nmae"}}, "column nmae, which the table does not have"),
    ({"timestamp": {"from": "name"}}, "column name, which is varchar"),
    (
        {"fields": {}, "timestamp": {"field": "created_at"}},
        "field created_at is called as a column",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), MISFITS)
def test_what_a_table_does_not_have_halts_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(FatalError, match=message) as caught:
        events([("I", ROW)], **wrong)
    assert "shop.users" in str(caught.value)
    assert "`events` for users" in caught.value.remedy or "`fields`" in caught.value.remedy


@pytest.mark.parametrize(("wrong", "message"), MISFITS)
def test_and_is_found_when_the_plan_is_made(wrong: dict[str, Any], message: str) -> None:
    document = {
        "sources": [{"name": "s", "host": "h", "username": "u", "password": "p"}],
        "targets": [{"name": "k", "type": "kafka", "events": [{**SEED, **wrong}]}],
    }
    config = parse_config(json.dumps(document), env={}).config
    with pytest.raises(FatalError, match=message) as caught:
        compile_plan(config, [SourceTable("s", USERS)])
    assert "target k, table shop.users of s" in str(caught.value)
    other = table("shop.orders", [("id", "int")], ["id"])
    compile_plan(config, [SourceTable("s", other)])


def test_names_of_columns_are_in_any_case() -> None:
    event = Event.model_validate({"tables": "users", "fields": {"user_id": "ID"}})
    (envelope,) = messages(USERS, [("I", ROW)], events=[event])
    assert cast("dict[str, Any]", json.loads(envelope.value))["user_id"] == 1
