"""Messages of any topic as JSON: decoded where they are ours, told as they are where not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from gravity.batch import INSERT, UPDATE, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import encode_batch, encode_record
from gravity.header import IngestHeader, IngestKind
from gravity.kafka.reader import LogMessage
from gravity.position import Position
from gravity.tail import message_json, rows_json

SCHEMA = TableSchema(
    "shop",
    "users",
    (
        Column("id", "bigint"),
        Column("name", "varchar(9)", charset="utf8mb4"),
        Column("raw", "blob"),
    ),
    (0,),
)
BATCH = ChangeBatch(
    source="east",
    epoch=1,
    schema=SCHEMA,
    transactions=(Transaction("0-1-7", 3, 100, 1_700_000_000_123_456, 1_700_000_000_123_456),),
    ops=bytes((INSERT, UPDATE)),
    tx=[0, 0],
    ordinal=[0, 1],
    columns=[[1, 2], ["a", None], [b"\x00\xff", b"x"]],
    before_columns=(0,),
    before=[[None, 5]],
    origin=[],
    row_source=[],
)
HEADER = IngestHeader(
    IngestKind.ROWS, "east", 1, 4, from_=Position(1, 3, 100, 0), to=Position(1, 3, 200, 0), rows=2
)


def message(
    value: bytes | None, headers: list[tuple[str, bytes]], topic: str = "ingest.east"
) -> LogMessage:
    return LogMessage(topic, 0, 7, b"k", value, headers, 1_700_000_000_000)


OURS = message(encode_batch(BATCH), HEADER.to_kafka())


def test_a_batch_is_shown_with_its_headers_rows_and_bytes_as_base64() -> None:
    shown = json.loads(json.dumps(message_json(OURS)))
    assert (shown["topic"], shown["partition"], shown["offset"], shown["key"]) == (
        "ingest.east",
        0,
        7,
        "k",
    )
    assert shown["headers"]["kind"] == "rows"
    assert shown["headers"]["seq"] == "4"
    assert shown["value"]["table"] == "shop.users"
    first, second = shown["value"]["rows"]
    assert first["op"] == "insert"
    assert first["row"] == {
        "id": 1,
        "name": "a",
        "raw": {"base64": base64.b64encode(b"\x00\xff").decode()},
    }
    assert first["committed"].startswith("2023-11-14T22:13:20.123456")
    assert "before" not in first
    assert second["op"] == "update"
    assert second["before"] == {"id": 5}
    assert second["position"] == "1:3:100:1"


def test_rows_are_one_line_each() -> None:
    lines = list(rows_json(OURS))
    assert [(line["offset"], line["number"], line["row"]["id"]) for line in lines] == [
        (7, 0, 1),
        (7, 1, 2),
    ]


def test_a_marker_and_a_fence_are_read_by_their_kind() -> None:
    value = encode_record(
        "marker",
        {
            "format": 1, "source": "east", "seq": 9, "next_position": "1:3:200:0", "gtids": "0-1-7",
            "ets": 5, "time_us": 6,
        },
    )  # fmt: skip
    marker = message(value, replace(HEADER, kind=IngestKind.MARKER).to_kafka())
    assert message_json(marker)["value"]["next_position"] == "1:3:200:0"
    fence = message(b"", replace(HEADER, kind=IngestKind.FENCE).to_kafka())
    assert "error" not in message_json(fence)
    assert list(rows_json(fence)) == [message_json(fence)]


def test_messages_of_others_are_json_text_or_bytes() -> None:
    assert message_json(message(b'{"a": 1}', []))["value"] == {"a": 1}
    assert message_json(message("höflich".encode(), []))["value"] == "höflich"
    assert message_json(message(b"\xff\x00", []))["value"] == {"base64": "/wA="}
    assert message_json(message(None, []))["value"] is None


def test_what_cannot_be_decoded_is_shown_with_the_reason_not_left_out() -> None:
    for bad in (
        message(b"garbage", HEADER.to_kafka()),
        message(OURS.value, [("gv", b"99"), *HEADER.to_kafka()[1:]]),
    ):
        shown = message_json(bad)
        assert shown["error"]
        assert "base64" in shown["value"]
        assert list(rows_json(bad)) == [shown]
