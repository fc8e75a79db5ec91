"""The messages of changes, by a target's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gravity_sink_kafka.envelope import Envelope
from gravity_sink_kafka.shape import Shape, Shapes

from gravity.batch import TableSchema
from gravity.codec import decode_batch
from gravity.config.target import KafkaTarget
from gravity.header import TargetHeader
from gravity.schema_change import SchemaChange, TableAction
from gravity.testing.target_log import Change, TargetLog, change_of

Old = Sequence[Sequence[Any] | None]


def shape_of(schema: TableSchema, **target: Any) -> Shape:
    return Shapes(KafkaTarget(name="k", **target)).of(schema.database, schema.table)


def messages(
    schema: TableSchema, changes: list[Change], *, old: Old = (), **target: Any
) -> list[Envelope]:
    """`old` are the rows before the changes, in all columns; without them nothing is known of those."""
    headers, value = TargetLog().rows(schema, changes)
    batch = decode_batch(value)
    if old:
        every = range(len(schema.columns))
        rows = [row or [None] * len(schema.columns) for row in old]
        batch = replace(
            batch,
            before_columns=tuple(every),
            before=[[row[index] for row in rows] for index in every],
        )
    return shape_of(schema, **target).envelopes(batch, TargetHeader.from_kafka(headers))


def emptied(
    schema: TableSchema, action: TableAction = TableAction.TRUNCATE, **target: Any
) -> Envelope:
    change = change_of(f"{schema.database}.{schema.table}", action)
    headers, value = TargetLog().schema_change(change)
    shape = shape_of(schema, **target)
    return shape.all_gone(SchemaChange.decode(value), TargetHeader.from_kafka(headers))
