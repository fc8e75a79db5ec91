"""Debezium's envelope, read by a JSON parser and by the meaning that its documentation gives each type."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.codec import decode_batch
from gravity.header import TargetHeader
from gravity.schema_change import TableAction
from gravity.testing.target_log import Change, TargetLog, table
from tests.unit.sink_kafka.every_type import COLUMNS, ROWS, moment, since_1970, span
from tests.unit.sink_kafka.made import emptied, messages, shape_of

SCHEMA = table("shop.every", COLUMNS, ["id"])
USERS = table("shop.users", [("id", "int"), ("name", "varchar(9)")], ["id"])
DAY, MS, US = timedelta(days=1), timedelta(milliseconds=1), timedelta(microseconds=1)


def read(value: bytes) -> dict[str, Any]:
    found = json.loads(value)
    assert isinstance(found, dict)
    return found


def meaning(kind: str, cell: Any) -> Any:
    """The cell as the connector's documentation says that it appears."""
    if cell is None:
        return None
    name, _, rest = kind.partition("(")
    size = int(rest.partition(")")[0].partition(",")[0] or 0) if rest[:1].isdigit() else 0
    match name:
        case "date":
            return since_1970(cell, DAY)
        case "datetime":
            return since_1970(cell, US if size > 3 else MS)
        case "timestamp":
            at = moment(cell)
            return None if at is None else cell.replace(" ", "T") + "Z"
        case "time":
            return span(cell) // US
        case "bit" if size == 1:
            return cell == 1
        case "bit":
            whole = (size + 7) // 8
            return base64.b64encode(struct.pack("<Q", cell)[:whole]).decode()
        case "geometry":
            srid = struct.unpack("<I", cell[:4])[0]
            return {"wkb": base64.b64encode(cell[4:]).decode(), "srid": srid or None}
        case "vector":
            return list(struct.unpack("<2f", cell))
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell


@given(st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=3))
def test_every_cell_appears_as_the_connector_writes_it(
    changes: list[tuple[tuple[Any, ...], tuple[Any, ...]]],
) -> None:
    same_key = [(old, (old[0], *new[1:])) for old, new in changes]
    found = messages(
        SCHEMA, [("U", new) for _, new in same_key], old=[old for old, _ in same_key],
        format="debezium",
    )  # fmt: skip
    for envelope, (old, new) in zip(found, same_key, strict=True):
        record = read(envelope.value)
        for row, image in ((old, record["before"]), (new, record["after"])):
            expected = {
                name: meaning(kind, cell) for (name, kind), cell in zip(COLUMNS, row, strict=True)
            }
            assert image == expected
            assert list(image) == list(expected)
        assert record["op"] == "u"
        assert json.loads(envelope.key) == {"id": new[0]}


def test_what_stands_beside_the_rows() -> None:
    (envelope,) = messages(USERS, [("I", (1, "a"))], format="debezium")
    assert read(envelope.value) == {
        "before": None,
        "after": {"id": 1, "name": "a"},
        "source": {
            "version": "gravity", "connector": "mysql", "name": "s1", "snapshot": "false",
            "db": "shop", "sequence": None, "table": "users", "server_id": 0, "gtid": "0-1-1100",
            "file": "000001", "pos": 1100, "row": 0, "thread": None, "query": None,
            "ts_ms": 1_700_000_000_001, "ts_us": 1_700_000_000_001_100,
            "ts_ns": 1_700_000_000_001_100_000,
        },
        "transaction": None,
        "op": "c",
        "ts_ms": 1_700_000_000_001,
        "ts_us": 1_700_000_000_001_100,
        "ts_ns": 1_700_000_000_001_100_000,
    }  # fmt: skip
    assert dict(envelope.headers) == {
        "gravity.op": b"insert", "gravity.source": b"s1", "gravity.gtid": b"0-1-1100",
        "gravity.position": b"1:1:1100:0", "gravity.commit-us": b"1700000000001100",
        "gravity.version": b"72057594037993472",
    }  # fmt: skip


