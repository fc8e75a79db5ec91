"""Which binlog file a time lies in, asking for the first commit of few files."""

from __future__ import annotations

from gravity_collector.beginning import last_before
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.lists(st.integers(0, 50)).map(sorted),
    st.integers(0, 3),
    st.integers(0, 50),
)
def test_the_last_file_that_begins_before_the_time(
    times: list[int], empty: int, time_us: int
) -> None:
    firsts: list[int | None] = [*times, *[None] * empty]
    asked: list[int] = []

    def first_us(number: int) -> int | None:
        asked.append(number)
        return firsts[number]

    expected = [number for number, first in enumerate(times) if first < time_us]
    assert last_before(len(firsts), first_us, time_us) == (expected[-1] if expected else None)
    assert len(asked) <= len(firsts).bit_length()
