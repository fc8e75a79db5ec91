"""Rows as Avro records in the single-object encoding, each table's shape with a schema of its own. Pure.

A value is C3 01, the schema's 8-byte fingerprint (CRC-64-AVRO), then the record. Readers find the schema
under that fingerprint in a topic of ours (docs/adr/0017-event-shapes.md, docs/messages.md).

The fingerprint leaves logical types, and so the scale of a decimal, out of account. So a hash of the
whole schema is part of the record's namespace: no two schemas that read differently share a fingerprint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any, Final, cast

import fastavro
import xxhash
from fastavro.schema import fingerprint, to_parsing_canonical_form
from fastavro.types import Schema

from gravity.batch import REMOVES_ROW, ChangeBatch, Column, TableSchema, Value
from gravity.column import ColumnType
from gravity.errors import FatalError
from gravity.header import TargetHeader
from gravity.schema_change import SchemaChange
from gravity_sink_kafka.envelope import Envelope, key_of_table
from gravity_sink_kafka.instant import day_number, wall_us
from gravity_sink_kafka.json_text import Numbers, keys_of
from gravity_sink_kafka.meta import meta_of_table, metas

MARKER: Final = b"\xc3\x01"
_WIDE_DIGITS = 20
"""Of 2^64 - 1."""
_LONG_BITS = 63
_SHAPES_MAX = 4096
Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class WriterSchema:
    """A schema as it is published, and what every value written by it begins with."""

    definition: dict[str, Any]
    plain: Schema
    """The same without logical types: the cells are converted here."""

    @cached_property
    def text(self) -> bytes:
        """The schema as JSON."""
        return json.dumps(self.definition, separators=(",", ":"), ensure_ascii=False).encode()

    @cached_property
    def id(self) -> str:
        """16 hex digits: the fingerprint's bytes as they stand in a value."""
        return str(fingerprint(to_parsing_canonical_form(self.definition), "CRC-64-AVRO"))

    @cached_property
    def head(self) -> bytes:
        """The first 10 bytes of a value."""
        return MARKER + bytes.fromhex(self.id)

    def encode(self, record: dict[str, Any]) -> bytes:
        """A value; the record's cells are as `plain` wants them."""
        out = BytesIO()
        out.write(self.head)
        fastavro.schemaless_writer(out, self.plain, record)
        return out.getvalue()


@dataclass(frozen=True)
class _Field:
    name: str
    nullable: bool
    convert: Convert | None


@lru_cache(maxsize=_SHAPES_MAX)
def _table(schema: TableSchema) -> tuple[WriterSchema, tuple[_Field, ...]]:
    names = _avro_names([column.name for column in schema.columns])
    fields, made = [], []
    for name, column in zip(names, schema.columns, strict=True):
        kind = ColumnType.parse(column.type)
        avro, convert = _type(kind)
        # A day that does not exist is null, whether or not the column may be NULL.
        nullable = column.nullable or kind.name in ("date", "datetime", "timestamp")
        fields.append(_field(name, column, avro, nullable=nullable))
        made.append(_Field(name, nullable, convert))
    return _writer_schema(schema.database, schema.table, fields), tuple(made)


def _field(name: str, column: Column, avro: object, *, nullable: bool) -> dict[str, Any]:
    field: dict[str, Any] = {"name": name, "type": ["null", avro] if nullable else avro}
    if nullable:
        field["default"] = None
    if name != column.name:
        field["column"] = column.name
    return {**field, "mysql": column.type}


def _writer_schema(database: str, table: str, fields: list[dict[str, Any]]) -> WriterSchema:
    definition: dict[str, Any] = {
        "type": "record",
        "name": _avro_name(table),
        "doc": f"A row of {database}.{table}.",
        "fields": fields,
    }
    shape = xxhash.xxh64_hexdigest(json.dumps(definition).encode())
    definition["namespace"] = f"{_avro_name(database)}.v{shape}"
    plain = fastavro.parse_schema(cast("Schema", _without_logical_types(definition)))
    return WriterSchema(definition, plain)


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    if isinstance(node, dict):
        if "logicalType" in node:
            return node["type"]
        return {key: _without_logical_types(value) for key, value in node.items()}
    return node


def _avro_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() else name


def _avro_names(names: Sequence[str]) -> list[str]:
    """A name for each column, itself where Avro allows it; no two are the same."""
    taken = {name for name in names if _avro_name(name) == name}
    found = []
    for name in names:
        made = _avro_name(name)
        if made != name:
            number, stem = 2, made
            while made in taken:
                made, number = f"{stem}_{number}", number + 1
            taken.add(made)
        found.append(made)
    return found


