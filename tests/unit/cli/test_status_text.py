"""How far a copy of existing rows is, in words."""

from __future__ import annotations

import pytest

from gravity.cli.status import copy_text, duration_text
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
