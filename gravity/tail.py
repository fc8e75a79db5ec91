"""Messages of any topic as JSON values. Pure: what a message says of itself decides how it is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch, decode_record
from gravity.errors import FormatError
from gravity.header import IngestHeader, RoutedHeader, TargetHeader

OPERATIONS: Final[Mapping[str, str]] = {
    "I": "insert",
    "U": "update",
    "D": "delete",
    "R": "read",
    "T": "truncate",
}
_BATCH_KINDS: Final = frozenset({"rows", "chunk"})
_RECORD_KINDS: Final[Mapping[str, str]] = {
    "marker": "marker",
    "schema": "schema_change",
    "decision": "decision",
}
_RECORD_TOPICS: Final[Mapping[str, str]] = {
    "gravity.dead-letters": "dead_letter",
    "gravity.conflicts": "conflict",
}


class Message(Protocol):
    """A message of Kafka; see `gravity.kafka.reader.LogMessage`."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset there."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its value."""

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Its headers, in order."""

    @property
    def timestamp_ms(self) -> int:
        """When it was written, milliseconds since 1970 UTC."""


def message_json(message: Message) -> dict[str, Any]:
    """One message: place, time, key, headers, decoded value.

    What can't be decoded stands there as bytes beside an `error`: a reader who looks for trouble must
    see the message that makes it.
    """
    shown: dict[str, Any] = {
        **_place(message),
        "key": None if message.key is None else _text(message.key),
        "headers": {name: _text(value) for name, value in message.headers},
    }
    try:
        shown["value"] = _value(message)
    except FormatError as error:
        shown["error"] = str(error)
        shown["value"] = _bytes(message.value or b"")
    return shown


def rows_json(message: Message) -> Iterator[dict[str, Any]]:
    """The rows of one message, one value each; a message without rows gives its own `message_json`."""
    try:
        batch = _batch(message)
    except FormatError:
        batch = None
    if batch is None:
        yield message_json(message)
        return
    place = _place(message)
    for number, row in enumerate(batch_rows(batch)):
        yield {**place, "number": number, **row}


def batch_rows(batch: ChangeBatch) -> Iterator[dict[str, Any]]:
    """Each row of a batch: where it comes from, what was done, its cells."""
    names = [column.name for column in batch.schema.columns]
    before_names = [names[index] for index in batch.before_columns]
    before = list(zip(*batch.before, strict=True)) if batch.before else []
    for number, row in enumerate(batch.rows()):
        transaction = batch.transactions[batch.tx[number]]
        operation = chr(batch.ops[number])
        shown: dict[str, Any] = {
            "source": batch.row_source[number] if batch.row_source else batch.source,
            "table": f"{batch.schema.database}.{batch.schema.table}",
            "op": OPERATIONS.get(operation, operation),
            "position": str(batch.position_of(number)),
            "gtid": transaction.gtid,
            "committed": _moment(transaction.commit_us) if transaction.commit_us else None,
            "row": _cells(names, row),
        }
        if before and any(cell is not None for cell in before[number]):
            shown["before"] = _cells(before_names, before[number])
        yield shown


def _place(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "time": _moment(message.timestamp_ms * 1000),
    }


def _value(message: Message) -> Any:
    batch = _batch(message)
    if batch is not None:
        return _batch_json(batch)
    if message.value is None:
        return None
    kind = _kind(message.headers)
    record = _RECORD_KINDS.get(kind) or next(
        (name for end, name in _RECORD_TOPICS.items() if message.topic.endswith(end)), None
    )
    if record is not None and message.value:
        return _record_json(record, message.value)
    return _foreign(message.value)


def _batch(message: Message) -> ChangeBatch | None:
    """The batch in a message; None if it has none. Raises FormatError if it can't be read."""
    if _kind(message.headers) not in _BATCH_KINDS or not message.value:
        return None
    _read_header(message.headers)
    return decode_batch(message.value)


def _kind(headers: Iterable[tuple[str, bytes]]) -> str:
    """What one of our own messages holds; empty for foreign ones."""
    fields = dict(headers)
    return fields.get("kind", b"").decode(errors="replace") if "gv" in fields else ""


def _read_header(headers: list[tuple[str, bytes]]) -> None:
    """Raises FormatError when the headers are damaged or newer than this reader."""
    names = {name for name, _ in headers}
    reader = TargetHeader if "out" in names else IngestHeader if "owner" in names else RoutedHeader
    reader.from_kafka(headers)


def _batch_json(batch: ChangeBatch) -> dict[str, Any]:
    schema = batch.schema
    return {
        "source": batch.source,
        "table": f"{schema.database}.{schema.table}",
        "columns": {column.name: column.type for column in schema.columns},
        "key": [schema.columns[index].name for index in schema.key],
        "rows": list(batch_rows(batch)),
    }


def _record_json(name: str, data: bytes) -> dict[str, Any]:
    return record_json(name, decode_record(name, data))


def record_json(name: str, decoded: Mapping[str, Any]) -> dict[str, Any]:
    """A record of schemas/<name>.avsc as JSON values; a dead letter's row decoded."""
    record = dict(decoded)
    if name == "dead_letter" and isinstance(record.get("value"), bytes):
        try:
            record["value"] = _batch_json(decode_batch(record["value"]))
        except FormatError:
            record["value"] = _bytes(record["value"])
    return {key: _jsonable(value) for key, value in record.items()}


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    return value


def _foreign(data: bytes) -> Any:
    """JSON, else text, else bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _bytes(data)
    try:
        return json.loads(text)
    except ValueError:
        return text if text.isprintable() else _bytes(data)


def _cells(names: Sequence[str], cells: Sequence[Any]) -> dict[str, Any]:
    return {name: _jsonable(cell) for name, cell in zip(names, cells, strict=True)}


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _bytes(data)


def _bytes(data: bytes) -> dict[str, str]:
    """Bytes: JSON has none, and a bare text might be taken for one."""
    return {"base64": base64.b64encode(data).decode()}


def _moment(time_us: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC."""
    # Not by fromtimestamp's float, which has no room for microseconds after 2038.
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return moment.replace(microsecond=time_us % 1_000_000).isoformat()
