"""A marker that has passed is told of soon; nothing is told more often than its limit, nor never."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gravity.progress_pace import COUNTS_S, PASSED_S, ProgressPace

STEPS = st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=1, max_size=60)


def tellings(
    pace: ProgressPace, steps: list[tuple[float, bool]]
) -> tuple[list[float], list[float], list[float]]:
    """When a lane was told of, when something was new, and when that was a marker that had passed."""
    now_s, passed, is_new = 0.0, 0, False
    told: list[float] = []
    news: list[float] = []
    markers: list[float] = []

    def go_on(to_s: float) -> None:
        nonlocal now_s, is_new
        while is_new and (due_s := pace.due_s(0, now_s, lambda: {"s": passed})) <= to_s:
            if due_s <= now_s:
                pace.told(0, now_s, {"s": passed})
                told.append(now_s)
                is_new = False
            now_s = max(now_s, due_s)
        now_s = to_s

    for after_s, is_marker in steps:
        go_on(now_s + after_s)
        is_new, passed = True, passed + is_marker
        news.append(now_s)
        markers += [now_s] if is_marker else []
    go_on(now_s + 2 * COUNTS_S)
    return told, news, markers


@given(STEPS, st.sampled_from([0.0, PASSED_S]))
def test_everything_new_is_told_in_time_and_not_too_often(
    steps: list[tuple[float, bool]], passed_s: float
) -> None:
    told, news, markers = tellings(ProgressPace(passed_s), steps)
    for waits, bound_s in ((news, COUNTS_S), (markers, passed_s)):
        for since_s in waits:
            assert any(since_s <= at_s <= since_s + bound_s + 1e-9 for at_s in told)
    for before_s, after_s in itertools.pairwise(told):
        gap_s = after_s - before_s
        assert gap_s >= passed_s - 1e-9
        has_marker = any(before_s <= at_s <= after_s for at_s in markers)
        assert has_marker or gap_s >= COUNTS_S - 1e-9


def test_lanes_are_told_of_by_themselves_and_at_once_when_asked_to_forget() -> None:
    pace = ProgressPace()
    pace.told(0, 5.0, {})
    assert pace.due_s(1, 5.0, dict) == 5.0
    assert pace.due_s(0, 5.0, lambda: {"s": 1}) == 5.0 + PASSED_S
    pace.forget()
    assert pace.due_s(0, 5.0, dict) == 5.0
