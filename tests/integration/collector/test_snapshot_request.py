"""Rows are read again on request, while the stream runs: once, whatever dies, and bad SQL harms nobody."""

from __future__ import annotations

import signal
from typing import Any

from gravity_collector.chunk import Chunk

from gravity.batch import READ
from gravity.header import IngestKind
from gravity.snapshot_request import SnapshotRequest
from gravity.testing.waiting import wait_until
from gravity.topic import snapshot_request_key, snapshot_result_key
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation
from tests.integration.collector.test_snapshot import _fill, _finished
from tests.integration.collector.test_stream import load


def _ask(made: Installation, number: int, table: str, where: str = "") -> None:
    record = {"id": number, "database": made.database, "table": table, "where": where}
    made.write_control(snapshot_request_key(made.source, number), record)


def _result(made: Installation, number: int) -> dict[str, Any]:
    key = snapshot_result_key(made.source, number)
    found: dict[str, Any] = wait_until(lambda: made.control().get(key), what=f"result {number}")
    return found


def _behind_the_binlogs_back(made: Installation, statement: str) -> None:
    made.sql("SET SESSION sql_log_bin = 0", statement, "SET SESSION sql_log_bin = 1")


def _reads(made: Installation, table: str) -> list[Any]:
    return [
        row[0]
        for header, batch in made.batches()
        if header.kind is IngestKind.CHUNK and batch.schema.table == table
        for row in batch.rows()
        if set(batch.ops) == {READ}
    ]


def test_tables_and_rows_are_read_again_on_request_and_what_cannot_be_read_is_told(
    install: Install,
) -> None:
    made = install(source="max-workers: 2", chunk_rows="100")
    made.sql(*(f"CREATE TABLE {t} (id INT PRIMARY KEY, v VARCHAR(20))" for t in ("t", "u")))
    _fill(made, "t", range(100_000, 101_000))
    _fill(made, "u", range(1000))
    process = made.start_and_wait()
    _finished(made, "t", "u")
    before = len(_reads(made, "u"))
    for table in ("t", "u"):
        _behind_the_binlogs_back(made, f"UPDATE {table} SET v = 'silent' WHERE id % 2")
    with load(made):
        _ask(made, 11, "t")
        _ask(made, 12, "u", "id < 300 -- some")
        _ask(made, 13, "u", "nothing = 1")
        _ask(made, 14, "u", "id < 5) OR (")
        _ask(made, 15, "missing")
        assert _result(made, 11)["error"] == ""
        assert _result(made, 12) | {"owner": 0, "offset": 0} == {
            "id": 12, "rows": 300, "error": "", "owner": 0, "offset": 0,
        }  # fmt: skip
        assert "nothing" in _result(made, 13)["error"]
        assert "syntax" in _result(made, 14)["error"]
        assert "does not exist" in _result(made, 15)["error"]
    made.wait_equal("t")
    assert sorted(_reads(made, "u")[before:]) == list(range(300))
    assert made.replay("u")[299] == (299, "silent")
    assert made.replay("u")[301] == (301, "old301")
    assert process.stop() == 0
    written = len(made.messages())
    made.start_and_wait()
    made.sql("INSERT INTO t VALUES (500000, 'x')")
    made.wait_equal("t")
    kinds = {h.kind for _, h, _ in made.messages()[written:]}
    assert not kinds & {IngestKind.CHUNK, IngestKind.SNAPSHOT}, "each request is done once"
    made.assert_lawful()


def test_a_request_that_is_cut_off_goes_on_where_it_stopped(install: Install) -> None:
    made = install(chunk_rows="100")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    _fill(made, "t", range(1000))
    process = made.start_and_wait()
    _finished(made, "t")
    assert process.stop() == 0
    _behind_the_binlogs_back(made, "UPDATE t SET v = 'silent' WHERE id >= 200")
    _ask(made, 21, "t", "id >= 200")
    _ask(made, 22, "t")
    process = made.start("collector.chunk_not_done:6:kill")
    assert process.wait() == -signal.SIGKILL
    made.start_and_wait()
    assert _result(made, 21)["error"] == _result(made, 22)["error"] == ""
    made.wait_equal("t")
    valid = [header for header, _ in made.valid()]
    begun = [SnapshotRequest.parse(h.chunk) for h in valid if h.kind is IngestKind.SNAPSHOT]
    assert sorted(request.request_id for request in begun) == [21, 22], "each is begun once"
    done = [Chunk.parse(h.chunk) for h in valid if h.kind is IngestKind.CHUNK_DONE]
    again = [chunk for chunk in done if chunk.request == 21]
    assert len(again) == len(set(again)), "no finished chunk is read again"
    assert made.control()[snapshot_result_key(made.source, 21)]["error"] == ""
    made.assert_lawful()
