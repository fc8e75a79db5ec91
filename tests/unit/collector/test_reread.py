"""A table that is read again: the log alone says so, and says how much of it is done, whoever dies when."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from gravity_collector.chunk import Chunk, Coverage, PositionView, TableName, TouchLog, Work
from gravity_collector.event import Begin, Commit, Query
from gravity_collector.flow import Flows
from gravity_collector.owner import Ownership, checkpoint_record, take_over
from gravity_collector.publisher import Publisher
from gravity_collector.span import Limits
from gravity_collector.stream import Stream

from gravity.batch import INSERT
from gravity.errors import FormatError
from gravity.gtid import MariadbGtids
from gravity.header import IngestHeader, IngestKind
from gravity.position import Position
from gravity.schema_change import RowsAfter, SchemaChange, TableAction
from gravity.snapshot_request import REREAD, SnapshotRequest, is_chunk_of
from gravity.topic import checkpoint_key
from tests.unit.collector.world import SERVER, Control, Died, Log, Table, plan, stands_all

TABLES: tuple[TableName, ...] = (("shop", "a"), ("shop", "b"))


def _own(control: Control, log: Log, name: str) -> tuple[Ownership, Publisher]:
    owned = take_over(
        control, log, source="s", process=name, server=SERVER, plan=1, stands=stands_all
    )
    coverage = Coverage(owned.chunks_done)
    publisher = Publisher(
        log,  # type: ignore[arg-type]
        "progress",
        source="s",
        owner=owned.owner,
        seq=owned.seq,
        server=SERVER,
        next_position=owned.resume.next_position if owned.resume else Position(1, 1, 100),
        gtids="",
        ets=0,
        coverage=coverage,
        rereads=[t for t in TABLES if ".".join(t) in owned.rereads and not coverage.is_complete(t)],
    )
    return owned, publisher


def _said_by_the_log(log: Log) -> tuple[set[str], set[str]]:
    """(tables asked for again, ids of chunks done since), by a reading of its own."""
    asked, done = set(), set()
    for header, _ in log.valid():
        chunk = header.chunk
        if (header.kind is IngestKind.SCHEMA and chunk == "reread") or (
            header.kind is IngestKind.SNAPSHOT and not json.loads(chunk)["where"]
        ):
            asked.add(header.table)
            done = {d for d in done if ".".join(json.loads(d)[:2]) != header.table}
        elif header.kind is IngestKind.CHUNK_DONE:
            done.add(chunk)
    return asked, done


def _act(rng: random.Random, publisher: Publisher, number: int) -> None:
    table, kind = rng.choice(TABLES), rng.random()
    if kind < 0.6 and not publisher.coverage.is_complete(table):
        gap = rng.choice(publisher.coverage.gaps(table))
        if gap.through is None:
            first = 0 if gap.after is None else int(str(gap.after[0]))
            at = rng.randint(first, 3)
            if at > first:
                # A chunk further on, as a second reader may publish it first.
                gap = replace(gap, after=(at,), number=gap.number + at - first)
            gap = replace(gap, through=(at + 1,) if at < 3 else None)
        publisher.publish_chunk(gap, [], plan=1)
    elif kind < 0.7:
        publisher.publish_request(SnapshotRequest(number, *table), plan=1)
    elif kind < 0.75:
        publisher.publish_request(SnapshotRequest(number, *table, "id = 1"), plan=1)
    elif kind < 0.9:
        rows = RowsAfter.REREAD if rng.random() < 0.7 else RowsAfter.KEPT
        at = publisher.next_position
        change = SchemaChange(
            "s", *table, TableAction.ALTER, "ALTER", "shop", "0-1-1", str(at), 0, rows=rows
        )
        publisher.publish_schema(change, to=at, gtids="", ets=0, plan=1)
    else:
        publisher.publish_marker(plan=1)


@pytest.mark.parametrize("seed", range(150))
def test_every_owner_knows_what_is_asked_for_again_and_how_much_of_it_is_done(seed: int) -> None:
    rng, control, log = random.Random(seed), Control(), Log()
    for life in range(6):
        log.dies_at = None
        owned, publisher = _own(control, log, f"p{life}")
        asked, done = _said_by_the_log(log)
        truth = Coverage(sorted(done))
        mine = Coverage(sorted(owned.chunks_done))
        for table in TABLES:
            assert mine.is_complete(table) == truth.is_complete(table)
            assert mine.gaps(table) == truth.gaps(table)
            if ".".join(table) in asked and not truth.is_complete(table):
                assert ".".join(table) in owned.rereads, "the request is lost"
        log.dies_at = len(log.messages) + rng.randint(1, 12)
        try:
            for number in range(20):
                _act(rng, publisher, number)
                point = publisher.acknowledged
                if point is not None and rng.random() < 0.3:
                    control.write(checkpoint_key("s", owned.owner), checkpoint_record(point))
                    if rng.random() < 0.5:
                        # Retention takes what the checkpoint stands for.
                        log.low = point.offset
        except Died:
            pass


def test_a_checkpoint_remembers_a_request_until_its_table_is_complete() -> None:
    control, log = Control(), Log()
    _, publisher = _own(control, log, "p")
    publisher.publish_request(SnapshotRequest(1, *TABLES[0]), plan=1)
    publisher.publish_chunk(Chunk(TABLES[0], None, (5,)), [], plan=1)
    assert publisher.acknowledged is not None
    assert publisher.acknowledged.rereads == ("shop.a",)
    publisher.publish_chunk(Chunk(TABLES[0], (5,), None), [], plan=1)
    assert publisher.acknowledged.rereads == ()


def test_a_request_for_some_rows_leaves_what_is_done_of_the_table() -> None:
    control, log = Control(), Log()
    _, publisher = _own(control, log, "p")
    publisher.publish_chunk(Chunk(TABLES[0], None, None), [], plan=1)
    publisher.publish_request(SnapshotRequest(1, *TABLES[0], "id < 5"), plan=1)
    owned, _ = _own(control, log, "q")
    assert Coverage(owned.chunks_done).is_complete(TABLES[0])
    assert not owned.rereads


def _stream(log: Log, touches: TouchLog, asked: list[Any]) -> tuple[Stream, Publisher]:
    _, publisher = _own(Control(), log, "p")

    def request(table: TableName) -> None:
        asked.append((table, touches.watches(table)))

    stream = Stream(
        "s",
        publisher,
        Flows(plan(), "s", lambda *_: ()),
        Limits(10, 1000),
        gtids=MariadbGtids.parse(""),
        touches=touches,
        request=request,
    )
    return stream, publisher


def test_a_view_must_have_seen_all_that_the_stream_had_brought_when_a_table_was_asked_for() -> None:
    touches, asked = TouchLog(), list[Any]()
    table = Table("a")
    stream, _ = _stream(Log(), touches, asked)
    stream.take([Begin("0-1-1", 1, 100, 5), table.event(INSERT, [(1, "x")]), Commit(1, 200)])
    stream.read_again(TABLES[0])
    assert asked == [(TABLES[0], True)]
    assert touches.touched(Work(TABLES[0]), PositionView(1, 199)) is None
    assert touches.touched(Work(TABLES[0]), PositionView(1, 200)) == set()
    stream.take([Begin("0-1-2", 1, 200, 5), table.event(INSERT, [(2, "x")]), Commit(1, 300)])
    assert touches.touched(Work(TABLES[0]), PositionView(1, 200)) == {(2,)}


def test_a_table_asked_for_inside_a_transaction_is_read_by_views_that_saw_that_transaction() -> (
    None
):
    touches, asked = TouchLog(), list[Any]()
    stream, _ = _stream(Log(), touches, asked)
    stream.take([Begin("0-1-1", 1, 100, 5), Query("shop", "CREATE TABLE a (id INT)", 0)])
    stream.read_again(TABLES[0])
    stream.take([Commit(1, 200)])
    assert touches.touched(Work(TABLES[0]), PositionView(1, 100)) is None
    assert touches.touched(Work(TABLES[0]), PositionView(1, 200)) == set()


def test_a_statement_that_may_have_changed_rows_has_its_tables_read_again_once_it_is_told() -> None:
    log, touches, asked = Log(), TouchLog(), list[Any]()
    stream, publisher = _stream(log, touches, asked)
    publisher.publish_chunk(Chunk(TABLES[1], None, None), [], plan=1)
    swap = Query("shop", "RENAME TABLE a TO x, b TO a", 0)
    stream.take([Begin("0-1-1", 1, 100, 5), swap])
    assert not asked, "not before the statement's end is known"
    stream.take([Commit(1, 200)])
    assert [table for table, _ in asked] == [("shop", "x"), ("shop", "a")]
    last = [h for h in log.headers() if h.kind is IngestKind.SCHEMA][-1]
    assert (last.table, last.chunk, last.to) == ("shop.a", REREAD, Position(1, 1, 200))
    assert not publisher.coverage.is_complete(("shop", "a"))
    assert touches.touched(Work(("shop", "a")), PositionView(1, 100)) is None
    assert touches.touched(Work(("shop", "a")), PositionView(1, 200)) == set()
    stream.take([Begin("0-1-2", 1, 200, 5), Query("shop", "ALTER TABLE a ADD n INT", 0), Commit(1, 300)])  # fmt: skip
    assert len(asked) == 2, "rows that are kept are not read again"


def test_what_a_header_says_of_the_copy() -> None:
    def header(kind: IngestKind, chunk: str) -> IngestHeader:
        return IngestHeader(kind, "s", 1, 1, table="d.t", chunk=chunk)

    assert header(IngestKind.SCHEMA, REREAD).restarts_copy
    assert not header(IngestKind.SCHEMA, "").restarts_copy
    assert header(IngestKind.SNAPSHOT, SnapshotRequest(3).text).restarts_copy
    assert not header(IngestKind.SNAPSHOT, SnapshotRequest(3, where="a = 1").text).restarts_copy
    assert not header(IngestKind.SNAPSHOT, SnapshotRequest(3).failed("gone").text).restarts_copy
    assert not header(IngestKind.MARKER, "").restarts_copy


def test_a_request_survives_its_text_and_damage_is_named() -> None:
    request = SnapshotRequest(7, "d", "t", "name = 'é\"x'")
    assert SnapshotRequest.parse(request.text) == request
    with pytest.raises(FormatError, match="not a snapshot request"):
        SnapshotRequest.parse("[]")
    with pytest.raises(FormatError, match="not the id of a snapshot chunk"):
        is_chunk_of("[1", "d.t")


def test_a_chunk_of_a_request_for_some_rows_is_none_of_the_tables_own() -> None:
    assert is_chunk_of(Chunk(("d", "t"), None, None).chunk_id, "d.t")
    assert is_chunk_of('["d","t",null,[5]]', "d.t")
    assert not is_chunk_of(Chunk(("d", "t"), None, None, request=3).chunk_id, "d.t")
    assert not is_chunk_of(Chunk(("d", "u"), None, None).chunk_id, "d.t")


def test_a_source_begun_again_is_cut_off_before_its_new_place_is_told_or_after_everything_is() -> (
    None
):
    """Never with the new place and a table that still counts as copied."""
    old, new = Position(1, 1, 100), Position(2, 7, 4)
    for dies_after in range(5):
        control, log = Control(), Log()
        _, publisher = _own(control, log, "p")
        for table in TABLES:
            publisher.publish_chunk(Chunk(table, None, None), [], plan=1)
        _, publisher = _own(control, log, "q")
        log.dies_at = len(log.messages) + dies_after
        with contextlib.suppress(Died):
            publisher.begin_again(TABLES, to=new, gtids="0-1-9", ets=0, plan=1)
        log.dies_at = None
        owned, _ = _own(control, log, "r")
        assert owned.resume is not None
        assert owned.resume.next_position == (new if dies_after >= 3 else old)
        if owned.resume.next_position == new:
            assert not owned.chunks_done
            assert owned.rereads == {"shop.a", "shop.b"}