def test_each_operation_has_the_images_that_the_connector_gives_it() -> None:
    changes = [("I", (1, "a")), ("R", (2, "b")), ("U", (1, "c")), ("D", (1, "c"))]
    found = messages(USERS, changes, old=[None, None, (1, "a"), (1, "c")], format="debezium")
    seen = [
        (r["op"], r["before"], r["after"], r["source"]["snapshot"], e.removes)
        for e in found
        for r in (read(e.value),)
    ]
    a, b, c = {"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "c"}
    assert seen == [
        ("c", None, a, "false", False),
        ("r", None, b, "true", False),
        ("u", a, c, "false", False),
        ("d", c, None, "false", True),
    ]


def test_a_change_of_the_key_is_a_delete_as_it_was_and_a_create() -> None:
    # The router makes two of it, and both hold the row before the change.
    changes = [("M", (1, "new")), ("U", (2, "new"))]
    old, new = messages(USERS, changes, old=[(1, "old"), (1, "old")], format="debezium")
    assert read(old.value)["op"] == "d"
    assert read(old.value)["before"] == {"id": 1, "name": "old"}
    assert (old.key, old.removes) == (b'{"id":1}', True)
    assert read(new.value)["op"] == "c"
    assert (read(new.value)["before"], read(new.value)["after"]) == (None, {"id": 2, "name": "new"})


def test_a_row_that_a_newer_plan_takes_away_is_deleted_as_it_was_or_as_it_is_read() -> None:
    changes: list[Change] = [("L", (1, "new")), ("L", (2, "read"))]
    updated, read_again = messages(USERS, changes, old=[(1, "old"), None], format="debezium")
    assert read(updated.value)["op"] == read(read_again.value)["op"] == "d"
    assert read(updated.value)["before"] == {"id": 1, "name": "old"}
    assert read(read_again.value)["before"] == {"id": 2, "name": "read"}
    assert updated.removes and read_again.removes


def test_what_is_not_known_of_a_row_before_the_change_is_null() -> None:
    (updated, deleted) = messages(USERS, [("U", (1, "a")), ("D", (1, "a"))], format="debezium")
    assert (read(updated.value)["op"], read(updated.value)["before"]) == ("u", None)
    assert read(deleted.value)["before"] == {"id": 1, "name": "a"}


@pytest.mark.parametrize("late", [False, True])
def test_a_late_row_says_so_in_a_header(*, late: bool) -> None:
    headers, value = TargetLog().rows(USERS, [("U", (1, "a"))])
    header = TargetHeader.from_kafka(headers).describing(late=late)
    [envelope] = shape_of(USERS, format="debezium").envelopes(decode_batch(value), header)
    assert dict(envelope.headers).get("gravity.late") == (b"true" if late else None)


def test_a_part_of_the_row_before_the_change_is_no_row() -> None:
    # Before the plan asked for all columns, only the key's came.
    headers, value = TargetLog().rows(USERS, [("U", (1, "a")), ("U", (2, "b"))])
    batch = replace(decode_batch(value), before_columns=(0,), before=[[1, 9]])
    shape = shape_of(USERS, format="debezium")
    same, moved = map(
        read, (e.value for e in shape.envelopes(batch, TargetHeader.from_kafka(headers)))
    )
    assert (same["op"], same["before"]) == ("u", None)
    assert (moved["op"], moved["before"]) == ("c", None)


def test_a_day_that_does_not_exist_is_the_first_one_where_null_can_not_be() -> None:
    kinds = ("date", "datetime", "timestamp")
    columns = [Column("id", "int", nullable=False)]
    columns += [Column(kind, kind, nullable=False) for kind in kinds]
    schema = TableSchema("shop", "t", tuple(columns), (0,))
    row = (1, "0000-00-00", "2024-02-31 00:00:00", "0000-00-00 00:00:00")
    (envelope,) = messages(schema, [("I", row)], format="debezium")
    assert read(envelope.value)["after"] == {
        "id": 1, "date": 0, "datetime": 0, "timestamp": "1970-01-01T00:00:00Z",
    }  # fmt: skip


def test_a_table_that_was_emptied_or_dropped_is_an_operation_without_images() -> None:
    for action in (TableAction.TRUNCATE, TableAction.DROP):
        envelope = emptied(USERS, action, format="debezium")
        record = read(envelope.value)
        assert (record["op"], record["before"], record["after"]) == ("t", None, None)
        assert (record["source"]["db"], record["source"]["table"]) == ("shop", "users")
        assert dict(envelope.headers)["gravity.op"].decode() == str(action)
        assert "_gravity" in json.loads(envelope.key)