def _type(kind: ColumnType) -> tuple[object, Convert | None]:
    """The Avro type of a column, and what makes a cell of it; None: a cell is one already."""
    match kind.name:
        case "bigint" if kind.unsigned:
            return _decimal(_WIDE_DIGITS, 0)
        case "bit" if (kind.length or 1) > _LONG_BITS:
            return _decimal(_WIDE_DIGITS, 0)
        case "bigint" | "bit":
            return "long", None
        case "int" if kind.unsigned:
            return "long", None
        case "tinyint" | "smallint" | "mediumint" | "int" | "year":
            return "int", None
        case "decimal":
            return _decimal(kind.precision or 10, kind.scale)
        case "float":
            return "float", None
        case "double":
            return "double", None
        case "date":
            return {"type": "int", "logicalType": "date"}, day_number
        case "datetime":
            return {"type": "long", "logicalType": "local-timestamp-micros"}, wall_us
        case "timestamp":
            return {"type": "long", "logicalType": "timestamp-micros"}, wall_us
    return ("bytes" if kind.kind == "bytes" else "string"), None


def _decimal(precision: int, scale: int) -> tuple[object, Convert]:
    avro = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    return avro, lambda cell: _unscaled(str(cell), scale)


def _unscaled(text: str, scale: int) -> bytes:
    """The digits of a decimal as a number, two's complement, no byte more than it needs."""
    whole, _, fraction = text.partition(".")
    number = int(whole + fraction.ljust(scale, "0"))
    return number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True)


def table_schema(schema: TableSchema) -> WriterSchema:
    """The Avro schema of a table's rows."""
    return _table(schema)[0]


def avro_envelopes(batch: ChangeBatch, header: TargetHeader, *, numbers: Numbers) -> list[Envelope]:
    """The messages of the batch's rows, in order. Keys are JSON, as in every format.

    Raises:
        FatalError: NULL in a column that can't be NULL.
    """
    if not len(batch):
        return []
    writer, fields = _table(batch.schema)
    columns = [
        _cells(field, values, header) for field, values in zip(fields, batch.columns, strict=True)
    ]
    names = [field.name for field in fields]
    return [
        Envelope(
            key, writer.encode(dict(zip(names, row, strict=True))), op in REMOVES_ROW, meta.headers
        )
        for key, row, op, meta in zip(
            keys_of(batch, numbers),
            zip(*columns, strict=True),
            batch.ops,
            metas(batch, header),
            strict=True,
        )
    ]


def _cells(field: _Field, values: Sequence[Value], header: TargetHeader) -> Sequence[Any]:
    has_null = None in values
    if has_null and not field.nullable:
        raise FatalError(
            f"column {field.name} is NULL in a row, and its schema says that it can't be",
            where=f"table {header.routed.table}, source {header.routed.source}, position {header.routed.from_}",
            remedy="choose format: json for the table, and report it",
        )
    convert = field.convert
    if convert is None:
        return values
    if has_null:
        return [None if value is None else convert(value) for value in values]
    return [convert(value) for value in values]


@lru_cache(maxsize=1)
def table_gone_schema() -> WriterSchema:
    """The Avro schema of what says that a table was emptied or dropped."""
    text = {"type": "string"}
    fields = [
        {"name": "op", **text, "doc": "truncate or drop."},
        {"name": "database", **text},
        {"name": "table", **text},
        {"name": "source", **text, "doc": "Rows of this source are gone."},
        {"name": "position", **text, "doc": "Those with a smaller position: epoch:file:offset:row."},
        {"name": "gtid", **text},
        {"name": "commit", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]  # fmt: skip
    definition = {
        "type": "record",
        "name": "TableGone",
        "namespace": "gravity",
        "doc": "A table was emptied or dropped.",
        "fields": fields,
    }
    plain = fastavro.parse_schema(cast("Schema", _without_logical_types(definition)))
    return WriterSchema(definition, plain)


def avro_all_gone(change: SchemaChange, header: TargetHeader) -> Envelope:
    """What says that a table was emptied or dropped: a record of another schema."""
    meta = meta_of_table(change, header)
    record = {
        "op": meta.op,
        "database": change.database,
        "table": change.table,
        "source": meta.source,
        "position": meta.position,
        "gtid": meta.gtid,
        "commit": meta.commit_us,
    }
    value = table_gone_schema().encode(record)
    return Envelope(key_of_table(change), value, removes=False, headers=meta.headers)
