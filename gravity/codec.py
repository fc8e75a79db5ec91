"""Domain values to Avro bytes and back. The only module that sees Avro on the hot path.

The schemas are data in `schemas/`; the same bytes are read by any Avro library (tests/contract holds
`avro` to it). Values are written without container or schema: the schema is known by the topic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from typing import Any

import fastavro
from fastavro.types import Schema

from gravity.batch import ChangeBatch, Column, TableSchema, Transaction, Value
from gravity.errors import FormatError, NewerFormatError

FORMAT_VERSION = 1
FORMAT_VERSIONS = {"schema_change": 2, "conflict": 2, "dead_letter": 2}
"""Of the values that have come beyond `FORMAT_VERSION`."""

_LONG_MAX = (1 << 63) - 1
_INTEGER_TYPES = ("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit", "boolean")

_BRANCH = {
    int: "gravity.LongValues",
    float: "gravity.DoubleValues",
    str: "gravity.StringValues",
    bytes: "gravity.BytesValues",
}
_PLACEHOLDER: dict[type, Value] = {int: 0, float: 0.0, str: "", bytes: b""}


@cache
def avro_schema(name: str, version: int = 0) -> Schema:
    """The parsed schema `schemas/<name>.avsc`, or what it was in format `version`."""
    file = f"released/{name}/{version}.avsc" if version else f"{name}.avsc"
    text = resources.files("gravity").joinpath("schemas", file).read_text(encoding="utf-8")
    return fastavro.parse_schema(json.loads(text))


def encode_record(name: str, record: dict[str, Any]) -> bytes:
    """`record` as Avro of `schemas/<name>.avsc`; its `format` is set here."""
    out = BytesIO()
    version = FORMAT_VERSIONS.get(name, FORMAT_VERSION)
    fastavro.schemaless_writer(out, avro_schema(name), {"format": version, **record})
    return out.getvalue()


def decode_record(name: str, data: bytes) -> dict[str, Any]:
    """The record that `encode_record` wrote, or an older version of it did.

    Fields that an older version did not have hold their defaults. Raises FormatError for newer or
    damaged bytes.
    """
    known = FORMAT_VERSIONS.get(name, FORMAT_VERSION)
    # The version is the first field of every record, so it can be read before a newer layout is.
    try:
        version = fastavro.schemaless_reader(BytesIO(data), {"type": "int"}, None)
    except (EOFError, IndexError, ValueError) as error:
        raise FormatError(f"an empty or damaged {name} message") from error
    if not isinstance(version, int) or version < 1:
        raise FormatError(f"a damaged {name} message: {version!r} is no format version")
    if version > known:
        raise NewerFormatError(
            f"{name} format {version} is newer than this reader, which knows {known}",
            remedy="upgrade this stage before the stages in front of it",
        )
    try:
        if version == known:
            record = fastavro.schemaless_reader(BytesIO(data), avro_schema(name), None)
        else:
            written = avro_schema(name, version)
            record = fastavro.schemaless_reader(BytesIO(data), written, avro_schema(name))
    except (EOFError, IndexError, ValueError, KeyError, UnicodeDecodeError, MemoryError) as error:
        raise FormatError(f"a damaged {name} message: {error}") from error
    assert isinstance(record, dict)
    return record


def travels_as_digits(values: Sequence[Value], type_text: str) -> bool:
    """Whether one of these whole numbers is too great for an Avro long, so that all go as text."""
    if not type_text.startswith(("bigint", "bit")):
        return False
    present = values if None not in values else [value for value in values if value is not None]
    return bool(present) and max(present) > _LONG_MAX  # type: ignore[type-var, operator]


def _encode_values(values: Sequence[Value], type_text: str) -> dict[str, Any]:
    nulls = b""
    if None in values:
        nulls = bytes([value is None for value in values])
        kind: type = next((type(value) for value in values if value is not None), str)
        placeholder = _PLACEHOLDER[kind]
        values = [placeholder if value is None else value for value in values]
    else:
        kind = type(values[0]) if values else str
    if kind is int and travels_as_digits(values, type_text):
        return {
            "nulls": nulls,
            "values": (_BRANCH[str], {"array": [str(value) for value in values]}),
        }
    return {"nulls": nulls, "values": (_BRANCH[kind], {"array": values})}


def _decode_values(record: dict[str, Any], type_text: str) -> list[Value]:
    values: list[Value] = record["values"]["array"]
    if values and isinstance(values[0], str) and type_text.startswith(_INTEGER_TYPES):
        values = [int(str(value)) if value else 0 for value in values]
    nulls: bytes = record["nulls"]
    if nulls:
        values = [None if null else value for null, value in zip(nulls, values, strict=True)]
    return values


_HEAD_FIELDS = 7
"""Fields of a batch in front of its transactions: they are the same in all batches of a shape."""
_HEADS_MAX = 1024
_HEAD_PREFIX = 32
"""Bytes by which heads are looked up: the format, the source, and most of the table's name."""


@cache
def _part_of_batch(*, head: bool) -> Schema:
    """The first or the last fields of schemas/change_batch.avsc, as a record of its own.

    Avro writes a record as its fields one behind the other, so the bytes of both are the whole.
    """
    text = resources.files("gravity").joinpath("schemas", "change_batch.avsc")
    whole = json.loads(text.read_text(encoding="utf-8"))
    fields = whole["fields"]
    whole["fields"] = fields[:_HEAD_FIELDS] if head else fields[_HEAD_FIELDS:]
    return fastavro.parse_schema(whole)


@dataclass(frozen=True, slots=True)
class _Head:
    """The first bytes of a batch, and what they say."""

    source: str
    epoch: int
    schema: TableSchema
    data: bytes


