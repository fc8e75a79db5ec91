"""The contracts as another Avro library sees them: `avro` judges what fastavro wrote."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import avro.io
import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from gravity.batch import UPDATE, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import decode_batch, decode_record, encode_batch, encode_record
from gravity.errors import FormatError, NewerFormatError
from gravity.schema_change import (
    ColumnAction,
    ColumnChange,
    RowsAfter,
    SchemaChange,
    TableAction,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"
RECORDS = sorted(path.stem for path in SCHEMAS.glob("*.avsc"))


def parsed(text: str) -> avro.schema.Schema:
    return avro.schema.parse(text)


def compatible(reader: str, writer: str) -> bool:
    verdict = ReaderWriterCompatibilityChecker().get_compatibility(parsed(reader), parsed(writer))
    return bool(verdict.compatibility is SchemaCompatibilityType.compatible)


def batch() -> ChangeBatch:
    schema = TableSchema(
        "app",
        "t",
        (
            Column("id", "bigint unsigned", nullable=False),
            Column("name", "varchar(9)", charset="utf8mb4", collation="utf8mb4_bin"),
            Column("raw", "blob"),
            Column("score", "double"),
        ),
        (0,),
    )
    return ChangeBatch(
        "s", 1, schema, [Transaction("0-1-2", 3, 4, 5, 6)], bytes([UPDATE] * 3), [0, 0, 0], [0, 1, 2],
        [[1, 2**64 - 1, 3], ["a", None, "张"], [b"\x00", b"", None], [None, 1.5, -0.0]],
        (0,), [[1, 2, 3]], [0, 2, 4], [],
    )  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
def test_every_contract_reads_what_each_released_version_wrote(record: str) -> None:
    now = (SCHEMAS / f"{record}.avsc").read_text()
    released = sorted((SCHEMAS / "released" / record).glob("*.avsc"))
    assert released
    for version in released:
        assert compatible(now, version.read_text()), version


def test_a_new_field_without_a_default_would_be_found() -> None:
    text = (SCHEMAS / "marker.avsc").read_text()
    changed = json.loads(text)
    changed["fields"].append({"name": "new", "type": "long", "doc": "…"})
    assert not compatible(json.dumps(changed), text)
    changed["fields"][-1]["default"] = 0
    assert compatible(json.dumps(changed), text)


def test_avro_reads_the_batches_that_fastavro_wrote() -> None:
    data = encode_batch(batch())
    schema = parsed((SCHEMAS / "change_batch.avsc").read_text())
    record = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(data)))
    assert record["table"] == "t"
    assert record["ops"] == b"UUU"
    assert record["columns"][0]["values"]["array"] == ["1", "18446744073709551615", "3"]
    assert record["columns"][1] == {"nulls": b"\x00\x01\x00", "values": {"array": ["a", "", "张"]}}
    assert record["before"][0]["values"]["array"] == [1, 2, 3]


def test_a_batch_comes_back_as_it_was() -> None:
    back = decode_batch(encode_batch(batch()))
    assert back.schema == batch().schema
    assert [list(column) for column in back.columns] == batch().columns
    assert (list(back.origin), back.ops, list(back.before[0])) == ([0, 2, 4], b"UUU", [1, 2, 3])


def test_batches_of_one_shape_share_their_first_bytes_and_nothing_else() -> None:
    """Written in one piece, met for the first time and again: all are read alike."""
    data = encode_batch(batch())
    schema = parsed((SCHEMAS / "change_batch.avsc").read_text())
    record = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(data)))
    record |= {"epoch": 7, "source": "elsewhere"}
    whole = encode_record("change_batch", record)
    for _ in range(3):
        back = decode_batch(whole)
        assert (back.source, back.epoch, back.schema) == ("elsewhere", 7, batch().schema)
        assert [list(column) for column in back.columns] == batch().columns
        assert encode_batch(back) == whole
    assert decode_batch(data).source == "s"
    reshaped = batch()
    longer = replace(reshaped.schema.columns[1], type="varchar(99)")
    columns = (reshaped.schema.columns[0], longer, *reshaped.schema.columns[2:])
    reshaped.schema = replace(reshaped.schema, columns=columns)
    for each in (reshaped, batch(), reshaped):
        assert decode_batch(encode_batch(each)).schema == each.schema
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            decode_batch(data[:cut])
    newer = data.replace(b"\x02", b"\x04", 1)
    with pytest.raises(NewerFormatError):
        decode_batch(newer)


def test_a_newer_format_is_refused_by_name_and_a_damaged_one_too() -> None:
    data = encode_record(
        "marker",
        {"source": "s", "seq": 1, "next_position": "", "gtids": "", "ets": 0, "time_us": 0},
    )
    with pytest.raises(NewerFormatError, match="newer than this reader"):
        decode_record("marker", b"\x04" + data[1:])
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            decode_record("marker", data[:cut])


def test_a_schema_change_comes_back_as_it_was_and_avro_reads_it() -> None:
    change = SchemaChange(
        "s", "app", "t", TableAction.ALTER, "ALTER TABLE t …", "app", "0-1-2", "1:2:3:0", 9, 1,
        (
            ColumnChange(ColumnAction.ADD, "n", "", Column("n", "int", nullable=False), "5", ""),
            ColumnChange(ColumnAction.RENAME, "a", "b"),
        ),
        RowsAfter.FILLED, ("id", "n"),
    )  # fmt: skip
    data = change.encode()
    assert SchemaChange.decode(data) == change
    schema = parsed((SCHEMAS / "schema_change.avsc").read_text())
    record = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(data)))
    assert (record["columns"][0]["column"]["type"], record["rows"]) == ("int", "filled")


def test_a_schema_change_of_the_first_format_is_still_read() -> None:
    schema = parsed((SCHEMAS / "released" / "schema_change" / "1.avsc").read_text())
    out = io.BytesIO()
    record = {
        "format": 1, "source": "s", "database": "app", "statement": "TRUNCATE t", "gtid": "0-1-2",
        "position": "1:2:3:0", "ets": 9,
    }  # fmt: skip
    avro.io.DatumWriter(schema).write(record, avro.io.BinaryEncoder(out))
    change = SchemaChange.decode(out.getvalue())
    assert (change.statement, change.table, change.columns) == ("TRUNCATE t", "", ())
