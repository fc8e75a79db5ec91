"""Markers come soon behind what somebody may wait for, and are never more than their limits say."""

from __future__ import annotations

import pytest
from gravity_collector.marker_pace import (
    COPIES_PER_S_MAX,
    FLOWING_S,
    IDLE_S,
    SOON_AT_ONCE,
    SOON_PER_S,
    SOON_S,
    MarkerPace,
)
from hypothesis import given
from hypothesis import strategies as st

Write = tuple[float, bool, bool]
"""Seconds since the one before, whether of a collected table, whether the source was read to its end behind it."""
WRITES = st.lists(
    st.tuples(st.floats(0, 3, width=16), st.booleans(), st.booleans()), min_size=1, max_size=60
)


def markers(pace: MarkerPace, writes: list[Write], until_s: float = 20.0) -> list[float]:
    """When a collector that writes each marker when it is due would write them."""
    now_s, rows, transactions, is_at_end = 100.0, 0, 0, True
    found: list[float] = []

    def go_on(to_s: float) -> None:
        nonlocal now_s
        while True:
            due_s = pace.due_s(
                rows=rows, transactions=transactions, is_at_end=is_at_end, is_often=False
            )
            if due_s > to_s:
                break
            now_s = max(now_s, due_s)
            pace.marked(now_s, rows=rows, transactions=transactions)
            found.append(now_s)
        now_s = to_s

    for after_s, is_collected, is_at_end_then in writes:
        go_on(now_s + after_s)
        rows, transactions, is_at_end = rows + is_collected, transactions + 1, is_at_end_then
    go_on(now_s + until_s)
    return found


@given(WRITES, st.integers(1, 5000))
def test_markers_are_as_many_as_the_bucket_and_one_a_second_allow(
    writes: list[Write], copies: int
) -> None:
    found = markers(MarkerPace(copies), writes)
    per_s = min(SOON_PER_S, COPIES_PER_S_MAX / copies)
    for first in range(len(found)):
        for last in range(first, len(found)):
            span_s = found[last] - found[first]
            allowed = SOON_AT_ONCE + 1 + span_s * max(per_s, 1 / FLOWING_S)
            assert last - first + 1 <= allowed + 1e-6
            assert last == first or span_s >= SOON_S - 1e-9


@given(WRITES)
def test_every_transaction_has_a_marker_within_a_second_once_the_source_is_read_to_its_end(
    writes: list[Write],
) -> None:
    pace = MarkerPace(10**6)
    at_s, ends = 100.0, []
    for after_s, _, _ in writes:
        at_s += after_s
        ends.append(at_s)
    found = markers(pace, [(after_s, kind, True) for after_s, kind, _ in writes])
    for end_s in ends:
        assert any(end_s <= marker_s <= end_s + FLOWING_S + 1e-6 for marker_s in found)


def test_a_row_after_a_pause_is_marked_at_once_and_those_behind_it_while_the_bucket_lasts() -> None:
    pace = MarkerPace()
    found = markers(pace, [(50.0, True, True)] + [(SOON_S, True, True)] * (SOON_AT_ONCE - 1))
    soon = [at_s for at_s in found if at_s >= 150.0]
    assert soon[0] == 150.0
    assert soon[SOON_AT_ONCE - 1] - soon[0] <= SOON_S * SOON_AT_ONCE


def test_rows_that_come_without_a_pause_are_marked_once_a_second() -> None:
    found = markers(MarkerPace(), [(0.125, True, False)] * 80, until_s=0)
    assert len(found) <= 10 / FLOWING_S + 1


@pytest.mark.parametrize(("rows_per_s", "per_s"), [(100, 9), (2500, 5), (9000, 1), (50_000, 1)])
def test_the_more_rows_flow_the_fewer_markers_come(rows_per_s: int, per_s: int) -> None:
    """Though the source is read to its end all the time."""
    pace, rows, now_s, found = MarkerPace(), 0, 100.0, 0
    for step in range(2000):
        now_s, rows = 100.0 + step / 100, rows + rows_per_s // 100
        due_s = pace.due_s(rows=rows, transactions=rows, is_at_end=True, is_often=False)
        if due_s <= now_s:
            pace.marked(now_s, rows=rows, transactions=rows)
            found += 1
    assert per_s * 20 * 0.8 <= found <= per_s * 20 * 1.2 + SOON_AT_ONCE


def test_other_tables_transactions_are_marked_once_a_second_and_silence_each_five() -> None:
    found = markers(MarkerPace(), [(0.125, False, True)] * 80, until_s=0)
    assert 10 / FLOWING_S - 1 <= len(found) <= 10 / FLOWING_S + 1
    assert len(markers(MarkerPace(), [], until_s=100)) == 100 / IDLE_S + 1


def test_where_markers_are_wanted_they_come_each_second() -> None:
    pace = MarkerPace()
    pace.marked(7.0, rows=3, transactions=3)
    due_s = pace.due_s(rows=3, transactions=3, is_at_end=True, is_often=True)
    assert due_s == 7.0 + FLOWING_S
    pace.hurry()
    assert pace.due_s(rows=3, transactions=3, is_at_end=False, is_often=False) < 0


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 8))
def test_fifty_sources_or_five_hundred_have_one_limit(
    sources: int, targets: int, partitions: int
) -> None:
    """In the long run; what they may have at once comes on top, and a marker a second as ever."""
    copies = sources * targets * partitions
    seconds = 100
    found = markers(MarkerPace(copies), [(SOON_S, True, True)] * (seconds * 50), until_s=0)
    all_copies = len(found) * copies
    regular = copies / FLOWING_S
    assert all_copies <= max(COPIES_PER_S_MAX, regular) * seconds + (SOON_AT_ONCE + 1) * copies
