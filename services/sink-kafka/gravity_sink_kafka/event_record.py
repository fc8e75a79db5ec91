"""Changes as events in the user's own words: a type, chosen fields, a time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gravity.batch import REMOVES_ROW, ChangeBatch
from gravity.column import ColumnType
from gravity.config.event import EVENT_TYPE, zone_of
from gravity.event_fit import column_indexes, require_fit, timestamp_index
from gravity.header import TargetHeader
from gravity.schema_change import SchemaChange, TableAction
from gravity.sink import split_table
from gravity_sink_kafka.envelope import Envelope, key_of_table
from gravity_sink_kafka.instant import instant_us, wall_us
from gravity_sink_kafka.json_text import (
    Numbers,
    Texts,
    column_text,
    keys_of,
    object_texts,
    record_bytes,
    text_of,
)
from gravity_sink_kafka.meta import Meta, meta_of_table, metas

if TYPE_CHECKING:
    from gravity.config.event import Event, EventTimestamp

_UNIT_US = {"epoch-seconds": 1_000_000, "epoch-millis": 1000, "epoch-micros": 1}


def event_envelopes(
    batch: ChangeBatch, header: TargetHeader, *, event: Event, numbers: Numbers
) -> list[Envelope]:
    """The messages of the batch's rows, in order.

    Raises:
        FatalError: the event wants a column that the table does not have, or a name twice.
    """
    if not len(batch):
        return []
    schema = batch.schema
    require_fit(event, schema, where=f"table {header.routed.table}")
    found = metas(batch, header)
    names = [EVENT_TYPE]
    texts: list[Texts] = [("%s", _types(event, found, header))]
    for name, index in column_indexes(event, schema):
        names.append(name)
        texts.append(column_text(schema.columns[index].type, batch.columns[index], numbers))
    if event.timestamp is not None:
        names.append(event.timestamp.field)
        times = _times(event.timestamp, batch, found)
        texts.append(("%s", ["null" if time is None else str(time) for time in times]))
    return [
        Envelope(key, value.encode(), op in REMOVES_ROW, meta.headers)
        for key, value, op, meta in zip(
            keys_of(batch, numbers), object_texts(names, texts), batch.ops, found, strict=True
        )
    ]


def event_all_gone(change: SchemaChange, header: TargetHeader, *, event: Event) -> Envelope:
    """What says that a table was emptied or dropped: an event without the columns' fields."""
    meta = meta_of_table(change, header)
    types = event.event_type
    template = types.truncate if change.action is TableAction.TRUNCATE else types.drop
    record: dict[str, object] = {EVENT_TYPE: _named(template, header)}
    if event.timestamp is not None:
        record[event.timestamp.field] = meta.commit_us // _UNIT_US[event.timestamp.as_]
    return Envelope(key_of_table(change), record_bytes(record), removes=False, headers=meta.headers)


def _named(template: str, header: TargetHeader) -> str:
    database, table = split_table(header)
    return template.format(database=database, table=table, source=header.routed.source)


def _types(event: Event, found: Sequence[Meta], header: TargetHeader) -> list[str]:
    types = event.event_type
    templates = {
        "insert": types.insert,
        "update": types.update,
        "delete": types.delete,
        "read": types.read or types.insert,
    }
    names = {op: text_of(_named(template, header)) for op, template in templates.items()}
    return [names[meta.op] for meta in found]


def _times(
    timestamp: EventTimestamp, batch: ChangeBatch, found: Sequence[Meta]
) -> list[int | None]:
    unit = _UNIT_US[timestamp.as_]
    index = timestamp_index(timestamp, batch.schema)
    if index is None:
        return [meta.commit_us // unit for meta in found]
    zone = zone_of(timestamp.time_zone)
    absolute = ColumnType.parse(batch.schema.columns[index].type).name == "timestamp"
    times: list[int | None] = []
    for cell in batch.columns[index]:
        at = None
        if isinstance(cell, str):
            at = wall_us(cell) if absolute else instant_us(cell, zone)
        times.append(None if at is None else at // unit)
    return times
