"""Avro rows, read back by fastavro from the published schema alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any, cast

import fastavro
import pytest
from gravity_sink_kafka.avro_row import WriterSchema
from hypothesis import given
from hypothesis import strategies as st

from gravity.errors import FatalError
from gravity.testing.target_log import table
from tests.unit.sink_kafka.every_type import COLUMNS, ROWS, moment
from tests.unit.sink_kafka.made import emptied, messages, shape_of

SCHEMA = table("shop.every", COLUMNS, ["id"])


def writer_schema(schema: Any) -> WriterSchema:
    found = shape_of(schema, format="avro").writer_schema(schema)
    assert found is not None
    return found


def read(value: bytes, published: bytes) -> dict[str, Any]:
    parsed = fastavro.parse_schema(json.loads(published))
    body = BytesIO(value[10:])
    record = fastavro.schemaless_reader(body, parsed, None)
    assert not body.read()
    return cast("dict[str, Any]", record)


def meaning(kind: str, cell: Any) -> Any:
    """What a reader should see, in Python's types."""
    if cell is None:
        return None
    name = kind.partition("(")[0].partition(" ")[0]
    if name == "decimal" or kind in ("bigint unsigned", "bit(64)"):
        return Decimal(cell)
    if name in ("date", "datetime", "timestamp"):
        at = moment(cell)
        if at is None:
            return None
        if name == "date":
            return at.date()
        return at.replace(tzinfo=UTC) if name == "timestamp" else at
    return cell


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_every_cell_reads_back_as_what_it_means(rows: list[tuple[Any, ...]]) -> None:
    published = writer_schema(SCHEMA).text
    for envelope, row in zip(
        messages(SCHEMA, [("I", row) for row in rows], format="avro"), rows, strict=True
    ):
        record = read(envelope.value, published)
        expected = [meaning(kind, cell) for (_, kind), cell in zip(COLUMNS, row, strict=True)]
        assert list(record.values()) == expected
        assert [type(value) for value in record.values()] == [type(cell) for cell in expected]
        assert json.loads(envelope.key) == {"id": row[0]}


def crc_64_avro(data: bytes) -> int:
    """By the specification, bit by bit."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc


def canonical(schema: Any) -> str:
    """The specification's parsing canonical form, of what a row's schema may hold."""
    if isinstance(schema, str):
        return f'"{schema}"'
    if isinstance(schema, list):
        return f"[{','.join(canonical(item) for item in schema)}]"
    if schema["type"] != "record":
        return f'"{schema["type"]}"'
    fields = ",".join(
        f'{{"name":"{field["name"]}","type":{canonical(field["type"])}}}'
        for field in schema["fields"]
    )
    name = f"{schema['namespace']}.{schema['name']}"
    return f'{{"name":"{name}","type":"record","fields":[{fields}]}}'


def test_the_fingerprint_is_that_of_the_specification() -> None:
    assert crc_64_avro(b'"null"') == 7195948357588979594  # From the specification's own table.
    written = writer_schema(SCHEMA)
    fingerprint = crc_64_avro(canonical(json.loads(written.text)).encode()).to_bytes(8, "little")
    assert written.id == fingerprint.hex()
    (envelope,) = messages(SCHEMA, [("I", (1, *[None] * (len(COLUMNS) - 1)))], format="avro")
    assert envelope.value[:10] == b"\xc3\x01" + fingerprint


@pytest.mark.parametrize(
    "kinds",
    [
        ("decimal(10,2)", "decimal(10,3)"),
        ("datetime", "timestamp"),
        ("date", "int"),
        ("int", "year"),
    ],
)
def test_two_schemas_that_read_differently_have_two_fingerprints(kinds: tuple[str, str]) -> None:
    # Without logical types, which fingerprints leave out, each pair is one schema.
    one, other = (
        writer_schema(table("shop.t", [("id", "int"), ("c", kind)], ["id"])) for kind in kinds
    )
    assert one.id != other.id


def test_names_that_avro_does_not_know_are_told_apart() -> None:
    columns = [("id", "int"), ("价格", "int"), ("a-b", "int"), ("a_b", "int"), ("1st", "int")]
    schema = table("shop-1.价格", columns, ["id"])
    definition = json.loads(writer_schema(schema).text)
    assert [(field["name"], field.get("column")) for field in definition["fields"]] == [
        ("id", None), ("__", "价格"), ("a_b_2", "a-b"), ("a_b", None), ("_1st", "1st"),
    ]  # fmt: skip
    (envelope,) = messages(schema, [("I", (1, 2, 3, 4, 5))], format="avro")
    assert list(read(envelope.value, writer_schema(schema).text).values()) == [1, 2, 3, 4, 5]


def test_a_reader_with_its_own_record_of_that_name_is_understood() -> None:
    # The hash in the namespace must not stand between a writer and a reader of the same table.
    schema = table("shop.users", [("id", "int"), ("name", "varchar(9)")], ["id"])
    (envelope,) = messages(schema, [("I", (1, "a"))], format="avro")
    mine = fastavro.parse_schema(
        {"type": "record", "name": "users", "fields": [{"name": "id", "type": "long"}]}
    )
    written = fastavro.parse_schema(json.loads(writer_schema(schema).text))
    assert fastavro.schemaless_reader(BytesIO(envelope.value[10:]), written, mine) == {"id": 1}


def test_a_day_that_does_not_exist_is_null_even_where_the_column_can_not_be() -> None:
    schema = table("shop.t", [("id", "int"), ("day", "date")], ["id", "day"])
    (envelope,) = messages(schema, [("I", (1, "0000-00-00"))], format="avro")
    assert read(envelope.value, writer_schema(schema).text) == {"id": 1, "day": None}
    assert envelope.key == b'{"id":1,"day":"0000-00-00"}'


def test_null_where_none_can_be_halts_by_name() -> None:
    schema = table("shop.t", [("id", "int"), ("n", "int")], ["id", "n"])
    with pytest.raises(FatalError, match="column n is NULL"):
        messages(schema, [("I", (1, None))], format="avro")


def test_a_table_that_was_emptied_is_a_record_of_its_own_schema() -> None:
    envelope = emptied(SCHEMA, format="avro")
    gone = shape_of(SCHEMA, format="avro").writer_schema(None)
    assert gone is not None
    assert envelope.value[2:10].hex() == gone.id
    record = read(envelope.value, gone.text)
    assert (record["op"], record["database"], record["table"]) == ("truncate", "shop", "every")
    assert record["commit"] == datetime(1970, 1, 1, tzinfo=UTC)
