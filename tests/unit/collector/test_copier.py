"""Existing rows of a table without a key on their way into the log: as the table is where they are sent."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from gravity_collector.agenda import Taken
from gravity_collector.chunk import Chunk, Coverage, PositionView, Since, Touch, TouchLog
from gravity_collector.copier import Copier
from gravity_collector.publisher import Publisher
from gravity_collector.readers import ChunkRead
from gravity_collector.span import Limits

from gravity.codec import decode_batch
from gravity.gtid import MariadbGtids
from gravity.header import IngestKind
from gravity.position import Position
from gravity.schema_change import SchemaChange, TableAction
from gravity.whole_row import with_identity
from tests.unit.collector.test_flow import KEYLESS, flows, whole_row_plan
from tests.unit.collector.world import Log

TABLE = ("shop", "log")


class Readers:
    """Notes what becomes of a chunk."""

    def __init__(self) -> None:
        self.fates: list[str] = []

    def __getattr__(self, fate: str) -> Any:
        return lambda *_: self.fates.append(fate)


def _copier(log: Log, touches: TouchLog, readers: Readers) -> Copier:
    publisher = Publisher(
        log,  # type: ignore[arg-type]
        "progress", source="s", owner=1, seq=0, server="mariadb:1",
        next_position=Position(1, 1, 500), gtids="", ets=0, coverage=Coverage(),
    )  # fmt: skip
    stream: Any = SimpleNamespace(plan_version=1)
    known: Any = readers
    return Copier(
        "s", stream, publisher, known, touches, flows(whole_row_plan()), Limits(2, 1 << 20),
        SimpleNamespace(), (), [TABLE], {},  # type: ignore[arg-type]
    )  # fmt: skip


def _read(view_at: int) -> ChunkRead:
    rows = [(1, "a"), (1, "a"), (2, "b")]
    columns = list(zip(*rows, strict=True))
    taken = Taken(Chunk(TABLE, None, None), 1)
    return ChunkRead(taken, KEYLESS, columns, [10] * 3, PositionView(1, view_at), 1)


def _touches() -> TouchLog:
    """At 100 a row like another came; at 300 one of the two went, and a new kind came twice."""
    touches = TouchLog()
    touches.watch(TABLE, Since(1, 0, MariadbGtids.parse("")))
    one, new = with_identity([(1, "a"), (3, None)])
    touches.record(TABLE, Touch("0-1-1", 1, 100, (one,), ()))
    touches.record(TABLE, Touch("0-1-2", 1, 300, (new, new), (one,)))
    return touches


def test_what_the_stream_brought_behind_the_view_is_in_the_rows_that_are_sent() -> None:
    log, readers = Log(), Readers()
    _copier(log, _touches(), readers)._publish_chunk(_read(view_at=200))
    kinds = [header.kind for header, _ in log.valid()]
    assert kinds == [IngestKind.SCHEMA, *[IngestKind.CHUNK] * 2, IngestKind.CHUNK_DONE]
    emptied = SchemaChange.decode(log.valid()[0][1])
    assert (emptied.action, emptied.table) == (TableAction.TRUNCATE, "log")
    sent = [
        row[:2]
        for header, value in log.valid()
        if header.kind is IngestKind.CHUNK
        for row in decode_batch(value).rows()
    ]
    assert Counter(sent) == {(1, "a"): 1, (2, "b"): 1, (3, None): 2}
    assert readers.fates == ["stored", "sent"]


def test_an_attempt_that_is_made_again_at_the_same_place_empties_the_table_again() -> None:
    """A target knows a message that empties it by its number: a second one must not look like the first."""
    log, readers = Log(), Readers()
    copier = _copier(log, _touches(), readers)
    for _ in range(2):
        copier._publish_chunk(_read(view_at=200))
    changes = [
        SchemaChange.decode(value).change_id
        for header, value in log.valid()
        if header.kind is IngestKind.SCHEMA
    ]
    assert len(set(changes)) == 2


def test_rows_of_a_table_whose_shape_has_changed_since_are_read_again() -> None:
    log, readers, touches = Log(), Readers(), _touches()
    touches.record_shape([TABLE], gtid="0-1-3", file_index=1, offset=400)
    _copier(log, touches, readers)._publish_chunk(_read(view_at=200))
    assert log.valid() == []
    assert readers.fates == ["give_back"]


def test_when_the_copy_ended_is_told_as_it_was_until_rows_are_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(1, 100))
    monkeypatch.setattr("gravity_collector.copier.now_us", lambda: next(clock))
    touches, readers = _touches(), Readers()
    counts: Any = readers
    counts.total, counts.rows_estimated = 1, lambda _: 0
    copier = _copier(Log(), touches, readers)
    assert copier.progress()["ended_us"] == 0
    copier._publish_chunk(_read(view_at=200))
    assert [copier.progress()["ended_us"] for _ in range(2)] == [1, 1]
    # A copy that begins and ends between two words about it.
    copier._publish_chunk(_read(view_at=200))
    assert copier.progress()["ended_us"] == 2


def test_with_nothing_to_copy_the_copy_has_ended_before_the_first_marker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the first wait would ask for another one, seconds later."""
    clock = iter(range(1, 100))
    monkeypatch.setattr("gravity_collector.copier.now_us", lambda: next(clock))
    readers: Any = Readers()
    readers.is_done, readers.total = True, 0
    copier = _copier(Log(), TouchLog(), readers)
    copier.desk = SimpleNamespace(settled=list, arrived=list)  # type: ignore[assignment]
    copier.serve()
    marked_us = next(clock)
    assert copier.progress()["ended_us"] < marked_us
