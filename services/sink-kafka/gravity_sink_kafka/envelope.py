"""One flat JSON message per row change. Pure.

Key: the key columns as a JSON object, in key order: `{"id":1}`. Value: the row as one flat object and
`_gravity` with what is known about the change. A row that is gone gives two messages: its last image
with op `delete`, then a Kafka tombstone (no value), so that compaction forgets the key.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import xxhash

from gravity.batch import REMOVES_ROW, ChangeBatch
from gravity.errors import FatalError
from gravity.header import TargetHeader, row_version
from gravity.schema_change import SchemaChange
from gravity_sink_kafka.json_text import (
    Numbers,
    column_texts,
    fields_template,
    record_bytes,
    row_keys,
    text_of,
)
from gravity_sink_kafka.meta import OPERATIONS, Headers, meta_of_table

META = "_gravity"
"""The object beside the row's own columns."""


class Envelope(NamedTuple):
    """The messages of one row change."""

    key: bytes
    value: bytes
    removes: bool
    """Whether a Kafka tombstone follows."""
    headers: Headers = ()
    """Of the message, and of the tombstone."""


def envelopes(
    batch: ChangeBatch, header: TargetHeader, *, numbers: Numbers = "exact"
) -> list[Envelope]:
    """The messages of the batch's rows, in order.

    With `numbers` = `strings` integers of 64 bits are strings, in keys too: some readers of JSON keep
    only the first 53 bits of a number.

    Raises:
        FatalError: the table has a column that is called as our own object is.
    """
    if not len(batch):
        return []
    schema = batch.schema
    names = [column.name for column in schema.columns]
    if META in names:
        raise FatalError(
            f"the source's table has a column {META}, a name that is ours in messages",
            where=header.routed.table,
            remedy="exclude the table, or rename the column",
        )
    texts = column_texts(schema, batch.columns, numbers)
    keys = row_keys(schema, texts)
    template = (
        "{" + fields_template(names, [directive for directive, _ in texts]) + f',"{META}":%s}}'
    )
    values = zip(*(values for _, values in texts), _metas(batch, header), strict=True)
    return [
        Envelope(key, (template % row).encode(), op in REMOVES_ROW)
        for key, row, op in zip(keys, values, batch.ops, strict=True)
    ]


def all_gone(change: SchemaChange, header: TargetHeader) -> Envelope:
    """What says that a table was emptied or dropped, `op` truncate or drop; it goes to every partition.

    It concerns the rows of `source` whose `position` is smaller, also those that come after it: the
    rows of other lanes may still be on their way. Each lane says it once.
    """
    meta = meta_of_table(change, header)._asdict()
    return Envelope(key_of_table(change), record_bytes({META: meta}), removes=False)


def key_of_table(change: SchemaChange) -> bytes:
    """The key of a message about a whole table: one for each change, and no row's."""
    return record_bytes({META: {"op": str(change.action), "change": change.change_id}})


def _metas(batch: ChangeBatch, header: TargetHeader) -> list[str]:
    """`_gravity` of each row, as in `gravity_sink_kafka.meta.Meta` but written at once: it is most of the work."""
    late = ',"late":true' if header.routed.late else ""
    row_version(header.resolver_epoch, header.out_seq, len(batch) - 1)
    first = row_version(header.resolver_epoch, header.out_seq, 0)
    sources = batch.row_source or [batch.source] * len(batch)
    quoted = {source: text_of(source) for source in set(sources)}
    starts = [
        (text_of(t.gtid), f"{batch.epoch}:{t.file_index}:{t.offset}", t.commit_us)
        for t in batch.transactions
    ]
    metas = []
    for row, (op, tx, ordinal, source) in enumerate(
        zip(batch.ops, batch.tx, batch.ordinal, sources, strict=True)
    ):
        gtid, start, commit_us = starts[tx]
        metas.append(
            f'{{"op":"{OPERATIONS[op]}","source":{quoted[source]},"gtid":{gtid},'
            f'"position":"{start}:{ordinal}","commit_us":{commit_us},"version":{first + row}{late}}}'
        )
    return metas


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: xxh64 of its bytes. Never a client's default, which differs by client."""
    return xxhash.xxh64_intdigest(key) % partitions


def topic_of(template: str, *, source: str, target: str, database: str, table: str) -> str:
    """The topic of a table, from the target's `topic` template.

    Raises:
        FatalError: a name holds what a topic's name can't.
    """
    name = template.format(source=source, target=target, database=database, table=table)
    legal = all(
        character.isascii() and (character.isalnum() or character in "._-") for character in name
    )
    if not legal or not name or len(name) > 249 or name in (".", ".."):  # noqa: PLR2004 - Kafka's limit
        raise FatalError(
            f"{name!r} can't be a topic's name",
            where=f"target {target}, table {database}.{table}",
            remedy="choose another `topic` template, or exclude the table",
        )
    return name


def progress_text(record: dict[str, object]) -> bytes:
    """The value of a progress record."""
    return json.dumps(record, separators=(",", ":")).encode()
