"""A source's ingest topic as every reader of it sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gravity.batch import DELETE, READ, ChangeBatch
from gravity.codec import decode_batch
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import Fences
from gravity.kafka.reader import LogReader
from gravity.schema_change import SchemaChange, TableAction


class IngestLog:
    """Reads on with every question; keeps what it has read."""

    def __init__(self, reader: LogReader, topic: str) -> None:
        self._reader = reader
        self._topic = topic
        self._next_offset = 0
        self._messages: list[tuple[int, IngestHeader, bytes]] = []

    def messages(self) -> list[tuple[int, IngestHeader, bytes]]:
        """Everything in the ingest log, void or not."""
        _, high = self._reader.bounds(self._topic, 0)
        for message in self._reader.read(self._topic, 0, self._next_offset, high):
            header = IngestHeader.from_kafka(message.headers)
            self._messages.append((message.offset, header, message.value or b""))
        self._next_offset = high
        return self._messages

    def valid(self) -> list[tuple[IngestHeader, bytes]]:
        """What every reader takes: neither fences nor what is void."""
        fences, found = Fences(), []
        for offset, header, value in self.messages():
            if header.kind is IngestKind.FENCE:
                fences.add(offset, header.owner)
            elif not fences.is_void(offset, header.owner):
                found.append((header, value))
        return found

    def batches(self) -> Iterator[tuple[IngestHeader, ChangeBatch]]:
        for header, value in self.valid():
            if header.kind in (IngestKind.ROWS, IngestKind.CHUNK):
                yield header, decode_batch(value)

    def replay(self, table: str) -> list[tuple[Any, ...]]:
        """The table as a reader of the log has it."""
        rows: dict[Any, tuple[Any, ...]] = {}
        for header, value in self.valid():
            if header.table.partition(".")[2] != table:
                continue
            if header.kind is IngestKind.SCHEMA:
                action = SchemaChange.decode(value).action
                if action in (TableAction.DROP, TableAction.TRUNCATE):
                    rows.clear()
            if header.kind not in (IngestKind.ROWS, IngestKind.CHUNK):
                continue
            batch = decode_batch(value)
            key = batch.schema.key
            moved = [batch.before_columns.index(index) for index in key]
            for number, row in enumerate(batch.rows()):
                old = tuple(batch.before[index][number] for index in moved)
                if batch.ops[number] != READ:
                    rows.pop(old, None)
                if batch.ops[number] != DELETE:
                    rows[tuple(row[index] for index in key)] = row
        return sorted(rows.values())

    def assert_lawful(self) -> None:
        """Numbers without holes, spans whole and one after the other, every change once, time never back."""
        valid = [header for header, _ in self.valid()]
        assert [header.seq for header in valid] == list(range(1, len(valid) + 1))
        ets, seen = 0, set()
        for before, header in zip([None, *valid], valid, strict=False):
            moved = before is not None and header.to.epoch > before.to.epoch
            # Another server's places can't be set against the ones before.
            if before is None or moved:
                pass
            elif before.kind is not IngestKind.CHUNK and header.part == 0:
                # A chunk stands where the stream has come to, past statements that concern no table.
                follows = header.from_ == before.to or (
                    header.kind is IngestKind.CHUNK and header.from_ > before.to
                )
                assert follows, (before, header)
                assert before.part + 1 == before.parts, before
            if header.kind is not IngestKind.CHUNK:
                assert header.ets >= ets
                # What another server goes on with comes again, with its own time.
                ets = header.ets if header.part + 1 == header.parts else ets
        for header, batch in self.batches():
            if header.kind is IngestKind.ROWS:
                for row in range(len(batch)):
                    identity = (batch.transactions[batch.tx[row]].gtid, batch.ordinal[row])
                    assert identity not in seen, identity
                    seen.add(identity)
