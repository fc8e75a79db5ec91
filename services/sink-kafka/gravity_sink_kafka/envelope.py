"""One JSON message per row change. Pure.

Key: the key columns as a JSON object, in key order: `{"id":1}`. Value: the row as one flat object and
`_gravity` with what is known about the change. A row that is gone gives two messages: its last image
with op `delete`, then a Kafka tombstone (no value), so that compaction forgets the key.

How each type appears is fixed in `gravity.column.TYPES` and written down in docs/types.md. A document
of type JSON is a string that holds its text: read again as JSON it might lose digits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Final, Literal

import xxhash

from gravity.batch import REMOVES_ROW, ChangeBatch, Value
from gravity.column import ColumnType, is_wide_integer
from gravity.errors import FatalError
from gravity.header import TargetHeader, row_version
from gravity.schema_change import SchemaChange

Numbers = Literal["exact", "strings"]
META = "_gravity"
"""The object beside the row's own columns."""

_OP: Final = {
    ord("I"): "insert",
    ord("U"): "update",
    ord("D"): "delete",
    ord("R"): "read",
    ord("M"): "delete",
    ord("L"): "delete",
}

_text: Callable[[str], str] = encode_basestring


@dataclass(frozen=True, slots=True)
class Envelope:
    """The messages of one row change."""

    key: bytes
    value: bytes
    removes: bool
    """Whether a Kafka tombstone follows."""


def _bytes_text(value: bytes) -> str:
    return '"' + base64.b64encode(value).decode("ascii") + '"'


def _json(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return _bytes_text(value)
    return repr(value)


def _column_texts(values: Sequence[Value], *, quoted: bool) -> tuple[str, Sequence[Value]]:
    """A printf directive and what to feed it; `quoted` integers become strings."""
    if quoted:
        if None in values:
            return "%s", ["null" if value is None else f'"{value!r}"' for value in values]
        return '"%d"', values
    if None in values:
        return "%s", [_json(value) for value in values]
    first = values[0]
    if isinstance(first, str):
        return "%s", [_text(value) for value in values]  # type: ignore[arg-type]
    if isinstance(first, bytes):
        return "%s", [_bytes_text(value) for value in values]  # type: ignore[arg-type]
    return ("%d" if isinstance(first, int) else "%r"), values


def _template(names: Sequence[str], directives: Sequence[str]) -> str:
    """A JSON object's text with directives for its values."""
    fields = (
        f"{_text(name).replace('%', '%%')}:{directive}"
        for name, directive in zip(names, directives, strict=True)
    )
    return ",".join(fields)


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
    wide = [
        numbers == "strings" and is_wide_integer(ColumnType.parse(column.type))
        for column in schema.columns
    ]
    texts = [
        _column_texts(values, quoted=quoted)
        for values, quoted in zip(batch.columns, wide, strict=True)
    ]
    key_template = (
        "{" + _template(schema.key_names, [texts[index][0] for index in schema.key]) + "}"
    )
    keys = [
        (key_template % key).encode()
        for key in zip(*(texts[index][1] for index in schema.key), strict=True)
    ]
    template = "{" + _template(names, [directive for directive, _ in texts]) + f',"{META}":%s}}'
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
    meta = {
        "op": str(change.action),
        "source": header.routed.source,
        "gtid": change.gtid,
        "position": change.position,
        "commit_us": change.ets,
        "version": row_version(header.resolver_epoch, header.out_seq, 0),
    }
    key = {META: {"op": str(change.action), "change": change.change_id}}
    return Envelope(_record(key), _record({META: meta}), removes=False)


def _record(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _metas(batch: ChangeBatch, header: TargetHeader) -> list[str]:
    """`_gravity` of each row.

    `version` grows with every change of a key (a consumer may drop what is not greater than it has
    seen); `position` is epoch:file:offset:row at the source, `commit_us` the source's commit time.
    """
    row_version(header.resolver_epoch, header.out_seq, len(batch) - 1)
    first = row_version(header.resolver_epoch, header.out_seq, 0)
    sources = batch.row_source or [batch.source] * len(batch)
    quoted = {source: _text(source) for source in set(sources)}
    starts = [
        (_text(t.gtid), f"{batch.epoch}:{t.file_index}:{t.offset}", t.commit_us)
        for t in batch.transactions
    ]
    metas = []
    for row, (op, tx, ordinal, source) in enumerate(
        zip(batch.ops, batch.tx, batch.ordinal, sources, strict=True)
    ):
        gtid, start, commit_us = starts[tx]
        metas.append(
            f'{{"op":"{_OP[op]}","source":{quoted[source]},"gtid":{gtid},'
            f'"position":"{start}:{ordinal}","commit_us":{commit_us},"version":{first + row}}}'
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
