"""The bound on rows per second, by a clock that is moved by hand."""

from __future__ import annotations

from gravity_collector.bucket import BURST_S, PACE_S, Pace, RowBucket
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), min_size=1, max_size=30),
)
def test_over_any_stretch_no_more_rows_pass_than_the_rate_allows(
    rate: int, reads: list[tuple[int, float]]
) -> None:
    clock = Clock()
    bucket = RowBucket(rate, clock)
    passed: list[tuple[float, int]] = []
    for rows, idle_s in reads:
        clock.now += idle_s
        clock.now += bucket.debt_s()
        passed.append((clock.now, rows))
        bucket.take(rows)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            # The last read's own rows are paid for afterwards.
            rows = sum(count for _, count in passed[first:last])
            stretch = passed[last][0] - passed[first][0]
            assert rows <= rate * (stretch + BURST_S) + 1e-6 * rate


def test_a_steady_reader_gets_the_whole_rate() -> None:
    clock = Clock()
    bucket = RowBucket(1000, clock)
    began, rows = clock.now, 0
    while rows < 20_000:
        clock.now += bucket.debt_s()
        bucket.take(500)
        rows += 500
    assert 19.0 <= clock.now - began <= 20.5


def test_without_a_rate_nobody_waits() -> None:
    bucket = RowBucket(None, Clock())
    bucket.take(10**9)
    assert bucket.debt_s() == 0


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.per_s(0) == 0
    for second in range(1, 100):
        clock.now += 1
        found = pace.per_s(second * 10 if second < 50 else 500 + (second - 50) * 100)
        if second < 50:
            assert found == 10
    assert found == 100
    assert len(pace._points) <= PACE_S + 2