_heads_by_shape: dict[tuple[str, int, str], _Head] = {}
_heads_by_prefix: dict[bytes, list[_Head]] = {}


def _head_of(source: str, epoch: int, schema: TableSchema) -> _Head:
    shape = (source, epoch, schema.schema_id)
    head = _heads_by_shape.get(shape)
    if head is None or (head.schema is not schema and head.schema != schema):
        out = BytesIO()
        record = {
            "format": FORMAT_VERSION,
            "source": source,
            "epoch": epoch,
            "database": schema.database,
            "table": schema.table,
            "schema_columns": _schema_columns(schema),
            "key": schema.key,
        }
        fastavro.schemaless_writer(out, _part_of_batch(head=True), record)
        head = _Head(source, epoch, schema, out.getvalue())
        if len(_heads_by_shape) >= _HEADS_MAX:
            _heads_by_shape.clear()
            _heads_by_prefix.clear()
        _heads_by_shape[shape] = head
        _heads_by_prefix.setdefault(head.data[:_HEAD_PREFIX], []).append(head)
    return head


def encode_batch(batch: ChangeBatch) -> bytes:
    """`batch` as Avro of schemas/change_batch.avsc."""
    types = [column.type for column in batch.schema.columns]
    out = BytesIO()
    out.write(_head_of(batch.source, batch.epoch, batch.schema).data)
    fastavro.schemaless_writer(
        out,
        _part_of_batch(head=False),
        {
            "transactions": [
                {
                    "gtid": t.gtid,
                    "file_index": t.file_index,
                    "offset": t.offset,
                    "commit_us": t.commit_us,
                    "ets": t.ets,
                }
                for t in batch.transactions
            ],
            "ops": batch.ops,
            "tx": batch.tx,
            "ordinal": batch.ordinal,
            "columns": [
                _encode_values(values, text)
                for values, text in zip(batch.columns, types, strict=True)
            ],
            "before_columns": batch.before_columns,
            "before": [
                _encode_values(values, types[index])
                for values, index in zip(batch.before, batch.before_columns, strict=True)
            ],
            "origin": batch.origin,
            "row_source": batch.row_source,
        },
    )
    return out.getvalue()


def encode_head(batch: ChangeBatch) -> bytes:
    """What the value of `batch` begins with, up to its transactions."""
    return _head_of(batch.source, batch.epoch, batch.schema).data


_LONGS = fastavro.parse_schema({"type": "array", "items": "long"})
_EACH_LONG = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
"""Of a number's bytes all but the last have the highest bit set."""


def encode_longs(values: Sequence[int]) -> list[bytes]:
    """Each of these whole numbers as Avro writes a long."""
    out = BytesIO()
    fastavro.schemaless_writer(out, _LONGS, values)
    return _EACH_LONG.findall(out.getvalue())[1:-1]  # Between their count and the end.


def decode_batch(data: bytes) -> ChangeBatch:
    """The batch that `encode_batch` wrote. Raises FormatError for newer or damaged bytes."""
    for head in _heads_by_prefix.get(data[:_HEAD_PREFIX], ()):
        if data.startswith(head.data):
            return _behind(head, data)
    record = decode_record("change_batch", data)
    try:
        schema = _table_schema(record)
        # From now on it is known by its bytes, if they are written as ours are.
        return _batch(_head_of(record["source"], record["epoch"], schema), record)
    except (ValueError, IndexError) as error:
        raise FormatError(f"a damaged change_batch message: {error}") from error


def _behind(head: _Head, data: bytes) -> ChangeBatch:
    """The batch of a known head."""
    body = BytesIO(data)
    body.seek(len(head.data))
    try:
        record = fastavro.schemaless_reader(body, _part_of_batch(head=False), None)
        assert isinstance(record, dict)
        return _batch(head, record)
    except (EOFError, IndexError, ValueError, KeyError, UnicodeDecodeError, MemoryError) as error:
        raise FormatError(f"a damaged change_batch message: {error}") from error


def _batch(head: _Head, record: dict[str, Any]) -> ChangeBatch:
    schema = head.schema
    before_columns = tuple(record["before_columns"])
    return ChangeBatch(
        source=head.source,
        epoch=head.epoch,
        schema=schema,
        transactions=[Transaction(**t) for t in record["transactions"]],
        ops=record["ops"],
        tx=record["tx"],
        ordinal=record["ordinal"],
        columns=[
            _decode_values(values, column.type)
            for values, column in zip(record["columns"], schema.columns, strict=True)
        ],
        before_columns=before_columns,
        before=[
            _decode_values(values, schema.columns[index].type)
            for values, index in zip(record["before"], before_columns, strict=True)
        ],
        origin=record["origin"],
        row_source=record["row_source"],
    )


# A table's shape is the same object in all its batches: parsed once, and its schema_id computed once.
_SCHEMAS_MAX = 4096
_schemas: dict[tuple[Any, ...], TableSchema] = {}


def _table_schema(record: dict[str, Any]) -> TableSchema:
    columns = tuple(
        Column(c["name"], c["type"], c["nullable"], c["charset"], c["collation"])
        for c in record["schema_columns"]
    )
    fingerprint = (record["database"], record["table"], columns, tuple(record["key"]))
    schema = _schemas.get(fingerprint)
    if schema is None:
        if len(_schemas) >= _SCHEMAS_MAX:
            _schemas.clear()
        schema = _schemas[fingerprint] = TableSchema(*fingerprint)
    return schema


@lru_cache(maxsize=_SCHEMAS_MAX)
def _columns_record(columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "type": c.type,
            "nullable": c.nullable,
            "charset": c.charset,
            "collation": c.collation,
        }
        for c in columns
    ]


def _schema_columns(schema: TableSchema) -> list[dict[str, Any]]:
    return _columns_record(schema.columns)
