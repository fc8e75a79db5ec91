"""The envelope of Debezium's MySQL connector, as its JSON converter writes it without schemas. Pure.

Its options are taken as `decimal.handling.mode=string`, `binary.handling.mode=bytes`,
`time.precision.mode=adaptive_time_microseconds`, `tombstones.on.delete=true`; unsigned BIGINT keeps all
its digits, which is none of its modes. docs/messages.md says what else differs.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from typing import Final

from gravity.batch import REMOVES_ROW, UPDATE, ChangeBatch, TableSchema, Value
from gravity.column import ColumnType
from gravity.header import TargetHeader
from gravity.position import Position
from gravity.schema_change import SchemaChange
from gravity_sink_kafka.envelope import Envelope, key_of_table
from gravity_sink_kafka.instant import day_number, time_us, wall_us
from gravity_sink_kafka.json_text import (
    Numbers,
    Texts,
    bytes_text,
    column_text,
    keys_of,
    object_texts,
    text_of,
)
from gravity_sink_kafka.meta import Meta, meta_of_table, metas

_OP: Final = {"insert": "c", "update": "u", "delete": "d", "read": "r"}
_WHOLE_TABLE = "t"
_MILLI_DIGITS = 3
_SRID_BYTES = 4


def debezium_envelopes(
    batch: ChangeBatch, header: TargetHeader, *, numbers: Numbers
) -> list[Envelope]:
    """The messages of the batch's rows, in order."""
    if not len(batch):
        return []
    schema = batch.schema
    names = [column.name for column in schema.columns]
    after = object_texts(names, _texts(schema, batch.columns, numbers))
    before: Sequence[str | None] = [None] * len(batch)
    if tuple(batch.before_columns) == tuple(range(len(names))):
        images = object_texts(names, _texts(schema, batch.before, numbers))
        # A row that a newer plan takes away when it is read again had nothing before.
        keys = batch.before[schema.key[0]]
        before = [None if key is None else image for key, image in zip(keys, images, strict=True)]
    moved = _moved(batch)
    found = []
    for row, (key, meta, op) in enumerate(
        zip(keys_of(batch, numbers), metas(batch, header), batch.ops, strict=True)
    ):
        removes = op in REMOVES_ROW
        old: str | None = None
        if removes:
            old = before[row] or after[row]
        elif op == UPDATE and not moved[row]:
            old = before[row]
        value = _envelope(
            # Under its new key the row is one that was not there.
            op="c" if moved[row] else _OP[meta.op],
            before=old,
            after=None if removes else after[row],
            source=_source(meta, schema.database, schema.table),
            commit_us=meta.commit_us,
        )
        found.append(Envelope(key, value, removes, meta.headers))
    return found


def debezium_all_gone(change: SchemaChange, header: TargetHeader) -> Envelope:
    """What says that a table was emptied or dropped: `op` t for both."""
    meta = meta_of_table(change, header)
    source = _source(meta, change.database, change.table)
    value = _envelope(
        op=_WHOLE_TABLE, before=None, after=None, source=source, commit_us=meta.commit_us
    )
    return Envelope(key_of_table(change), value, removes=False, headers=meta.headers)


def _moved(batch: ChangeBatch) -> Sequence[bool]:
    """Whether each row is an update that gave it another key, as far as its old key is known."""
    known = {index: place for place, index in enumerate(batch.before_columns)}
    if any(index not in known for index in batch.schema.key):
        return [False] * len(batch)
    moved = [False] * len(batch)
    for index in batch.schema.key:
        pairs = zip(batch.before[known[index]], batch.columns[index], strict=True)
        for row, (old, new) in enumerate(pairs):
            moved[row] = moved[row] or (batch.ops[row] == UPDATE and old is not None and old != new)
    return moved


def _envelope(
    *, op: str, before: str | None, after: str | None, source: str, commit_us: int
) -> bytes:
    return (
        f'{{"before":{before or "null"},"after":{after or "null"},"source":{source},"transaction":null,'
        f'"op":"{op}",{_times(commit_us)}}}'
    ).encode()


def _times(commit_us: int) -> str:
    return f'"ts_ms":{commit_us // 1000},"ts_us":{commit_us},"ts_ns":{commit_us * 1000}'


def _source(meta: Meta, database: str, table: str) -> str:
    at = Position.parse(meta.position)
    return (
        f'{{"version":"gravity","connector":"mysql","name":{text_of(meta.source)},'
        f'"snapshot":"{"true" if meta.op == "read" else "false"}","db":{text_of(database)},'
        f'"sequence":null,"table":{text_of(table)},"server_id":0,'
        f'"gtid":{text_of(meta.gtid) if meta.gtid else "null"},"file":"{at.file_index:06}",'
        f'"pos":{at.offset},"row":{at.ordinal},"thread":null,"query":null,{_times(meta.commit_us)}}}'
    )


def _texts(
    schema: TableSchema, columns: Sequence[Sequence[Value]], numbers: Numbers
) -> list[Texts]:
    found: list[Texts] = []
    for column, values in zip(schema.columns, columns, strict=True):
        kind = ColumnType.parse(column.type)
        cell = _cell(kind, nullable=column.nullable)
        if cell is None:
            found.append(column_text(column.type, values, numbers))
        else:
            texts = ["null" if value is None else cell(value) for value in values]
            found.append(("%s", texts))
    return found


def _cell(kind: ColumnType, *, nullable: bool) -> Callable[..., str] | None:
    """How a cell is written; None: as in flat JSON."""
    match kind.name:
        case "date":
            return _or_first(lambda text: _number(day_number(text)), "0", nullable=nullable)
        case "datetime":
            unit = 1000 if kind.scale <= _MILLI_DIGITS else 1
            return _or_first(lambda text: _number(wall_us(text), unit), "0", nullable=nullable)
        case "timestamp":
            return _or_first(_zoned, '"1970-01-01T00:00:00Z"', nullable=nullable)
        case "time":
            return lambda text: str(time_us(text))
        case "bit":
            return _bits(kind.length or 1)
        case "geometry":
            return _geometry
        case "vector":
            return _vector
    return None


def _or_first(
    text_of_cell: Callable[[str], str | None], first: str, *, nullable: bool
) -> Callable[[str], str]:
    """A day that does not exist is null, or the first one where the column can't be NULL."""
    missing = "null" if nullable else first
    return lambda text: text_of_cell(text) or missing


def _number(value: int | None, unit: int = 1) -> str | None:
    return None if value is None else str(value // unit)


def _zoned(text: str) -> str | None:
    return None if wall_us(text) is None else f'"{text.replace(" ", "T")}Z"'


def _bits(length: int) -> Callable[[int], str]:
    if length == 1:
        return lambda value: "true" if value else "false"
    return lambda value: bytes_text(value.to_bytes((length + 7) // 8, "little"))


def _geometry(value: bytes) -> str:
    srid = int.from_bytes(value[:_SRID_BYTES], "little")
    wkb = base64.b64encode(value[_SRID_BYTES:]).decode("ascii")
    return f'{{"wkb":"{wkb}","srid":{srid or "null"}}}'


def _vector(value: bytes) -> str:
    return json.dumps(struct.unpack(f"<{len(value) // 4}f", value), separators=(",", ":"))
