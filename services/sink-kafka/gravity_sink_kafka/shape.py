"""Which messages a table's changes become: the one place that knows all formats. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gravity.batch import ChangeBatch, TableSchema
from gravity.header import TargetHeader
from gravity.schema_change import SchemaChange
from gravity.topic import Cleanup
from gravity_sink_kafka.avro_row import (
    WriterSchema,
    avro_all_gone,
    avro_envelopes,
    table_gone_schema,
    table_schema,
)
from gravity_sink_kafka.debezium import debezium_all_gone, debezium_envelopes
from gravity_sink_kafka.envelope import Envelope, all_gone, envelopes
from gravity_sink_kafka.event_record import event_all_gone, event_envelopes
from gravity_sink_kafka.json_text import Numbers

if TYPE_CHECKING:
    from gravity.config.event import Event
    from gravity.config.target import KafkaTarget


class Shape(Protocol):
    """How the changes of a table appear. The same change always gives the same bytes."""

    @property
    def topic(self) -> str:
        """Template of the topic's name."""

    @property
    def cleanup(self) -> Cleanup:
        """Of a topic that is made for it."""

    def envelopes(self, batch: ChangeBatch, header: TargetHeader) -> list[Envelope]:
        """The messages of the batch's rows, in order. Raises FatalError for what can't be shown so."""

    def all_gone(self, change: SchemaChange, header: TargetHeader) -> Envelope:
        """What says that the table was emptied or dropped."""

    def writer_schema(self, schema: TableSchema | None) -> WriterSchema | None:
        """What readers must know before the first message of this shape, or (None) of `all_gone`."""


@dataclass(frozen=True, slots=True)
class _Plain:
    topic: str
    numbers: Numbers
    cleanup: Cleanup = "compact"
    """However old a row is, its last message stays."""

    def writer_schema(self, schema: TableSchema | None) -> WriterSchema | None:  # noqa: ARG002
        """Readers need to know nothing before."""
        return None


class FlatShape(_Plain):
    """`format: json`."""

    def envelopes(self, batch: ChangeBatch, header: TargetHeader) -> list[Envelope]:
        """As `Shape`."""
        return envelopes(batch, header, numbers=self.numbers)

    def all_gone(self, change: SchemaChange, header: TargetHeader) -> Envelope:
        """As `Shape`."""
        return all_gone(change, header)


class DebeziumShape(_Plain):
    """`format: debezium`."""

    def envelopes(self, batch: ChangeBatch, header: TargetHeader) -> list[Envelope]:
        """As `Shape`."""
        return debezium_envelopes(batch, header, numbers=self.numbers)

    def all_gone(self, change: SchemaChange, header: TargetHeader) -> Envelope:
        """As `Shape`."""
        return debezium_all_gone(change, header)


class AvroShape(_Plain):
    """`format: avro`."""

    def envelopes(self, batch: ChangeBatch, header: TargetHeader) -> list[Envelope]:
        """As `Shape`."""
        return avro_envelopes(batch, header, numbers=self.numbers)

    def all_gone(self, change: SchemaChange, header: TargetHeader) -> Envelope:
        """As `Shape`."""
        return avro_all_gone(change, header)

    def writer_schema(self, schema: TableSchema | None) -> WriterSchema | None:
        """As `Shape`."""
        return table_gone_schema() if schema is None else table_schema(schema)


@dataclass(frozen=True, slots=True)
class EventShape:
    """An entry of `events`."""

    event: Event
    topic: str
    numbers: Numbers
    cleanup: Cleanup = "delete"
    """Each event tells something of its own: compaction would keep only the last one of a row."""

    def envelopes(self, batch: ChangeBatch, header: TargetHeader) -> list[Envelope]:
        """As `Shape`."""
        return event_envelopes(batch, header, event=self.event, numbers=self.numbers)

    def all_gone(self, change: SchemaChange, header: TargetHeader) -> Envelope:
        """As `Shape`."""
        return event_all_gone(change, header, event=self.event)

    def writer_schema(self, schema: TableSchema | None) -> WriterSchema | None:  # noqa: ARG002
        """Readers need to know nothing before."""
        return None


class Shapes:
    """The shapes of one target's tables, by the names that these have at their source."""

    def __init__(self, target: KafkaTarget) -> None:
        self._target = target
        self._found: dict[tuple[str, str], Shape] = {}

    def of(self, database: str, table: str) -> Shape:
        """The shape of a source's table."""
        name = database, table
        shape = self._found.get(name)
        if shape is None:
            shape = self._found[name] = self._make(database, table)
        return shape

    def _make(self, database: str, table: str) -> Shape:
        target = self._target
        match target.format_of(database, table):
            case "json":
                return FlatShape(target.topic, target.numbers)
            case "debezium":
                return DebeziumShape(target.topic, target.numbers)
            case "avro":
                return AvroShape(target.topic, target.numbers)
            case "event":
                event = target.event_of(database, table)
                return EventShape(event, event.topic or target.topic, target.numbers)
