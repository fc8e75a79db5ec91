"""How far a copy of existing rows is, in words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gravity.cli.status import chart, copy_text, duration_text
from gravity.status import Installation, ProgressHistory, SourceStatus


def _source(snapshot: dict[str, object]) -> SourceStatus:
    history = ProgressHistory()
    record = {"position": "1:1:4:0", "rows": 5, "ets": 0, "at_us": 9, "snapshot": snapshot}
    history.add("collector/s", record)
    return history.status(Installation(("s",), (), 1), [], None, 10).sources[0]


def test_a_running_copy_is_told_with_its_rows_its_rate_and_what_is_left() -> None:
    tables = {
        "d.t": {"rows": 1000, "estimate": 5000},
        "d.u": {"rows": 0, "estimate": 1000},
    }
    source = _source(
        {"done": 3, "total": 5, "tables": tables, "rows_per_s": 100, "eta_s": 50, "requests": {}}
    )
    assert copy_text(source) == "3/5 tables, 1,000 of about 6,000 rows, 100/s, 50 s left"


def test_a_finished_copy_and_one_of_an_older_collector_are_told_by_their_tables() -> None:
    assert copy_text(_source({"done": 5, "total": 5, "tables": {}})) == "5/5 tables"
    assert copy_text(_source({"done": 1, "total": 5})) == "1/5 tables"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (90, "2 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


TOLD = {
    "state": "on", "targets": ["lake", "bus"], "clients": 1, "answers": 3, "acknowledged": 1234,
    "unacknowledged": 5, "fallbacks": 2, "timeout_ms": 10000, "wait_us": 9, "others_may_answer": False,
}  # fmt: skip


def _shown(semi_sync: dict[str, object] | None) -> str:
    history = ProgressHistory()
    record: dict[str, object] = {"position": "1:1:4:0", "rows": 5, "ets": 0, "at_us": 9}
    history.add("collector/s", record if semi_sync is None else {**record, "semi_sync": semi_sync})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(chart(history.status(Installation(("s",), (), 1), [], None, 10)))
    return console.export_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "they wait"),
        ({"state": "off"}, "the server fell back"),
        ({"state": "joining"}, "targets are behind"),
        ({"state": "disabled"}, "not switched on"),
        ({"state": "unknown"}, "not asked yet"),
        ({"others_may_answer": True}, "for any replica"),
    ],
)
def test_whether_commits_wait_is_told_in_words(change: dict[str, object], words: str) -> None:
    shown = _shown({**TOLD, **change})
    assert words in shown
    assert all(part in shown for part in ("lake, bus", "1,234", "10,000 ms"))


def test_nothing_is_told_of_commits_that_wait_for_nobody() -> None:
    assert "wait" not in _shown(None).replace("waiting", "")
